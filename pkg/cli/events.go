package cli

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/workersd/workersd/pkg/client"
	"github.com/workersd/workersd/pkg/sdnotify"
	"github.com/workersd/workersd/pkg/spec"
)

func (a *app) events() *cobra.Command {
	var follow bool
	var n int
	c := &cobra.Command{
		Use: "events [PATTERN...]", Short: "what happened",
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.client().Events(cmd.Context(), n, follow, args, func(r client.Record) error {
				if a.json {
					return json.NewEncoder(a.out).Encode(r)
				}
				fmt.Fprintln(a.out, recordLine(r))
				return nil
			})
		},
	}
	c.Flags().BoolVarP(&follow, "follow", "f", false, "go on with what happens from now on")
	c.Flags().IntVarP(&n, "lines", "n", -1, "how many of the past; -1: all that are kept")
	return c
}

func recordLine(r client.Record) string {
	var b strings.Builder
	b.WriteString(r.Time.Local().Format("2006-01-02 15:04:05.000"))
	if r.Worker != "" {
		b.WriteByte(' ')
		b.WriteString(r.Worker)
	}
	if r.PID != 0 {
		fmt.Fprintf(&b, " %d", r.PID)
	}
	b.WriteByte(' ')
	b.WriteString(strings.TrimRight(r.Message, "\n"))
	return b.String()
}

func (a *app) why() *cobra.Command {
	return &cobra.Command{
		Use: "why WORKER", Short: "why its processes ended", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			rs, err := a.client().Why(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return a.print(rs, func() { a.printWhy(args[0], rs) })
		},
	}
}

func (a *app) printWhy(worker string, rs []client.Record) {
	if len(rs) == 0 {
		fmt.Fprintf(a.out, "%s: no process of it has ended\n", worker)
		return
	}
	fmt.Fprintf(a.out, "%s: its last %d ends, the newest first\n", worker, len(rs))
	for i := len(rs) - 1; i >= 0; i-- {
		a.printEnd(rs[i])
	}
}

// printEnd tells one end as a story: what, when, with which figures.
func (a *app) printEnd(r client.Record) {
	fmt.Fprintf(a.out, "\n%s  generation %d", r.Time.Local().Format("2006-01-02 15:04:05.000"), r.Generation)
	if r.PID != 0 {
		fmt.Fprintf(a.out, ", pid %d", r.PID)
	}
	if r.Uptime > 0 {
		fmt.Fprintf(a.out, ", lived %s", age(r.Uptime))
	}
	fmt.Fprintln(a.out)
	line := func(name, format string, args ...any) {
		fmt.Fprintf(a.out, "  %-10s %s\n", name, fmt.Sprintf(format, args...))
	}
	line("reason", "%s: %s", r.Reason, strings.TrimPrefix(r.Message, "is not existed any more: "))
	if r.Status != "" {
		line("status", "%s", r.Status)
	}
	if r.Executions > 0 {
		line("executions", "%d", r.Executions)
	}
	if r.Execution != "" {
		line("running", "execution %s for %s", r.Execution, age(r.ExecutionAge))
	}
	if r.Memory > 0 {
		line("memory", "%v, limit %v", spec.Bytes(r.Memory), spec.Bytes(r.MemoryLimit))
	}
	p := r.PostMortem
	if p == nil {
		return
	}
	if p.Peak > 0 {
		line("peak", "%v", spec.Bytes(p.Peak))
	}
	for _, k := range []string{"anon", "file", "shmem", "kernel", "slab"} {
		if n := p.Stat[k]; n > 0 {
			line(k, "%v", spec.Bytes(n))
		}
	}
	if p.Swap > 0 {
		line("swap", "%v", spec.Bytes(p.Swap))
	}
	if p.PidsPeak > 0 {
		line("pids peak", "%d", p.PidsPeak)
	}
	for _, s := range strings.Split(p.Pressure, "; ") {
		if s != "" {
			line("pressure", "%s", s)
		}
	}
	for i, proc := range p.Procs {
		name := ""
		if i == 0 {
			name = "processes"
		}
		line(name, "%8d %8v  %s", proc.PID, spec.Bytes(proc.RSS), proc.Command)
	}
	if p.Note != "" {
		line("note", "%s", p.Note)
	}
}

func (a *app) logs() *cobra.Command {
	var follow bool
	var n int
	c := &cobra.Command{
		Use: "logs WORKER", Short: "a worker's output", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ws, err := a.client().Show(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			var run []string
			for _, w := range ws {
				switch {
				case w.Log == "journal":
					if run == nil {
						run = []string{"journalctl", "--no-pager", "-o", "cat", "-n", strconv.Itoa(n)}
						if follow {
							run = append(run, "-f")
						}
					}
					run = append(run, "-t", w.Name)
				case strings.HasPrefix(w.Log, "/"):
					if run == nil {
						run = []string{"tail", "-n", strconv.Itoa(n)}
						if follow {
							run = append(run, "-F")
						}
					}
					run = append(run, w.Log)
				default:
					return fmt.Errorf("the output of %s goes to the manager's own (%s): look there", w.Name, w.Log)
				}
			}
			path, err := exec.LookPath(run[0])
			if err != nil {
				return fmt.Errorf("%s is needed to read it: %w", run[0], err)
			}
			return syscall.Exec(path, run, os.Environ())
		},
	}
	c.Flags().BoolVarP(&follow, "follow", "f", false, "go on with what is written from now on")
	c.Flags().IntVarP(&n, "lines", "n", 100, "how many of the past")
	return c
}

func (a *app) notify() *cobra.Command {
	return &cobra.Command{
		Use: "notify KEY=VALUE...", Short: "for workers: tells the manager something", Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			for _, kv := range args {
				if k, _, ok := strings.Cut(kv, "="); !ok || k == "" {
					return usageError{fmt.Errorf("%q: expected KEY=VALUE, such as READY=1 or X_WORKERSD_BEGIN=7", kv)}
				}
			}
			return sendNotify(strings.Join(args, "\n"))
		},
	}
}

// sendNotify needs a manager that listens: a notify into nothing is a mistake
// of whoever typed it.
func sendNotify(message string) error {
	n, err := sdnotify.FromEnvironment()
	if err != nil {
		return err
	}
	if n == nil {
		return fmt.Errorf("no NOTIFY_SOCKET in the environment: notify is for workers (see deploy/examples/PROTOCOL.md)")
	}
	defer n.Close()
	return n.Send(message)
}

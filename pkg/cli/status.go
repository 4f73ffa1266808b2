package cli

import (
	"cmp"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/workersd/workersd/pkg/client"
	"github.com/workersd/workersd/pkg/spec"
)

func wantsColor(f *os.File) bool {
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
}

func (a *app) status() *cobra.Command {
	return &cobra.Command{
		Use: "status [PATTERN...]", Short: "a table of the workers", Args: cobra.ArbitraryArgs, ValidArgsFunction: a.names,
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := a.client().Status(cmd.Context(), args...)
			if err != nil {
				return err
			}
			return a.print(s, func() { a.printStatus(s) })
		},
	}
}

func (a *app) printStatus(s client.Status) {
	m := s.Manager
	title := m.Title
	if title == "" {
		title = "workersd"
	}
	fmt.Fprintf(a.out, "%s: %d of %d up", title, m.Up, m.Wanted)
	if n := m.Workers - m.Wanted; n > 0 {
		fmt.Fprintf(a.out, ", %d down", n)
	}
	fmt.Fprintf(a.out, "; %d recycled in the last hour; pid %d, up for %s", m.Recycled, m.PID, age(m.Now.Sub(m.Started)))
	if m.Stopping {
		fmt.Fprint(a.out, "; stopping")
	}
	fmt.Fprintln(a.out)
	where := map[bool]string{true: "in", false: "because"}[m.Enforcement == "kernel"]
	fmt.Fprintf(a.out, "enforcement: %s, %s %s\n", m.Enforcement, where, m.Because)
	fmt.Fprintln(a.out)
	a.printWorkers(s.Workers, m.Now)
}

// printWorkers is the table of status, and of what the verbs have done.
func (a *app) printWorkers(ws []client.Worker, now time.Time) {
	t := table{head: []string{"NAME", "STATE", "PID", "GEN", "UPTIME", "EXECS", "MEMORY", "SOFT", "HARD", "RESTARTS", "LAST"}, right: "PID GEN UPTIME EXECS MEMORY SOFT HARD RESTARTS"}
	busy := slices.ContainsFunc(ws, func(w client.Worker) bool { return doing(w) != "" })
	if busy {
		t.head = append(t.head, "NOW")
	}
	for _, w := range ws {
		cells := a.row(w, now)
		if busy {
			cells = append(cells, doing(w))
		}
		t.add(stateColor(w), cells...)
	}
	t.write(a.out, a.color)
}

// doing is what a worker does now, as far as it has said so: its execution with
// its age, the oldest where there are several, that it leaves, and its own words.
func doing(w client.Worker) string {
	var all []string
	if n := len(w.Running); n > 0 {
		e := slices.MaxFunc(w.Running, func(a, b client.Execution) int { return cmp.Compare(a.Age, b.Age) })
		text := e.ID + " for " + age(e.Age)
		if n > 1 {
			text = fmt.Sprintf("%s and %d more", text, n-1)
		}
		all = append(all, text)
	}
	if w.Leaving {
		all = append(all, "leaving")
	}
	const most = 60 // of a table's line
	said := []rune(w.StatusText)
	if len(said) > most {
		said = append(said[:most:most], '…')
	}
	if len(said) > 0 {
		all = append(all, string(said))
	}
	return strings.Join(all, ", ")
}

func (a *app) row(w client.Worker, now time.Time) []string {
	dash := func(s string, is bool) string {
		if is {
			return s
		}
		return "–"
	}
	state := w.State
	switch {
	case w.Stuck:
		state += " (stuck)"
	case w.Removed:
		state += " (removed)"
	case w.OperatorStop && !w.Wanted:
		state += " (operator)"
	case (w.State == "backoff" || w.State == "waiting") && w.NextStart.After(now):
		state += " " + age(w.NextStart.Sub(now))
	}
	return []string{
		w.Name, state, dash(strconv.Itoa(w.PID), w.PID != 0), dash(strconv.FormatUint(w.Generation, 10), w.Generation != 0),
		dash(age(now.Sub(w.Started)), !w.Started.IsZero()), dash(strconv.Itoa(w.Executions), w.Reports || w.Executions > 0),
		used(w), spec.Bytes(w.SoftMemory).String(), spec.Bytes(w.HardMemory).String(),
		strconv.Itoa(w.Restarts), dash(w.LastReason, w.LastReason != ""),
	}
}

// used is the memory of a worker.
func used(w client.Worker) string {
	if w.Memory < 0 {
		return "–"
	}
	return spec.Bytes(w.Memory).String()
}

func stateColor(w client.Worker) string {
	switch {
	case w.Stuck:
		return "31"
	case w.State == "up":
		return "32"
	case w.State == "backoff", w.State == "stopping", w.State == "killing":
		return "33"
	}
	return "90"
}

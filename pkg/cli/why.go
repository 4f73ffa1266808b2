package cli

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/workersd/workersd/pkg/client"
	"github.com/workersd/workersd/pkg/internal/event"
	"github.com/workersd/workersd/pkg/spec"
)

func (a *app) why() *cobra.Command {
	var n int
	c := &cobra.Command{
		Use: "why WORKER", Short: "why its processes ended", Args: cobra.ExactArgs(1), ValidArgsFunction: a.names,
		RunE: func(cmd *cobra.Command, args []string) error {
			cl := a.client()
			rs, err := cl.Why(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			if n > 0 && len(rs) > n {
				rs = rs[len(rs)-n:]
			}
			return a.print(rs, func() { a.printWhy(cmd.Context(), cl, args[0], rs) })
		},
	}
	c.Flags().IntVarP(&n, "lines", "n", 0, "how many ends; 0: all that are kept")
	return c
}

func (a *app) printWhy(ctx context.Context, c *client.Client, worker string, rs []client.Record) {
	if len(rs) > 0 {
		worker = rs[0].Worker
	}
	state := ""
	if s, err := c.Status(ctx, worker); err == nil && len(s.Workers) == 1 {
		w := s.Workers[0]
		worker = w.Name
		state = " " + is(w.State) + " for " + age(a.now().Sub(w.Since))
		if w.PID != 0 {
			state += fmt.Sprintf(", pid %d, generation %d", w.PID, w.Generation)
		}
		if w.NextStart.After(a.now()) {
			state += ", and starts again in " + age(w.NextStart.Sub(a.now()))
		}
	}
	fmt.Fprintf(a.out, "%s%s\n", worker, state)
	if len(rs) == 0 {
		fmt.Fprintln(a.out, "no process of it has ended yet")
		return
	}
	for i := len(rs) - 1; i >= 0; i-- {
		fmt.Fprintln(a.out)
		a.printEnd(rs[i])
	}
}

// is puts a state into a sentence.
func is(state string) string {
	switch state {
	case "backoff":
		return "is in back-off"
	case "killing":
		return "is being killed"
	}
	return "is " + state
}

// printEnd tells one end as a story: when, which process, why, how, with which
// figures, and what could be done.
func (a *app) printEnd(r client.Record) {
	say := func(format string, args ...any) {
		fmt.Fprintf(a.out, "    %s\n", clean(fmt.Sprintf(format, args...)))
	}
	who := fmt.Sprintf("generation %d", r.Generation)
	if r.PID != 0 {
		who += fmt.Sprintf(", pid %d", r.PID)
	}
	fmt.Fprintf(a.out, "%s  %s ago  %s\n", r.Time.Local().Format("2006-01-02 15:04:05"), age(a.now().Sub(r.Time)), r.Reason)
	say("%s", because(r))
	if how := ending(r); how != "" {
		say("%s", how)
	}
	if r.Uptime > 0 {
		who += ", lived " + age(r.Uptime)
	}
	if r.Executions > 0 {
		who += ", " + count(r.Executions, "execution")
	}
	say("%s", who)
	if r.Execution != "" && r.Reason != event.Timeout {
		say("execution %s was running, for %s", r.Execution, age(r.ExecutionAge))
	}
	if r.PostMortem != nil {
		postMortem(r.PostMortem, say)
	}
	if todo := advice(r); todo != "" {
		say("hint: %s", todo)
	}
}

// because says why a process ended, as one would tell a colleague.
func because(r client.Record) string {
	limit, used := spec.Bytes(r.MemoryLimit), spec.Bytes(r.Memory)
	switch r.Reason {
	case event.MaxRequests:
		return "It had done its max_requests, and was replaced as planned."
	case event.MaxLifetime:
		return "It had lived for its max_lifetime, and was replaced as planned."
	case event.Timeout:
		if r.Execution == "" {
			return "One execution took longer than timeout allows, and the process was replaced."
		}
		return fmt.Sprintf("Execution %s ran for %s, longer than timeout allows, and the process was replaced.", r.Execution, age(r.ExecutionAge))
	case event.SoftMemory:
		return fmt.Sprintf("It used %v, above its soft_memory_limit of %v, and was asked to leave; the running execution could finish.", used, limit)
	case event.HardMemory:
		if r.Memory > 0 {
			return fmt.Sprintf("It used %v, above its hard_memory_limit of %v, and was killed.", used, limit)
		}
		return "It reached its hard_memory_limit, and was killed."
	case event.PoolMemory:
		return "All workers together reached memory_limit of [manager], and this one was killed for it."
	case event.UnitMemory:
		return "The service's unit reached its memory limit, and this one was killed for it."
	case event.HostMemory:
		return "The machine ran out of memory, and this one was killed for it."
	case event.Killed, event.Finished, event.Lost, event.SpawnFailed:
		return "It " + phrase(r) + "."
	case event.Crashed:
		return "It " + phrase(r) + "; nobody had asked it to leave."
	case event.Watchdog:
		return "It did not say WATCHDOG=1 in time, or said that it hangs."
	case event.StartTimeout:
		return "It was not ready within its start_timeout."
	case event.Stopped:
		return "An operator stopped it."
	case event.Restarted:
		return "An operator restarted it."
	case event.Reloaded:
		return "A reload changed its entry in the worker list."
	case event.Removed:
		return "A reload removed it from the worker list."
	case event.Shutdown:
		return "The manager ended, and with it all workers."
	}
	return "It ended: " + string(r.Reason) + "."
}

// ending says how it went after that, where that does not say it already.
func ending(r client.Record) string {
	switch r.Reason {
	case event.HardMemory, event.PoolMemory, event.UnitMemory, event.HostMemory, event.Killed, event.Finished, event.Lost, event.SpawnFailed, event.Crashed:
		return ""
	}
	p := phrase(r)
	if strings.HasPrefix(p, "execution ") { // that is said; how it left is not
		p = "left with " + r.Status
	}
	return "It " + p + "."
}

// phrase is the record's own, to go on after "It".
func phrase(r client.Record) string {
	how := strings.TrimSuffix(strings.TrimPrefix(strings.TrimRight(r.Message, "\n"), "is not existed any more: "), ".")
	switch {
	case how == "" && r.Status == "":
		return "is gone"
	case how == "":
		return "ended with " + r.Status
	case strings.HasPrefix(how, "killed"):
		how = "was " + strings.Replace(how, "killed, it", "killed: it", 1)
	case strings.HasPrefix(how, "its status"):
		how = "is gone, and " + how
	}
	if r.Status != "" && !strings.Contains(how, r.Status) {
		how += " (" + r.Status + ")"
	}
	return how
}

func postMortem(p *event.PostMortem, say func(string, ...any)) {
	var parts []string
	for _, k := range []string{"anon", "file", "shmem", "kernel", "slab", "sock"} {
		if n := p.Stat[k]; n > 0 {
			parts = append(parts, fmt.Sprintf("%s %v", k, spec.Bytes(n)))
		}
	}
	if p.Swap > 0 {
		parts = append(parts, fmt.Sprintf("swap %v", spec.Bytes(p.Swap)))
	}
	switch {
	case p.Peak > 0 && parts != nil:
		say("memory: at most %v; at the end %s", spec.Bytes(p.Peak), strings.Join(parts, ", "))
	case p.Peak > 0:
		say("memory: at most %v", spec.Bytes(p.Peak))
	case parts != nil:
		say("memory: at the end %s", strings.Join(parts, ", "))
	}
	if p.PidsPeak > 0 {
		say("pids: at most %d processes and threads", p.PidsPeak)
	}
	if p.Pressure != "" {
		say("pressure: %s", p.Pressure)
	}
	if len(p.Procs) > 0 {
		say("its processes, as last seen:")
		for _, proc := range p.Procs {
			say("%8d  %8v  %s", proc.PID, spec.Bytes(proc.RSS), proc.Command)
		}
	}
	if p.Note != "" {
		say("(%s)", p.Note)
	}
}

// advice is what a person could do about an end that nobody planned.
func advice(r client.Record) string {
	switch r.Reason {
	case event.Crashed:
		return "workersctl logs " + r.Worker + " shows what it wrote"
	case event.HardMemory:
		return "raise hard_memory_limit, or lower soft_memory_limit so that it is replaced in time"
	case event.PoolMemory:
		return "raise memory_limit of [manager], or lower the limits of its workers"
	case event.UnitMemory:
		return "raise MemoryMax= of the unit, or set memory_limit of [manager] below it"
	case event.HostMemory:
		return "set memory_limit of [manager] so that the workers leave room for the rest of the machine"
	case event.Timeout:
		return `timeout_signal = "SIGABRT" makes many runtimes write where they hang`
	case event.StartTimeout:
		return "raise start_timeout, or ready = \"exec\" if it never says READY=1"
	case event.Lost:
		return "the manager that started it was gone when it ended"
	}
	return ""
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

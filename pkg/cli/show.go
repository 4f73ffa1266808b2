package cli

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/workersd/workersd/pkg/client"
	"github.com/workersd/workersd/pkg/spec"
)

func (a *app) show() *cobra.Command {
	return &cobra.Command{
		Use: "show PATTERN...", Short: "all about workers", Args: cobra.MinimumNArgs(1), ValidArgsFunction: a.names,
		RunE: func(cmd *cobra.Command, args []string) error {
			ws, err := a.client().Show(cmd.Context(), args...)
			if err != nil {
				return err
			}
			return a.print(ws, func() {
				for i, w := range ws {
					if i > 0 {
						fmt.Fprintln(a.out)
					}
					a.printWorker(w)
				}
			})
		},
	}
}

func (a *app) printWorker(w client.Worker) {
	line := func(name string, format string, args ...any) {
		fmt.Fprintf(a.out, "  %-20s %s\n", name, clean(fmt.Sprintf(format, args...)))
	}
	now := a.now()
	fmt.Fprintln(a.out, w.Name)
	line("state", "%s for %s, %s", w.State, age(now.Sub(w.Since)), wanted(w))
	if w.PID != 0 {
		line("process", "pid %d, generation %d, started %s ago", w.PID, w.Generation, age(now.Sub(w.Started)))
	}
	if w.Stuck {
		line("stuck", "SIGKILL was sent and it does not go away: it hangs in the kernel")
	}
	if w.NextStart.After(now) {
		line("next start", "in %s", age(w.NextStart.Sub(now)))
	}
	if w.Leaving {
		line("leaving", "by itself: it has said STOPPING=1")
	}
	if w.StatusText != "" {
		line("says", "%s", w.StatusText)
	}
	if w.Reports {
		line("executions", "%d, of which %d failed", w.Executions, w.Failed)
	} else {
		line("executions", "– (it has reported none)")
	}
	if w.Garbage+w.Refused > 0 {
		line("dropped", "%d that were no messages, %d of other senders (see deploy/examples/PROTOCOL.md)", w.Garbage, w.Refused)
	}
	for _, e := range w.Running {
		line("running", "execution %s for %s", e.ID, age(e.Age))
	}
	line("memory", "%s; soft limit %v, hard limit %v (enforcement: %s)", used(w), spec.Bytes(w.SoftMemory), spec.Bytes(w.HardMemory), w.Enforcement)
	if w.Statistics != nil {
		statistics(w.Statistics, line)
	}
	last := "nothing has ended yet"
	if w.LastReason != "" {
		last = "last reason " + w.LastReason
	}
	if w.Failures > 0 {
		last += fmt.Sprintf("; %d failures in a row", w.Failures)
	}
	line("restarts", "%d; %s", w.Restarts, last)
	if w.Log != "" {
		line("output", "%s", w.Log)
	}
	if len(w.Keys) > 0 {
		fmt.Fprintln(a.out, "  keys that differ from their default:")
	}
	for _, k := range slices.Sorted(maps.Keys(w.Keys)) {
		line("  "+k, "%s", w.Keys[k])
	}
}

// statistics are what the kernel knows of the worker's cgroup.
func statistics(s *client.Statistics, line func(name, format string, args ...any)) {
	bytes := func(n int64) spec.Bytes { return spec.Bytes(n) }
	of := func(limit int64, text string) string {
		if limit < 0 {
			return ""
		}
		return " of " + text
	}
	stat := s.MemoryStat
	line("memory is", "anon %v, file %v, shmem %v, slab %v, swap %v%s", bytes(stat["anon"]), bytes(stat["file"]),
		bytes(stat["shmem"]), bytes(stat["slab"]), bytes(s.Swap), of(s.SwapLimit, bytes(s.SwapLimit).String()))
	line("memory peak", "%v", bytes(s.MemoryPeak))
	line("limits reached", "soft (high) %d, hard (max) %d, oom %d times", s.MemoryEvents["high"], s.MemoryEvents["max"], s.MemoryEvents["oom"])
	line("pressure", "memory %.0f %%, io %.0f %% of the last 10s", s.MemoryPressure, s.IOPressure)
	line("cpu", "%v used, %v throttled", s.CPU.Round(time.Millisecond), s.Throttled.Round(time.Millisecond))
	line("pids", "%d%s", s.Pids, of(s.PidsLimit, fmt.Sprint(s.PidsLimit)))
	line("io", "%v read, %v written", bytes(s.IORead), bytes(s.IOWritten))
}

func wanted(w client.Worker) string {
	switch {
	case w.Wanted:
		return "wanted up"
	case w.Removed:
		return "wanted down: it is not in the list any more"
	case w.OperatorStop:
		return "wanted down: an operator stopped it"
	}
	return "wanted down"
}

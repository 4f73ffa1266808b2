package cli

import (
	"fmt"
	"os"
	"slices"
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
		Use: "status [PATTERN...]", Short: "a table of the workers",
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
	fmt.Fprintf(a.out, ", %d recycled in the last hour; pid %d, since %s", m.Recycled, m.PID, age(m.Now.Sub(m.Started)))
	if m.Stopping {
		fmt.Fprint(a.out, ", stopping")
	}
	fmt.Fprintln(a.out)
	if m.Enforcement == "sampled" {
		fmt.Fprintf(a.out, "enforcement: sampled, because %s\n", m.Because)
	}
	rows := [][]string{{"NAME", "STATE", "PID", "GEN", "UPTIME", "EXECS", "MEMORY", "RESTARTS", "LAST"}}
	for _, w := range s.Workers {
		rows = append(rows, a.row(w, m.Now))
	}
	a.table(rows, func(row int) string {
		if row == 0 {
			return ""
		}
		return stateColor(s.Workers[row-1])
	})
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
	case w.State == "backoff" && w.NextStart.After(now):
		state += " " + age(w.NextStart.Sub(now))
	}
	return []string{
		w.Name, state, dash(fmt.Sprint(w.PID), w.PID != 0), dash(fmt.Sprint(w.Generation), w.Generation != 0),
		dash(age(now.Sub(w.Started)), !w.Started.IsZero()), dash(fmt.Sprint(w.Executions), w.Reports || w.Executions > 0),
		memory(w), fmt.Sprint(w.Restarts), dash(w.LastReason, w.LastReason != ""),
	}
}

// memory is what it uses, the soft and the hard limit.
func memory(w client.Worker) string {
	use := "–"
	if w.Memory >= 0 {
		use = spec.Bytes(w.Memory).String()
	}
	return use + "/" + spec.Bytes(w.SoftMemory).String() + "/" + spec.Bytes(w.HardMemory).String()
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

// table writes columns two blanks apart; colour goes to the second one.
func (a *app) table(rows [][]string, color func(row int) string) {
	width := make([]int, len(rows[0]))
	for _, r := range rows {
		for i, c := range r {
			width[i] = max(width[i], len([]rune(c)))
		}
	}
	for n, r := range rows {
		var b strings.Builder
		for i, c := range r {
			text := c
			if i < len(r)-1 {
				text += strings.Repeat(" ", width[i]-len([]rune(c))+2)
			}
			if i == 1 && a.color && color(n) != "" {
				text = "\x1b[" + color(n) + "m" + text + "\x1b[0m"
			}
			b.WriteString(text)
		}
		fmt.Fprintln(a.out, strings.TrimRight(b.String(), " "))
	}
}

// age is a duration as short as it is useful.
func age(d time.Duration) string {
	switch {
	case d < 0:
		return "0s"
	case d < time.Second:
		return d.Round(time.Millisecond).String()
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm%ds", int(d.Minutes()), int(d.Seconds())%60)
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh%dm", int(d.Hours()), int(d.Minutes())%60)
	}
	return fmt.Sprintf("%dd%dh", int(d.Hours())/24, int(d.Hours())%24)
}

func (a *app) show() *cobra.Command {
	return &cobra.Command{
		Use: "show WORKER...", Short: "all about workers", Args: cobra.MinimumNArgs(1),
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
		fmt.Fprintf(a.out, "%14s: %s\n", name, fmt.Sprintf(format, args...))
	}
	now := time.Now()
	line("worker", "%s", w.Name)
	wanted := "up"
	if !w.Wanted {
		wanted = "down"
		if w.OperatorStop {
			wanted += ", by an operator"
		}
	}
	line("state", "%s for %s (wanted %s)", w.State, age(now.Sub(w.Since)), wanted)
	if w.PID != 0 {
		line("process", "pid %d, generation %d, started %s ago", w.PID, w.Generation, age(now.Sub(w.Started)))
	}
	if !w.NextStart.IsZero() {
		line("next start", "in %s", age(w.NextStart.Sub(now)))
	}
	if w.StatusText != "" {
		line("says", "%s", w.StatusText)
	}
	if w.Reports {
		line("executions", "%d, of which %d failed", w.Executions, w.Failed)
	} else {
		line("executions", "– (it has reported none)")
	}
	for _, e := range w.Running {
		line("running", "%s for %s", e.ID, age(e.Age))
	}
	line("memory", "%s, %s", memory(w), w.Enforcement)
	line("restarts", "%d, failures in a row %d, last reason %s", w.Restarts, w.Failures, w.LastReason)
	if w.Log != "" {
		line("output", "%s", w.Log)
	}
	if w.Statistics != nil {
		printStatistics(w.Statistics, line)
	}
	names := make([]string, 0, len(w.Keys))
	for k := range w.Keys {
		names = append(names, k)
	}
	slices.Sort(names)
	for _, k := range names {
		line(k, "%s", w.Keys[k])
	}
}

func printStatistics(s *client.Statistics, line func(name, format string, args ...any)) {
	bytes := func(n int64) spec.Bytes { return spec.Bytes(n) }
	limit := func(n int64, text string) string {
		if n < 0 {
			return ""
		}
		return " of " + text
	}
	stat := s.MemoryStat
	line("memory is", "anon %v, file %v, shmem %v, slab %v, swap %v%s", bytes(stat["anon"]), bytes(stat["file"]),
		bytes(stat["shmem"]), bytes(stat["slab"]), bytes(s.Swap), limit(s.SwapLimit, bytes(s.SwapLimit).String()))
	line("memory peak", "%v", bytes(s.MemoryPeak))
	line("memory events", "high %d, max %d, oom %d", s.MemoryEvents["high"], s.MemoryEvents["max"], s.MemoryEvents["oom"])
	line("pressure", "memory %.0f %%, io %.0f %% of the last 10s", s.MemoryPressure, s.IOPressure)
	line("cpu", "%v used, %v throttled", s.CPU.Round(time.Millisecond), s.Throttled.Round(time.Millisecond))
	line("pids", "%d%s", s.Pids, limit(s.PidsLimit, fmt.Sprint(s.PidsLimit)))
	line("io", "%v read, %v written", bytes(s.IORead), bytes(s.IOWritten))
}

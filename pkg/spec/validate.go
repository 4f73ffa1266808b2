package spec

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"syscall"
	"time"
)

// least is the smallest memory limit under which a process can start at all.
const least = 64 * KiB

// problems collects what is wrong.
type problems []Problem

func (ps *problems) add(key, with, format string, args ...any) {
	*ps = append(*ps, Problem{key, with, fmt.Sprintf(format, args...)})
}

// Validate tells what is wrong with a worker: values out of the range of their
// key, and values that do not go together. A worker without problems can be
// supervised.
func (w *Worker) Validate() []Problem {
	var ps problems
	if !ValidName(w.Name) {
		ps.add("name", "", "%q cannot be a name (expected at most %d letters, digits and _ . : + - @ , # %%, beginning with a letter or digit)", w.Name, MaxName)
	}
	for i := range Keys {
		if k := &Keys[i]; k.Worker != nil {
			ps.inRange(k, k.Worker(w))
		}
	}
	ps.command(w.Command)
	ps.environment(w.Environment)
	ps.paths(w)
	ps.ids(w)
	ps.memory(w)
	if w.RestartDelay > w.RestartDelayMax {
		ps.add("restart_delay", "restart_delay_max", "%v is above restart_delay_max %v (expected at most as much)", w.RestartDelay, w.RestartDelayMax)
	}
	if w.Type == Task {
		ps.task(w)
	}
	ps.signals(w)
	if w.LogMaxSize.Set() && w.LogMaxSize < 4*KiB {
		ps.add("log_max_size", "", "%v is too small (expected at least 4K, or \"none\")", w.LogMaxSize)
	}
	return ps
}

// inRange looks at one value by itself.
func (ps *problems) inRange(k *Key, v any) {
	switch v := v.(type) {
	case *string:
		if k.Kind == KindEnum && !slices.Contains(k.Words, *v) {
			ps.add(k.Name, "", "%q is not known (expected \"%s\")", *v, strings.Join(k.Words, `" or "`))
		} else if text := LineProblem(*v); text != "" {
			ps.add(k.Name, "", "%s", text)
		}
	case *int:
		if k.Kind == KindInt && (*v < k.Min || k.Max != 0 && *v > k.Max) {
			ps.add(k.Name, "", "%d is out of range (expected %s)", *v, k.bounds())
		}
	case *time.Duration:
		if *v < 0 || *v > MaxDuration || *v == 0 && k.Min > 0 {
			ps.add(k.Name, "", "%v is out of range (expected %v to %v)", *v, time.Duration(k.Min), MaxDuration)
		}
	case *float64:
		if math.IsNaN(*v) || *v < 0 || *v > 1e6 {
			ps.add(k.Name, "", "%v is out of range", *v)
		}
	}
}

// bounds are those of a KindInt, for a person.
func (k *Key) bounds() string {
	if k.Max == 0 {
		return fmt.Sprintf("%d or more", k.Min)
	}
	return fmt.Sprintf("%d to %d", k.Min, k.Max)
}

func (ps *problems) command(args []string) {
	if len(args) == 0 || args[0] == "" {
		ps.add("command", "", `missing (expected ["program", "argument", …])`)
	}
	if slices.ContainsFunc(args, func(arg string) bool { return strings.IndexByte(arg, 0) >= 0 }) {
		ps.add("command", "", "has a NUL byte, which no program can be given")
	}
}

// lastSignal is the highest there is, SIGRTMAX (signal(7)).
const lastSignal = 64

func (ps *problems) signals(w *Worker) {
	switch s := w.StopSignal; {
	case s < 0 || s > lastSignal:
		ps.add("stop_signal", "", "%d is no signal (expected a signal such as SIGTERM)", int(s))
	case s == SIGKILL || s == Signal(syscall.SIGSTOP) || s == 0:
		ps.add("stop_signal", "", "%v gives a process no chance to finish (expected a signal such as SIGTERM; for no grace, stop_timeout = \"0s\")", s)
	}
	switch s := w.TimeoutSignal; {
	case s < 0 || s > lastSignal:
		ps.add("timeout_signal", "", "%d is no signal (expected a signal such as SIGABRT)", int(s))
	case s == Signal(syscall.SIGSTOP):
		ps.add("timeout_signal", "", "SIGSTOP ends nothing (expected a signal such as SIGABRT)")
	}
}

func (ps *problems) memory(w *Worker) {
	if w.SoftMemory.Set() && w.HardMemory.Set() && w.SoftMemory >= w.HardMemory {
		ps.add("soft_memory_limit", "hard_memory_limit", "%v is not below hard_memory_limit %v (expected less: the running execution needs room to finish)", w.SoftMemory, w.HardMemory)
	}
	if w.SoftMemory.Set() && w.SoftMemory < least {
		ps.add("soft_memory_limit", "", "%v is too small for any process (expected at least %v, or \"none\")", w.SoftMemory, least)
	}
	if w.HardMemory.Set() && w.HardMemory < least {
		ps.add("hard_memory_limit", "", "%v is too small for any process (expected at least %v, or \"none\")", w.HardMemory, least)
	}
}

func (ps *problems) task(w *Worker) {
	const or = `(remove it, or use type = "service")`
	if w.MaxRequests > 0 {
		ps.add("max_requests", "", "a task has one execution per process "+or)
	}
	if w.Ready == ReadyNotify {
		ps.add("ready", "", "a task is up once executed "+or)
	}
	if w.Overlap == OverlapReady {
		ps.add("overlap", "", "a task has no successor before its end "+or)
	}
}

package spec

import (
	"fmt"
	"strings"
	"time"
)

// Default is a worker of an entry that says nothing: the built-in defaults,
// the origin's where it had one. It lacks a command.
func Default(entry string) Worker {
	return Worker{
		Name: entry, Entry: entry, Type: Service, Enabled: true,
		Interval: time.Second, Overlap: OverlapNone,
		SoftMemory: 200 * MiB, HardMemory: 300 * MiB, SwapLimit: 0,
		Umask: -1, Ready: ReadyExec, StartTimeout: 30 * time.Second,
		Restart: RestartAlways, RestartDelay: 100 * time.Millisecond, RestartDelayMax: time.Minute, RestartReset: 10 * time.Second,
		StopSignal: SIGTERM, StopTimeout: 10 * time.Second,
		LogMaxSize: 50 * MiB, LogBackups: 5,
	}
}

// DefaultManager is a [manager] table that says nothing.
func DefaultManager() Manager {
	return Manager{
		CheckInterval: time.Second, MemoryLimit: None, DrainMax: 5 * time.Minute, MaxWorkers: 10000,
	}
}

// MaxDuration bounds every duration, so that sums of them stay in range.
const MaxDuration = 10 * 365 * 24 * time.Hour

// Problem is one thing that is wrong with a worker; Key is the key to look at,
// With the one that it does not go together with, if there is one.
type Problem struct{ Key, With, Text string }

func (p Problem) String() string { return p.Key + ": " + p.Text }

// Validate tells what is wrong with values that are each of their type, but do
// not go together. A worker without problems can be supervised.
func (w *Worker) Validate() (ps []Problem) {
	bad := func(key, format string, args ...any) {
		ps = append(ps, Problem{Key: key, Text: fmt.Sprintf(format, args...)})
	}
	if len(w.Command) == 0 || w.Command[0] == "" {
		bad("command", `missing (expected ["program", "argument", …])`)
	}
	if w.SoftMemory.Set() && w.HardMemory.Set() && w.SoftMemory >= w.HardMemory {
		bad("soft_memory_limit", "%v is not below hard_memory_limit %v (expected less: the running execution needs room to finish)", w.SoftMemory, w.HardMemory)
		ps[len(ps)-1].With = "hard_memory_limit"
	}
	for _, l := range []struct {
		key string
		b   Bytes
	}{{"soft_memory_limit", w.SoftMemory}, {"hard_memory_limit", w.HardMemory}} {
		if l.b.Set() && l.b < 64*KiB {
			bad(l.key, "%v is too small for any process (expected at least 64K, or \"none\")", l.b)
		}
	}
	if w.RestartDelay > w.RestartDelayMax {
		bad("restart_delay", "%v is above restart_delay_max %v (expected at most as much)", w.RestartDelay, w.RestartDelayMax)
		ps[len(ps)-1].With = "restart_delay_max"
	}
	if w.Type == Task {
		if w.MaxRequests > 0 {
			bad("max_requests", "a task has one execution per process (remove it, or use type = \"service\")")
		}
		if w.Ready == ReadyNotify {
			bad("ready", "a task is up once executed (remove it, or use type = \"service\")")
		}
		if w.Overlap == OverlapReady {
			bad("overlap", "a task has no successor before its end (remove it, or use type = \"service\")")
		}
	}
	if w.LogMaxSize.Set() && w.LogMaxSize < 4*KiB {
		bad("log_max_size", "%v is too small (expected at least 4K, or \"none\")", w.LogMaxSize)
	}
	for _, arg := range w.Command {
		if strings.IndexByte(arg, 0) >= 0 {
			bad("command", "has a NUL byte, which no program can be given")
			break
		}
	}
	return ps
}

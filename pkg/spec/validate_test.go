package spec

import (
	"fmt"
	"math"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestDefaultsAreValid(t *testing.T) {
	w := Default("q")
	if got := fmt.Sprint(w.Validate()); got != `[command: missing (expected ["program", "argument", …])]` {
		t.Error(got)
	}
	w.Command = []string{"run"}
	if ps := w.Validate(); ps != nil {
		t.Error(ps)
	}
	w.Type = Task
	if ps := w.Validate(); ps != nil {
		t.Errorf("as a task: %v", ps)
	}
}

// TestValidate: what a program of its own could set, too, without a list.
func TestValidate(t *testing.T) {
	for _, c := range []struct {
		want string // keys
		set  func(*Worker)
	}{
		{"name", func(w *Worker) { w.Name = "" }},
		{"name", func(w *Worker) { w.Name = "a/b" }},
		{"name", func(w *Worker) { w.Name = ".." }},
		{"name", func(w *Worker) { w.Name = strings.Repeat("n", 129) }},
		{"", func(w *Worker) { w.Name = strings.Repeat("n", 128) }},
		{"command", func(w *Worker) { w.Command = []string{""} }},
		{"command", func(w *Worker) { w.Command = []string{"a", "b\x00"} }},
		{"type", func(w *Worker) { w.Type = "cron" }},
		{"restart", func(w *Worker) { w.Restart = "" }},
		{"ready", func(w *Worker) { w.Ready = "soon" }},
		{"overlap", func(w *Worker) { w.Overlap = "yes" }},
		{"soft_memory_limit", func(w *Worker) { w.SoftMemory = w.HardMemory }},
		{"soft_memory_limit", func(w *Worker) { w.HardMemory = MiB }},
		{"", func(w *Worker) { w.SoftMemory, w.HardMemory = None, MiB }},
		{"", func(w *Worker) { w.SoftMemory, w.HardMemory = TiB, None }},
		{"soft_memory_limit", func(w *Worker) { w.SoftMemory = 1 }},
		{"hard_memory_limit", func(w *Worker) { w.SoftMemory, w.HardMemory = None, 1 }},
		{"restart_delay", func(w *Worker) { w.RestartDelayMax = time.Millisecond }},
		{"restart_delay", func(w *Worker) { w.RestartDelay = 0 }},
		{"stop_timeout", func(w *Worker) { w.StopTimeout = -1 }},
		{"max_lifetime", func(w *Worker) { w.MaxLifetime = math.MaxInt64 }},
		{"start_timeout", func(w *Worker) { w.StartTimeout = 0 }},
		{"max_requests", func(w *Worker) { w.MaxRequests = -1 }},
		{"nice", func(w *Worker) { w.Nice = 20 }},
		{"cpu_max", func(w *Worker) { w.CPUMax = math.NaN() }},
		{"cpu_max", func(w *Worker) { w.CPUMax = math.Inf(1) }},
		{"stop_signal", func(w *Worker) { w.StopSignal = Signal(syscall.SIGKILL) }},
		{"stop_signal", func(w *Worker) { w.StopSignal = 0 }},
		{"timeout_signal", func(w *Worker) { w.TimeoutSignal = Signal(syscall.SIGSTOP) }},
		{"", func(w *Worker) { w.TimeoutSignal = Signal(syscall.SIGKILL) }},
		{"stop_signal", func(w *Worker) { w.StopSignal = 65 }},
		{"stop_signal", func(w *Worker) { w.StopSignal = -1 }},
		{"timeout_signal", func(w *Worker) { w.TimeoutSignal = 65 }},
		{"timeout_signal", func(w *Worker) { w.TimeoutSignal = -1 }},
		{"", func(w *Worker) { w.TimeoutSignal = 64 }},
		{"log", func(w *Worker) { w.Log = "x.log" }},
		{"log", func(w *Worker) { w.Log = "/x\n.log" }},
		{"", func(w *Worker) { w.Log = "/x.log" }},
		{"", func(w *Worker) { w.Log = LogJournal }},
		{"directory", func(w *Worker) { w.Directory = "x" }},
		{"directory", func(w *Worker) { w.Directory = "/x\x00" }},
		{"environment_file", func(w *Worker) { w.EnvironmentFile = "x" }},
		{"environment_file", func(w *Worker) { w.EnvironmentFile = "-x" }},
		{"", func(w *Worker) { w.EnvironmentFile = "-/x" }},
		{"environment", func(w *Worker) { w.Environment = []EnvVar{{"A=B", ""}} }},
		{"environment", func(w *Worker) { w.Environment = []EnvVar{{"", "x"}} }},
		{"environment", func(w *Worker) { w.Environment = []EnvVar{{"A", "x\x00"}} }},
		{"environment environment", func(w *Worker) { w.Environment = []EnvVar{{"1A", "x"}, {"_B2", "ü\n"}, {"C D", ""}} }},
		{"user", func(w *Worker) { w.User = "4294967295" }},
		{"user group", func(w *Worker) { w.User, w.Group = "4294967296", "99999999999999999999999" }},
		{"", func(w *Worker) { w.User, w.Group = "4294967294", "www-data" }},
		{"group", func(w *Worker) { w.Group = "a\nb" }},
		{"log_max_size", func(w *Worker) { w.LogMaxSize = 1 }},
		{"", func(w *Worker) { w.LogMaxSize = None }},
		{"max_requests ready overlap", func(w *Worker) {
			w.Type, w.MaxRequests, w.Ready, w.Overlap = Task, 1, ReadyNotify, OverlapReady
		}},
	} {
		w := Default("q")
		w.Command = []string{"run"}
		c.set(&w)
		var keys []string
		for _, p := range w.Validate() {
			keys = append(keys, p.Key)
			if p.Text == "" {
				t.Errorf("%s: no text", p.Key)
			}
		}
		if got := strings.Join(keys, " "); got != c.want {
			t.Errorf("got %q, want %q: %v", got, c.want, w.Validate())
		}
	}
}

// What is told of a variable is its name: the value is secret.
func TestValidateTellsNoSecret(t *testing.T) {
	w := Default("q")
	w.Command, w.Environment = []string{"run"}, []EnvVar{{"A B", "hunter2"}, {"C", "hunter2\x00"}}
	const want = `[environment: "A B" is no name of a variable (expected letters, digits and _) environment: C has a NUL byte in it, which no program can be given]`
	if got := fmt.Sprint(w.Validate()); got != want {
		t.Errorf("got %s\nwant %s", got, want)
	}
}

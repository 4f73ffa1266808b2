package spec

import (
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

// MaxName is the longest name of a worker, in bytes: with a generation behind it
// it is that of a cgroup, which has at most 255.
const MaxName = 128

// ValidName reports whether a name can be that of a cgroup, of a file and of a
// journal identifier as it is: letters, digits and _ . : + - @ , # %, beginning
// with a letter or digit, and spaces inside (the origin's "Redis Worker-1").
func ValidName(s string) bool {
	for i := range len(s) {
		if c := s[i]; !alphanumeric(c) && strings.IndexByte("_.:+-@,#% ", c) < 0 {
			return false
		}
	}
	return s != "" && len(s) <= MaxName && alphanumeric(s[0]) && s[len(s)-1] != ' '
}

func alphanumeric(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
}

// MaxDuration bounds every duration, so that sums of them stay in range.
const MaxDuration = 10 * 365 * 24 * time.Hour

// Problem is one thing that is wrong with a worker; Key is the key to look at,
// With the one that it does not go together with, if there is one.
type Problem struct{ Key, With, Text string }

func (p Problem) String() string { return p.Key + ": " + p.Text }

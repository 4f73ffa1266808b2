package host

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/workersd/workersd/pkg/internal/host/process"
	"github.com/workersd/workersd/pkg/internal/lifecycle"
	"github.com/workersd/workersd/pkg/spec"
)

// What was meant for the manager does not reach a worker, what is its own does,
// and the later source wins.
func TestEnvironment(t *testing.T) {
	for _, v := range os.Environ() {
		name, value, _ := strings.Cut(v, "=")
		os.Unsetenv(name)
		t.Cleanup(func() { os.Setenv(name, value) })
	}
	for name, value := range map[string]string{
		"NOTIFY_SOCKET": "/run/systemd/notify", "LISTEN_FDS": "1", "LISTEN_PID": "5", "LISTEN_FDNAMES": "control", "WATCHDOG_USEC": "1",
		"WATCHDOG_PID": "5", "MEMORY_PRESSURE_WATCH": "/x", "MEMORY_PRESSURE_WRITE": "x", "JOURNAL_STREAM": "1:2", "FDSTORE": "9",
		"WORKERSD_SOCKET": "/x", "WORKERSD_GUARD_PID": "7", "RUNTIME_DIRECTORY": "/run/workersd", "CREDENTIALS_DIRECTORY": "/run/credentials/x",
		"INVOCATION_ID": "abc", "HOME": "/root", "USER": "root", "SHELL": "/bin/bash", "LANG": "C.UTF-8", "A": "manager", "B": "manager", "C": "manager",
	} {
		t.Setenv(name, value)
	}
	w := worker("queue@a", "x")
	w.Params = []spec.Param{{Name: "ip", Value: "10.0.0.1"}}
	w.Timeout, w.Watchdog = 30*time.Second, 5*time.Second
	w.Environment = []spec.EnvVar{{Name: "C", Value: "list"}, {Name: "NOTIFY_SOCKET", Value: "/not/this"}}
	e := environment{
		inherited: inherited(), worker: w, id: lifecycle.ProcessID{Worker: w.Name, Generation: 9}, user: &process.User{Name: "54321"}, maxRequests: 105, notify: "/n/1",
		file: []spec.EnvVar{{Name: "B", Value: "file"}, {Name: "C", Value: "file"}}, output: []string{"JOURNAL_STREAM=8:9"}, mark: "m",
	}
	got := e.build()
	slices.Sort(got)
	want := []string{
		"A=manager", "B=file", "C=list", "HOME=/", "INVOCATION_ID=abc", "JOURNAL_STREAM=8:9", "LANG=C.UTF-8", "LOGNAME=54321", "NOTIFY_SOCKET=/n/1",
		"SHELL=/bin/sh", "USER=54321", "WATCHDOG_USEC=5000000", "WORKERSD_GENERATION=9", "WORKERSD_INSTANCE=m", "WORKERSD_MAX_REQUESTS=105",
		"WORKERSD_NOTIFY_FD=3", "WORKERSD_PARAM_IP=10.0.0.1", "WORKERSD_TIMEOUT_USEC=30000000", "WORKERSD_WORKER=queue@a",
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

func TestEnvironmentFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "env")
	text := "# comment\n; another\n\nA=1\n B = two words \nexport C=\"quoted # not a comment\"\nD='x'\nE=\nF=a=b\nG=\"half\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := readEnvironmentFile(path)
	want := []spec.EnvVar{
		{Name: "A", Value: "1"}, {Name: "B", Value: "two words"}, {Name: "C", Value: "quoted # not a comment"}, {Name: "D", Value: "x"},
		{Name: "E"}, {Name: "F", Value: "a=b"}, {Name: "G", Value: "\"half"},
	}
	if d := cmp.Diff(want, got); d != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, d)
	}
	if vars, err := readEnvironmentFile("-/nowhere/env"); vars != nil || err != nil {
		t.Errorf("one that may be missing: %v, %v", vars, err)
	}
	for _, bad := range []string{"A", "=x", "A B=1", "A=\x00"} {
		if err := os.WriteFile(path, []byte("X=1\n"+bad+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := readEnvironmentFile(path); err == nil || err.Error() != "environment_file "+path+":2: expected NAME=value" {
			t.Errorf("%q: %v", bad, err)
		}
	}
	if err := os.Truncate(path, maxEnvFile+1); err != nil {
		t.Fatal(err)
	}
	if _, err := readEnvironmentFile(path); err == nil || err.Error() != "environment_file "+path+" is larger than 1M" {
		t.Errorf("a large one: %v", err)
	}
}

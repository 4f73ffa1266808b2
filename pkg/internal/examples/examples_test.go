// Package examples_test runs deploy/examples as a user would.
package examples_test

import (
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/workersd/workersd/pkg/client"
	"github.com/workersd/workersd/pkg/internal/programtest"
)

// dir holds the examples.
const dir = "../../../deploy/examples/"

func TestMain(m *testing.M) {
	programtest.Main(m, "deploy/examples/listener", "deploy/examples/redis-simple", "deploy/examples/redis-reliable",
		"deploy/examples/origin-basic", "deploy/examples/origin-memory")
}

// Every list that is shipped is one that workersd takes.
func TestEveryListIsAccepted(t *testing.T) {
	lists, err := filepath.Glob(dir + "*.toml")
	if err != nil || len(lists) < 3 {
		t.Fatalf("lists %v, %v", lists, err)
	}
	for _, list := range lists {
		if filepath.Base(list) == "reference.toml" {
			continue // all of it is commented out; pkg/internal/config compares it with the keys
		}
		if out, err := programtest.Command("workersctl", "check", list).CombinedOutput(); err != nil {
			t.Errorf("workersctl check %s: %v\n%s", list, err, out)
		}
	}
}

// Each language counts its executions, is replaced after five, finishes the
// running one when it is asked to leave, and is replaced when one takes too long.
func TestLanguages(t *testing.T) {
	for _, need := range []string{"python3", "node", "systemd-notify"} {
		if _, err := exec.LookPath(need); err != nil {
			t.Fatalf("%s is needed for this test: run deploy/test/needs.sh", need)
		}
	}
	if out, err := exec.Command("/usr/bin/python3", "-c", "import systemd.daemon").CombinedOutput(); err != nil {
		t.Fatalf("python3-systemd is needed for this test: run deploy/test/needs.sh: %v\n%s", err, out)
	}
	m := programtest.Start(t, "deploy/examples/languages.toml")
	// Together, as a user runs them; each language is waited for in turn.
	for _, c := range []struct{ language, first string }{
		{"go", "1:message-1"}, {"python", "job-1"}, {"python-systemd", "job-1"}, {"shell", "job-1"}, {"node", "job-1"},
	} {
		t.Run(c.language, func(t *testing.T) {
			short, long := c.language+"@0.2", c.language+"@60"
			r := m.AwaitRecord(short+" leaving after its number", ended(short, "max_requests"))
			// It leaves by itself; the manager's SIGTERM may meet an interpreter that
			// is about to end and has let go of its handlers.
			if r.Executions != 5 || r.Execution != "" || r.Status != "exit 0" && r.Status != "signal SIGTERM" {
				t.Errorf("%s was replaced after %d executions with %q running (%s), want 5, none and exit 0",
					short, r.Executions, r.Execution, r.Status)
			}
			r = m.AwaitRecord(long+" outliving its timeout", ended(long, "timeout"))
			if r.Execution != c.first || r.ExecutionAge.Seconds() < 2 {
				t.Errorf("%s: the reason tells of execution %q of %v, want %q of 2s or more", long, r.Execution, r.ExecutionAge, c.first)
			}
			why := m.Ctl("why", long)
			if !strings.Contains(why, "xecution "+c.first+" ") {
				t.Errorf("workersctl why %s does not tell of execution %s:\n%s", long, c.first, why)
			}
			restartInTheMiddle(t, m, short)
		})
	}
	m.Stop()
}

// restartInTheMiddle: an execution that runs when the signal comes is finished.
func restartInTheMiddle(t *testing.T, m *programtest.Manager, name string) {
	t.Helper()
	for range 20 { // it may leave by itself at the very moment
		var w client.Worker
		m.Await(name+" is at work", func() bool {
			w = m.Worker(name)
			return w.State == "up" && len(w.Running) == 1
		})
		m.Ctl("restart", name)
		r := m.AwaitRecord("the end of "+name, func(r client.Record) bool {
			return r.Kind == "gone" && r.Worker == name && r.Generation == w.Generation
		})
		if r.Reason == "max_requests" {
			continue
		}
		if r.Reason != "restarted" || r.Status != "exit 0" || r.Execution != "" || r.Executions <= w.Executions {
			t.Errorf("%s, asked to leave after %d executions in the middle of one: %s, %s, %d executions, %q running; want restarted, exit 0, one more, none",
				name, w.Executions, r.Reason, r.Status, r.Executions, r.Execution)
		}
		return
	}
	t.Errorf("%s always left by itself before it could be asked to", name)
}

func ended(worker, reason string) func(client.Record) bool {
	return func(r client.Record) bool {
		return r.Kind == "gone" && r.Worker == worker && string(r.Reason) == reason
	}
}

func created(worker string, generation uint64) func(client.Record) bool {
	return func(r client.Record) bool {
		return r.Kind == "created" && r.Worker == worker && r.Generation == generation
	}
}

func wantInOrder(t *testing.T, text string, patterns ...string) {
	t.Helper()
	rest := text
	for _, p := range patterns {
		at := regexp.MustCompile(p).FindStringIndex(rest)
		if at == nil {
			t.Errorf("the output lacks %s after what came before it:\n%s", p, text)
			return
		}
		rest = rest[at[1]:]
	}
}

func atoi(t *testing.T, s string) int {
	t.Helper()
	n, err := strconv.Atoi(s)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

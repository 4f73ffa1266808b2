package systemtest

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

func TestJournalLosesNothing(t *testing.T) {
	for _, c := range []struct {
		worker  string
		lines   int
		restart bool // of journald, in the middle
	}{{"fast", 100_000, false}, {"restarted", 50_000, true}} {
		t.Run(c.worker, func(t *testing.T) {
			report := t.TempDir() + "/report"
			s := newService(t, fmt.Sprintf("[worker.%s]\ncommand = [%q, \"-report=%s\", \"-n=%d\", \"lines\"]\n", c.worker, program(t, "hog"), report, c.lines))
			s.start()
			// The name is no other test's, and journalctl gives the newest only
			// without a cursor.
			newest := func() string {
				return run(t, "journalctl", "-q", "--no-pager", "-o", "cat", "-n", "1", "-t", c.worker)
			}
			last := fmt.Sprint("line ", c.lines-1)
			if c.restart {
				eventually(t, "the first lines", func() bool { return newest() != "" })
				run(t, "systemctl", "restart", "systemd-journald")
				at := newest()
				if at == last {
					t.Fatal("all was in the journal before journald was restarted")
				}
				t.Logf("restarted at about %q", at)
			}
			allWritten(t, report)
			eventually(t, "the last line", func() bool { return newest() == last })
			next := 0
			for line := range strings.Lines(run(t, "journalctl", "-q", "--no-pager", "-o", "cat", "-t", c.worker) + "\n") {
				if want := fmt.Sprintf("line %d\n", next); line != want {
					t.Fatalf("%q where %q should be", line, want)
				}
				next++
			}
			if next != c.lines {
				t.Errorf("%d lines, want %d", next, c.lines)
			}
		})
	}
}

// allWritten waits longer than for a condition: the guest writes the lines as fast
// as journald takes them.
func allWritten(t *testing.T, report string) {
	t.Helper()
	for end := time.Now().Add(10 * time.Minute); time.Now().Before(end); time.Sleep(200 * time.Millisecond) {
		if b, err := os.ReadFile(report); err == nil && strings.Contains(string(b), "\nwritten ") {
			return
		}
	}
	t.Fatal("the lines were never written")
}

// entries are journal entries by the fields that journalctl is asked for.
func entries(t *testing.T, args ...string) (all []map[string]any) {
	t.Helper()
	for line := range strings.Lines(run(t, "journalctl", append([]string{"-q", "--no-pager", "-o", "json"}, args...)...)) {
		var e map[string]any
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatalf("%v in %s", err, line)
		}
		all = append(all, e)
	}
	return all
}

func TestJournalIsSearched(t *testing.T) {
	const worker = "queue@ip1,mail"
	s := newService(t, `
[worker.queue]
command = ["/bin/sh", "-c", "echo plain; echo '<3>bad'; echo complaint >&2; sh -c 'echo from a child'; printf end; exec sleep infinity"]
matrix.ip = ["ip1", "ip2"]
matrix.queue = ["mail", "report"]
`)
	s.start()
	s.up(4)
	after := "--after-cursor=" + s.since
	var own []map[string]any
	eventually(t, "the worker's lines", func() bool {
		own = entries(t, after, "-t", worker)
		return len(own) >= 4
	})
	got := map[string]string{}
	for _, e := range own {
		got[fmt.Sprint(e["MESSAGE"])] = fmt.Sprint(e["PRIORITY"])
		if e["_SYSTEMD_UNIT"] != unit || e["_TRANSPORT"] != "stdout" {
			t.Errorf("a line of the worker: %v", e)
		}
	}
	for line, priority := range map[string]string{"plain": "6", "bad": "3", "complaint": "6", "from a child": "6"} {
		if got[line] != priority {
			t.Errorf("%q has priority %q, want %s: %v", line, got[line], priority, got)
		}
	}
	// Everything is found by the unit, and nobody else's by the identifier.
	said := s.journal("-o", "short")
	for _, w := range []string{"queue@ip1,mail", "queue@ip1,report", "queue@ip2,mail", "queue@ip2,report"} {
		contains(t, "-u workersd", said, w+"[", w+" ")
	}
	contains(t, "-u workersd", said, "from a child")

	// What the manager did with it: by fields, by MESSAGE_ID, with an explanation.
	before := s.status().Workers[0]
	run(t, "workersctl", "kill", worker)
	s.up(4)
	var gone []map[string]any
	eventually(t, "the record of its end", func() bool {
		gone = entries(t, after, "WORKERSD_WORKER="+worker, "WORKERSD_EVENT=gone")
		return len(gone) == 1
	})
	for field, want := range map[string]string{
		"WORKERSD_GENERATION": fmt.Sprint(before.Generation), "WORKERSD_PID": fmt.Sprint(before.PID),
		"SYSLOG_IDENTIFIER": "workersd", "_SYSTEMD_UNIT": unit, "MESSAGE_ID": "92fb5104dc12458ca5b4f260f5da2517",
	} {
		if gone[0][field] != want {
			t.Errorf("%s=%v, want %s", field, gone[0][field], want)
		}
	}
	if gone[0]["WORKERSD_REASON"] == nil {
		t.Errorf("no WORKERSD_REASON in %v", gone[0])
	}
	contains(t, "journalctl -x", run(t, "journalctl", "-q", "--no-pager", "-x", after, "MESSAGE_ID=92fb5104dc12458ca5b4f260f5da2517"),
		"Subject: Worker "+worker+" is gone", "workersctl why '"+worker+"'")

	// workersctl knows where the lines are.
	eventually(t, "the lines of its second process", func() bool {
		return strings.Count(run(t, "workersctl", "logs", worker), "from a child\n") == 2
	})
	if out := run(t, "workersctl", "logs", "-n", "1", worker); strings.Contains(out, "\n") {
		t.Errorf("the last line is %q", out)
	}
	cmd := exec.Command("workersctl", "logs", "-f", "-n", "0", worker)
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	follow := make(chan string, 100)
	go func() {
		defer close(follow)
		for sc := bufio.NewScanner(pipe); sc.Scan(); {
			follow <- sc.Text()
		}
	}()
	defer cmd.Wait()
	defer cmd.Process.Kill()
	run(t, "workersctl", "restart", worker)
	for deadline := time.After(patience); ; {
		select {
		case line := <-follow:
			if line == "complaint" {
				return
			}
		case <-deadline:
			t.Fatal("workersctl logs -f showed nothing of the new process")
		}
	}
}

package systemtest

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"
)

// newest is the newest line under an identifier: journalctl gives it only
// without a cursor, so the name must be no other test's.
func newest(t *testing.T, identifier string) string {
	t.Helper()
	return run(t, "journalctl", "-q", "--no-pager", "-o", "cat", "-n", "1", "-t", identifier)
}

// numbered fails unless the lines of an identifier are "line 0" up to n-1, each
// once and in order; behind them may stand what is not counted. Of as many lines
// as torn says, the head may be missing.
func numbered(t *testing.T, identifier string, n, torn int) {
	t.Helper()
	next := 0
	for line := range strings.Lines(run(t, "journalctl", "-q", "--no-pager", "-o", "cat", "-t", identifier)) {
		line = strings.TrimSuffix(line, "\n")
		if want := fmt.Sprint("line ", next); next < n && line != want {
			if torn--; torn < 0 || !strings.HasSuffix(want, line) {
				t.Fatalf("%q where %q should be", line, want)
			}
		}
		next++
	}
	if next < n {
		t.Errorf("%d lines, want %d", next, n)
	}
}

func TestJournalLosesNothing(t *testing.T) {
	const lines = 100_000
	report := t.TempDir() + "/report"
	s := newService(t, fmt.Sprintf("[worker.fast]\ncommand = [%q, \"-report=%s\", \"-n=%d\", \"lines\"]\n", program(t, "hog"), report, lines))
	s.start()
	allWritten(t, report)
	eventually(t, "the last line", func() bool { return newest(t, "fast") == fmt.Sprint("line ", lines-1) })
	numbered(t, "fast", lines, 0)
}

// The workers write until they are told to stop, which is after journald was
// restarted: so that was in the middle, however fast the machine is.
//
// Where journald keeps up, nothing is lost. Where it is behind, it has read a
// part of a line when it ends, and forgets that part: one line for each restart,
// and of any service's output, not of ours alone.
func TestJournalRestarted(t *testing.T) {
	const restarts = 2
	for _, c := range []struct {
		name, pause string
		torn        int
	}{{"paced", "sleep 0.02", 0}, {"flooding", ":", restarts}} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			s := newService(t, shell(c.name, `i=0; until [ -e stop ]; do echo "line $i"; i=$((i+1)); `+c.pause+`; done; echo "end $i"; exec sleep infinity`,
				fmt.Sprintf("directory = %q", dir)))
			s.start()
			more := func() {
				t.Helper()
				before := newest(t, c.name)
				eventually(t, "more lines", func() bool { return newest(t, c.name) != before })
			}
			for range restarts {
				more()
				run(t, "systemctl", "restart", "systemd-journald")
			}
			more()
			write(t, dir+"/stop", "")
			var n int
			eventually(t, "the end", func() bool {
				_, err := fmt.Sscanf(newest(t, c.name), "end %d", &n)
				return err == nil
			})
			t.Logf("%d lines", n)
			numbered(t, c.name, n, c.torn)
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
	after := s.since
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

	logged := func() int { return strings.Count(run(t, "workersctl", "logs", worker), "from a child") }
	atFirst := logged()

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

	// What it wrote last had no line end, and is there though the stream is kept for
	// the next process; what parts the two is not.
	eventually(t, "the end of a line without an end", func() bool {
		own = entries(t, after, "-t", worker, fmt.Sprint("_PID=", before.PID))
		return slices.ContainsFunc(own, func(e map[string]any) bool { return e["MESSAGE"] == "end" })
	})
	for _, e := range entries(t, after, "-t", worker) {
		if e["MESSAGE"] == "" || e["_SYSTEMD_UNIT"] != unit {
			t.Errorf("a line of the worker: %v", e)
		}
	}
	contains(t, "journalctl -x", run(t, "journalctl", "-q", "--no-pager", "-x", after, "MESSAGE_ID=92fb5104dc12458ca5b4f260f5da2517"),
		"Subject: Worker "+worker+" is gone", "workersctl why '"+worker+"'")

	// workersctl knows where the lines are.
	eventually(t, "the lines of its second process", func() bool { return logged() == atFirst+1 })
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
	// Nobody tells when journalctl has begun to follow: what comes before is not
	// shown, so there is more until some is.
	run(t, "workersctl", "restart", worker)
	again := time.NewTicker(5 * time.Second)
	defer again.Stop()
	for deadline := time.After(patience); ; {
		select {
		case line := <-follow:
			if line == "complaint" {
				return
			}
		case <-again.C:
			run(t, "workersctl", "restart", worker)
		case <-deadline:
			t.Fatal("workersctl logs -f showed nothing of the new process")
		}
	}
}

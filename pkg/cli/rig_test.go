package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/workersd/workersd/pkg/client"
	"github.com/workersd/workersd/pkg/internal/event"
)

// now is when all of these tests run.
var now = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func TestMain(m *testing.M) {
	time.Local = time.UTC
	os.Unsetenv("WORKERSD_SOCKET")
	os.Unsetenv("NOTIFY_SOCKET")
	os.Unsetenv("WORKERSD_NOTIFY_FD")
	os.Exit(m.Run())
}

func ago(d time.Duration) time.Time { return now.Add(-d) }

// fake answers calls with what a test says; the calls it got are kept.
type fake struct {
	*testing.T
	socket string
	calls  []string
	answer map[string]any // by path; an *client.Error refuses
}

func serve(t *testing.T) *fake {
	t.Helper()
	dir, err := os.MkdirTemp("", "w")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	f := &fake{T: t, socket: filepath.Join(dir, "s"), answer: map[string]any{}}
	l, err := net.Listen("unix", f.socket)
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: f}
	go srv.Serve(l)
	t.Cleanup(func() { srv.Close() })
	return f
}

func (f *fake) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	call := strings.TrimPrefix(req.URL.Path, "/v1/")
	f.calls = append(f.calls, req.Method+" "+call+" "+req.URL.RawQuery)
	a := f.answer[call]
	if s, ok := a.(client.Status); ok && call == "status" {
		a = only(s, req.URL.Query()["worker"])
	}
	if e, ok := a.(*client.Error); ok {
		w.WriteHeader(e.Status)
	}
	if rs, ok := a.([]client.Record); ok && call == "events" {
		for _, r := range rs {
			json.NewEncoder(w).Encode(r)
		}
		return
	}
	json.NewEncoder(w).Encode(a)
}

// only is a status of some workers, as the server gives it.
func only(s client.Status, names []string) client.Status {
	if len(names) == 0 {
		return s
	}
	out := client.Status{Manager: s.Manager}
	for _, w := range s.Workers {
		for _, n := range names {
			if w.Name == n {
				out.Workers = append(out.Workers, w)
			}
		}
	}
	return out
}

// ctl runs a command line and gives all that a person sees of it.
func ctl(t *testing.T, socket string, args ...string) string {
	t.Helper()
	var out, errs bytes.Buffer
	a := newApp(&out, &errs)
	a.now = func() time.Time { return now }
	a.exec = func(path string, argv, _ []string) error {
		fmt.Fprintf(&out, "(runs %s)\n", strings.Join(append([]string{filepath.Base(path)}, argv[1:]...), " "))
		return nil
	}
	if socket != "" {
		args = append([]string{"--socket", socket}, args...)
	}
	code := a.run(t.Context(), args)
	text := out.String()
	for _, l := range strings.Split(strings.TrimRight(errs.String(), "\n"), "\n") {
		if l != "" {
			text += "stderr: " + l + "\n"
		}
	}
	if socket != "" {
		text = strings.ReplaceAll(text, filepath.Dir(socket), "DIR")
	}
	return text + fmt.Sprintf("exit %d\n", code)
}

const mib = 1 << 20

// fleet is a status with something of everything.
func fleet() client.Status {
	return client.Status{
		Manager: client.Manager{
			Title: "mail workers", Version: "1.0", PID: 4711, Started: ago(26*time.Hour + 3*time.Minute), Now: now,
			Enforcement: "sampled", Because: "cgroup v2 is not ours to write", Workers: 8, Wanted: 7, Up: 4, Recycled: 12,
		},
		Workers: []client.Worker{
			{Name: "queue@10.0.0.1,mail", Entry: "queue", State: "up", Wanted: true, PID: 4712, Generation: 17, Started: ago(5*time.Minute + 10*time.Second), Since: ago(5 * time.Minute), Executions: 117, Failed: 2, Reports: true,
				Running: []client.Execution{{ID: "job-7", Age: 1200 * time.Millisecond}}, Memory: 12*mib + 300<<10, SoftMemory: 200 * mib, HardMemory: 300 * mib, Enforcement: "sampled", Restarts: 16, LastReason: "max_requests", StatusText: "reads \x1b[31mmail"},
			{Name: "queue@10.0.0.2,mail", Entry: "queue", State: "starting", Wanted: true, PID: 10123, Generation: 4, Started: ago(200 * time.Millisecond), Since: ago(200 * time.Millisecond), Memory: 1 * mib, SoftMemory: 200 * mib, HardMemory: 300 * mib, Restarts: 3, LastReason: "soft_memory",
				Statistics: &client.Statistics{MemoryPeak: 2 * mib, MemoryStat: map[string]int64{"anon": 900 << 10, "file": 50 << 10, "shmem": 4 << 10, "slab": 30 << 10}, MemoryEvents: map[string]int64{"high": 3, "max": 0}, SwapLimit: 10 * mib,
					CPU: 1234567890, Throttled: 5 * time.Millisecond, Pids: 7, PidsLimit: 64, IORead: 3 * mib, IOWritten: 1 << 10, MemoryPressure: 12.4}},
			{Name: "fails", Entry: "fails", State: "backoff", Wanted: true, Generation: 90, Since: ago(time.Second), NextStart: now.Add(12 * time.Second), Memory: -1, SoftMemory: -1, HardMemory: -1, Restarts: 89, Failures: 89, LastReason: "crashed"},
			{Name: "held#1", Entry: "held", State: "down", Generation: 1, Since: ago(time.Hour), OperatorStop: true, Memory: -1, SoftMemory: 200 * mib, HardMemory: 300 * mib, LastReason: "stopped"},
			{Name: "old", Entry: "old", State: "stopping", PID: 800, Generation: 2, Started: ago(72 * time.Hour), Since: ago(time.Minute), Removed: true, Executions: 1, Reports: true, Leaving: true, Memory: 3 << 30, SoftMemory: 4 << 30, HardMemory: -1},
			{Name: "hangs", Entry: "hangs", State: "killing", Wanted: true, PID: 801, Generation: 3, Started: ago(time.Hour), Since: ago(time.Minute), Stuck: true, Memory: 0, SoftMemory: 200 * mib, HardMemory: 300 * mib, LastReason: "timeout"},
			{Name: "report", Entry: "report", State: "waiting", Wanted: true, Generation: 12, Since: ago(time.Minute), NextStart: now.Add(59 * time.Minute), Reports: true, Memory: -1, SoftMemory: 200 * mib, HardMemory: 300 * mib, Restarts: 11, LastReason: "finished"},
			{Name: "once", Entry: "once", State: "done", Wanted: true, Since: ago(time.Hour), Memory: -1, SoftMemory: 200 * mib, HardMemory: 300 * mib},
		},
	}
}

func ends() []client.Record {
	gone := func(d time.Duration, g uint64, reason event.Reason, how, status string) client.Record {
		return client.Record{Seq: g, Time: ago(d), Kind: event.Gone, Worker: "queue@10.0.0.1,mail", Generation: g, PID: 4000 + int(g), Reason: reason, Message: "is not existed any more: " + how, Status: status, Uptime: 5*time.Minute + 10*time.Second}
	}
	rs := []client.Record{
		{Seq: 1, Time: ago(80 * time.Hour), Kind: event.NotStarted, Worker: "queue@10.0.0.1,mail", Generation: 1, Reason: event.SpawnFailed, Message: "cannot be started: /usr/bin/pythn3: no such file"},
		gone(3*time.Hour, 2, event.Crashed, "crashed with exit 3", "exit 3"),
		gone(2*time.Hour, 3, event.Killed, "killed by somebody (SIGKILL, not out of memory)", "SIGKILL"),
		gone(time.Hour, 4, event.Timeout, "killed, it had not left in time", "SIGKILL"),
		gone(50*time.Minute, 5, event.SoftMemory, "left with exit 0", "exit 0"),
		gone(40*time.Minute, 6, event.HardMemory, "killed at its hard memory limit", "SIGKILL"),
		gone(30*time.Minute, 7, event.Lost, "its status is unknown", ""),
		gone(2*time.Minute, 8, event.MaxRequests, "left with exit 0", "exit 0"),
	}
	rs[3].Execution, rs[3].ExecutionAge, rs[3].Executions = "job-7", 35*time.Second, 1
	rs[4].Memory, rs[4].MemoryLimit, rs[4].Executions = 201*mib, 200*mib, 117
	rs[5].Execution, rs[5].ExecutionAge = "job-9", 2*time.Second
	rs[5].PostMortem = &event.PostMortem{
		Peak: 300 * mib, Swap: 2 * mib, Stat: map[string]int64{"anon": 280 * mib, "file": 15 * mib, "kernel": 1 * mib},
		Procs:    []event.PostMortemProc{{PID: 4006, RSS: 250 * mib, Command: "/usr/bin/python3 listen.py"}, {PID: 4010, PPID: 4006, RSS: 30 * mib, Command: "convert \x1b[2J"}},
		PidsPeak: 9, Pressure: "some avg10=3.00 avg60=0.50 avg300=0.10 total=1234; full avg10=2.00 avg60=0.40 avg300=0.10 total=1000",
		Note: "sampled: resident memory of the tree, seen at intervals",
	}
	rs[7].Executions = 1000
	late := gone(time.Minute, 9, event.Timeout, "execution job-8 outlived its timeout, after 5.001s; exit 1", "exit 1")
	late.Execution, late.ExecutionAge = "job-8", 5001*time.Millisecond
	rs = append(rs, late)
	return rs
}

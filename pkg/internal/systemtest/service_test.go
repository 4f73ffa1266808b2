package systemtest

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/workersd/workersd/pkg/client"
)

const (
	unit      = "workersd.service"
	unitDir   = "/sys/fs/cgroup/workersd.slice/workersd.service"
	listFile  = "/etc/workersd/workers.toml"
	dropInDir = "/run/systemd/system/workersd.service.d"
	// quickly lifts the start limit, and lets a restart wait for nothing.
	quickly = "[Unit]\nStartLimitIntervalSec=0\n[Service]\nRestartSec=100ms\n"
)

// service is the installed workersd.service with a worker list of its own.
type service struct {
	t     *testing.T
	since string // for journalctl: what came before is another test's
}

// newService gives the list and the drop-ins to the installed service, which is
// down. At the end it is stopped, and nothing of it may be left.
func newService(t *testing.T, list string, dropIns ...string) *service {
	t.Helper()
	s := &service{t: t, since: fromNow()}
	for _, dir := range []string{"/run/workersd", "/var/lib/workersd", dropInDir} {
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
	}
	s.list(list)
	for i, d := range dropIns {
		write(t, filepath.Join(dropInDir, fmt.Sprintf("%d.conf", i)), d)
	}
	run(t, "systemctl", "daemon-reload")
	t.Cleanup(func() {
		if out, err := exec.Command("systemctl", "stop", unit).CombinedOutput(); err != nil {
			t.Errorf("systemctl stop: %v\n%s", err, out)
		}
		nothingLeft(t)
		if t.Failed() {
			lines := strings.Split(s.journal("-o", "short-monotonic"), "\n")
			t.Logf("the journal of %s:\n%s", unit, strings.Join(lines[max(0, len(lines)-200):], "\n"))
		}
		exec.Command("systemctl", "reset-failed", unit).Run()
		os.RemoveAll(dropInDir)
		exec.Command("systemctl", "daemon-reload").Run()
	})
	return s
}

// sleepers is an entry of n workers that do nothing, and do it cheaply.
func sleepers(n int, more string) string {
	return fmt.Sprintf("[worker.sleep]\ncommand = [\"/usr/bin/sleep\", \"infinity\"]\nreplicas = %d\n%s\n", n, more)
}

// shell is an entry of one worker that runs a script.
func shell(name, script, more string) string {
	return fmt.Sprintf("[worker.%s]\ncommand = [\"/bin/sh\", \"-c\", '''%s''']\n%s\n", name, script, more)
}

func (s *service) list(text string) { s.t.Helper(); write(s.t, listFile, text) }

func (s *service) start() { s.t.Helper(); run(s.t, "systemctl", "start", unit) }

// show is a property of the unit.
func (s *service) show(property string) string {
	s.t.Helper()
	return run(s.t, "systemctl", "show", "-P", property, unit)
}

func (s *service) pid() int {
	s.t.Helper()
	n, err := strconv.Atoi(s.show("MainPID"))
	if err != nil {
		s.t.Fatal(err)
	}
	return n
}

// journal is what the unit has written since the test began.
func (s *service) journal(args ...string) string {
	s.t.Helper()
	return run(s.t, "journalctl", append([]string{"-q", "--no-pager", s.since, "-u", unit}, args...)...)
}

// status asks the manager.
func (s *service) status() client.Status {
	s.t.Helper()
	st, err := s.tryStatus()
	if err != nil {
		s.t.Fatal(err)
	}
	return st
}

// tryStatus asks as workersctl does, without a process for it.
func (s *service) tryStatus() (client.Status, error) {
	return ask("/run/workersd/control.sock")
}

func ask(socket string) (client.Status, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	c := client.New(socket)
	defer c.Close()
	return c.Status(ctx)
}

// up waits until n workers are up, and gives their pids.
func (s *service) up(n int) map[string]int {
	s.t.Helper()
	var pids map[string]int
	eventually(s.t, fmt.Sprint(n, " workers up"), func() bool {
		st, err := s.tryStatus()
		pids = map[string]int{}
		for _, w := range st.Workers {
			if w.State == "up" {
				pids[w.Name] = w.PID
			}
		}
		return err == nil && st.Manager.Up == n && len(pids) == n
	})
	return pids
}

// member is a process of a worker, as its environment tells: wherever it is,
// whoever its parent.
type member struct {
	pid, ppid  int
	worker     string
	generation uint64
}

// members are all processes of all workers of this machine.
func members() []member {
	var all []member
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		b, err := os.ReadFile("/proc/" + e.Name() + "/environ")
		if err != nil || !strings.Contains(string(b), "WORKERSD_WORKER=") {
			continue
		}
		m := member{pid: pid}
		for _, v := range strings.Split(string(b), "\x00") {
			if w, ok := strings.CutPrefix(v, "WORKERSD_WORKER="); ok {
				m.worker = w
			}
			if g, ok := strings.CutPrefix(v, "WORKERSD_GENERATION="); ok {
				m.generation, _ = strconv.ParseUint(g, 10, 64)
			}
		}
		stat, err := os.ReadFile("/proc/" + e.Name() + "/stat")
		if err != nil {
			continue
		}
		_, rest, _ := strings.Cut(string(stat), ") ")
		var state string
		if fmt.Sscan(rest, &state, &m.ppid); state == "Z" || state == "X" {
			continue
		}
		all = append(all, m)
	}
	return all
}

// nothingLeft fails unless the unit is down and no process of a worker lives.
func nothingLeft(t *testing.T) {
	t.Helper()
	if left := members(); len(left) != 0 {
		t.Errorf("left behind: %+v", left)
		for _, m := range left {
			b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", m.pid))
			t.Logf("%d is in %s", m.pid, b)
		}
	}
	if _, err := os.Stat(unitDir); !os.IsNotExist(err) {
		var dirs []string
		filepath.WalkDir(unitDir, func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.IsDir() {
				dirs = append(dirs, path)
			}
			return nil
		})
		t.Errorf("cgroups are left (%v): %q", err, dirs)
	}
}

// onceEach fails unless the workers of the list have one process each, all of
// them children of the manager.
func (s *service) onceEach(n int) []member {
	s.t.Helper()
	manager := s.pid()
	all := members()
	seen := map[string]bool{}
	for _, m := range all {
		if seen[m.worker] {
			s.t.Errorf("%s runs twice: %+v", m.worker, all)
		}
		seen[m.worker] = true
		if m.ppid != manager {
			s.t.Errorf("%+v is no child of the manager %d", m, manager)
		}
	}
	if len(seen) != n {
		s.t.Errorf("%d workers run, want %d: %+v", len(seen), n, all)
	}
	return all
}

func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
	return strings.TrimSpace(string(out))
}

// fails runs what must fail, and gives its output.
func fails(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err == nil {
		t.Fatalf("%s %q should have failed\n%s", name, args, out)
	}
	return string(out)
}

func write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// fromNow makes journalctl show what comes from now on. A cursor would not do:
// journalctl of systemd 252 leaves out the first entry behind it that matches
// something else.
func fromNow() string {
	now := time.Now()
	return fmt.Sprintf("--since=@%d.%06d", now.Unix(), now.Nanosecond()/1000)
}

func contains(t *testing.T, what, text string, want ...string) {
	t.Helper()
	for _, w := range want {
		if !strings.Contains(text, w) {
			t.Errorf("%s: no %q in:\n%s", what, w, text)
		}
	}
}

// The main case: many workers, a small change, an orderly end.
func TestService60Workers(t *testing.T) {
	list := func(changed string) string {
		return "[manager]\ntitle = \"sixty\"\n" + `
[worker.queue]
command = ["/usr/bin/sleep", "infinity"]
matrix.ip = ["10.0.0.1", "10.0.0.2", "10.0.0.3"]
matrix.queue = [` + quoted(19) + `]
[worker.extra]
command = ["/usr/bin/sleep", "` + changed + `"]
replicas = 3
`
	}
	s := newService(t, list("1000000"))
	s.start()
	before := s.up(60)
	s.onceEach(60)
	eventually(t, "the status text counts them", func() bool {
		return s.show("StatusText") == "sixty: 60 of 60 up, 0 recycled in the last hour"
	})
	if leaves, _ := filepath.Glob(unitDir + "/workers/*:*"); len(leaves) != 60 {
		t.Errorf("%d leaves, want 60", len(leaves))
	}
	contains(t, "systemd-cgls", run(t, "systemd-cgls", "--no-pager", "-u", unit), "queue@10.0.0.1,q7:", "manager")

	s.list(list("2000000"))
	run(t, "systemctl", "reload", unit)
	// The new list is in force; its processes are on their way.
	if w := s.status().Manager.Workers; w != 60 {
		t.Errorf("%d workers after the reload", w)
	}
	var after map[string]int
	eventually(t, "the three changed workers are new", func() bool {
		after = s.up(60)
		return !slices.ContainsFunc([]string{"extra", "extra#1", "extra#2", "extra#3"}, func(n string) bool {
			return before[n] != 0 && before[n] == after[n]
		})
	})
	same := 0
	for name, pid := range before {
		if after[name] == pid {
			same++
		}
	}
	if same != 57 {
		t.Errorf("%d processes stayed, want 57", same)
	}
	s.onceEach(60)
	run(t, "systemctl", "stop", unit)
	nothingLeft(t)
	if r := s.show("Result"); r != "success" {
		t.Errorf("Result=%s", r)
	}
}

func quoted(n int) string {
	var names []string
	for i := range n {
		names = append(names, fmt.Sprintf("%q", fmt.Sprint("q", i)))
	}
	return strings.Join(names, ", ")
}

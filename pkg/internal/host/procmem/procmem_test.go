package procmem

import (
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/workersd/workersd/pkg/spec"
)

func TestScan(t *testing.T) {
	table := Table{Root: "testdata/proc"}
	if err := table.Scan(); err != nil {
		t.Fatal(err)
	}
	want := []Proc{
		{PID: 1, PPID: 0, Group: 1, Session: 1, Start: 2, RSS: 3000 * pageSize},
		{PID: 100, PPID: 1, Group: 100, Session: 100, Start: 5000, RSS: 2500 * pageSize},
		{PID: 110, PPID: 100, Group: 110, Session: 110, Start: 6000, RSS: 25600 * pageSize},
		{PID: 111, PPID: 110, Group: 111, Session: 110, Start: 6100, RSS: 256 * pageSize},
		{PID: 112, PPID: 110, Group: 110, Session: 110, Start: 6200, Zombie: true},
	}
	if !slices.Equal(table.Procs, want) {
		t.Errorf("got  %+v\nwant %+v", table.Procs, want)
	}
	if p, ok := table.Find(111); !ok || p != want[3] {
		t.Errorf("Find: %+v, %v", p, ok)
	}
	for _, pid := range []int{0, 113, 99999} {
		if p, ok := table.Find(pid); ok {
			t.Errorf("found %+v for %d", p, pid)
		}
	}
	if _, ok := table.Read(120); ok {
		t.Error("a stat that is none was read")
	}
	bad := Table{Root: "testdata/nowhere"}
	if err := bad.Scan(); err == nil || !strings.Contains(err.Error(), "testdata/nowhere") {
		t.Errorf("a missing /proc: %v", err)
	}
}

func TestParseStatRefuses(t *testing.T) {
	for _, s := range []string{"", "1", "1 (x", "1 (x)", "x (x) S 1 2 3", "1 (x) S 1 2 3", "(1)", ") 1 ("} {
		if p, ok := ParseStat([]byte(s)); ok {
			t.Errorf("%q was read as %+v", s, p)
		}
	}
}

// A process whose main thread has ended while others go on has not ended.
func TestEndedMainThread(t *testing.T) {
	for threads, zombie := range map[string]bool{"1": true, "0": true, "2": false} {
		p, ok := ParseStat([]byte("7 (x) Z 1 7 7 0 -1 0 0 0 0 0 0 0 0 0 20 0 " + threads + " 0 99 0 3 0"))
		if !ok || p.Zombie != zombie || p.Start != 99 {
			t.Errorf("with %s threads: %+v, %v", threads, p, ok)
		}
	}
}

func FuzzParseStat(f *testing.F) {
	for _, pid := range []string{"1", "110", "112", "120"} {
		b, err := os.ReadFile("testdata/proc/" + pid + "/stat")
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if p, ok := ParseStat(b); ok && p.PID < 0 {
			t.Errorf("%q: %+v", b, p)
		}
	})
}

func TestLooks(t *testing.T) {
	table := Table{Root: "testdata/proc"}
	if n, ok := table.PSS(110); !ok || n != 50*spec.MiB {
		t.Errorf("PSS %v, %v", n, ok)
	}
	if _, ok := table.PSS(111); ok {
		t.Error("PSS where it is not told")
	}
	if _, ok := table.PSS(100); ok {
		t.Error("a living process without smaps_rollup was taken for one that holds nothing")
	}
	if n, ok := table.PSS(4711); !ok || n != 0 {
		t.Errorf("a process that is gone holds %v, %v", n, ok)
	}
	if v, ok := table.Env(110, "WORKERSD_GENERATION"); !ok || v != "7" {
		t.Errorf("WORKERSD_GENERATION %q, %v", v, ok)
	}
	for _, name := range []string{"WORKERSD", "GENERATION", "Y"} {
		if v, ok := table.Env(110, name); ok {
			t.Errorf("%s is %q", name, v)
		}
	}
	for pid, want := range map[int]string{110: "python3 listen.py", 111: "kworker", 4711: ""} {
		if got := table.Command(pid); got != want {
			t.Errorf("command of %d: %q, want %q", pid, got, want)
		}
	}
}

func TestLimitAbove(t *testing.T) {
	for _, c := range []struct {
		self, mount string
		want        spec.Bytes
	}{
		{"self.v2", "v2", spec.GiB},
		{"self.container", "v2", 2 * spec.GiB},
		{"self.v1", "v1", 512 * spec.MiB},
		{"self.v2", "v1", 0},
		{"self.missing", "v2", 0},
	} {
		if got := limitAbove("testdata/cgroup/"+c.self, "testdata/cgroup/"+c.mount); got != c.want {
			t.Errorf("%s under %s: %v, want %v", c.self, c.mount, got, c.want)
		}
	}
	if n := Total(); n < 16*spec.MiB {
		t.Errorf("this machine has %v", n)
	}
}

// The figures of a real process, our own.
func TestSelf(t *testing.T) {
	var table Table
	if err := table.Scan(); err != nil {
		t.Fatal(err)
	}
	p, ok := table.Find(os.Getpid())
	if !ok || p.PPID != os.Getppid() || p.Group != syscall.Getpgrp() || p.RSS < spec.MiB || p.Start == 0 || p.Zombie {
		t.Errorf("we are %+v, %v", p, ok)
	}
	if pss, ok := table.PSS(p.PID); !ok || pss <= 0 || pss > 2*p.RSS {
		t.Errorf("PSS %v of RSS %v", pss, p.RSS)
	}
}

// Refresh finds what is new, forgets what is gone, and reads again only what is
// watched.
func TestRefresh(t *testing.T) {
	start := func() int {
		pid, err := syscall.ForkExec("/bin/sleep", []string{"sleep", "1000"}, nil)
		if err != nil {
			t.Fatal(err)
		}
		return pid
	}
	end := func(pid int) {
		syscall.Kill(pid, syscall.SIGKILL)
		syscall.Wait4(pid, nil, 0, nil)
	}
	var table Table
	old, gone := start(), start()
	defer end(old)
	if err := table.Scan(); err != nil {
		t.Fatal(err)
	}
	for i := range table.Procs {
		table.Procs[i].RSS = -1
		table.Procs[i].Watched = table.Procs[i].PID == old
	}
	end(gone)
	fresh := start()
	defer end(fresh)
	if err := table.Refresh(); err != nil {
		t.Fatal(err)
	}
	if !slices.IsSortedFunc(table.Procs, func(a, b Proc) int { return a.PID - b.PID }) {
		t.Error("not in order")
	}
	for _, c := range []struct {
		pid  int
		here bool
		read bool
	}{{old, true, true}, {fresh, true, true}, {gone, false, false}, {os.Getpid(), true, false}} {
		p, ok := table.Find(c.pid)
		if ok != c.here || ok && (p.RSS >= 0) != c.read {
			t.Errorf("%d: %+v, %v; want it here %v, read %v", c.pid, p, ok, c.here, c.read)
		}
	}
	p, _ := table.Find(old)
	if !p.Watched {
		t.Errorf("%+v is not watched any more", p)
	}
	if now, _ := table.Read(old); now.Start != p.Start || p.PPID != os.Getpid() {
		t.Errorf("refreshed %+v, read %+v", p, now)
	}
}

// A signal reaches the process that was looked at, and no other that has its
// pid now.
func TestSignal(t *testing.T) {
	pid, err := syscall.ForkExec("/bin/sleep", []string{"sleep", "1000"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	var table Table
	p, ok := table.Read(pid)
	if !ok {
		t.Fatal("not there")
	}
	earlier := p
	earlier.Start--
	if table.Signal(earlier, syscall.SIGKILL) {
		t.Error("an earlier process of that pid was signalled")
	}
	if !table.Signal(p, syscall.SIGUSR1) {
		t.Error("not signalled")
	}
	var ws syscall.WaitStatus
	if _, err := syscall.Wait4(pid, &ws, 0, nil); err != nil || ws.Signal() != syscall.SIGUSR1 {
		t.Errorf("ended by %v, %v", ws.Signal(), err)
	}
	if table.Signal(p, syscall.SIGKILL) {
		t.Error("a process that is gone was signalled")
	}
}

// An orphan is among the children of the first thread, whichever thread made
// its parent.
func TestAdopted(t *testing.T) {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		t.Fatal(err)
	}
	var table Table
	before, ok := table.Adopted()
	if !ok {
		t.Skip("the kernel has no CONFIG_PROC_CHILDREN; host falls back to a scan")
	}
	out, err := exec.Command("/bin/sh", "-c", "sleep 1000 >/dev/null 2>&1 & echo $!").Output()
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(out)))
	if err != nil {
		t.Fatal(err)
	}
	now, _ := table.Adopted()
	syscall.Kill(pid, syscall.SIGKILL)
	syscall.Wait4(pid, nil, 0, nil)
	after, _ := table.Adopted()
	if !slices.Contains(now, pid) || slices.Contains(before, pid) || slices.Contains(after, pid) {
		t.Errorf("orphan %d: before %v, while it lived %v, after %v", pid, before, now, after)
	}
}

// Below are children of any generation and of any thread, and no others.
func TestBelow(t *testing.T) {
	var table Table
	if _, ok := table.Adopted(); !ok {
		t.Skip("the kernel has no CONFIG_PROC_CHILDREN; host leaves early children out")
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	cmd := exec.Command("/bin/sh", "-c", "sh -c 'sleep 1000 & echo $! $$; wait' & wait")
	cmd.Stdout = w
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	w.Close()
	var child, grandchild int
	if _, err := fmt.Fscan(r, &grandchild, &child); err != nil {
		t.Fatal(err)
	}
	below, ofUs, ofLeaf := table.Below(cmd.Process.Pid), table.Below(os.Getpid()), table.Below(grandchild)
	for _, pid := range []int{grandchild, child, cmd.Process.Pid} {
		syscall.Kill(pid, syscall.SIGKILL)
		syscall.Wait4(pid, nil, 0, nil)
	}
	if !slices.Equal(below, []int{child, grandchild}) || len(ofLeaf) != 0 {
		t.Errorf("below it %v, below its grandchild %v; want %d and %d, and none", below, ofLeaf, child, grandchild)
	}
	if !slices.Contains(ofUs, grandchild) {
		t.Errorf("below us %v, without %d", ofUs, grandchild)
	}
	if gone := table.Below(grandchild); len(gone) != 0 {
		t.Errorf("below one that is gone %v", gone)
	}
}

// BenchmarkScan is one pass over 500 processes, each as large as a real one.
func BenchmarkScan(b *testing.B) {
	root := b.TempDir()
	stat, err := os.ReadFile("testdata/proc/110/stat")
	if err != nil {
		b.Fatal(err)
	}
	for i := range 500 {
		dir := root + "/" + strconv.Itoa(1000+i)
		if err := os.Mkdir(dir, 0o755); err != nil {
			b.Fatal(err)
		}
		if err := os.WriteFile(dir+"/stat", stat, 0o644); err != nil {
			b.Fatal(err)
		}
	}
	table := Table{Root: root}
	b.ReportAllocs()
	for b.Loop() {
		if err := table.Scan(); err != nil || len(table.Procs) != 500 {
			b.Fatal(len(table.Procs), err)
		}
	}
}

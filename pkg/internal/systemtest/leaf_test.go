package systemtest

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/workersd/workersd/pkg/internal/host/cgroup"
	"github.com/workersd/workersd/pkg/internal/lifecycle"
	"github.com/workersd/workersd/pkg/spec"
)

func TestDelegation(t *testing.T) {
	if !inUnit(t) {
		return
	}
	// systemd has handed down what Delegate= asks for; from here on nothing
	// above the root may be written.
	above := "/sys/fs/cgroup/system.slice"
	before := written(t, "/sys/fs/cgroup", above)
	x := openTree(t, spec.None)
	if after := written(t, "/sys/fs/cgroup", above); after != before {
		t.Errorf("above the root:\n%s\nwas before:\n%s", after, before)
	}
	root := x.Root().Path
	if want := filepath.Join(above, "testdelegation.service"); root != want {
		t.Fatalf("root %s, want %s", root, want)
	}
	if path, _ := cgroup.PathOf("/proc", os.Getpid()); path != "/system.slice/testdelegation.service/manager" {
		t.Errorf("the manager is in %s", path)
	}
	if procs := read(t, root, "cgroup.procs"); procs != "" {
		t.Errorf("processes in the root: %s", procs)
	}
	for _, dir := range []string{root, root + "/workers"} {
		if got := read(t, dir, "cgroup.subtree_control"); got != "cpu io memory pids" {
			t.Errorf("%s hands down %q", dir, got)
		}
	}
	p := x.hog(unlimited, "idle")
	reported(t, p.report, "start")
	// The root is found again from inside, and it is the same.
	if again, err := (cgroup.Search{}).Find(); err != nil || again.Path != root {
		t.Errorf("found %v (%v)", again, err)
	}
	if in, known := p.Contains(p.cmd.Process.Pid); !in || !known {
		t.Error("the worker is not seen in its leaf")
	}
	if in, known := p.Contains(os.Getpid()); in || !known {
		t.Error("the manager is seen in the leaf of a worker")
	}
	if _, err := cgroup.Open(cgroup.Options{Root: x.Root()}); err == nil || !strings.Contains(err.Error(), "in use by another manager") {
		t.Errorf("a second manager: %v", err)
	}
}

// written is what a manager could have written in the cgroups dirs.
func written(t *testing.T, dirs ...string) string {
	t.Helper()
	var b strings.Builder
	for _, dir := range dirs {
		for _, file := range []string{"cgroup.subtree_control", "cgroup.procs", "memory.max", "memory.high"} {
			if text, err := os.ReadFile(filepath.Join(dir, file)); err == nil {
				fmt.Fprintf(&b, "%s/%s: %s\n", dir, file, text)
			}
		}
	}
	return b.String()
}

// The first page that a child touches is charged to its own leaf: all that it
// has is what the leaf was charged with.
func TestFirstPage(t *testing.T) {
	if !inUnit(t) {
		return
	}
	x := openTree(t, spec.None)
	p := x.hog(unlimited, "-to=8", "-every=0", "grow")
	reported(t, p.report, "full")
	firstPage(t, p.cmd.Process.Pid, p.Path())
}

func firstPage(t *testing.T, pid int, leaf string) {
	t.Helper()
	// The statistics lag a little behind the charge.
	var has, charged int64
	eventually(t, "what a child has is charged to its own leaf", func() bool {
		fmt.Sscan(strings.TrimPrefix(find(t, read(t, fmt.Sprintf("/proc/%d/smaps_rollup", pid)), "Anonymous:"), "Anonymous:"), &has)
		charged = flat(t, read(t, leaf, "memory.stat"), "anon")
		return has<<10 == charged
	})
	if charged < int64(8*spec.MiB) {
		t.Errorf("charged %d, the child took 8 MiB", charged)
	}
}

func find(t *testing.T, text, prefix string) string {
	t.Helper()
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, prefix) {
			return line
		}
	}
	t.Fatalf("no line %q in %q", prefix, text)
	return ""
}

func TestOperatorsKill(t *testing.T) {
	if !inUnit(t, protected) {
		return
	}
	x := openTree(t, spec.None)
	p := x.hog(memory(100*spec.MiB, 200*spec.MiB), "idle")
	reported(t, p.report, "start")
	p.signal(syscall.SIGKILL)
	status, found := p.gone()
	if !killedBy(status, syscall.SIGKILL) || found.OOM != lifecycle.NoOOM {
		t.Errorf("status %v, OOM %v", status, found.OOM)
	}
}

// A worker whose grandchildren left its session and its parent: the leaf still
// has them, and one write ends them.
func TestDaemonizedGrandchildren(t *testing.T) {
	if !inUnit(t) {
		return
	}
	x := openTree(t, spec.None)
	p := x.hog(unlimited, "-n=3", "daemonize")
	reported(t, p.report, "daemonized")
	eventually(t, "three grandchildren and their parent in the leaf", func() bool {
		pids, err := p.Procs()
		return err == nil && len(pids) == 4
	})
	p.signal(syscall.SIGKILL)
	p.cmd.Wait()
	p.TellEmpty()
	select {
	case <-x.emptied:
		t.Fatal("emptied was told with three processes in the leaf")
	default:
	}
	if err := p.Kill(); err != nil {
		t.Fatal(err)
	}
	if l := <-x.emptied; l != p.Leaf {
		t.Errorf("emptied %v", l.ID)
	}
}

func TestLiveLimits(t *testing.T) {
	if !inUnit(t, protected) {
		return
	}
	x := openTree(t, spec.None)
	lim := cgroup.Limits{Soft: 100 * spec.MiB, Hard: 200 * spec.MiB, Swap: 0, CPUMax: 0.5, CPUWeight: 50, IOWeight: 200, PidsMax: 64}
	p := x.hog(lim, "-to=60", "grow")
	reported(t, p.report, "full")
	for file, want := range map[string]string{
		"memory.high": "104857600", "memory.max": "209715200", "memory.swap.max": "0", "memory.oom.group": "1",
		"cpu.max": "50000 100000", "cpu.weight": "50", "io.weight": "default 200", "pids.max": "64",
	} {
		if got := read(t, p.Path(), file); got != want {
			t.Errorf("%s = %q, want %q", file, got, want)
		}
	}
	if oom := read(t, x.Root().Path, "workers/memory.oom.group"); oom != "0" {
		t.Errorf("memory.oom.group of the pool = %s: the pool's limit must have one victim", oom)
	}
	next := cgroup.Limits{Soft: 80 * spec.MiB, Hard: 120 * spec.MiB, Swap: 10 * spec.MiB, PidsMax: 0}
	if err := p.Update(next); err != nil {
		t.Fatal(err)
	}
	for file, want := range map[string]string{
		"memory.high": "83886080", "memory.max": "125829120", "memory.swap.max": "10485760",
		"cpu.max": "max 100000", "cpu.weight": "100", "io.weight": "default 100", "pids.max": "max",
	} {
		if got := read(t, p.Path(), file); got != want {
			t.Errorf("after the reload %s = %q, want %q", file, got, want)
		}
	}
	x.notTold()

	// Both limits below what it holds: it is told, and not killed.
	next.Soft, next.Hard = 20*spec.MiB, 40*spec.MiB
	if err := p.Update(next); err != nil {
		t.Fatal(err)
	}
	if told := x.told(); told.limit != 20*spec.MiB || told.usage < 60*spec.MiB {
		t.Errorf("told %v of %v", told.usage, told.limit)
	}
	if got := read(t, p.Path(), "memory.max"); got != "125829120" {
		t.Errorf("memory.max = %s: it must wait while 60 MiB are in use", got)
	}
	if got := read(t, p.Path(), "memory.high"); got != "max" {
		t.Errorf("memory.high = %s: nothing may brake it now", got)
	}
	p.signal(syscall.SIGTERM)
	if status, found := p.gone(); !status.Exited() || status.ExitStatus() != 0 || found.OOM != lifecycle.NoOOM {
		t.Errorf("status %v, OOM %v", status, found.OOM)
	}
}

// 300 leaves: one inotify instance, and no thread for each.
func TestManyLeaves(t *testing.T) {
	if !inUnit(t) {
		return
	}
	x := openTree(t, spec.None)
	var leaves []*cgroup.Leaf
	for i := range 300 {
		l, err := x.New(lifecycle.ProcessID{Worker: "many@10.0.0.1,a%20b:+.#2", Generation: uint64(i + 1)}, memory(spec.MiB, 2*spec.MiB))
		if err != nil {
			t.Fatal(err)
		}
		leaves = append(leaves, l)
	}
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	inotify := 0
	for _, fd := range fds {
		if to, _ := os.Readlink("/proc/self/fd/" + fd.Name()); to == "anon_inode:inotify" {
			inotify++
		}
	}
	tasks, _ := os.ReadDir("/proc/self/task")
	if inotify != 1 || len(tasks) > 20 {
		t.Errorf("%d inotify instances and %d threads for 300 leaves", inotify, len(tasks))
	}
	for _, l := range leaves {
		if err := l.Remove(); err != nil {
			t.Fatal(err)
		}
	}
	if left, _ := filepath.Glob(x.Root().Path + "/workers/*:*"); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
}

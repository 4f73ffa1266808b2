package systemtest

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
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

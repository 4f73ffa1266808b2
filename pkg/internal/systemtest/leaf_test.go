package systemtest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/workersd/workersd/pkg/internal/host/cgroup"
	"github.com/workersd/workersd/pkg/internal/lifecycle"
	"github.com/workersd/workersd/pkg/spec"
)

// The manager arranges what it was given, and nothing above it.
func TestDelegation(t *testing.T) {
	const above = "/sys/fs/cgroup/system.slice"
	before := written(above)
	m := manage(t, `
[worker.w]
command = ["HOG", "-report=DIR/w", "idle"]
`)
	m.said("w", 1, "start")
	after := written(above)
	for file, text := range before { // others appear with a controller, by systemd's hand
		if after[file] != text {
			t.Errorf("%s/%s was %q and is %q", above, file, text, after[file])
		}
	}
	root := m.root()
	if own, _ := cgroup.PathOf("/proc", m.pid()); own != "/system.slice/"+m.unit+".service/manager" {
		t.Errorf("the manager is in %s", own)
	}
	files(t, root, map[string]string{"cgroup.procs": "", "cgroup.subtree_control": "cpu io memory pids"})
	files(t, root+"/workers", map[string]string{"cgroup.procs": "", "cgroup.subtree_control": "cpu io memory pids"})
	if got := read(t, m.leaf("w", 1), "cgroup.procs"); got != fmt.Sprint(m.worker("w").PID) {
		t.Errorf("in the leaf: %q", got)
	}
	// The root is found from inside, too, and has a manager already.
	out, err := exec.Command("timeout", "60", "workersd", "--config", m.list(), "--socket", m.dir+"/second.sock", "--cgroup-root", root).CombinedOutput()
	if !strings.Contains(string(out), "is in use by another manager") {
		t.Errorf("a second manager in the same root: %v\n%s", err, out)
	}
	if st := m.worker("w"); st.PID == 0 || st.Generation != 1 {
		t.Errorf("%s", asJSON(st))
	}
}

// written is what a manager could have written in a cgroup.
func written(dir string) map[string]string {
	is := map[string]string{}
	for _, file := range []string{"cgroup.procs", "memory.max", "memory.high", "pids.max", "cpu.weight"} {
		if text, err := os.ReadFile(filepath.Join(dir, file)); err == nil {
			is[file] = string(text)
		}
	}
	return is
}

// 300 leaves: one inotify instance, no thread for each, and nothing of them is
// left when they are removed, in the kernel neither.
func TestManyLeaves(t *testing.T) {
	if !inUnit(t) {
		return
	}
	root, err := cgroup.Search{}.Find()
	if err != nil {
		t.Fatal(err)
	}
	x, err := cgroup.Open(cgroup.Options{
		Root: root, CheckInterval: time.Second, Pool: spec.None,
		SoftPassed: func(*cgroup.Leaf, spec.Bytes, spec.Bytes) {}, Emptied: func(*cgroup.Leaf) {},
		Problem: func(text string) { t.Error(text) },
	})
	if err != nil {
		t.Fatal(err)
	}
	fd, before := watches(t)
	var leaves []*cgroup.Leaf
	for i := range 300 {
		l, err := x.New(lifecycle.ProcessID{Worker: "many@10.0.0.1,a%20b:+.#2", Generation: uint64(i + 1)}, cgroup.Limits{Soft: spec.MiB, Hard: 2 * spec.MiB})
		if err != nil {
			t.Fatal(err)
		}
		leaves = append(leaves, l)
	}
	if again, now := watches(t); again != fd || now != before+300 {
		t.Errorf("%d watches for 300 leaves, %d before", now, before)
	}
	fds, _ := os.ReadDir("/proc/self/fd")
	tasks, _ := os.ReadDir("/proc/self/task")
	within(t, "descriptors", int64(len(fds)), 600, 640)
	within(t, "threads", int64(len(tasks)), 1, 150)
	for _, l := range leaves {
		if err := l.Remove(); err != nil {
			t.Fatal(err)
		}
	}
	if _, now := watches(t); now != before {
		t.Errorf("%d watches are left, %d were there before", now, before)
	}
	if left, _ := filepath.Glob(x.Root().Path + "/workers/*:*"); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
	eventually(t, "the kernel has let go of the removed cgroups", func() bool {
		return flat(t, read(t, root.Path, "cgroup.stat"), "nr_dying_descendants") < 30
	})
	if err := x.Close(); err != nil {
		t.Error(err)
	}
}

// watches finds the one inotify instance and counts its watches.
func watches(t *testing.T) (fd string, n int) {
	t.Helper()
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range fds {
		if to, _ := os.Readlink("/proc/self/fd/" + e.Name()); to != "anon_inode:inotify" {
			continue
		}
		if fd != "" {
			t.Errorf("a second inotify instance: %s", e.Name())
		}
		fd, n = e.Name(), strings.Count(read(t, "/proc/self/fdinfo/"+e.Name()), "inotify wd:")
	}
	return fd, n
}

// With armed tripwires the kernel watches: the manager reads each worker once a
// minute, and nothing else.
func TestIdle(t *testing.T) {
	const n = 200
	m := manage(t, fmt.Sprintf(`
[worker.idle]
command = ["/bin/sleep", "100000"]
replicas = %d
`, n))
	// The first look at each is a second after its start.
	eventually(t, "all are up for a while", func() bool {
		s, err := m.Status(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, w := range s.Workers {
			if w.State != "up" || s.Manager.Now.Sub(w.Started) < 5*time.Second {
				return false
			}
		}
		return len(s.Workers) == n
	})
	pid := fmt.Sprint(m.pid())
	m.Close()
	figures := func() (reads, cpu int64) {
		reads = flat(t, strings.ReplaceAll(read(t, "/proc", pid, "io"), ":", ""), "syscr")
		return reads, flat(t, read(t, m.root(), "manager/cpu.stat"), "usage_usec")
	}
	reads, cpu := figures()
	time.Sleep(30 * time.Second) // the time that is measured
	reads2, cpu2 := figures()
	within(t, "reads in 30 s", reads2-reads, 0, n+50)
	// The starts have left threads behind, as many as waited for the kernel at one
	// time: that is the machine's affair, but it is not one for each worker.
	tasks, _ := os.ReadDir("/proc/" + pid + "/task")
	within(t, "threads", int64(len(tasks)), 1, n-1)
	t.Logf("%d idle workers for 30 s: %d reads, %.1f ms CPU (emulated), %d threads", n, reads2-reads, float64(cpu2-cpu)/1000, len(tasks))
}

package cgroup

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/workersd/workersd/pkg/internal/lifecycle"
	"github.com/workersd/workersd/pkg/spec"
)

// fake is a tree over plain files in the shape of cgroup v2: what is written
// stays, inotify works, and nothing enforces anything. What needs a kernel that
// does is in systemtest.
type fake struct {
	*Tree
	t    testing.TB
	root string

	mu       sync.Mutex // guards problems
	problems []string
	soft     chan spec.Bytes
	emptied  chan *Leaf
}

// put writes files in one piece, as the kernel shows them: no reader sees one
// that is cut off.
func put(t testing.TB, dir string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		f, err := os.OpenFile(filepath.Join(dir, name), os.O_WRONLY|os.O_CREATE, 0o644)
		if err != nil {
			t.Fatal(err)
		}
		if st, err := f.Stat(); err == nil && int(st.Size()) > len(text) {
			text += strings.Repeat("\n", int(st.Size())-len(text))
		}
		_, err = f.WriteString(text)
		if cerr := f.Close(); err == nil {
			err = cerr
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func newFake(t testing.TB, controllers string) *fake {
	t.Helper()
	f, err := tryFake(t, controllers)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		entries, _ := os.ReadDir(f.workers)
		for _, e := range entries {
			os.RemoveAll(filepath.Join(f.workers, e.Name()))
		}
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	})
	return f
}

func tryFake(t testing.TB, controllers string) (*fake, error) {
	t.Helper()
	f := &fake{t: t, root: t.TempDir(), soft: make(chan spec.Bytes, 10), emptied: make(chan *Leaf, 10)}
	if err := os.Mkdir(filepath.Join(f.root, "workers"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{"", "workers"} {
		put(t, filepath.Join(f.root, dir), map[string]string{
			"cgroup.controllers": controllers, "cgroup.subtree_control": "", "cgroup.events": "populated 0\n", "cgroup.kill": "",
			"memory.current": "0\n", "memory.max": "max\n", "memory.stat": "anon 0\nfile 0\n", "memory.events.local": "oom 0\n",
		})
	}
	var err error
	f.Tree, err = Open(Options{
		Root: Root{Path: f.root, Rel: "/x", Own: f.root + "/manager"}, CheckInterval: 20 * time.Millisecond, Pool: spec.None,
		SoftPassed: func(_ *Leaf, usage, _ spec.Bytes) { f.soft <- usage },
		Emptied:    func(l *Leaf) { f.emptied <- l },
		Problem: func(text string) {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.problems = append(f.problems, text)
		},
	})
	return f, err
}

func (f *fake) said(text string) (n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, p := range f.problems {
		if strings.Contains(p, text) {
			n++
		}
	}
	return n
}

// made is a leaf with the files that a kernel would make.
func (f *fake) made(lim Limits) *Leaf {
	f.t.Helper()
	id := lifecycle.ProcessID{Worker: "w", Generation: uint64(time.Now().UnixNano())}
	dir := filepath.Join(f.workers, LeafName(id))
	if err := os.Mkdir(dir, 0o755); err != nil {
		f.t.Fatal(err)
	}
	put(f.t, dir, map[string]string{
		"memory.current": "0\n", "memory.max": "max\n", "memory.high": "max\n", "memory.oom.group": "0\n", "memory.swap.max": "max\n",
		"memory.stat": "anon 0\nfile 0\n", "memory.events": "high 0\noom 0\noom_kill 0\n", "memory.peak": "77\n", "memory.pressure": "some avg10=0.00\nfull avg10=0.00 total=1\n",
		"cgroup.procs": "", "cgroup.events": "populated 1\n", "cgroup.kill": "", "pids.max": "max\n", "pids.current": "1\n", "pids.peak": "5\n",
		"cpu.max": "max 100000\n", "cpu.weight": "100\n", "io.weight": "default 100\n",
	})
	l, err := f.take(id, lim)
	if err != nil {
		f.t.Fatal(err)
	}
	f.remember(l)
	return l
}

// leaf is one whose process runs.
func (f *fake) leaf(lim Limits) *Leaf {
	f.t.Helper()
	l := f.made(lim)
	if err := l.Started(); err != nil {
		f.t.Fatal(err)
	}
	return l
}

// uses is what the kernel does when memory changes.
func (f *fake) uses(l *Leaf, current, cache spec.Bytes) {
	f.t.Helper()
	put(f.t, l.Path(), map[string]string{
		"memory.stat":    fmt.Sprintf("anon %d\nfile %d\nactive_file 0\ninactive_file %d\n", int64(current-cache), int64(cache), int64(cache)),
		"memory.current": fmt.Sprintln(int64(current)),
	})
	put(f.t, l.Path(), map[string]string{"memory.events": fmt.Sprintf("high %d\noom 0\noom_kill 0\n", time.Now().UnixNano())})
}

func (f *fake) read(dir, file string) string {
	f.t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, file))
	if err != nil {
		f.t.Fatal(err)
	}
	return strings.TrimSpace(string(b))
}

func (f *fake) eventually(what string, ok func() bool) {
	f.t.Helper()
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
		if ok() {
			return
		}
	}
	f.t.Fatalf("never: %s", what)
}

func (f *fake) told() spec.Bytes {
	f.t.Helper()
	select {
	case u := <-f.soft:
		return u
	case <-time.After(30 * time.Second):
		f.t.Fatal("the soft limit was never told")
		return 0
	}
}

const allControllers = "cpuset cpu io memory hugetlb pids rdma\n"

var limits = Limits{Soft: 200 * spec.MiB, Hard: 300 * spec.MiB, Swap: 0}

func TestArrange(t *testing.T) {
	f := newFake(t, allControllers)
	for _, dir := range []string{f.root, f.workers} {
		if got := f.read(dir, "cgroup.subtree_control"); got != "+cpu +io +memory +pids" {
			t.Errorf("%s: %q", dir, got)
		}
	}
	for _, key := range []string{"cpu_max", "io_weight", "pids_max", "hard_memory_limit", "nice"} {
		if ok, because := f.Enforced(key); !ok {
			t.Errorf("%s: %s", key, because)
		}
	}
	if _, err := Open(Options{Root: f.Root()}); err == nil || !strings.Contains(err.Error(), "is in use by another manager") {
		t.Errorf("%v", err)
	}
}

func TestMissingControllers(t *testing.T) {
	f, err := tryFake(t, "cpuset cpu io pids\n")
	if err == nil || !strings.Contains(err.Error(), "the memory controller is not delegated to "+f.root+" (it has: cpuset cpu io pids)") {
		t.Errorf("%v", err)
	}
	if got := f.read(f.root, "cgroup.subtree_control"); got != "" {
		t.Errorf("written all the same: %q", got)
	}
	// As under a user manager, which has no io.
	f = newFake(t, "cpu memory pids\n")
	if ok, because := f.Enforced("io_weight"); ok || because != "the io controller is not delegated to "+f.root {
		t.Errorf("%v, %s", ok, because)
	}
	l := f.leaf(Limits{Soft: 1 << 30, Hard: 2 << 30, IOWeight: 50, CPUWeight: 50})
	if got := f.read(l.Path(), "io.weight") + " " + f.read(l.Path(), "cpu.weight"); got != "default 100 50" {
		t.Errorf("%s", got)
	}
}

func TestSoftLimit(t *testing.T) {
	f := newFake(t, allControllers)
	l := f.leaf(limits)
	if got := f.read(l.Path(), "memory.high"); got != "209715200" {
		t.Errorf("armed at %s", got)
	}
	f.uses(l, 201*spec.MiB, 0)
	if u := f.told(); u != 201*spec.MiB {
		t.Errorf("told %v", u)
	}
	l.Signalled()
	if got := f.read(l.Path(), "memory.high"); got != "max" {
		t.Errorf("after the signal memory.high is %s", got)
	}
	f.uses(l, 250*spec.MiB, 0)
	f.eventually("growth is still seen", func() bool { n, _ := l.Memory(); return n == 250*spec.MiB })
	if len(f.soft) != 0 {
		t.Error("told twice")
	}
}

// Nobody signals, because it has to wait for its turn: it is not braked longer.
func TestBrakeEnds(t *testing.T) {
	f := newFake(t, allControllers)
	l := f.leaf(limits)
	f.uses(l, 201*spec.MiB, 0)
	f.told()
	if got := f.read(l.Path(), "memory.high"); got != "209715200" {
		t.Errorf("the brake is at %s", got)
	}
	f.eventually("the brake is off", func() bool { return f.read(l.Path(), "memory.high") == "max" })
}

// What reaches the limit before the start is known to be done counts as well.
func TestPassedBeforeStarted(t *testing.T) {
	f := newFake(t, allControllers)
	f.Configure(time.Hour, spec.None) // nothing is seen by looking
	l := f.made(limits)
	f.uses(l, 201*spec.MiB, 0)
	f.told()
	if err := l.Started(); err != nil {
		t.Fatal(err)
	}
	other := f.made(limits)
	if err := other.Started(); err != nil {
		t.Fatal(err)
	}
	f.uses(other, 201*spec.MiB, 0)
	f.told()
}

// A file is deleted between the two readings that are compared.
func TestCacheGoesWhileLooking(t *testing.T) {
	for name, c := range map[string]struct{ before, cache, after, want spec.Bytes }{
		"it goes":         {210 * spec.MiB, 10 * spec.MiB, 30 * spec.MiB, 20 * spec.MiB},
		"more comes":      {210 * spec.MiB, 60 * spec.MiB, 290 * spec.MiB, 150 * spec.MiB},
		"nothing happens": {210 * spec.MiB, 5 * spec.MiB, 210 * spec.MiB, 205 * spec.MiB},
	} {
		u := usage{current: int64(c.before)}
		u.compare(map[string]int64{"inactive_file": int64(c.cache)}, int64(c.after))
		if u.held() != c.want {
			t.Errorf("%s: %v, want %v", name, u.held(), c.want)
		}
	}
}

func TestCacheMovesTheTripwire(t *testing.T) {
	f := newFake(t, allControllers)
	l := f.leaf(limits)
	high := func(want spec.Bytes) {
		t.Helper()
		f.eventually("memory.high is "+want.String(), func() bool { return f.read(l.Path(), "memory.high") == fmt.Sprint(int64(want)) })
	}
	f.uses(l, 200*spec.MiB+4096, 30*spec.MiB)
	high(230 * spec.MiB)
	f.uses(l, 240*spec.MiB, 90*spec.MiB)
	high(250 * spec.MiB) // half-way
	f.uses(l, 100*spec.MiB, 0)
	high(200 * spec.MiB) // armed again
	f.uses(l, 230*spec.MiB, 10*spec.MiB)
	if u := f.told(); u != 220*spec.MiB {
		t.Errorf("told %v", u)
	}
}

// The kernel trimmed the cache between its word and our look: memory.current is
// below the tripwire again, and a reader would never get more than that.
func TestCacheTrimmedBeforeTheLook(t *testing.T) {
	f := newFake(t, allControllers)
	l := f.leaf(limits)
	f.uses(l, 199*spec.MiB, 30*spec.MiB)
	want := fmt.Sprint(int64(230 * spec.MiB))
	f.eventually("the tripwire follows", func() bool { return f.read(l.Path(), "memory.high") == want })
}

func TestUpdate(t *testing.T) {
	f := newFake(t, allControllers)
	l := f.leaf(limits)
	f.uses(l, 150*spec.MiB, 10*spec.MiB)
	next := Limits{Soft: 180 * spec.MiB, Hard: 250 * spec.MiB, Swap: spec.MiB, CPUMax: 2, PidsMax: 9}
	if err := l.Update(next); err != nil {
		t.Fatal(err)
	}
	for file, want := range map[string]string{"memory.high": "188743680", "memory.max": "262144000", "memory.swap.max": "1048576", "cpu.max": "200000 100000", "pids.max": "9", "cpu.weight": "100"} {
		if got := f.read(l.Path(), file); got != want {
			t.Errorf("%s = %s, want %s", file, got, want)
		}
	}
	// Below what is in use: the soft way first, the hard limit when it fits.
	next.Soft, next.Hard = 50*spec.MiB, 100*spec.MiB
	if err := l.Update(next); err != nil {
		t.Fatal(err)
	}
	if u := f.told(); u != 140*spec.MiB {
		t.Errorf("told %v", u)
	}
	if high, most := f.read(l.Path(), "memory.high"), f.read(l.Path(), "memory.max"); high != "max" || most != "262144000" {
		t.Errorf("memory.high %s, memory.max %s", high, most)
	}
	f.uses(l, 60*spec.MiB, 0)
	f.eventually("memory.max follows", func() bool { return f.read(l.Path(), "memory.max") == "104857600" })
	// Up again: nothing waits, and the tripwire is armed anew.
	next.Soft, next.Hard = 300*spec.MiB, spec.None
	if err := l.Update(next); err != nil {
		t.Fatal(err)
	}
	if high, most := f.read(l.Path(), "memory.high"), f.read(l.Path(), "memory.max"); high != "314572800" || most != "max" {
		t.Errorf("memory.high %s, memory.max %s", high, most)
	}
}

// What could not be written is not believed to be in force: memory.high and
// memory.max follow by themselves, the others with the next update.
func TestUpdateThatCannotBeWritten(t *testing.T) {
	f := newFake(t, allControllers)
	l := f.leaf(limits)
	f.uses(l, 10*spec.MiB, 0)
	// hide takes files away, and returns what puts them back.
	hide := func(files ...string) func() {
		other := t.TempDir()
		for _, name := range files {
			if err := os.Rename(filepath.Join(l.Path(), name), filepath.Join(other, name)); err != nil {
				t.Fatal(err)
			}
		}
		return func() {
			for _, name := range files {
				if err := os.Rename(filepath.Join(other, name), filepath.Join(l.Path(), name)); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	update := func(next Limits, want string) {
		t.Helper()
		text := ""
		if err := l.Update(next); err != nil {
			text = err.Error()
		}
		if !strings.Contains(text, want) || want == "" && text != "" {
			t.Errorf("update: %q, want %q", text, want)
		}
	}
	next := Limits{Soft: 100 * spec.MiB, Hard: 150 * spec.MiB, CPUMax: 2, CPUWeight: 50, IOWeight: 50, PidsMax: 9}
	back := hide("memory.high", "memory.max", "cpu.max", "pids.max")
	update(next, "cpu_max: open cpu.max")
	if got := f.read(l.Path(), "cpu.weight") + ", " + f.read(l.Path(), "io.weight"); got != "50, default 50" {
		t.Errorf("what could be written is %s", got)
	}
	back()
	for file, want := range map[string]spec.Bytes{"memory.high": next.Soft, "memory.max": next.Hard} {
		f.eventually(file+" follows", func() bool { return f.read(l.Path(), file) == fmt.Sprint(int64(want)) })
	}
	update(next, "")
	if got := f.read(l.Path(), "cpu.max") + ", " + f.read(l.Path(), "pids.max"); got != "200000 100000, 9" {
		t.Errorf("after the same update again: %s", got)
	}
	back = hide("memory.max", "memory.high")
	lifted := next
	lifted.Hard, lifted.Soft = spec.None, spec.None
	update(lifted, "memory.high")
	back()
	update(lifted, "")
	for _, file := range []string{"memory.high", "memory.max"} {
		f.eventually(file+" is lifted", func() bool { return f.read(l.Path(), file) == "max" })
	}
}

// A tripwire that could not be lifted brakes a worker that passes its new limit
// for no longer than until it can.
func TestUpdateThatCannotLift(t *testing.T) {
	f := newFake(t, allControllers)
	l := f.leaf(limits)
	f.uses(l, 150*spec.MiB, 0)
	high, other := filepath.Join(l.Path(), "memory.high"), filepath.Join(t.TempDir(), "memory.high")
	if err := os.Rename(high, other); err != nil {
		t.Fatal(err)
	}
	next := limits
	next.Soft = 100 * spec.MiB
	l.Update(next)
	f.told()
	if err := os.Rename(other, high); err != nil {
		t.Fatal(err)
	}
	f.eventually("it is lifted", func() bool { return f.read(l.Path(), "memory.high") == "max" })
}

func TestPoolLimitWaits(t *testing.T) {
	f := newFake(t, allControllers)
	put(t, f.workers, map[string]string{"memory.current": "1000000\n"})
	f.Configure(20*time.Millisecond, 900_000)
	if got := f.read(f.workers, "memory.max"); got != fmt.Sprint(int64(1<<63-1)) {
		t.Errorf("memory.max = %s: below what is in use", got)
	}
	if f.said("it waits until they hold less") != 1 {
		t.Errorf("%q", f.problems)
	}
	put(t, f.workers, map[string]string{"memory.current": "800000\n"})
	f.eventually("the pool's limit is written", func() bool { return f.read(f.workers, "memory.max") == "900000" })
	f.Configure(time.Second, spec.None)
	f.eventually("there is no limit", func() bool { return f.read(f.workers, "memory.max") == fmt.Sprint(int64(1<<63-1)) })
}

// A pool limit that cannot be written is not forgotten: that is said once, and it
// is written as soon as it can be.
func TestPoolLimitIsTriedAgain(t *testing.T) {
	f := newFake(t, allControllers)
	file := filepath.Join(f.workers, "memory.max")
	for i, limit := range []spec.Bytes{900_000, 800_000} {
		if err := errors.Join(os.Remove(file), os.Mkdir(file, 0o755)); err != nil {
			t.Fatal(err)
		}
		f.Configure(10*time.Millisecond, limit)
		time.Sleep(50 * time.Millisecond) // some looks
		if n := f.said("memory_limit: "); n != i+1 {
			t.Errorf("%v: said %d times: %q", limit, n, f.problems)
		}
		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
		f.eventually("the limit is written", func() bool {
			b, _ := os.ReadFile(file) // made by the write
			return strings.TrimSpace(string(b)) == fmt.Sprint(int64(limit))
		})
	}
}

func TestEmptied(t *testing.T) {
	f := newFake(t, allControllers)
	l := f.leaf(limits)
	l.TellEmpty()
	if len(f.emptied) != 0 {
		t.Error("told while it is populated")
	}
	put(t, l.Path(), map[string]string{"cgroup.events": "populated 0\n"})
	if got := <-f.emptied; got != l {
		t.Errorf("%v", got)
	}
	put(t, l.Path(), map[string]string{"cgroup.events": "populated 0\nfrozen 0\n"})
	f.uses(l, spec.MiB, 0)
	if len(f.emptied) != 0 {
		t.Error("told twice")
	}
	l.TellEmpty() // at once when it is so already
	if got := <-f.emptied; got != l {
		t.Errorf("%v", got)
	}
}

// A leaf that cannot be watched is looked at again and again, and that is said
// once.
func TestEmptiedUnwatched(t *testing.T) {
	f := newFake(t, allControllers)
	l := f.leaf(limits)
	events := filepath.Join(l.Path(), "cgroup.events")
	if err := os.Remove(events); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("cgroup.events", events); err != nil { // to itself: ELOOP
		t.Fatal(err)
	}
	l.TellEmpty()
	time.Sleep(3 * emptyEvery)
	if len(f.emptied) != 0 {
		t.Error("told although nobody knows")
	}
	if err := os.Remove(events); err != nil {
		t.Fatal(err)
	}
	put(t, l.Path(), map[string]string{"cgroup.events": "populated 0\n"})
	if got := <-f.emptied; got != l {
		t.Errorf("%v", got)
	}
	if n := f.said("max_user_watches"); n != 1 {
		t.Errorf("said %d times", n)
	}
}

// A leaf that cannot be read for a while (no descriptor, no memory) is looked at
// again, although nothing happens to it any more.
func TestEmptiedUnread(t *testing.T) {
	f := newFake(t, allControllers)
	l := f.leaf(limits)
	events, other := filepath.Join(l.Path(), "cgroup.events"), t.TempDir()
	put(t, other, map[string]string{"empty": "populated 0\n"})
	swap := func(to string) {
		t.Helper()
		if err := os.Symlink(to, other+"/link"); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(other+"/link", events); err != nil {
			t.Fatal(err)
		}
	}
	swap(other) // a directory: it can be watched, and reading it is an error
	if l.TellIfEmpty() {
		t.Error("told although nobody knows")
	}
	l.TellEmpty()
	if len(f.emptied) != 0 {
		t.Error("told although nobody knows")
	}
	swap(other + "/empty")
	select {
	case got := <-f.emptied:
		if got != l {
			t.Errorf("%v", got)
		}
	case <-time.After(30 * time.Second):
		t.Fatal("never told")
	}
}

// What the kernel is taking apart is no news of a worker that passes its soft
// limit: the list of before stays.
func TestAListOfTheDeadIsNotKept(t *testing.T) {
	f := newFake(t, allControllers)
	l := f.leaf(limits)
	put(t, l.Path(), map[string]string{"cgroup.procs": fmt.Sprintln(os.Getpid())})
	listed := func() (pid int) {
		l.mu.Lock()
		defer l.mu.Unlock()
		if len(l.table) > 0 {
			pid = l.table[0].PID
		}
		return pid
	}
	f.uses(l, spec.MiB, 0)
	f.eventually("its processes are listed", func() bool { return listed() == os.Getpid() })
	put(t, l.Path(), map[string]string{"cgroup.procs": fmt.Sprintln(os.Getppid())})
	n := int64(limits.Soft + spec.MiB)
	put(t, l.Path(), map[string]string{"memory.stat": fmt.Sprintf("anon %d\nfile 0\n", n), "memory.current": fmt.Sprintln(n)})
	put(t, l.Path(), map[string]string{"memory.events": "high 1\noom 1\noom_kill 1\n"}) // wakes the watch
	<-f.soft
	if pid := listed(); pid != os.Getpid() {
		t.Errorf("process %d is listed, want %d as before", pid, os.Getpid())
	}
}

// Somebody removed the leaf: it is said once, and the worker's end comes.
func TestVanished(t *testing.T) {
	f := newFake(t, allControllers)
	l := f.leaf(limits)
	if err := os.RemoveAll(l.Path()); err != nil {
		t.Fatal(err)
	}
	l.TellEmpty()
	if got := <-f.emptied; got != l {
		t.Errorf("%v", got)
	}
	if err := l.Kill(); err != nil {
		t.Errorf("kill: %v", err)
	}
	if ev := l.Evidence(); ev.OOM != lifecycle.NoOOM {
		t.Errorf("%+v", ev)
	}
	if err := l.Remove(); err != nil {
		t.Errorf("remove: %v", err)
	}
}

// Events that were lost are made good by looking at all.
func TestOverflow(t *testing.T) {
	f := newFake(t, allControllers)
	l, other := f.leaf(limits), f.leaf(limits)
	f.inotify.Close() // no event comes through, and no loop looks
	<-f.done
	t.Cleanup(func() { f.done = make(chan struct{}); close(f.done) })
	f.uses(l, 201*spec.MiB, 0)
	put(t, other.Path(), map[string]string{"cgroup.events": "populated 0\n"})
	other.mu.Lock()
	other.wantsEnd = true
	other.mu.Unlock()
	f.fired(nil, true)
	f.lookDue()
	if len(f.soft) != 1 || len(f.emptied) != 1 {
		t.Errorf("%d soft limits and %d ends were told", len(f.soft), len(f.emptied))
	}
}

// The kernel takes a watch away that it was asked for again: the leaf is watched
// anew, and what happens to it is told.
func TestDyingWatchIsReplaced(t *testing.T) {
	f := newFake(t, allControllers)
	f.Configure(time.Hour, spec.None) // nothing is seen by looking
	l := f.leaf(limits)
	watched := func() int32 {
		l.mu.Lock()
		defer l.mu.Unlock()
		if !l.armed {
			return 0
		}
		return l.memoryWatch
	}
	var dying int32
	f.eventually("it is watched", func() bool { dying = watched(); return dying != 0 })
	if err := f.control(func(fd int) error { _, err := unix.InotifyRmWatch(fd, uint32(dying)); return err }); err != nil {
		t.Fatal(err)
	}
	f.eventually("another watch is there", func() bool { wd := watched(); return wd != 0 && wd != dying })
	f.uses(l, 201*spec.MiB, 0)
	f.told()
}

// The pool's counter explains the victim's death, and later nobody else's.
func TestPoolVerdict(t *testing.T) {
	f := newFake(t, allControllers)
	victim, other := f.leaf(limits), f.leaf(limits)
	put(t, victim.Path(), map[string]string{"memory.events": "oom 0\noom_kill 2\n"})
	put(t, f.workers, map[string]string{"memory.events.local": "oom 1\noom_kill 0\n"})
	if ev := victim.Evidence(); ev.OOM != lifecycle.OOMPool {
		t.Errorf("the victim: %v", ev.OOM)
	}
	f.eventually("the other's base has moved", func() bool {
		other.mu.Lock()
		defer other.mu.Unlock()
		return len(other.base) > 0 && other.base[0] == 1
	})
	if ev := victim.Evidence(); ev.OOM != lifecycle.OOMPool {
		t.Errorf("the victim, later: %v", ev.OOM)
	}
	put(t, other.Path(), map[string]string{"memory.events": "oom 0\noom_kill 1\n"})
	if ev := other.Evidence(); ev.OOM != lifecycle.OOMHost {
		t.Errorf("the other: %v", ev.OOM)
	}
}

func TestPostMortem(t *testing.T) {
	f := newFake(t, allControllers)
	l := f.leaf(limits)
	put(t, l.Path(), map[string]string{"cgroup.procs": fmt.Sprintln(os.Getpid())})
	f.uses(l, 100*spec.MiB, 20*spec.MiB)
	f.eventually("the processes are listed", func() bool { l.mu.Lock(); defer l.mu.Unlock(); return len(l.table) == 1 })
	// The kernel has killed: what can be seen now is no news.
	put(t, l.Path(), map[string]string{"cgroup.procs": "", "memory.stat": "anon 0\nfile 0\n", "memory.events": "high 9\noom 1\noom_kill 2\n"})
	ev := l.Evidence()
	pm := ev.PostMortem
	if ev.OOM != lifecycle.OOMLeaf || pm.Peak != 77 || pm.PidsPeak != 5 || pm.Events["high"] != 9 || pm.Stat["anon"] != int64(80*spec.MiB) {
		t.Errorf("%+v %+v", ev, pm)
	}
	if len(pm.Procs) != 1 || pm.Procs[0].PID != os.Getpid() || !strings.HasPrefix(pm.Note, "processes as seen ") {
		t.Errorf("%+v, %q", pm.Procs, pm.Note)
	}
	if pm.Pressure != "some avg10=0.00; full avg10=0.00 total=1" {
		t.Errorf("%q", pm.Pressure)
	}
}

// Of a worker with cgroups of its own all processes are seen.
func TestProcsBelow(t *testing.T) {
	f := newFake(t, allControllers)
	l := f.leaf(limits)
	for _, dir := range []string{"a", "a/b", "c"} {
		if err := os.Mkdir(filepath.Join(l.Path(), dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	put(t, l.Path(), map[string]string{"cgroup.procs": "1\n", "a/cgroup.procs": "2\n", "a/b/cgroup.procs": "3\n4\n", "c/cgroup.procs": ""})
	pids, err := l.Procs()
	if err != nil || fmt.Sprint(pids) != "[1 2 3 4]" {
		t.Errorf("%v (%v)", pids, err)
	}
}

// Orders, looks and questions from everywhere at once, for the race detector.
func TestConcurrent(t *testing.T) {
	f := newFake(t, allControllers)
	var wg sync.WaitGroup
	for range 4 {
		l := f.leaf(limits)
		path := l.Path()
		wg.Go(func() {
			for i := range 50 {
				f.uses(l, spec.Bytes(i)*spec.MiB, 0)
				l.Update(Limits{Soft: spec.Bytes(100+i) * spec.MiB, Hard: 300 * spec.MiB})
			}
			l.Signalled()
			l.Evidence()
			os.RemoveAll(path)
			if err := l.Remove(); err != nil {
				t.Error(err)
			}
		})
		wg.Go(func() {
			for range 50 {
				l.Memory()
				l.ProcCount()
				l.Contains(os.Getpid())
				f.Configure(20*time.Millisecond, spec.None)
			}
		})
	}
	wg.Wait()
	if n := len(f.all()); n != 0 {
		t.Errorf("%d leaves are left", n)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, p := range f.problems {
		t.Error(p)
	}
}

// A rare look is done with another one that is due, and not again at once.
func TestRareLooksComeTogether(t *testing.T) {
	f := newFake(t, allControllers)
	f.inotify.Close() // the loop is ours
	<-f.done
	t0 := time.Now()
	now := t0
	f.clock = func() time.Time { return now }
	var leaves []*Leaf
	for i := range 10 {
		now = t0.Add(time.Duration(i) * time.Second)
		l := f.leaf(limits)
		put(t, l.Path(), map[string]string{"cgroup.procs": fmt.Sprintln(os.Getpid())})
		l.armed = true
		l.look(now)
		leaves = append(leaves, l)
	}
	if next := f.lookDue(); next != 51*time.Second {
		t.Errorf("the next look is in %v", next)
	}
	now = t0.Add(rare)
	if next := f.lookDue(); next != rare {
		t.Errorf("not all were looked at: the next look is in %v", next)
	}
	for _, l := range leaves {
		if !l.pace.at.Equal(now) {
			t.Errorf("looked at %v ago", now.Sub(l.pace.at))
		}
	}
}

// What 500 armed workers cost while nothing happens: each is read once a minute,
// and each time the loop wakes it asks all of them when that is.
func BenchmarkIdle(b *testing.B) {
	f := newFake(b, allControllers)
	for range 500 {
		l := f.leaf(limits)
		put(b, l.Path(), map[string]string{"cgroup.procs": fmt.Sprintln(os.Getpid())})
	}
	f.lookDue()
	all := f.all()
	b.Run("look", func(b *testing.B) {
		for i := range b.N {
			all[i%len(all)].look(time.Now())
		}
	})
	b.Run("wake", func(b *testing.B) {
		for range b.N {
			f.lookDue()
		}
	})
}

package host

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/workersd/workersd/pkg/internal/lifecycle"
	"github.com/workersd/workersd/pkg/spec"
)

// A worker that grows is seen at its soft limit and at its hard limit again;
// each is told once.
func TestLimits(t *testing.T) {
	r := newRig(t, spec.Manager{CheckInterval: 200 * time.Millisecond})
	w := own("a", "grow", 300)
	w.SoftMemory, w.HardMemory = 100*spec.MiB, 200*spec.MiB
	r.spawn(w)
	soft := await[lifecycle.SoftMemoryPassed](r, w)
	if soft.Limit != w.SoftMemory || soft.Usage <= soft.Limit {
		t.Errorf("soft: %v of %v", soft.Usage, soft.Limit)
	}
	hard := await[lifecycle.HardMemoryPassed](r, w)
	if hard.Limit != w.HardMemory || hard.Usage <= hard.Limit {
		t.Errorf("hard: %v of %v", hard.Usage, hard.Limit)
	}
	if n, ok := r.Memory(id(w)); !ok || n < hard.Usage {
		t.Errorf("memory %v, %v, after %v was told", n, ok, hard.Usage)
	}
	r.Kill(id(w))
	r.finish(w)
	if got, want := r.names(w), "Spawned SoftMemoryPassed HardMemoryPassed Exited Emptied"; got != want {
		t.Errorf("events %s, want %s", got, want)
	}
	pm := await[lifecycle.Emptied](r, w).Evidence.PostMortem
	if pm == nil || pm.Peak < int64(hard.Usage) || len(pm.Procs) != 1 || pm.Procs[0].RSS <= int64(w.HardMemory) {
		t.Errorf("post-mortem %+v", pm)
	}
}

// Pages that the processes of a tree share count once.
func TestSharedPagesCountOnce(t *testing.T) {
	r := newRig(t, spec.Manager{})
	const mib = 80
	dir, err := os.MkdirTemp("/dev/shm", "w")
	if err != nil {
		t.Skipf("it takes /dev/shm: %v", err)
	}
	defer os.RemoveAll(dir)
	file := filepath.Join(dir, "f")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(file, mib<<20); err != nil {
		t.Fatal(err)
	}
	w := own("a", "share", mib)
	w.Environment = append(w.Environment, spec.EnvVar{Name: "TEST_FILE", Value: file})
	w.SoftMemory, w.HardMemory = 250*spec.MiB, 300*spec.MiB // four times 80 MiB is more
	r.spawn(w)
	r.until("four processes hold it", func() bool { all, _ := filepath.Glob(file + ".*"); return len(all) == 4 })
	s := r.hold.(*sampled)
	tree := r.find(id(w)).hold().(*session)
	r.until("the sum has passed the limit", func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return tree.sum > w.HardMemory && tree.shared > 200*spec.MiB
	})
	if n, _ := r.Memory(id(w)); n > 250*spec.MiB {
		t.Errorf("memory %v, of which 80M are shared by four", n)
	}
	if got, want := r.names(w), "Spawned"; got != want {
		t.Errorf("events %s, want %s", got, want)
	}
	// And against a limit that it has really passed.
	low := *w
	low.SoftMemory = 60 * spec.MiB
	r.Update(id(w), &low)
	if ev := await[lifecycle.SoftMemoryPassed](r, w); ev.Limit != 60*spec.MiB || ev.Usage < mib*spec.MiB || ev.Usage > 250*spec.MiB {
		t.Errorf("told %v of %v", ev.Usage, ev.Limit)
	}
	r.Kill(id(w))
	r.finish(w)
}

// Without limits memory is known all the same, from rarer looks.
func TestMemoryWithoutLimits(t *testing.T) {
	r := newRig(t, spec.Manager{})
	w := own("a", "grow", 10)
	r.spawn(w)
	await[lifecycle.Spawned](r, w)
	r.until("its memory is known", func() bool {
		r.Configure(spec.Manager{CheckInterval: 50 * time.Millisecond}) // looks at once
		n, ok := r.Memory(id(w))
		return ok && n > 6*spec.MiB
	})
	s := r.hold.(*sampled)
	s.mu.Lock()
	if d := s.interval(); d != unlimitedEvery {
		t.Errorf("all are looked at every %v, want %v", d, unlimitedEvery)
	}
	s.mu.Unlock()
	limited := *w
	limited.SoftMemory = 5 * spec.MiB
	r.Update(id(w), &limited)
	await[lifecycle.SoftMemoryPassed](r, w)
	r.Signal(id(w), spec.Signal(syscall.SIGTERM))
	r.finish(w)
}

// What a tree is looked at for, as pure arithmetic.
func TestDue(t *testing.T) {
	s := &sampled{check: 20 * time.Second}
	now := time.Unix(1000, 0)
	tree := &session{s: s, soft: 100 * spec.MiB, hard: 200 * spec.MiB}
	step := func(after time.Duration, sum spec.Bytes) time.Duration {
		now = now.Add(after)
		tree.sum = sum
		tree.judge(now)
		if tree.due.IsZero() {
			return 0
		}
		return tree.due.Sub(now)
	}
	for _, c := range []struct {
		after time.Duration
		sum   spec.Bytes
		want  time.Duration
	}{
		{0, 10 * spec.MiB, 0},                         // nothing is known of its growth
		{time.Second, 20 * spec.MiB, 8 * time.Second}, // 10 MiB/s, 80 are left
		{time.Second, 99 * spec.MiB, nearest},         // 79 MiB/s
		{10 * time.Second, 60 * spec.MiB, 1012658227}, // half of that is remembered, and 40 MiB are left
		{time.Hour, 60 * spec.MiB, 0},                 // and nothing of it now
	} {
		got := step(c.after, c.sum)
		if d := got - c.want; d < -time.Millisecond || d > time.Millisecond {
			t.Errorf("after %v with %v: due in %v, want %v", c.after, c.sum, got, c.want)
		}
	}
}

// A new process is looked at twice before the first pass, and more often only
// where it fills its limit fast; what it took to load is not held against it.
func TestDueWhenNew(t *testing.T) {
	s := &sampled{check: time.Second, wake: make(chan struct{}, 1), mains: map[int]*session{}}
	for _, c := range []struct {
		name string
		sums []spec.Bytes // MiB, at each look
		want []time.Duration
	}{
		{"small", []spec.Bytes{2, 2}, []time.Duration{4 * firstLook, 0}},
		{"loads much and stays", []spec.Bytes{100, 101}, []time.Duration{firstLook, 0}},
		{"grows on", []spec.Bytes{100, 150}, []time.Duration{firstLook, firstLook}},
		{"nearly there", []spec.Bytes{199}, []time.Duration{nearest}},
	} {
		tree := &session{s: s, soft: 200 * spec.MiB, hard: spec.GiB}
		tree.started(7)
		for i, sum := range c.sums {
			now := tree.due
			tree.sum = sum * spec.MiB
			tree.judge(now)
			got := time.Duration(0)
			if !tree.due.IsZero() {
				got = tree.due.Sub(now)
			}
			if d := got - c.want[i]; d < -time.Millisecond || d > time.Millisecond {
				t.Errorf("%s: look %d: the next in %v, want %v", c.name, i+1, got, c.want[i])
			}
		}
	}
}

// Who wakes for one looks at those that are due a little later, too.
func TestLooksAreTakenTogether(t *testing.T) {
	s := &sampled{check: time.Hour, wake: make(chan struct{}, 1), mains: map[int]*session{}, owned: map[int]owned{}, spare: map[int]owned{}}
	now := time.Now()
	s.passAt = now.Add(time.Hour)
	var trees []*session
	for i, due := range []time.Duration{0, 10 * time.Millisecond, 15 * time.Millisecond} {
		tree := &session{s: s, soft: spec.TiB, pid: os.Getpid(), slack: 12 * time.Millisecond, due: now.Add(due)}
		trees = append(trees, tree)
		s.mains[i] = tree
	}
	next, _ := s.pass(now)
	for i, want := range []bool{true, true, false} {
		if _, known := trees[i].memory(); known != want {
			t.Errorf("tree %d was looked at: %v, want %v", i, known, want)
		}
	}
	if next != 15*time.Millisecond {
		t.Errorf("the next look in %v", next)
	}
}

// A pass over all takes long where there are thousands. Who starts or ends a
// worker meanwhile does not wait for it, and what is started is not judged by a
// pass that began before.
func TestPassHoldsUpNobody(t *testing.T) {
	root := t.TempDir()
	stat := filepath.Join(root, "7", "stat")
	if err := os.Mkdir(filepath.Dir(stat), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(stat, 0o600); err != nil {
		t.Fatal(err)
	}
	s := &sampled{wake: make(chan struct{}, 1), check: time.Hour, mains: map[int]*session{}, owned: map[int]owned{}, spare: map[int]owned{}}
	s.all.Root = root
	old := &session{s: s, soft: spec.GiB}
	old.started(7)
	done := make(chan struct{})
	go func() {
		s.pass(time.Now())
		close(done)
	}()
	w, err := os.OpenFile(stat, os.O_WRONLY, 0) // returns when the pass reads it
	if err != nil {
		t.Fatal(err)
	}
	young := &session{s: s, soft: spec.GiB}
	young.started(8)
	if _, ok := old.memory(); ok {
		t.Error("its memory is known before it was read")
	}
	fmt.Fprintf(w, "7 (old) S 1 7 7 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 100 0 3 0\n")
	w.Close()
	<-done
	if n, ok := old.memory(); !ok || n != spec.Bytes(3*os.Getpagesize()) {
		t.Errorf("its memory is %v, %v", n, ok)
	}
	if n, ok := young.memory(); ok {
		t.Errorf("the memory of one that came later is %v", n)
	}
}

// An idle pool is looked at again and again.
func TestASteadyPassAllocatesNothing(t *testing.T) {
	sleep := exec.Command("/bin/sleep", "1000")
	if err := sleep.Start(); err != nil {
		t.Fatal(err)
	}
	defer sleep.Wait()
	defer sleep.Process.Kill()
	s := &sampled{self: os.Getpid(), wake: make(chan struct{}, 1), check: time.Hour, mains: map[int]*session{}, owned: map[int]owned{}, spare: map[int]owned{}}
	tree := &session{s: s, soft: spec.GiB, hard: 2 * spec.GiB}
	tree.started(sleep.Process.Pid)
	pass := func() {
		s.passAt = time.Time{}
		s.pass(time.Now())
	}
	pass()
	pass()
	if n := testing.AllocsPerRun(200, pass); n > 0 {
		t.Errorf("%v allocations for each pass", n)
	}
	if n, ok := tree.memory(); !ok || n <= 0 {
		t.Errorf("and it is not looked at: %v, %v", n, ok)
	}
}

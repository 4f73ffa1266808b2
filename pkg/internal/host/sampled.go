package host

import (
	"os"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/workersd/workersd/pkg/internal/event"
	"github.com/workersd/workersd/pkg/internal/host/process"
	"github.com/workersd/workersd/pkg/internal/host/procmem"
	"github.com/workersd/workersd/pkg/internal/lifecycle"
	"github.com/workersd/workersd/pkg/spec"
)

// sampled holds trees where no cgroup can (DESIGN §5.6): a process belongs to a
// worker if it descends from its main process, is in its session, or was
// started with its mark in the environment. We are a subreaper, so whatever
// leaves its parents becomes our child and is found there.
type sampled struct {
	children *process.Table
	r        reports
	self     int
	wake     chan struct{} // buffer of 1: look again now
	quit     chan struct{}
	done     chan struct{}

	mu    sync.Mutex       // guards all below
	mains map[int]*session // by the pid of the main process, also when it has ended
	table procmem.Table
	check time.Duration
}

// nearest is how soon after a pass the next may come. A pass over thousands of
// processes takes long itself: where a worker grows fast the next comes after
// growing times as long, so that watching never takes the whole machine, and
// for a start or new limits after calm times; check_interval bounds both.
const (
	nearest = 20 * time.Millisecond
	growing = 4
	calm    = 50
)

func newSampled(children *process.Table, m spec.Manager, r reports) *sampled {
	s := &sampled{
		children: children, r: r, self: os.Getpid(), wake: make(chan struct{}, 1), quit: make(chan struct{}), done: make(chan struct{}),
		mains: map[int]*session{}, check: m.CheckInterval,
	}
	go s.watch()
	return s
}

func (s *sampled) prepare(id lifecycle.ProcessID, w *spec.Worker) (holder, error) {
	return &session{s: s, id: id, soft: w.SoftMemory, hard: w.HardMemory}, nil
}

func (s *sampled) configure(m spec.Manager) {
	s.mu.Lock()
	s.check = m.CheckInterval
	s.mu.Unlock()
	s.look()
}

func (s *sampled) interval() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.check
}

func (s *sampled) look() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

func (s *sampled) enforced(key string) (bool, string) {
	switch key {
	case "soft_memory_limit", "hard_memory_limit":
		return true, ""
	case "memory_limit", "swap_limit", "cpu_max", "cpu_weight", "io_weight", "pids_max":
		return false, "it takes a delegated cgroup v2"
	}
	return true, ""
}

// close kills whatever still descends from us.
func (s *sampled) close() {
	close(s.quit)
	<-s.done
	s.mu.Lock()
	defer s.mu.Unlock()
	for wait := time.Millisecond; ; wait = min(2*wait, 100*time.Millisecond) {
		if s.table.Scan() != nil {
			return
		}
		left := 0
		for _, p := range s.table.Procs {
			if !p.Zombie && s.top(p) != 0 {
				syscall.Kill(p.PID, syscall.SIGKILL)
				left++
			}
		}
		if left == 0 {
			return
		}
		if wait >= 100*time.Millisecond {
			return // uninterruptible: named by the supervisor
		}
		time.Sleep(wait)
	}
}

// top is the ancestor of p that is our child, p itself perhaps; 0: no descendant.
func (s *sampled) top(p procmem.Proc) int {
	for range 1000 {
		if p.PPID == s.self {
			return p.PID
		}
		var ok bool
		if p, ok = s.table.Find(p.PPID); !ok {
			return 0
		}
	}
	return 0
}

// owner is the session that p belongs to, nil for a stranger. The table was
// just scanned.
func (s *sampled) owner(p procmem.Proc) *session {
	for range 1000 {
		if t := s.mains[p.PID]; t != nil && !t.ended {
			return t
		}
		if t := s.mains[p.Session]; t != nil {
			return t
		}
		if p.PPID == s.self {
			return s.orphan(p)
		}
		var ok bool
		if p, ok = s.table.Find(p.PPID); !ok {
			return nil
		}
	}
	return nil
}

// orphan finds whose a child of ours is that we did not start.
func (s *sampled) orphan(p procmem.Proc) *session {
	for _, t := range s.mains {
		if t.orphans[p.PID] == p.Start && p.Start != 0 {
			return t
		}
	}
	if v, ok := s.table.Env(p.PID, "WORKERSD_INSTANCE"); !ok || v != instance {
		return nil
	}
	worker, _ := s.table.Env(p.PID, "WORKERSD_WORKER")
	generation, _ := s.table.Env(p.PID, "WORKERSD_GENERATION")
	for _, t := range s.mains {
		if t.id.Worker == worker && strconv.FormatUint(t.id.Generation, 10) == generation {
			if t.orphans == nil {
				t.orphans = map[int]uint64{}
			}
			t.orphans[p.PID] = p.Start
			return t
		}
	}
	return nil
}

// watch is the one goroutine that samples.
func (s *sampled) watch() {
	defer close(s.done)
	timer := time.NewTimer(0)
	defer timer.Stop()
	var at, soon time.Time // when the next pass comes, and may come for a start
	for {
		select {
		case <-s.quit:
			return
		case <-s.wake:
			if soon.Before(at) {
				at = soon
				timer.Reset(time.Until(at))
			}
			continue
		case <-timer.C:
		}
		began := time.Now()
		next, passed := s.pass(began)
		took := time.Since(began)
		for _, tell := range passed {
			tell()
		}
		at = began.Add(max(next, min(growing*took, s.interval())))
		soon = began.Add(max(nearest, calm*took))
		timer.Reset(time.Until(at))
	}
}

// pass reads the memory of all workers in one go, and says when to come again
// and what to tell.
func (s *sampled) pass(now time.Time) (next time.Duration, passed []func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	next = s.check
	if len(s.mains) == 0 || s.table.Scan() != nil {
		return next, nil
	}
	for _, t := range s.mains {
		t.sum = 0
		t.members = t.members[:0]
	}
	for _, p := range s.table.Procs {
		if p.Zombie || p.PPID == 0 || p.PID == s.self {
			continue
		}
		if t := s.owner(p); t != nil {
			t.sum += p.RSS
			t.members = append(t.members, p)
			if p.PPID == s.self && p.PID != t.pid {
				if t.orphans == nil {
					t.orphans = map[int]uint64{}
				}
				t.orphans[p.PID] = p.Start
			}
		}
	}
	for _, t := range s.mains {
		if tell := t.judge(now); tell != nil {
			passed = append(passed, tell)
		}
		next = min(next, t.due())
	}
	return max(next, nearest), passed
}

// session is the tree of one process.
type session struct {
	s  *sampled
	id lifecycle.ProcessID

	// All below is guarded by s.mu.
	pid        int
	ended      bool
	clear      bool // and nothing is left of its tree
	soft, hard spec.Bytes
	softTold   bool
	hardTold   bool
	sum        spec.Bytes // of RSS, while a pass goes on
	usage      spec.Bytes
	peak       spec.Bytes
	at         time.Time
	growth     float64 // fastest seen, bytes per second
	members    []procmem.Proc
	last       []event.PostMortemProc // process table when a limit was passed
	orphans    map[int]uint64         // children of ours that are of this tree, by start time
}

// judge compares what a pass has found with the limits.
func (t *session) judge(now time.Time) (tell func()) {
	if !t.at.IsZero() && t.sum > t.usage {
		if d := now.Sub(t.at).Seconds(); d > 0 {
			t.growth = max(t.growth, float64(t.sum-t.usage)/d)
		}
	}
	t.usage, t.at = t.sum, now
	t.peak = max(t.peak, t.usage)
	if t.ended {
		return nil
	}
	id, usage := t.id, t.usage
	switch {
	case t.hard.Set() && usage > t.hard && !t.hardTold:
		if pss, ok := t.pss(); ok && pss <= t.hard {
			return nil
		}
		t.hardTold = true
		t.remember()
		return func() { t.s.r.hard(id, usage, t.hard) }
	case t.soft.Set() && usage > t.soft && !t.softTold:
		if pss, ok := t.pss(); ok && pss <= t.soft {
			return nil
		}
		t.softTold = true
		t.remember()
		soft := t.soft
		return func() { t.s.r.soft(id, usage, soft) }
	}
	return nil
}

// due is when the tree could reach its next limit at the fastest growth seen.
func (t *session) due() time.Duration {
	limit := t.soft
	if t.softTold || !limit.Set() {
		limit = t.hard
	}
	if !limit.Set() || t.hardTold || t.ended || t.growth <= 0 {
		return time.Hour
	}
	left := float64(limit - t.usage)
	if left <= 0 {
		return nearest
	}
	return time.Duration(min(left/t.growth, 3600) * float64(time.Second))
}

// pss is what the tree holds with shared pages counted by shares; ok is false
// where it is not told of every process.
func (t *session) pss() (sum spec.Bytes, ok bool) {
	for _, p := range t.members {
		n, ok := t.s.table.PSS(p.PID)
		if !ok {
			return 0, false
		}
		sum += n
	}
	return sum, true
}

// remember keeps the process table for the post-mortem, the largest first.
func (t *session) remember() {
	procs := slices.Clone(t.members)
	slices.SortFunc(procs, func(a, b procmem.Proc) int { return int(b.RSS - a.RSS) })
	t.last = nil
	for _, p := range procs[:min(len(procs), 10)] {
		t.last = append(t.last, event.PostMortemProc{PID: p.PID, PPID: p.PPID, RSS: int64(p.RSS), Command: t.s.table.Command(p.PID)})
	}
}

func (t *session) place() (int, string) { return -1, "" }

func (t *session) started(pid int) {
	t.s.mu.Lock()
	t.pid = pid
	t.s.mains[pid] = t
	limited := t.soft.Set() || t.hard.Set()
	t.s.mu.Unlock()
	if limited {
		t.s.look()
	}
}

func (t *session) signalled() {}

func (t *session) update(w *spec.Worker) {
	t.s.mu.Lock()
	t.soft, t.hard = w.SoftMemory, w.HardMemory
	t.softTold, t.hardTold = false, false
	t.s.mu.Unlock()
	t.s.look()
}

// kill ends what can be found of the tree now.
func (t *session) kill() {
	s := t.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if t.pid == 0 {
		return
	}
	if t.ended || !s.children.Is(t.pid) {
		if s.clear(t) {
			return
		}
	}
	if s.table.Scan() != nil {
		s.children.Signal(t.pid, syscall.SIGKILL)
		return
	}
	for _, p := range s.table.Procs {
		if !p.Zombie && p.PID != s.self && s.owner(p) == t {
			syscall.Kill(p.PID, syscall.SIGKILL)
		}
	}
}

// clear reports whether nothing is left of a tree whose main process has ended.
// Every process that it left has an ancestor that is our child now and that we
// did not start: without such a child there is nothing, and no pass over /proc
// is needed to know.
//
// A child that ends while we look hands its own children to us: they come at
// the end of the list, so what a second look shows anew is looked at, too.
func (s *sampled) clear(t *session) bool {
	if t.clear { // for good: nobody is there that could fork
		return true
	}
	t.ended = true
	seen := map[int]bool{}
	for fresh := true; fresh; {
		fresh = false
		orphans, ok := s.children.Orphans(s.table.Adopted)
		if !ok {
			return s.clearByScan(t)
		}
		for _, pid := range orphans {
			if seen[pid] {
				continue
			}
			seen[pid], fresh = true, true
			p, ok := s.table.Read(pid)
			if !ok || p.Zombie {
				continue
			}
			if p.Session == t.pid || s.orphan(p) == t {
				return false
			}
		}
	}
	t.clear = true
	return true
}

// clearByScan is for kernels without CONFIG_PROC_CHILDREN.
func (s *sampled) clearByScan(t *session) bool {
	if s.table.Scan() != nil {
		return false
	}
	for _, p := range s.table.Procs {
		if !p.Zombie && p.PID != s.self && s.owner(p) == t {
			return false
		}
	}
	return true
}

// tellEmpty clears away what the main process left and tells when it is done.
func (t *session) tellEmpty() {
	s := t.s
	for wait := time.Millisecond; ; wait = min(2*wait, 200*time.Millisecond) {
		s.mu.Lock()
		empty := s.clear(t)
		s.mu.Unlock()
		if empty {
			break
		}
		t.kill()
		select {
		case <-s.quit:
			return
		case <-time.After(wait):
		}
	}
	s.mu.Lock()
	ev := lifecycle.Evidence{}
	if t.peak > 0 {
		ev.PostMortem = &event.PostMortem{Peak: int64(t.peak), Procs: t.last, Note: "sampled: resident memory of the tree, seen at intervals"}
	}
	s.mu.Unlock()
	s.r.gone(t.id, ev)
}

func (t *session) release() error {
	t.s.mu.Lock()
	defer t.s.mu.Unlock()
	if t.s.mains[t.pid] == t {
		delete(t.s.mains, t.pid)
	}
	return nil
}

// memory is what the last pass has found.
func (t *session) memory() (spec.Bytes, bool) {
	t.s.mu.Lock()
	defer t.s.mu.Unlock()
	return t.usage, !t.at.IsZero()
}

// statistics: without cgroups nobody keeps any.
func (t *session) statistics() *event.Statistics { return nil }

func (t *session) contains(pid int) (in, known bool) {
	s := t.s
	s.mu.Lock()
	defer s.mu.Unlock()
	var table procmem.Table
	p, ok := table.Read(pid)
	if !ok {
		return false, false
	}
	for range 1000 {
		switch {
		case t.pid == 0: // not started yet; session 0 is that of processes from outside a container
			return false, true
		case p.PID == t.pid && !t.ended, p.Session == t.pid:
			return true, true
		}
		if p.PPID == s.self || p.PPID <= 1 {
			return s.orphan(p) == t, true
		}
		if p, ok = table.Read(p.PPID); !ok {
			return false, false
		}
	}
	return false, false
}

package host

import (
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/workersd/workersd/pkg/internal/event"
	"github.com/workersd/workersd/pkg/internal/host/process"
	"github.com/workersd/workersd/pkg/internal/host/procmem"
	"github.com/workersd/workersd/pkg/internal/lifecycle"
	"github.com/workersd/workersd/pkg/spec"
)

// sampled holds trees where no cgroup can: a process belongs to a
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

	// These belong to the goroutine that watches. A pass over all reads them
	// without the lock: thousands of processes take long, and who starts or ends
	// one of them need not wait for it.
	all     procmem.Table
	wholeAt time.Time // next pass that reads everything anew

	kills atomic.Int32 // under way; at the last one's end trees go

	mu    sync.Mutex       // guards all below
	mains map[int]*session // by the pid of the main process, also when it has ended
	// owned is whose each process was when it was seen last: it stays so when its
	// parents are gone. Each pass makes it anew, out of the spare one.
	owned map[int]owned
	spare map[int]owned
	table procmem.Table
	// trees are what a pass for kill has found, which began at scannedAt; nil when
	// nobody can have waited for it any more.
	trees     map[*session][]procmem.Proc
	scannedAt time.Time
	check     time.Duration
	passes    int       // over all, that have begun
	passAt    time.Time // the next one
	wakeAt    time.Time // when the watcher looks next
}

type owned struct {
	by    *session
	start uint64
	pass  int // in which it was found
}

func newSampled(children *process.Table, m spec.Manager, r reports) *sampled {
	s := &sampled{
		children: children, r: r, self: os.Getpid(), wake: make(chan struct{}, 1), quit: make(chan struct{}), done: make(chan struct{}),
		mains: map[int]*session{}, owned: map[int]owned{}, spare: map[int]owned{}, check: m.CheckInterval,
	}
	go s.watch()
	return s
}

func (s *sampled) prepare(id lifecycle.ProcessID, w *spec.Worker) (holder, error) {
	return &session{s: s, id: id, mark: mark(id), soft: w.SoftMemory, hard: w.HardMemory}, nil
}

func (s *sampled) configure(m spec.Manager) {
	s.mu.Lock()
	s.check, s.passAt = m.CheckInterval, time.Time{}
	s.mu.Unlock()
	s.look()
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
	last := time.Now().Add(closeWait)
	for wait := time.Millisecond; ; wait = min(2*wait, 100*time.Millisecond) {
		if s.table.Scan() != nil {
			return
		}
		left := 0
		for _, p := range s.table.Procs {
			if !p.Zombie && s.descends(p) {
				s.table.Signal(p, syscall.SIGKILL)
				left++
			}
		}
		if left == 0 || time.Now().After(last) {
			return // uninterruptible: named by the supervisor
		}
		time.Sleep(wait)
	}
}

// descends reports whether p is below us in the table.
func (s *sampled) descends(p procmem.Proc) bool {
	for range 1000 {
		if p.PPID == s.self {
			return true
		}
		var ok bool
		if p, ok = s.table.Find(p.PPID); !ok {
			return false
		}
	}
	return false
}

// treeOf is the session that p belongs to, nil for a stranger. Its ancestors are
// looked up in a table that was just scanned.
func (s *sampled) treeOf(table *procmem.Table, p procmem.Proc) *session {
	for range 1000 {
		if t := s.mains[p.PID]; t != nil && !t.ended {
			return t
		}
		if t := s.mains[p.Session]; t != nil {
			return t
		}
		if t := s.known(p); t != nil {
			return t
		}
		if p.PPID == s.self {
			if t := s.orphan(p); t != nil {
				return t
			}
			// Whose its session's leader is, it is, too.
			if leader, ok := table.Find(p.Session); ok && leader.PID != p.PID && leader.PID != s.self {
				return s.treeOf(table, leader)
			}
			return nil
		}
		var ok bool
		if p, ok = table.Find(p.PPID); !ok {
			return nil
		}
	}
	return nil
}

// known is whose p was when it was seen last.
func (s *sampled) known(p procmem.Proc) *session {
	if o, ok := s.owned[p.PID]; ok && o.start == p.Start && s.mains[o.by.pid] == o.by {
		return o.by
	}
	return nil
}

// orphan finds whose a child of ours is that we did not start.
func (s *sampled) orphan(p procmem.Proc) *session {
	if t := s.known(p); t != nil {
		return t
	}
	v, ok := s.table.Env(p.PID, markVariable)
	if !ok {
		return nil
	}
	for _, t := range s.mains {
		if t.mark == v {
			s.owned[p.PID] = owned{t, p.Start, s.passes}
			return t
		}
	}
	return nil
}

// session is the tree of one process.
type session struct {
	s    *sampled
	id   lifecycle.ProcessID
	mark string // of its processes

	// All below is guarded by s.mu.
	pid        int
	ended      bool
	clear      bool // and nothing is left of its tree
	soft, hard spec.Bytes
	softTold   bool
	hardTold   bool
	sum        spec.Bytes // of RSS, while a pass goes on
	shared     spec.Bytes // what the sum counts more than once, when PSS was read last
	sharedAt   time.Time
	usage      spec.Bytes
	peak       spec.Bytes
	at         time.Time     // of the usage; at first of its start, with nothing
	known      bool          // the usage was read
	due        time.Time     // when it could reach its next limit; zero: not before the next pass
	slack      time.Duration // how much earlier it may be
	pass       int           // that had begun when it was started
	young      time.Duration // the wait for the last look at one that is new; 0: it is not new any more
	growth     float64       // fastest seen of late, bytes per second
	members    []procmem.Proc
	last       []event.PostMortemProc // process table when a limit was passed
}

func (t *session) limited() bool { return t.soft.Set() || t.hard.Set() }

func (t *session) place() (int, string) { return -1, "" }

func (t *session) started(pid int) {
	t.s.mu.Lock()
	t.pid, t.pass = pid, t.s.passes
	t.s.mains[pid] = t
	now := time.Now()
	t.at = now // it began with nothing: what it has by then is growth
	soon := false
	if t.limited() {
		t.young = firstLook
		t.dueIn(now, firstLook)
		if latest := now.Add(t.s.check); t.s.passAt.After(latest) {
			t.s.passAt = latest // no other had a limit
		}
		soon = t.s.wakeAt.IsZero() || t.due.Before(t.s.wakeAt)
	}
	t.s.mu.Unlock()
	if soon {
		t.s.look()
	}
}

func (t *session) signalled() {}

func (t *session) update(w *spec.Worker) {
	t.s.mu.Lock()
	t.soft, t.hard = w.SoftMemory, w.HardMemory
	t.softTold, t.hardTold = false, false
	t.s.passAt = time.Time{}
	t.s.mu.Unlock()
	t.s.look()
}

// kill ends what can be found of the tree now. Hundreds that are killed at once
// wait for the lock, and share the pass over /proc of the first: what it has read
// is not older than their orders.
func (t *session) kill() {
	s := t.s
	s.kills.Add(1) // before the time: who may share a pass is counted when it begins
	ordered := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	defer func() {
		if s.kills.Add(-1) == 0 {
			s.trees, s.scannedAt = nil, time.Time{}
		}
	}()
	if t.pid == 0 {
		return
	}
	if t.ended || !s.children.Is(t.pid) {
		if s.clear(t) {
			return
		}
	}
	if !s.scannedAt.After(ordered) {
		s.scannedAt = time.Now()
		s.trees = map[*session][]procmem.Proc{}
		if s.table.Scan() != nil {
			s.scannedAt = time.Time{}
			s.children.Signal(t.pid, syscall.SIGKILL)
			return
		}
		for _, p := range s.table.Procs {
			if p.Zombie || p.PID == s.self {
				continue
			}
			if of := s.treeOf(&s.table, p); of != nil {
				s.trees[of] = append(s.trees[of], p)
			}
		}
	}
	for _, p := range s.trees[t] {
		s.table.Signal(p, syscall.SIGKILL)
	}
}

func (t *session) tellIfEmpty() bool {
	t.s.mu.Lock()
	empty := t.s.clear(t)
	t.s.mu.Unlock()
	if empty {
		t.tellGone()
	}
	return empty
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
		if !p.Zombie && p.PID != s.self && s.treeOf(&s.table, p) == t {
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
	t.tellGone()
}

func (t *session) tellGone() {
	t.s.mu.Lock()
	ev := lifecycle.Evidence{}
	if t.peak > 0 {
		ev.PostMortem = &event.PostMortem{Peak: int64(t.peak), Procs: t.last, Note: "sampled: resident memory of the tree, seen at intervals"}
	}
	t.s.mu.Unlock()
	t.s.r.gone(t.id, ev)
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
	return t.usage, t.known
}

// statistics: without cgroups nobody keeps any.
func (t *session) statistics() *event.Statistics { return nil }

func (t *session) contains(pid int) (in, known bool) {
	by, _, known := t.s.ownerOf(pid)
	return by == t, known
}

// pids are those that descend from the main process while it lives. Who has lost
// a parent meanwhile is missed: a pass over /proc costs more than the start did.
func (t *session) pids() []int {
	t.s.mu.Lock()
	pid := t.pid
	t.s.mu.Unlock()
	if !t.s.children.Is(pid) {
		return nil // another's by now
	}
	var table procmem.Table
	return append(table.Below(pid), pid)
}

// ownerOf is the tree that a process is in, nil for none that is known; ours says
// that we are above it all the same, and known is false when it is gone. It reads
// the process and its ancestors, no more.
func (s *sampled) ownerOf(pid int) (by *session, ours, known bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var table procmem.Table
	p, ok := table.Read(pid)
	for range 1000 {
		if !ok {
			return nil, false, false
		}
		if t := s.mains[p.PID]; t != nil && !t.ended {
			return t, true, true
		}
		if t := s.mains[p.Session]; t != nil {
			return t, true, true
		}
		if t := s.known(p); t != nil {
			return t, true, true
		}
		if p.PPID == s.self {
			return s.orphan(p), true, true
		}
		if p.PPID <= 1 {
			return nil, false, true
		}
		p, ok = table.Read(p.PPID)
	}
	return nil, false, false
}

// owner has no name for who has left parents, session and environment behind. It
// is below us, and so some worker's: we start nothing else.
func (s *sampled) owner(pid int) (worker string, ok bool) {
	t, ours, _ := s.ownerOf(pid)
	if t != nil {
		return t.id.Worker, true
	}
	return "", ours
}

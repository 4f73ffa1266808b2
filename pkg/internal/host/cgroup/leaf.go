package cgroup

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/workersd/workersd/pkg/internal/event"
	"github.com/workersd/workersd/pkg/internal/lifecycle"
	"github.com/workersd/workersd/pkg/spec"
)

// Leaf is the cgroup of one process of one worker. It is held by descriptors:
// a name could by now belong to something else.
type Leaf struct {
	ID lifecycle.ProcessID

	tree    *Tree
	dir     int // O_PATH, for clone3 and for everything below
	current int // memory.current, kept open because it is read most

	mu     sync.Mutex // guards what follows, and dir and current against Remove
	closed bool
	limits Limits
	// high is what memory.high holds: the soft limit, a raised tripwire, or
	// None when it was lifted.
	high    spec.Bytes
	fired   bool       // SoftPassed was told
	liftBy  time.Time  // when the tripwire goes then, if nobody signals before
	pending spec.Bytes // where waits: memory.max
	waits   bool       // until less is in use, or until it can be written

	running  bool // there has been a process
	wantsEnd bool // Emptied is to be told
	again    bool // awaitAgain is under way
	lost     bool // it can no longer be read, and that was said
	deaf     bool // it cannot be watched, and that was said

	memoryWatch, emptyWatch int32 // 0: none; the kernel counts from 1
	armed                   bool  // memoryWatch is there; it goes when it fires
	told                    bool  // it has fired since the last look

	pace    pace
	due     time.Time     // of the next look; zero: none before something happens
	slack   time.Duration // how much earlier the next look may come
	quiet   time.Time     // no look before, however many events come
	stalled time.Time     // last look at the pressure

	events      map[string]int64 // memory.events, at the last look
	base        []int64          // the ancestors' oom counters, see verdict
	swapPeak    int64
	stat        map[string]int64 // memory.stat, while there was something to see
	table       []event.PostMortemProc
	tableAt     time.Time
	tableMemory int64
}

// FD is the directory for CLONE_INTO_CGROUP. It stays open until Remove.
func (l *Leaf) FD() int { return l.dir }

// Path is where the leaf is in the file system, for a helper that joins it by
// writing to its cgroup.procs.
func (l *Leaf) Path() string { return filepath.Join(l.tree.workers, LeafName(l.ID)) }

// newLeaf creates the directory.
func (t *Tree) newLeaf(id lifecycle.ProcessID, lim Limits) (*Leaf, error) {
	name := LeafName(id)
	if err := unix.Mkdirat(t.dir, name, 0o755); err != nil {
		return nil, fmt.Errorf("mkdir %s: %w", filepath.Join(t.workers, name), err)
	}
	l, err := t.take(id, lim)
	if err != nil {
		unix.Unlinkat(t.dir, name, unix.AT_REMOVEDIR)
		return nil, fmt.Errorf("%s: %w", filepath.Join(t.workers, name), err)
	}
	return l, nil
}

// take opens a new leaf and writes every limit while nothing is charged yet, so
// that no write reclaims anything.
func (t *Tree) take(id lifecycle.ProcessID, lim Limits) (*Leaf, error) {
	l := &Leaf{ID: id, tree: t, dir: -1, current: -1, limits: lim, high: lim.Soft}
	err := l.open(LeafName(id))
	if err == nil {
		err = l.configure()
	}
	if err != nil {
		l.close()
		return nil, err
	}
	l.base = t.unharmedOOMs()
	return l, nil
}

func (l *Leaf) open(name string) (err error) {
	l.dir, err = unix.Openat(l.tree.dir, name, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open: %w", err)
	}
	l.current, err = unix.Openat(l.dir, "memory.current", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open memory.current: %w", err)
	}
	return nil
}

func (l *Leaf) configure() error {
	settings := append(l.limits.memory(), l.limits.changes(fresh)...)
	return l.writeAll(settings)
}

func (l *Leaf) writeAll(settings []setting) error {
	for _, s := range settings {
		if err := l.write(s); err != nil {
			return err
		}
	}
	return nil
}

func (l *Leaf) write(s setting) error {
	if !l.tree.has[s.controller] {
		return nil // said once for all by Tree.Enforced
	}
	err := writeAt(l.dir, s.file, s.value)
	if errors.Is(err, unix.ENOENT) && s.file == "io.weight" {
		// The BFQ scheduler has a file, and a smaller range, of its own.
		s.value = fmt.Sprint(min(max(l.limits.IOWeight, 1), 1000))
		err = writeAt(l.dir, "io.bfq.weight", s.value)
	}
	if err != nil && (!s.optional || !errors.Is(err, unix.ENOENT)) {
		return fmt.Errorf("%s: %w", s.key, err)
	}
	return nil
}

// Started says that the command runs: what must not bind a helper before the
// exec is written now, and looking begins.
func (l *Leaf) Started() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil
	}
	l.running = true
	if l.due.IsZero() { // else it was told of something already
		now := l.tree.clock()
		wait := l.tree.interval()
		if l.guarded() {
			wait = rare
		}
		l.due, l.slack = now.Add(wait), wait/4
		l.pace.at = now // it began with nothing: what it has by then is growth
		if l.tree.dueBy(l.due) {
			l.tree.kick()
		}
	}
	if l.limits.PidsMax == 0 {
		return nil // as the kernel made it
	}
	err := l.write(l.limits.pids())
	if err != nil {
		l.limits.PidsMax = 0
	}
	return err
}

// Kill ends everything in the leaf with SIGKILL, at once and whatever forks.
func (l *Leaf) Kill() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil
	}
	err := writeAt(l.dir, "cgroup.kill", "1")
	if !errors.Is(err, unix.ENOENT) {
		return err
	}
	if empty, _ := l.empty(); empty {
		return nil // somebody removed it
	}
	// Before Linux 5.14: one by one, until no new ones appear.
	for range 100 {
		pids, err := l.procs()
		if err != nil || len(pids) == 0 {
			return err
		}
		for _, pid := range pids {
			unix.Kill(pid, unix.SIGKILL)
		}
	}
	return nil
}

// Procs are the processes in the leaf and in what the worker made below it.
func (l *Leaf) Procs() ([]int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil, nil
	}
	return l.procs()
}

func (l *Leaf) procs() ([]int, error) {
	s, err := readAt(l.dir, "cgroup.procs")
	if err != nil {
		return nil, err
	}
	return append(parsePIDs(s), procsBelow(l.dir, ".")...), nil
}

// Contains reports whether a process lives in the leaf or in a cgroup that the
// worker made below it. known is false when the process is gone.
func (l *Leaf) Contains(pid int) (in, known bool) {
	id, in, known := l.tree.leafOf(pid)
	return in && id == l.ID, known
}

// Owner is the process in whose leaf another one lives, or in a cgroup below
// that; ok is false for a stranger. Any goroutine may ask.
func (t *Tree) Owner(pid int) (id lifecycle.ProcessID, ok bool) {
	id, ok, _ = t.leafOf(pid)
	return id, ok
}

func (t *Tree) leafOf(pid int) (id lifecycle.ProcessID, in, known bool) {
	path, known := PathOf(t.proc, pid)
	if below, ok := strings.CutPrefix(path, t.relative+"/workers/"); ok {
		name, _, _ := strings.Cut(below, "/")
		id, in = ParseLeaf(name)
	}
	return id, in, known
}

// Memory is memory.current, for any goroutine.
func (l *Leaf) Memory() (spec.Bytes, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return 0, false
	}
	n, err := l.readCurrent()
	return spec.Bytes(n), err == nil
}

// ProcCount is pids.current, for any goroutine: threads are counted.
func (l *Leaf) ProcCount() (int, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return 0, false
	}
	n, err := readInt(l.dir, "pids.current")
	return int(n), err == nil
}

func (l *Leaf) readCurrent() (int64, error) {
	var b [24]byte
	n, err := retry(func() (int, error) { return unix.Pread(l.current, b[:], 0) })
	if err != nil {
		return 0, fmt.Errorf("read memory.current: %w", err)
	}
	return parseInt(string(b[:n]))
}

// TellEmpty asks for Emptied, once, as soon as nothing lives in the leaf; at
// once when that is so already.
func (l *Leaf) TellEmpty() {
	l.mu.Lock()
	l.wantsEnd = true
	l.mu.Unlock()
	l.awaitEmpty()
}

// awaitEmpty watches the leaf from here on, before the first look at it. Mostly
// nobody has to: what a worker leaves behind is the exception.
func (l *Leaf) awaitEmpty() {
	l.mu.Lock()
	if l.wantsEnd && !l.closed && l.emptyWatch == 0 {
		wd, err := l.tree.watch(filepath.Join(l.Path(), "cgroup.events"), watch{l, populatedEvents})
		switch {
		case err == nil:
			l.emptyWatch = wd
		case !errors.Is(err, unix.ENOENT): // else it vanished, and is empty
			l.unwatched(err)
			l.awaitAgain()
		}
	}
	l.mu.Unlock()
	l.checkEmpty()
}

// awaitAgain comes back to a leaf, whose lock is held, that could not be watched
// or read: nothing else would.
func (l *Leaf) awaitAgain() {
	if l.again {
		return
	}
	l.again = true
	time.AfterFunc(emptyEvery, func() {
		l.mu.Lock()
		l.again = false
		l.mu.Unlock()
		l.awaitEmpty()
	})
}

// TellIfEmpty tells Emptied if nothing lives in the leaf now.
func (l *Leaf) TellIfEmpty() bool {
	l.mu.Lock()
	empty := false
	if !l.closed {
		empty, _ = l.empty() // unknown: it will be killed, and awaited
	}
	l.mu.Unlock()
	if empty {
		l.tree.options.Emptied(l)
	}
	return empty
}

// checkEmpty tells Emptied when it is wanted and true.
func (l *Leaf) checkEmpty() {
	l.mu.Lock()
	tell := false
	if l.wantsEnd && !l.closed {
		var err error
		if tell, err = l.empty(); err != nil {
			l.unwatched(fmt.Errorf("%s: it is not known whether anything is left in it: %w", l.Path(), err))
			l.awaitAgain()
		}
	}
	if tell {
		l.wantsEnd = false
	}
	l.mu.Unlock()
	if tell {
		l.tree.options.Emptied(l)
	}
}

// empty is true of a leaf that is no longer there, too: nothing can live in it.
func (l *Leaf) empty() (bool, error) {
	s, err := readAt(l.dir, "cgroup.events")
	switch {
	case err == nil:
		return parseFlat(s)["populated"] == 0, nil
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENODEV):
		return true, nil
	}
	return false, err
}

// Remove takes the leaf away. Nothing may live in it; cgroups that the worker
// made below it go first.
func (l *Leaf) Remove() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil
	}
	l.tree.forget(l)
	l.close()
	return removeTree(l.tree.dir, LeafName(l.ID))
}

func (l *Leaf) close() {
	l.closed = true
	for _, fd := range []int{l.dir, l.current} {
		if fd >= 0 {
			unix.Close(fd)
		}
	}
}

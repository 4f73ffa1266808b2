package cgroup

import (
	"errors"
	"maps"
	"time"

	"golang.org/x/sys/unix"

	"github.com/workersd/workersd/pkg/spec"
)

const (
	// Page cache at the tripwire sets it off again and again. How long it is
	// not listened to then follows from the room that is left.
	quietLeast, quietMost = 10 * time.Millisecond, 100 * time.Millisecond
	// braked is how long a worker that passed its soft limit is braked until its
	// stop signal is on the way; longer means that it has to wait for its turn.
	// Without the brake a busy machine would signal late, and find the worker far
	// above its limit.
	braked = 500 * time.Millisecond
	// pressureEvery is how often the kernel computes its averages anew.
	pressureEvery = 2 * time.Second
	// tableEvery bounds how often the processes of a leaf are listed.
	tableEvery = 100 * time.Millisecond
)

// mark says what happened to a leaf; the loop looks at it next.
func (l *Leaf) mark(now time.Time) {
	l.mu.Lock()
	l.armed, l.told, l.due, l.slack = false, true, now, 0
	l.mu.Unlock()
}

// dueAt is when the leaf is to be looked at. Early is true where that may as
// well be now: who wakes for one look does those of the others with it that
// have time, or hundreds of workers would wake us hundreds of times after their
// start, and again each minute.
func (l *Leaf) dueAt(now time.Time) (due time.Time, early, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	left := l.due.Sub(now)
	return l.due, left < l.slack, !l.due.IsZero() && !l.closed && !l.lost
}

// look reads the leaf, because the kernel said so or because it is time, and
// acts on what it finds. It returns when it wants to look again.
func (l *Leaf) look(now time.Time) time.Time {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return now.Add(rare)
	}
	if now.Before(l.quiet) {
		l.due = l.quiet
		l.mu.Unlock()
		return l.quiet
	}
	passed, u := l.inspect(now)
	soft, due := l.limits.Soft, l.due
	l.mu.Unlock()
	if passed {
		l.tree.options.SoftPassed(l, u.held(), soft)
	}
	return due
}

// inspect does what look promises, under the lock. What it writes raises a
// limit or lowers it to more than is in use: neither makes the kernel reclaim
// in our thread.
func (l *Leaf) inspect(now time.Time) (passed bool, u usage) {
	told := l.told
	l.told = false
	l.listen() // before reading: what comes after that is told anew
	u, err := l.usage()
	if err != nil {
		l.vanished(err)
		l.due = now.Add(rare)
		return false, u
	}
	l.pace.saw(now, spec.Bytes(u.current))
	// The kernel trims page cache while it tells us: what is left may be just below
	// the tripwire by the time it is read, and yet has been there.
	var touched, changed bool
	if told {
		touched, changed = l.readEvents()
	}
	touched = touched && u.charged() > low(l.limits.Soft)
	if soft := l.limits.Soft; soft.Set() && !l.fired {
		switch {
		case u.charged() > soft, touched:
			stat := l.readStat()
			after, err := l.readCurrent()
			if err != nil {
				break
			}
			u.compare(stat, after)
			if u.held() > soft {
				l.listProcs(now, u.current) // now: it may be gone right after its signal
				l.fired, l.liftBy, passed = true, now.Add(braked), true
				break
			}
			l.quiet = now.Add(min(max(l.pace.reach(soft-u.held()), quietLeast), quietMost))
			l.raise(now, u)
		case l.high != soft && u.charged() < low(soft):
			l.setHigh(soft)
		}
	}
	if l.high.Set() && (l.fired && !now.Before(l.liftBy) || !l.limits.Soft.Set()) {
		l.setHigh(spec.None)
	}
	if l.waits && (!l.pending.Set() || spec.Bytes(u.current) < l.pending) {
		l.waits = writeAt(l.dir, "memory.max", bytesMax(l.pending)) != nil
	}
	switch grown := u.current - l.tableMemory; {
	case passed: // done, and the signal waits for us
	case grown > l.step(), changed && now.Sub(l.tableAt) >= tableEvery:
		// When the limits begin to bite, too: after the kernel has killed there is
		// nothing to be seen.
		l.list(now, u.current)
	case l.table == nil: // so that there is one; what its memory is can be read at its end
		l.listProcs(now, 0)
	}
	wait := l.wait(now)
	l.due, l.slack = now.Add(wait), 0
	if wait == rare {
		l.slack = rare / 4
	}
	return passed, u
}

// wait is how long the leaf may go unread.
func (l *Leaf) wait(now time.Time) time.Duration {
	check := l.tree.interval()
	soft := l.limits.Soft
	switch {
	case l.fired && l.high.Set():
		if left := l.liftBy.Sub(now); left > 0 {
			return left
		}
		return soonest // it could not be lifted
	case l.waits, l.high.Set() && !soft.Set(), !l.armed && soft.Set():
		return check // nobody tells us
	case l.fired:
		return l.pace.next(l.limits.Hard, check)
	case !soft.Set():
		return l.pace.next(l.limits.Hard, rare) // for the list of processes
	case l.guarded():
		return rare
	}
	return l.pace.next(soft, check) // the tripwire was raised: reading takes its place
}

// guarded reports whether the kernel is the guard, and tells us.
func (l *Leaf) guarded() bool {
	return l.armed && l.limits.Soft.Set() && l.high == l.limits.Soft
}

// step is the growth after which the list of processes is read anew.
func (l *Leaf) step() int64 {
	if l.limits.Hard.Set() {
		return max(int64(l.limits.Hard)/8, 1<<20)
	}
	return 64 << 20
}

func (l *Leaf) usage() (u usage, err error) {
	if u.current, err = l.readCurrent(); err != nil {
		return u, err
	}
	if l.limits.Swap != 0 {
		if n, err := readInt(l.dir, "memory.swap.current"); err == nil {
			u.swap = n
			l.swapPeak = max(l.swapPeak, n)
		}
	}
	return u, nil
}

// vanished: the leaf cannot be read. Said once; the worker is left alone.
func (l *Leaf) vanished(err error) {
	if !l.lost {
		l.lost = true
		text := "its cgroup cannot be read, no limit is enforced until it is started again: " + err.Error()
		if errors.Is(err, unix.ENODEV) {
			text = "its cgroup was removed by somebody else, no limit is enforced until it is started again"
		}
		l.tree.options.Problem(l.ID.Worker + ": " + text)
	}
}

// Signalled says that the worker was sent a signal to leave: from here on it
// needs its memory to finish its work, and the tripwire goes.
func (l *Leaf) Signalled() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.closed && l.fired && l.high.Set() {
		l.setHigh(spec.None)
	}
}

// setHigh writes memory.high; None is "max".
func (l *Leaf) setHigh(to spec.Bytes) {
	if writeAt(l.dir, "memory.high", bytesMax(to)) == nil {
		l.high = to
	}
}

// raise lets a tripwire follow the page cache that has reached it. A worker that
// stands still at the end of that way cannot do with so little cache, and gets
// half of the rest.
func (l *Leaf) raise(now time.Time, u usage) {
	if !l.high.Set() {
		return
	}
	next := follow(l.limits.Soft, l.limits.Hard, l.high, u)
	if next == l.high && l.stalls(now) {
		next = raised(l.high, l.limits.Hard)
	}
	if next != l.high {
		l.setHigh(next)
	}
}

// stalls reports whether everything in the leaf waits for memory too often.
func (l *Leaf) stalls(now time.Time) bool {
	if now.Sub(l.stalled) < pressureEvery {
		return false
	}
	l.stalled = now
	s, err := readAt(l.dir, "memory.pressure")
	if err != nil {
		return false // a kernel without PSI
	}
	full, ok := parseFull10(s)
	return ok && full > fullStall
}

// readEvents takes in memory.events, and reports whether the tripwire was touched
// since the last time, or anything else has happened.
func (l *Leaf) readEvents() (touched, changed bool) {
	s, err := readAt(l.dir, "memory.events")
	if err != nil {
		return false, false
	}
	events := parseFlat(s)
	if events["oom_kill"] > 0 {
		return false, false // what can be seen now is what the kernel is taking apart
	}
	touched, changed = events["high"] > l.events["high"], !maps.Equal(events, l.events)
	l.events = events
	return touched, changed
}

func (l *Leaf) readStat() map[string]int64 {
	s, err := readAt(l.dir, "memory.stat")
	if err != nil {
		return nil
	}
	stat := parseFlat(s)
	if stat["anon"]+stat["file"] > 0 {
		l.stat = stat
	}
	return stat
}

// writeDown keeps what can be seen of the leaf now.
func (l *Leaf) writeDown(now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed || now.Sub(l.tableAt) < tableEvery {
		return
	}
	n, _ := l.readCurrent()
	l.list(now, n)
}

// list keeps the processes of the leaf and what its memory is.
func (l *Leaf) list(now time.Time, current int64) {
	before := l.stat
	l.readStat()
	if !l.listProcs(now, current) {
		l.stat = before
	}
}

// listProcs keeps the processes alone, and reports whether it did. An empty list
// is no news: it would take the last one's place.
func (l *Leaf) listProcs(now time.Time, current int64) bool {
	pids, err := l.procs()
	if err != nil || len(pids) == 0 {
		return false
	}
	table := processTable(l.tree.proc, pids)
	if len(table) == 0 || table[0].RSS == 0 {
		return false
	}
	// Killed while the list was made: half of it would be a list of the dead.
	if l.table != nil {
		if s, err := readAt(l.dir, "memory.events"); err == nil && parseFlat(s)["oom_kill"] > 0 {
			return false
		}
	}
	l.table, l.tableAt, l.tableMemory = table, now, current
	return true
}

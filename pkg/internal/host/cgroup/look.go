package cgroup

import (
	"maps"
	"strings"
	"time"

	"github.com/workersd/workersd/pkg/spec"
)

const (
	// Page cache at the tripwire sets it off again every ten milliseconds. How
	// long such events are left alone follows from the room that is left.
	quietLeast, quietMost = 10 * time.Millisecond, 100 * time.Millisecond
	// cacheFor is how long page cache may sit at the tripwire without a break
	// before the tripwire makes room for it, half-way to the hard limit.
	cacheFor = time.Second
	// fenced is how long a worker that passed its soft limit is fenced until its
	// stop signal is on the way. Without the fence a busy machine would signal
	// late, and find the worker far above its limit.
	fenced = 500 * time.Millisecond
	// handling is how long the fence stays after that signal: a program that
	// handles it in another thread would run ahead of itself at full speed.
	handling = 50 * time.Millisecond
	// pressureEvery is how often the kernel computes its averages anew.
	pressureEvery = 2 * time.Second
	// tableEvery bounds how often the processes of a leaf are listed.
	tableEvery = 100 * time.Millisecond
)

// dueAt is when the leaf is to be looked at by itself.
func (l *Leaf) dueAt() (time.Time, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.due, l.running && !l.closed
}

// look reads the leaf, because the kernel said so or because it is time, and
// acts on what it finds. It returns when it wants to look again.
func (l *Leaf) look(now time.Time, told bool) time.Time {
	l.mu.Lock()
	if l.closed || !l.running {
		l.mu.Unlock()
		return now.Add(rare)
	}
	if told && now.Before(l.quiet) {
		l.due = l.quiet
		l.mu.Unlock()
		return l.due
	}
	passed, held := l.inspect(now)
	soft, due := l.limits.Soft, l.due
	l.mu.Unlock()
	if passed {
		l.tree.options.SoftPassed(l, held, soft)
	}
	return due
}

// inspect does what look promises, under the lock. Everything it writes raises
// a limit, which never makes the kernel reclaim in our thread.
func (l *Leaf) inspect(now time.Time) (passed bool, held spec.Bytes) {
	l.refreshAncestors(now)
	l.readEvents(now)
	u, err := l.usage()
	if err != nil {
		l.due = now.Add(l.tree.interval())
		return false, 0
	}
	l.pace.saw(now, spec.Bytes(u.current))
	soft := l.limits.Soft
	if soft.Set() && !l.fired && spec.Bytes(u.current+u.swap) > soft {
		stat := l.readStat()
		u.reclaimable = reclaimable(stat)
		l.list(now, u.current)
		if u.held() > soft {
			l.lift(fence(soft, l.limits.Hard))
			l.fired, l.liftBy, passed = true, now.Add(fenced), true
		} else {
			l.quiet = now.Add(min(max(l.pace.reach(float64(soft-u.held())), quietLeast), quietMost))
			l.ease(now)
		}
	}
	if l.fired && l.high.Set() && !now.Before(l.liftBy) {
		l.lift(spec.None)
	}
	if l.pending.Set() && spec.Bytes(u.current) < l.pending {
		if writeAt(l.dir, "memory.max", bytesMax(l.pending)) == nil {
			l.pending = spec.None
		}
	}
	if now.Sub(l.tableAt) >= time.Second || u.current-l.tableMemory > l.step() {
		l.list(now, u.current)
	}
	l.due = now.Add(l.wait())
	return passed, u.held()
}

// wait is how long the leaf may go unread.
func (l *Leaf) wait() time.Duration {
	check := l.tree.interval()
	limit := l.limits.Hard
	longest := check
	switch {
	case l.fired && l.high.Set():
		return l.liftBy.Sub(l.tree.clock())
	case l.pending.Set():
		return check
	case l.limits.Soft.Set() && !l.fired && l.high == l.limits.Soft:
		return rare // armed: the kernel is the guard, and tells us
	case l.limits.Soft.Set() && !l.fired:
		limit = l.limits.Soft // the tripwire was raised: reading takes its place
	case !l.limits.Soft.Set():
		longest = rare // only the hard limit, which the kernel keeps alone
	}
	return l.pace.next(limit, longest)
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

// Signalled says that the worker was sent a signal to leave: from here on it
// needs its memory to finish its work, and the tripwire goes.
func (l *Leaf) Signalled() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed || !l.fired || !l.high.Set() {
		return
	}
	if by := l.tree.clock().Add(handling); by.Before(l.liftBy) {
		l.liftBy, l.due = by, by
		l.tree.kick()
	}
}

// lift raises memory.high, to nothing for None.
func (l *Leaf) lift(to spec.Bytes) {
	if writeAt(l.dir, "memory.high", bytesMax(to)) == nil {
		l.high = to
	}
}

// ease raises the tripwire of a worker whose page cache reaches it time and
// again, or that stands still on it: some work cannot do with less cache.
func (l *Leaf) ease(now time.Time) {
	if now.Sub(l.cacheSeen) > pressureEvery {
		l.cacheFrom = now
	}
	l.cacheSeen = now
	if !l.high.Set() || (now.Sub(l.cacheFrom) < cacheFor && !l.stalls(now)) {
		return
	}
	l.lift(raised(l.high, l.limits.Hard))
	l.cacheFrom = now
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

// readEvents takes in memory.events.local. When the limits begin to bite, the
// processes are listed: after the kernel has killed there are none.
func (l *Leaf) readEvents(now time.Time) {
	s, err := readAt(l.dir, "memory.events.local")
	if err != nil {
		return
	}
	events := parseFlat(s)
	if events["oom_kill"] > 0 {
		return // what can be seen now is what the kernel is taking apart
	}
	if !maps.Equal(events, l.events) && now.Sub(l.tableAt) >= tableEvery {
		n, _ := l.readCurrent()
		l.list(now, n)
		l.readStat()
	}
	l.events = events
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
	l.readStat()
}

// list keeps the processes of the leaf. An empty list is no news: it would
// take the last one's place.
func (l *Leaf) list(now time.Time, current int64) {
	pids, err := l.procs()
	if err != nil || len(pids) == 0 {
		return
	}
	table := processTable(l.tree.proc, pids)
	if len(table) == 0 || table[0].RSS == 0 {
		return
	}
	// Killed while the list was made: half of it would be a list of the dead.
	if s, err := readAt(l.dir, "memory.events.local"); err == nil && parseFlat(s)["oom_kill"] > 0 && l.table != nil {
		return
	}
	l.table, l.tableAt, l.tableMemory = table, now, current
}

// pressureText is memory.pressure on one line.
func (l *Leaf) pressureText() string {
	s, err := readAt(l.dir, "memory.pressure")
	if err != nil {
		return ""
	}
	return strings.ReplaceAll(strings.TrimSpace(s), "\n", "; ")
}

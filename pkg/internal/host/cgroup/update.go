package cgroup

import (
	"github.com/workersd/workersd/pkg/spec"
)

// Update changes the limits of a living process. It may wait for the kernel to
// reclaim, so it has no place on an event loop.
//
// A limit is never put below what is in use: at memory.max the kernel would
// kill at once, at memory.high it would brake for ever. A worker that holds
// more takes the soft path first, and a lower memory.max follows when it fits.
func (l *Leaf) Update(next Limits) error {
	l.mu.Lock()
	old := l.limits
	if l.closed || next == old {
		l.mu.Unlock()
		return nil
	}
	l.limits = next
	err := l.change(old)
	held, was := l.heldNow(), l.high
	passed, arm := l.retarget(old, held)
	hard, lowerable := l.rehard(old, held)
	dir := l.dir
	l.mu.Unlock()

	// These two may reclaim. Orders for one worker come one after the other, so
	// the leaf is not removed meanwhile; the loop may go on looking.
	if arm {
		err = first(err, l.writeHigh(dir, next.Soft, was))
	}
	if lowerable {
		err = first(err, l.writeMax(dir, hard))
	}
	if passed {
		l.tree.options.SoftPassed(l, held, next.Soft)
	}
	l.mu.Lock()
	due := l.due
	l.mu.Unlock()
	if l.tree.dueBy(due) {
		l.tree.kick()
	}
	return err
}

// change writes what differs from old, but for memory.high and memory.max. What
// cannot be written stays as it was, so that the next update writes it again.
func (l *Leaf) change(old Limits) (err error) {
	settings := l.limits.changes(old)
	if l.running && l.limits.PidsMax != old.PidsMax {
		settings = append(settings, l.limits.pids())
	}
	for _, s := range settings {
		if werr := l.write(s); werr != nil {
			err = first(err, werr)
			l.limits.keep(s.key, old)
		}
	}
	return err
}

// writeHigh arms the tripwire, which was elsewhere, without the lock. A look may
// have lifted it while it was written: then it is lifted again. Where it could not
// be written, looks take its place until one can.
func (l *Leaf) writeHigh(dir int, soft, was spec.Bytes) error {
	err := writeAt(dir, "memory.high", bytesMax(soft))
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.closed:
	case err == nil && l.high != soft:
		l.setHigh(l.high)
	case err != nil && l.high == soft:
		l.high, l.due = was, l.tree.clock()
	}
	return err
}

// writeMax writes memory.max without the lock. Where that fails the next look
// tries again.
func (l *Leaf) writeMax(dir int, hard spec.Bytes) error {
	err := writeAt(dir, "memory.max", bytesMax(hard))
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil {
		l.pending, l.waits, l.due = hard, true, l.tree.clock()
	}
	return err
}

func first(a, b error) error {
	if a != nil {
		return a
	}
	return b
}

// heldNow is what the worker holds; when it cannot be read, nothing.
func (l *Leaf) heldNow() spec.Bytes {
	u, err := l.usage()
	if err != nil {
		return 0
	}
	stat := l.readStat()
	if after, err := l.readCurrent(); err == nil {
		u.compare(stat, after)
	}
	return u.held()
}

// retarget decides about a new soft limit: passed already, or to be armed.
func (l *Leaf) retarget(old Limits, held spec.Bytes) (passed, arm bool) {
	soft := l.limits.Soft
	if soft == old.Soft {
		return false, false
	}
	l.due = l.tree.clock() // the pace is another one now
	if soft.Set() && held > soft {
		l.setHigh(spec.None)
		l.fired = true
		return true, false
	}
	l.fired, l.high = false, soft
	return false, true
}

// rehard decides about a new hard limit: to be written now, or later.
func (l *Leaf) rehard(old Limits, held spec.Bytes) (hard spec.Bytes, write bool) {
	hard = l.limits.Hard
	if hard == old.Hard {
		return hard, false
	}
	if hard.Set() && held >= hard {
		l.pending, l.waits = hard, true
		l.due = l.tree.clock()
		return hard, false
	}
	l.waits = false
	return hard, true
}

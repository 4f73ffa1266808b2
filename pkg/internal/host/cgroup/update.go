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
	err := l.writeAll(next.changes(old))
	if next.PidsMax != old.PidsMax && l.running {
		if perr := l.write(next.pids()); err == nil {
			err = perr
		}
	}
	held := l.heldNow()
	passed, arm := l.retarget(old, held)
	hard, lowerable := l.rehard(old, held)
	dir, due := l.dir, l.due
	l.mu.Unlock()

	// These two may reclaim. Orders for one worker come one after the other, so
	// the leaf is not removed meanwhile; the loop may go on looking.
	if arm {
		err = first(err, writeAt(dir, "memory.high", bytesMax(next.Soft)))
		l.settle(next.Soft)
	}
	if lowerable {
		err = first(err, writeAt(dir, "memory.max", bytesMax(hard)))
	}
	if passed {
		l.tree.options.SoftPassed(l, held, next.Soft)
	}
	if l.tree.dueBy(due) {
		l.tree.kick()
	}
	return err
}

// settle lifts the tripwire again when a look lifted it while it was written.
func (l *Leaf) settle(written spec.Bytes) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.closed && l.high != written {
		l.setHigh(l.high)
	}
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
	if soft.Set() && held > soft {
		l.setHigh(spec.None)
		l.fired = true
		return true, false
	}
	l.fired, l.high = false, soft
	l.due = l.tree.clock() // the pace is another one now
	return false, true
}

// rehard decides about a new hard limit: to be written now, or later.
func (l *Leaf) rehard(old Limits, held spec.Bytes) (hard spec.Bytes, write bool) {
	hard = l.limits.Hard
	if hard == old.Hard {
		return hard, false
	}
	if hard.Set() && held >= hard {
		l.pending = hard
		l.due = l.tree.clock()
		return hard, false
	}
	l.pending = spec.None
	return hard, true
}

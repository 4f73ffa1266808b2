package host

import (
	"math"
	"slices"
	"time"

	"github.com/workersd/workersd/pkg/internal/event"
	"github.com/workersd/workersd/pkg/internal/host/procmem"
	"github.com/workersd/workersd/pkg/spec"
)

const (
	// nearest is how soon a tree is looked at again: a worker that grows fast
	// must not take the whole machine for being watched.
	nearest = 20 * time.Millisecond
	// firstLook at a new process comes before the next pass, and so do some more,
	// each after four times the time: little is known of its growth yet.
	firstLook, laterLook = 50 * time.Millisecond, 4
	// wholeEvery is how often a pass trusts nothing that it knew.
	wholeEvery = 10 * time.Second
	// growthHalves is how fast a growth that was seen once is forgotten: filling
	// its caches at the start is no reason to be watched closely for ever.
	growthHalves = 10 * time.Second
	// unlimitedEvery is how often memory is looked at that no limit is set for.
	unlimitedEvery = 10 * time.Second
)

// watch is the one goroutine that samples.
func (s *sampled) watch() {
	defer close(s.done)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-s.quit:
			return
		case <-timer.C:
		case <-s.wake:
		}
		next, passed := s.pass(time.Now())
		for _, tell := range passed {
			tell()
		}
		timer.Reset(next)
	}
}

// pass reads the memory of all trees in one go, or, between two such passes, of
// those that could reach a limit. It says when to come again and what to tell.
func (s *sampled) pass(now time.Time) (next time.Duration, passed []func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := !now.Before(s.passAt)
	if all {
		s.passAt = now.Add(s.interval())
		all = len(s.mains) > 0 && s.readAll(now)
		now = time.Now()
	}
	next = s.passAt.Sub(now)
	for _, t := range s.mains {
		// Who wakes for one looks at those that are due soon, too: hundreds that
		// were started one after the other would wake us hundreds of times.
		due := !t.due.IsZero() && t.due.Sub(now) <= t.slack
		switch {
		case all && t.pass < s.passes:
		case due:
			t.read()
		default:
			next = t.sooner(next, now)
			continue
		}
		if tell := t.judge(now); tell != nil {
			passed = append(passed, tell)
		}
		next = t.sooner(next, now)
	}
	next = max(next, time.Millisecond)
	s.wakeAt = now.Add(next)
	return next, passed
}

// interval is the time between two passes over all.
func (s *sampled) interval() time.Duration {
	for _, t := range s.mains {
		if t.limited() {
			return s.check
		}
	}
	return max(s.check, unlimitedEvery)
}

// readAll sums up all trees, in one pass over /proc. It lets go of the lock
// meanwhile: what is started then is not in the pass.
func (s *sampled) readAll(now time.Time) bool {
	s.passes++
	s.mu.Unlock()
	err := s.scan(now)
	s.mu.Lock()
	if err != nil {
		return false
	}
	for _, t := range s.mains {
		if t.pass < s.passes {
			t.sum, t.members = 0, t.members[:0]
		}
	}
	seen := s.spare
	clear(seen)
	for pid, o := range s.owned {
		if o.pass == s.passes { // found by others since the pass began
			seen[pid] = o
		}
	}
	for i := range s.all.Procs {
		p := &s.all.Procs[i]
		p.Watched = false
		if p.Zombie || p.PPID == 0 || p.PID == s.self {
			continue
		}
		t := s.treeOf(&s.all, *p)
		if t == nil {
			continue
		}
		p.Watched = true
		if t.pass < s.passes {
			t.sum += p.RSS
			t.members = append(t.members, *p)
		}
		seen[p.PID] = owned{t, p.Start, 0}
	}
	s.owned, s.spare = seen, s.owned
	return true
}

// scan is the part of a pass that takes long.
func (s *sampled) scan(now time.Time) error {
	if now.Before(s.wholeAt) {
		return s.all.Refresh()
	}
	s.wholeAt = now.Add(wholeEvery)
	return s.all.Scan()
}

// sooner is next, or what is left until the session's own look.
func (t *session) sooner(next time.Duration, now time.Time) time.Duration {
	if t.due.IsZero() {
		return next
	}
	return min(next, t.due.Sub(now))
}

// read sums up the members that are known, between two passes.
func (t *session) read() {
	t.sum = 0
	if len(t.members) == 0 {
		// We started it: but for its memory nothing has to be read.
		if n, ok := t.s.table.Resident(t.pid); ok && !t.ended {
			t.members, t.sum = append(t.members, procmem.Proc{PID: t.pid, PPID: t.s.self, Group: t.pid, Session: t.pid, RSS: n}), n
		}
		return
	}
	living := t.members[:0]
	for _, m := range t.members {
		if ok := t.reread(&m); ok {
			t.sum += m.RSS
			living = append(living, m)
		}
	}
	t.members = living
}

// reread takes in what a member holds now; it reports whether it lives.
func (t *session) reread(m *procmem.Proc) bool {
	if m.PID == t.pid && !t.ended { // nobody else has its pid before it is reaped
		n, ok := t.s.table.Resident(m.PID)
		m.RSS = n
		return ok
	}
	p, ok := t.s.table.Read(m.PID)
	if !ok || p.Start != m.Start || p.Zombie {
		return false
	}
	*m = p
	return true
}

// judge compares what was found with the limits.
func (t *session) judge(now time.Time) (tell func()) {
	usage := max(t.sum-t.shared, 0)
	var rate float64
	if d := now.Sub(t.at).Seconds(); d > 0 {
		rate = float64(usage-t.usage) / d
		t.growth *= math.Exp2(-d / growthHalves.Seconds())
	}
	if t.known { // else it is loading its program, and will not go on like that
		t.growth = max(t.growth, rate)
	}
	t.usage, t.at, t.known, t.due = usage, now, true, time.Time{}
	t.peak = max(t.peak, t.usage)
	if t.ended {
		return nil
	}
	id := t.id
	switch {
	case !t.hardTold && t.passed(t.hard, now):
		t.hardTold = true
		t.remember()
		usage, limit := t.usage, t.hard
		return func() { t.s.r.hard(id, usage, limit) }
	case !t.softTold && t.passed(t.soft, now):
		t.softTold = true
		t.remember()
		usage, limit := t.usage, t.soft
		tell = func() { t.s.r.soft(id, usage, limit) }
	}
	t.arm(now, max(t.growth, rate))
	return tell
}

// passed reports whether the tree holds more than a limit. RSS counts shared
// pages once for each process, so PSS has the last word, where it is told. It is
// asked for when RSS alone has passed the limit, and not at every look: it costs
// the kernel a walk over all pages.
func (t *session) passed(limit spec.Bytes, now time.Time) bool {
	if !limit.Set() || t.sum <= limit {
		return false
	}
	if t.usage > limit || now.Sub(t.sharedAt) >= t.s.check {
		if pss, ok := t.pss(); ok {
			t.shared, t.sharedAt, t.usage = max(t.sum-pss, 0), now, pss
			t.peak = max(t.peak, pss)
		}
	}
	return t.usage > limit
}

// arm sets when the tree could reach its next limit at the fastest growth seen,
// in bytes per second.
func (t *session) arm(now time.Time, growth float64) {
	limit := t.soft
	if t.softTold || !limit.Set() {
		limit = t.hard
	}
	if !limit.Set() || t.hardTold {
		return
	}
	left := t.s.check.Seconds() // later than the next pass is not before it
	if growth > 0 {
		left = min(left, max(float64(limit-t.usage)/growth, nearest.Seconds()))
	}
	if t.young > 0 {
		if t.young *= laterLook; t.young > t.s.check/2 {
			t.young = 0
		} else {
			left = min(left, t.young.Seconds())
		}
	}
	if left < t.s.check.Seconds() {
		t.dueIn(now, time.Duration(left*float64(time.Second)))
	}
}

func (t *session) dueIn(now time.Time, wait time.Duration) {
	t.due, t.slack = now.Add(wait), wait/4
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

package supervisor

import (
	"time"

	"github.com/workersd/workersd/pkg/internal/admission"
	"github.com/workersd/workersd/pkg/internal/event"
	"github.com/workersd/workersd/pkg/internal/lifecycle"
	"github.com/workersd/workersd/pkg/spec"
)

// How many generations one write to disk covers, and how early the next is
// asked for: a crash loop at its fastest does not use that many in a write.
const (
	reserveBlock = 1000
	reserveEarly = 100
)

// mayStart is admission's word on one more start.
func (s *Supervisor) mayStart() bool {
	return admission.Starts(s.starting, s.ordered, s.list.Manager) > 0
}

// hold keeps back the Tick that would start a worker.
func (s *Supervisor) hold(sl *slot) {
	sl.held = true
	s.due.remove(sl)
	s.held = append(s.held, sl)
}

// release starts what admission held, as far as there is room now.
func (s *Supervisor) release() {
	for len(s.held) > 0 {
		sl := s.held[0]
		valid := sl.held && !sl.gone && sl.w.DueToStart(s.now) // not stopped, removed or moved meanwhile
		if valid && !s.mayStart() {
			return
		}
		s.held[0] = nil
		s.held = s.held[1:]
		if len(s.held) == 0 {
			s.held = nil // not to keep what a first round needed
		}
		if valid {
			sl.held = false
			s.apply(sl, lifecycle.Tick{})
		}
	}
}

// unreserved reports whether one of the actions uses a generation that is not
// safe on disk yet: after a crash another manager might use it again.
func (s *Supervisor) unreserved(actions []lifecycle.Action) bool {
	for _, a := range actions {
		if sp, ok := a.(lifecycle.Spawn); ok && sp.Generation >= s.floor {
			return true
		}
	}
	return false
}

func (s *Supervisor) block(sl *slot, ev lifecycle.Event) {
	if _, tick := ev.(lifecycle.Tick); !tick {
		s.blocked = append(s.blocked, pending{sl, ev})
		return
	}
	if !sl.w.Idle() { // a successor; the other deadlines of the worker stay
		s.due.put(sl, s.now.Add(time.Second))
		return
	}
	sl.held = true
	s.due.remove(sl)
	s.blocked = append(s.blocked, pending{sl, ev})
}

// raised takes a new floor, and up again what waited for it.
func (s *Supervisor) raised(floor uint64) {
	s.floor, s.reserving = floor, false
	blocked := s.blocked
	s.blocked = nil
	for _, p := range blocked {
		if p.s.gone {
			continue
		}
		if _, tick := p.ev.(lifecycle.Tick); tick {
			p.s.held = false
			s.due.update(p.s) // it is due, the turn ticks it
		} else {
			s.apply(p.s, p.ev)
		}
	}
	s.reserve()
}

// reserve asks for more generations before they run out.
func (s *Supervisor) reserve() {
	if s.o.Reserve == nil || s.reserving || s.last+reserveEarly < s.floor {
		return
	}
	floor := s.last + 1 + reserveBlock
	s.reserving = true
	s.o.Reserve(floor, func() {
		select {
		case s.reserved <- floor:
		case <-s.done:
		}
	})
}

// ask puts a worker among those that wait to be recycled.
func (s *Supervisor) ask(sl *slot) {
	e := sl.entry
	switch {
	case sl.recycling: // it was granted already, now there is a better reason
		s.apply(sl, lifecycle.RecycleGranted{})
		return
	case !sl.asked:
		sl.asked = true
		s.askSeq++
		sl.askSeq = s.askSeq
		e.asked = append(e.asked, sl)
	}
	s.look(e)
}

// look makes the turn look at who of an entry may recycle.
func (s *Supervisor) look(e *entry) {
	if !e.dirty && len(e.asked) > 0 {
		e.dirty = true
		s.dirty = append(s.dirty, e)
	}
}

// grants lets as many workers recycle as max_recycling has room for. All that
// asked in one turn are looked at together, so that the most urgent goes first.
func (s *Supervisor) grants() {
	dirty := s.dirty
	s.dirty = nil
	for _, e := range dirty {
		e.dirty = false
		s.grant(e)
	}
}

func (s *Supervisor) grant(e *entry) {
	kept := e.asked[:0]
	var urgent, reloaded []admission.Asked
	var limit spec.Share
	for _, sl := range e.asked {
		p := &sl.w.Places[0]
		if p.Asked == "" || p.Ending != "" || p.HasExited { // it left by itself
			sl.asked = false
			continue
		}
		kept = append(kept, sl)
		limit = sl.w.Spec.MaxRecycling
		a := admission.Asked{Name: sl.w.Spec.Name, Reason: p.Asked, Seq: sl.askSeq}
		if p.Asked == event.Reloaded {
			reloaded = append(reloaded, a)
		} else {
			urgent = append(urgent, a)
		}
	}
	clear(e.asked[len(kept):])
	e.asked = kept
	// A successor that does not come up, or a process that does not go, holds its
	// place against a reload, so that a bad list goes no further than max_recycling
	// workers. It does not hold up what keeps the others healthy.
	s.grantThese(e, admission.Recycles(limit, e.size, e.recycling-e.failing, urgent))
	s.grantThese(e, admission.Recycles(limit, e.size, e.recycling, reloaded))
}

func (s *Supervisor) grantThese(e *entry, names []string) {
	if len(names) == 0 {
		return
	}
	for _, name := range names {
		sl := s.slots[name]
		if sl.w.Spec.Overlap == spec.OverlapReady && !s.mayStart() {
			if !e.dirty { // its successor starts at once: there must be room for it
				e.dirty = true
				s.crowded = append(s.crowded, e)
			}
			continue
		}
		sl.asked = false
		sl.recycling = true
		e.recycling++
		s.apply(sl, lifecycle.RecycleGranted{})
	}
	kept := e.asked[:0]
	for _, sl := range e.asked {
		if sl.asked {
			kept = append(kept, sl)
		}
	}
	clear(e.asked[len(kept):])
	e.asked = kept
}

// followRecycle takes a worker out of the count when its successor works, or
// when there will be none.
func (s *Supervisor) followRecycle(sl *slot) {
	if !sl.recycling {
		return
	}
	p := &sl.w.Places[0]
	switch {
	case p.State == lifecycle.Up && p.Living() && p.Ending == "" && p.Asked == "" && !sl.w.Places[1].Living():
		s.endRecycle(sl)
	case sl.w.Idle() && (sl.w.State == lifecycle.Down || sl.w.State == lifecycle.Done):
		s.endRecycle(sl)
	case (p.Stuck || sl.w.Idle() && sl.w.State == lifecycle.Backoff) && !sl.failing:
		sl.failing = true
		sl.entry.failing++
		s.look(sl.entry)
	}
}

func (s *Supervisor) endRecycle(sl *slot) {
	if !sl.recycling {
		return
	}
	e := sl.entry
	sl.recycling = false
	e.recycling--
	if sl.failing {
		sl.failing = false
		e.failing--
	}
	s.look(e)
}

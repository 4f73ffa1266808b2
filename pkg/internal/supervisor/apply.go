package supervisor

import (
	"fmt"
	"slices"

	"github.com/workersd/workersd/pkg/internal/admission"
	"github.com/workersd/workersd/pkg/internal/event"
	"github.com/workersd/workersd/pkg/internal/lifecycle"
)

// apply steps one worker and carries out what follows. What an action leads to
// (a recycle that is granted at once) waits until the action before is done.
func (s *Supervisor) apply(sl *slot, ev lifecycle.Event) {
	s.pending = append(s.pending, pending{sl, ev})
	if s.busy {
		return
	}
	s.busy = true
	for i := 0; i < len(s.pending); i++ {
		p := s.pending[i]
		s.step(p.s, p.ev)
	}
	s.pending = s.pending[:0]
	s.busy = false
}

func (s *Supervisor) step(sl *slot, ev lifecycle.Event) {
	starting, living := startingIn(&sl.w), !sl.w.Idle()
	var actions []lifecycle.Action
	sl.w, actions = lifecycle.Step(sl.w, s.now, ev)
	s.starting += startingIn(&sl.w) - starting
	if now := !sl.w.Idle(); now != living {
		if now {
			s.living++
		} else {
			s.living--
		}
	}
	if sl.held && !sl.w.DueToStart(s.now) {
		sl.held = false // its place in the queue is skipped
	}
	s.due.update(sl)
	for _, a := range actions {
		s.act(sl, a)
	}
	s.recycled(sl)
	if sl.removed && sl.w.Idle() {
		s.forget(sl)
	}
}

// act carries out one action. Orders go to the host, which does not block.
func (s *Supervisor) act(sl *slot, a lifecycle.Action) {
	name := sl.w.Spec.Name
	switch a := a.(type) {
	case lifecycle.Spawn:
		s.o.Host.Spawn(SpawnOrder{ID: lifecycle.ProcessID{Worker: name, Generation: a.Generation}, Spec: sl.w.Spec, MaxRequests: a.MaxRequests})
		s.reserve()
	case lifecycle.Signal:
		s.o.Host.Signal(lifecycle.ProcessID{Worker: name, Generation: a.Generation}, a.Signal)
	case lifecycle.Kill:
		s.o.Host.Kill(lifecycle.ProcessID{Worker: name, Generation: a.Generation})
	case lifecycle.Release:
		s.o.Host.Release(lifecycle.ProcessID{Worker: name, Generation: a.Generation})
	case lifecycle.Update:
		s.o.Host.Update(lifecycle.ProcessID{Worker: name, Generation: a.Generation}, sl.w.Spec)
	case lifecycle.AskRecycle:
		s.ask(sl)
	case lifecycle.Note:
		r := a.Record
		r.Worker = name
		s.record(r)
	}
}

func (s *Supervisor) ask(sl *slot) {
	if !sl.asked {
		sl.asked = true
		s.askSeq++
		sl.askSeq = s.askSeq
		e := s.entry(sl.w.Spec.Entry)
		e.asked = append(e.asked, sl)
	}
	s.grant(sl.w.Spec)
}

// mayStart is admission's word on one start, and the floor's.
func (s *Supervisor) mayStart(sl *slot) bool {
	return admission.Starts(s.starting, s.list.Manager) > 0 && sl.w.Generation+1 < s.floor
}

// reserve asks for more generations before they run out. No generation is used
// that an earlier manager may have used, also after a crash.
func (s *Supervisor) reserve() {
	if s.o.Reserve == nil || s.reserving {
		return
	}
	var last uint64
	for _, sl := range s.order {
		last = max(last, sl.w.Generation)
	}
	if last+reserveBlock/2 < s.floor {
		return
	}
	floor := last + reserveBlock
	s.reserving = true
	s.o.Reserve(floor, func() { s.reserved <- floor })
}

func startingIn(w *lifecycle.Worker) (n int) {
	for i := range w.Places {
		if w.Places[i].State == lifecycle.Starting {
			n++
		}
	}
	return n
}

// record makes the one record of what happened.
func (s *Supervisor) record(r event.Record) {
	s.seq++
	r.Seq, r.Time = s.seq, s.now
	s.o.Record(r)
}

// forget ends a slot that was removed from the list.
func (s *Supervisor) forget(sl *slot) {
	s.due.remove(sl)
	delete(s.slots, sl.w.Spec.Name)
	if i := slices.Index(s.order, sl); i >= 0 {
		s.order = slices.Delete(s.order, i, i+1)
	}
	if sl.asked {
		e := s.entry(sl.w.Spec.Entry)
		if i := slices.Index(e.asked, sl); i >= 0 {
			e.asked = slices.Delete(e.asked, i, i+1)
		}
	}
	if sl.recycling {
		s.entry(sl.w.Spec.Entry).recycling--
	}
}

func (s *Supervisor) tried(sl *slot) {
	if !sl.tried {
		sl.tried = true
		if s.untried > 0 && sl.w.Wanted == lifecycle.WantedUp {
			s.untried--
		}
	}
}

func (s *Supervisor) tellFirst() {
	if s.untried == 0 {
		s.untried = -1
		close(s.first)
	}
}

func countMessage(what string, workers int) string {
	if workers == 1 {
		return what + " with 1 worker"
	}
	return fmt.Sprintf("%s with %d workers", what, workers)
}

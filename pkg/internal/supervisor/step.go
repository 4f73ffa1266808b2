package supervisor

import (
	"github.com/workersd/workersd/pkg/internal/event"
	"github.com/workersd/workersd/pkg/internal/lifecycle"
)

// apply steps one worker and carries out what follows. What an action leads to
// waits until the action before is done.
func (s *Supervisor) apply(sl *slot, ev lifecycle.Event) {
	s.pending = append(s.pending, pending{sl, ev})
	if s.busy {
		return
	}
	s.busy = true
	for i := 0; i < len(s.pending); i++ {
		if p := s.pending[i]; !p.s.gone {
			s.step(p.s, p.ev)
		}
	}
	clear(s.pending)
	s.pending = s.pending[:0]
	s.busy = false
}

func (s *Supervisor) step(sl *slot, ev lifecycle.Event) {
	w, actions := lifecycle.Step(sl.w, s.now, ev)
	if s.unreserved(actions) {
		// Step is pure: a step that is not taken has not happened. Its event
		// comes again when the generation is safe.
		s.block(sl, ev)
		return
	}
	living := !sl.w.Idle()
	starting, ordered := startingIn(&sl.w)
	sl.w = w
	nowStarting, nowOrdered := startingIn(&sl.w)
	s.starting += nowStarting - starting
	s.ordered += nowOrdered - ordered
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
	s.followRecycle(sl)
	if sl.awaited && (sl.w.Wanted == lifecycle.WantedDown || sl.w.Places[0].Stuck) {
		s.tried(sl) // a start that hangs has been attempted
	}
	if sl.removed && sl.w.Idle() {
		s.forget(sl)
	}
}

// act carries out one action. Orders go to the host, which does not block.
func (s *Supervisor) act(sl *slot, a lifecycle.Action) {
	name := sl.w.Spec.Name
	switch a := a.(type) {
	case lifecycle.Spawn:
		s.last = max(s.last, a.Generation)
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

// startingIn counts the processes that count against max_starting, and those of
// them that the host has not made yet. A start that hangs does not count: it
// must not hold up the others.
func startingIn(w *lifecycle.Worker) (starting, ordered int) {
	for i := range w.Places {
		if p := &w.Places[i]; p.State == lifecycle.Starting && p.Living() && !p.Stuck {
			starting++
			if p.PID == 0 {
				ordered++
			}
		}
	}
	return starting, ordered
}

// record makes the one record of what happened.
func (s *Supervisor) record(r event.Record) {
	s.seq++
	r.Seq, r.Time = s.seq, s.now
	s.o.Record(r)
}

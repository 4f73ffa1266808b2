package lifecycle

import (
	"time"

	"github.com/workersd/workersd/pkg/internal/event"
)

// Step gives what a worker becomes by an event, and what is to be done about
// it, in order. An event about a generation that is in no place changes nothing.
func Step(w Worker, now time.Time, ev Event) (Worker, []Action) {
	s := step{w: w, now: now}
	switch ev := ev.(type) {
	case Tick:
		s.tick()
	case StartWanted:
		s.startWanted()
	case StopWanted:
		s.stopWanted(ev.Reason)
	case RestartWanted:
		s.restartWanted(ev.Reason)
	case KillWanted:
		s.killWanted(ev.Reason)
	case SpecChanged:
		s.specChanged(ev)
	case DrainMaxChanged:
		s.w.DrainMax = ev.Max
	case RecycleGranted:
		s.recycleGranted()
	default:
		s.process(ev)
	}
	s.settle()
	return s.w, s.out
}

// step is the work of one Step.
type step struct {
	w   Worker
	now time.Time
	out []Action
}

func (s *step) do(a Action) { s.out = append(s.out, a) }

// process handles what is about one process.
func (s *step) process(ev Event) {
	p := s.find(generationOf(ev))
	if p == nil {
		return
	}
	switch ev := ev.(type) {
	case Spawned:
		s.spawned(p, ev.PID)
	case SpawnFailed:
		s.spawnFailed(p, ev.Text)
	case Exited:
		s.exited(p, ev.Status)
	case Emptied:
		s.emptied(p, ev.Evidence)
	default:
		if p.PID != 0 { // before its start nobody can say anything
			s.said(p, ev)
		}
	}
}

// said handles what a process that was started says or does.
func (s *step) said(p *Process, ev Event) {
	switch ev := ev.(type) {
	case SoftMemoryPassed:
		s.softMemory(p, ev)
	case HardMemoryPassed:
		s.hardMemory(p, ev)
	case Ready:
		if p.State == Starting {
			s.up(p)
			s.note(p, event.Record{Kind: event.Ready, Message: "is ready"})
		}
	case SaidStopping:
		p.Leaving = true // to be shown; its exit will tell how
	case SaidStatus:
		p.StatusText = ev.Text
	case WatchdogPinged:
		p.LastPing = s.now
	case WatchdogTriggered:
		s.watchdog(p, "asked for it (WATCHDOG=trigger)")
	case Extended:
		s.extended(p, ev.By)
	case MainPIDChanged:
		if !p.HasExited {
			p.PID = ev.PID
		}
	case ExecutionBegan:
		s.began(p, ev.ID)
	case ExecutionEnded:
		s.ended(p, ev.ID, ev.Result)
	case ExecutionsCounted:
		s.counted(p, ev.N)
	}
}

// generationOf is 0 for events that are about no process.
func generationOf(ev Event) uint64 {
	switch ev := ev.(type) {
	case Spawned:
		return ev.Generation
	case SpawnFailed:
		return ev.Generation
	case Exited:
		return ev.Generation
	case Emptied:
		return ev.Generation
	case SoftMemoryPassed:
		return ev.Generation
	case HardMemoryPassed:
		return ev.Generation
	case Ready:
		return ev.Generation
	case SaidStopping:
		return ev.Generation
	case SaidStatus:
		return ev.Generation
	case WatchdogPinged:
		return ev.Generation
	case WatchdogTriggered:
		return ev.Generation
	case Extended:
		return ev.Generation
	case MainPIDChanged:
		return ev.Generation
	case ExecutionBegan:
		return ev.Generation
	case ExecutionEnded:
		return ev.Generation
	case ExecutionsCounted:
		return ev.Generation
	}
	return 0
}

func (s *step) find(generation uint64) *Process {
	if generation == 0 {
		return nil
	}
	for i := range s.w.Places {
		if s.w.Places[i].Generation == generation {
			return &s.w.Places[i]
		}
	}
	return nil
}

// note makes a record about a process; nil is the worker itself.
func (s *step) note(p *Process, r event.Record) {
	if p != nil {
		r.Generation, r.PID = p.Generation, p.PID
		r.Executions = p.Executions
	}
	s.do(Note{r})
}

func (s *step) specChanged(ev SpecChanged) {
	if ev.Spec.SoftMemory != s.w.Spec.SoftMemory {
		s.w.Storm = 0
	}
	s.w.Spec = ev.Spec
	for i := range s.w.Places {
		p := &s.w.Places[i]
		if !p.Living() {
			continue
		}
		if !p.HasExited { // why that one has left does not change any more
			p.MaxRequests = maxRequests(s.w.Spec, p.Generation)
		}
		if !p.AskAt.IsZero() && p.SoftLimit != s.w.Spec.SoftMemory {
			p.AskAt, p.SoftUsage = time.Time{}, 0 // the host tells what is above the new one
		}
		if p.PID != 0 {
			p.LifeDeadline = lifeDeadline(s.w.Spec, p.Generation, p.Started)
		}
		s.do(Update{p.Generation})
		s.count(p, p.Executions)
	}
}

func (s *step) startWanted() {
	s.w.Wanted = WantedUp
	if s.w.Idle() {
		s.w.Failures, s.w.Delays = 0, 0
		s.wait(s.now)
	} else if s.w.youngest().ending() {
		s.w.RespawnNow = true
	}
}

func (s *step) restartWanted(reason event.Reason) {
	if s.w.Wanted == WantedDown {
		return
	}
	if s.w.Idle() {
		s.w.Failures, s.w.Delays = 0, 0
		s.wait(s.now)
		return
	}
	// The youngest process is the one to replace: under overlap the older one
	// goes anyway.
	switch p := s.w.youngest(); {
	case p.ending():
		s.w.RespawnNow = true
	case reason == event.Reloaded:
		s.ask(p, reason)
	case p != &s.w.Places[0]:
		p.Asked = reason // when it has moved up: there is no third place
	default:
		s.recycle(p, reason)
	}
}

func (s *step) stopWanted(reason event.Reason) {
	s.w.Wanted, s.w.DownReason, s.w.RespawnNow = WantedDown, reason, false
	s.w.NextStart = time.Time{}
	for i := range s.w.Places {
		p := &s.w.Places[i]
		if p.Living() && !p.ending() {
			s.stop(p, reason, s.w.Spec.StopSignal, "")
		}
	}
	if s.w.Idle() {
		s.idle(Down, time.Time{})
	}
}

func (s *step) killWanted(reason event.Reason) {
	for i := range s.w.Places {
		p := &s.w.Places[i]
		if p.Living() && p.State != Killing {
			if p.Ending == "" {
				p.Ending = reason
			}
			p.KilledFor = reason
			s.kill(p, event.Record{Message: "is killed without grace, SIGKILL"})
		}
	}
}

// wait makes the worker start at the next Tick after at.
func (s *step) wait(at time.Time) { s.idle(Waiting, at) }

func (s *step) idle(state State, next time.Time) {
	if s.w.State != state {
		s.w.Since = s.now
	}
	s.w.State, s.w.NextStart = state, next
}

// settle derives what follows from the rest: the state of the whole and the
// deadlines.
func (s *step) settle() {
	w := &s.w
	if first := &w.Places[0]; first.Living() {
		w.State, w.Since = first.State, first.Since
	}
	if !w.Idle() && !w.retries() {
		w.NextStart = time.Time{} // or no Tick would ever move it
	}
	w.Deadline = w.NextStart
	for i := range w.Places {
		p := &w.Places[i]
		if p.Living() {
			p.Deadline = p.deadline(w)
			w.Deadline = earlier(w.Deadline, p.Deadline)
		}
	}
}

// Idle reports whether no process lives in any place.
func (w *Worker) Idle() bool { return !w.Places[0].Living() && !w.Places[1].Living() }

// youngest is the process that the worker goes on with: under overlap the
// successor, otherwise the only one, or an empty place.
func (w *Worker) youngest() *Process {
	if w.Places[1].Living() {
		return &w.Places[1]
	}
	return &w.Places[0]
}

// retries reports whether a successor that failed is to be tried again beside
// the process that works.
func (w *Worker) retries() bool {
	first := &w.Places[0]
	return first.Living() && !first.ending() && first.Asked != "" && !w.Places[1].Living() && !w.NextStart.IsZero()
}

// DueToRetry reports whether a Tick at now would order a successor again.
// Admission may hold that Tick.
func (w *Worker) DueToRetry(now time.Time) bool { return w.retries() && !w.NextStart.After(now) }

// DueToStart reports whether a Tick at now would order a start. Admission may
// hold that Tick.
func (w *Worker) DueToStart(now time.Time) bool {
	return w.Wanted == WantedUp && w.Idle() && (w.State == Waiting || w.State == Backoff) && !w.NextStart.After(now)
}

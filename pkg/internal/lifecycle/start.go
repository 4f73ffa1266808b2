package lifecycle

import (
	"fmt"
	"time"

	"github.com/workersd/workersd/pkg/internal/event"
	"github.com/workersd/workersd/pkg/spec"
)

// tick compares every deadline with now.
func (s *step) tick() {
	for i := range s.w.Places {
		if s.w.Places[i].Living() {
			s.tickProcess(&s.w.Places[i])
		}
	}
	if s.w.DueToStart(s.now) {
		s.spawn(&s.w.Places[0])
		return
	}
	if s.w.DueToRetry(s.now) { // overlap may have been taken back meanwhile
		s.recycle(&s.w.Places[0], s.w.Places[0].Asked)
	}
}

func (s *step) tickProcess(p *Process) {
	due := func(t time.Time) bool { return !t.IsZero() && !t.After(s.now) }
	switch p.State {
	case Starting:
		if due(p.Deadline) {
			s.startTimeout(p)
		}
	case Up:
		s.tickUp(p, due)
	case Stopping:
		if due(p.Deadline) {
			s.kill(p, event.Record{Message: "did not leave in time, SIGKILL"})
		}
	case Killing:
		if due(p.Deadline) {
			s.stuck(p)
		}
	}
}

// tickUp looks at all that can end a working process, the most urgent first.
func (s *step) tickUp(p *Process, due func(time.Time) bool) {
	spec := s.w.Spec
	if due(p.nextTimeout(spec)) {
		s.timeout(p)
		return
	}
	if p.Watchdog > 0 && due(p.LastPing.Add(p.Watchdog)) {
		s.watchdog(p, fmt.Sprintf("was silent for %v", p.Watchdog))
		return
	}
	if due(p.AskAt) {
		p.AskAt = time.Time{}
		s.ask(p, event.SoftMemory)
	}
	if p.Asked == "" && due(p.LifeDeadline) {
		s.ask(p, event.MaxLifetime)
	}
	if due(p.warnAt(spec)) {
		p.Warned = true
		s.note(p, event.Record{Kind: event.Warning, Message: silentMessage(spec)})
	}
}

// spawn orders the next generation into an empty place.
func (s *step) spawn(p *Process) {
	s.w.Generation++
	s.w.NextStart, s.w.RespawnNow = time.Time{}, false
	n := maxRequests(s.w.Spec, s.w.Generation)
	*p = Process{
		Generation: s.w.Generation, State: Starting, Since: s.now, Started: s.now,
		Type: s.w.Spec.Type, Ready: s.w.Spec.Ready, Watchdog: s.w.Spec.Watchdog,
		ToldRequests: n, MaxRequests: n,
	}
	s.do(Spawn{p.Generation, p.MaxRequests})
}

func (s *step) spawned(p *Process, pid int) {
	if p.PID != 0 {
		return
	}
	p.PID = pid
	s.note(p, event.Record{Kind: event.Created, Message: "created"})
	if p.State == Killing {
		// Its end was ordered, or told, while the start was in flight: the host
		// carries out orders for one worker in their order.
		return
	}
	p.Started, p.Stuck, p.LookAgain = s.now, false, time.Time{}
	p.LifeDeadline = lifeDeadline(s.w.Spec, p.Generation, s.now)
	switch {
	case p.Ending != "":
		// It was to be stopped before it was there: now it can be asked to leave.
		p.StopBegan = s.now
		s.do(Signal{p.Generation, s.w.Spec.StopSignal})
	case p.Ready == spec.ReadyNotify && p.Type != spec.Task:
		p.Since = s.now // start_timeout counts from here
	default:
		s.up(p)
	}
}

// up makes a process one that works; a successor then takes over.
func (s *step) up(p *Process) {
	p.State, p.Since, p.LastPing = Up, s.now, s.now
	p.ExtendedTo = time.Time{}
	first := &s.w.Places[0]
	if p != first && !first.ending() {
		s.stop(first, first.Asked, s.w.Spec.StopSignal, "")
	}
}

func (s *step) spawnFailed(p *Process, text string) {
	if p.PID != 0 || p.HasExited {
		return
	}
	s.note(p, event.Record{Kind: event.NotStarted, Reason: event.SpawnFailed, Message: "cannot be started: " + text})
	successor := p == &s.w.Places[1]
	*p = Process{}
	if successor {
		s.successorFailed()
		return
	}
	s.w.LastReason = event.SpawnFailed
	if s.movedUp() {
		return
	}
	if s.w.Wanted == WantedDown {
		s.idle(Down, time.Time{})
		return
	}
	if s.w.Spec.Restart == spec.RestartNever && !s.w.RespawnNow {
		s.done()
		return
	}
	s.w.Failures++
	s.backoff(0)
}

// successorFailed leaves the old process at work and tries again later. It is no
// failure of the worker: that works.
func (s *step) successorFailed() {
	first := &s.w.Places[0]
	if first.ending() {
		return // its end decides what comes next
	}
	if s.w.RespawnNow {
		s.w.NextStart = s.now
		return
	}
	s.w.Delays++
	d := delay(s.w.Spec, s.w.Delays, s.w.Generation)
	s.w.NextStart = s.now.Add(d)
	s.note(first, event.Record{Kind: event.BackingOff, Reason: first.Asked, Delay: d,
		Message: fmt.Sprintf("works on: its successor failed and is started again in %v", d.Round(time.Millisecond))})
}

func (s *step) startTimeout(p *Process) {
	if p.PID == 0 {
		// The start itself hangs: there is nothing to signal yet. It is named
		// and never doubled; the host goes on with the other workers.
		if !p.Stuck {
			p.Stuck = true
			s.note(p, event.Record{Kind: event.Stuck, Reason: event.StartTimeout, Message: fmt.Sprintf("its start hangs for %v: look at its directory, command and files", s.w.Spec.StartTimeout)})
		}
		p.LookAgain = s.now.Add(stuckAgain)
		return
	}
	s.stop(p, event.StartTimeout, s.w.Spec.StopSignal, "")
}

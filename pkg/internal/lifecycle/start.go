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
	// A successor that failed to start is tried again while its predecessor works.
	first, second := &s.w.Places[0], &s.w.Places[1]
	if first.Living() && first.Asked != "" && first.Ending == "" && !first.HasExited &&
		!second.Living() && !s.w.NextStart.IsZero() && !s.w.NextStart.After(s.now) {
		s.spawn(second)
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
			s.kill(p)
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
	if e, at := p.nextTimeout(spec); due(at) {
		s.timeout(p, e)
		return
	}
	if spec.Watchdog > 0 && due(p.LastPing.Add(spec.Watchdog)) {
		s.watchdog(p, fmt.Sprintf("was silent for %v", spec.Watchdog))
		return
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
	*p = Process{
		Generation:  s.w.Generation,
		State:       Starting,
		Since:       s.now,
		Started:     s.now,
		MaxRequests: maxRequests(s.w.Spec, s.w.Generation),
	}
	s.do(Spawn{p.Generation, p.MaxRequests})
}

func (s *step) spawned(p *Process, pid int) {
	if p.PID != 0 || p.HasExited {
		return
	}
	p.PID = pid
	p.Started = s.now
	if p.LastPing.IsZero() {
		p.LastPing = s.now
	}
	p.LifeDeadline = lifeDeadline(s.w.Spec, p.Generation, s.now)
	s.note(p, event.Record{Kind: event.Created, Message: "created"})
	switch {
	case p.State == Killing:
		// No more grace was asked for while the start was in flight: the host
		// carries out orders of one worker in their order.
	case p.Ending != "":
		// It was to be stopped before it was there: now it can be asked to leave.
		p.StopBegan = s.now
		s.do(Signal{p.Generation, s.w.Spec.StopSignal})
	case s.w.Spec.Ready == spec.ReadyNotify && s.w.Spec.Type != spec.Task:
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
	if p != first && first.Living() && first.Ending == "" && !first.HasExited && first.Asked != "" {
		s.stop(first, first.Asked, s.w.Spec.StopSignal)
	}
}

func (s *step) spawnFailed(p *Process, text string) {
	if p.PID != 0 {
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

// successorFailed leaves the old process at work and tries again later.
func (s *step) successorFailed() {
	if first := &s.w.Places[0]; first.Living() && first.Ending == "" && !first.HasExited {
		s.w.Delays++
		s.w.NextStart = s.now.Add(delay(s.w.Spec, s.w.Delays, s.w.Generation))
	}
}

func (s *step) startTimeout(p *Process) {
	if p.PID == 0 {
		// The start itself hangs: there is nothing to signal yet. It is named
		// and never doubled; the host goes on with the other workers.
		if !p.Stuck {
			p.Stuck = true
			s.note(p, event.Record{Kind: event.Stuck, Reason: event.StartTimeout, Message: fmt.Sprintf("its start hangs for %v: look at its directory, command and files", s.w.Spec.StartTimeout)})
		}
		p.ExtendedTo = s.now.Add(stuckAgain)
		return
	}
	s.stop(p, event.StartTimeout, s.w.Spec.StopSignal)
}

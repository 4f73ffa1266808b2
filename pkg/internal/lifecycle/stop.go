package lifecycle

import (
	"fmt"
	"time"

	"github.com/workersd/workersd/pkg/internal/event"
	"github.com/workersd/workersd/pkg/spec"
)

// How long SIGKILL may take before a process is called stuck, and how often it
// is looked at again after that.
const (
	stuckAfter = 10 * time.Second
	stuckAgain = 30 * time.Second
)

// ask asks admission for a replacement that can wait, once per process and reason.
func (s *step) ask(p *Process, reason event.Reason) {
	if p.ending() || reason.Urgency() <= p.Asked.Urgency() {
		return
	}
	p.Asked = reason
	if p == &s.w.Places[0] {
		s.do(AskRecycle{reason})
	}
}

func (s *step) recycleGranted() {
	p := &s.w.Places[0]
	if p.Living() && p.Asked != "" && !p.ending() {
		s.recycle(p, p.Asked)
	}
}

// movedUp puts the successor, where there is one, into the place that became
// free, and brings before admission what it was to be recycled for meanwhile.
func (s *step) movedUp() bool {
	if !s.w.Places[1].Living() {
		return false
	}
	s.w.Places[0], s.w.Places[1] = s.w.Places[1], Process{}
	s.w.Restarts++
	switch p := &s.w.Places[0]; {
	case p.ending() || p.Asked == "":
	case p.Asked == event.Restarted:
		s.recycle(p, p.Asked)
	default:
		s.do(AskRecycle{p.Asked})
	}
	return true
}

// recycle begins a planned replacement: at once, or under overlap with the
// start of its successor.
func (s *step) recycle(p *Process, reason event.Reason) {
	if s.w.Spec.Overlap == spec.OverlapReady && s.w.Spec.Type == spec.Service && p.Type == spec.Service {
		p.Asked = reason
		if second := &s.w.Places[1]; !second.Living() {
			s.spawn(second)
		}
		return
	}
	s.stop(p, reason, s.w.Spec.StopSignal, "")
}

// stop asks a process to leave. Why says more than the reason does.
func (s *step) stop(p *Process, reason event.Reason, sig spec.Signal, why string) {
	p.Ending = reason
	p.State, p.Since, p.StopBegan = Stopping, s.now, s.now
	p.ExtendedTo = time.Time{}
	r := event.Record{Kind: event.Recycling, Reason: reason, Message: endMessage(s.w.Spec, p, reason, s.now) + why}
	if s.w.Wanted == WantedDown {
		r.Kind = event.Stopping
	}
	if reason == event.SoftMemory {
		r.Memory, r.MemoryLimit = int64(p.SoftUsage), int64(p.SoftLimit)
	}
	if e, ok := p.oldest(); ok {
		r.Execution, r.ExecutionAge = e.ID, s.now.Sub(e.Began)
		if reason == event.Timeout {
			p.Overdue, p.OverdueAge = e, r.ExecutionAge
		}
	}
	s.note(p, r)
	if p.PID != 0 { // otherwise as soon as it is Spawned
		s.do(Signal{p.Generation, sig})
	}
}

// kill ends the tree at once, while the main process lives or its start is
// still under way; then the order stands behind the start.
func (s *step) kill(p *Process, r event.Record) {
	p.KillOrdered = true
	r.Kind, r.Reason = event.Killing, p.Ending
	s.note(p, r)
	s.clear(p)
}

// clear orders the end of the tree and begins to wait for it.
func (s *step) clear(p *Process) {
	p.State, p.Since = Killing, s.now
	p.LookAgain = s.now.Add(stuckAfter)
	s.do(Kill{p.Generation})
}

func (s *step) stuck(p *Process) {
	text := "does not go away after SIGKILL (uninterruptible sleep?): not started again before it is gone"
	if p.PID == 0 && !p.HasExited {
		text = "its start hangs and cannot be killed: look at its directory, command and files"
	} else {
		s.do(Kill{p.Generation}) // the other one stands behind the start already
	}
	if !p.Stuck {
		p.Stuck = true
		s.note(p, event.Record{Kind: event.Stuck, Reason: p.Ending, Message: text})
	}
	p.LookAgain = s.now.Add(stuckAgain)
}

// timeout replaces a process of which one execution outlived its time.
func (s *step) timeout(p *Process) {
	sig := s.w.Spec.TimeoutSignal
	if sig == 0 {
		sig = s.w.Spec.StopSignal
	}
	s.stop(p, event.Timeout, sig, "")
}

// watchdog ends a process as systemd would: SIGABRT, for a stack or a core.
func (s *step) watchdog(p *Process, why string) {
	if p.ending() {
		return
	}
	sig := s.w.Spec.TimeoutSignal
	if sig == 0 {
		sig = spec.SIGABRT
	}
	s.stop(p, event.Watchdog, sig, why)
}

func (s *step) extended(p *Process, by time.Duration) {
	switch p.State {
	case Starting, Stopping:
		if at := s.now.Add(by); at.After(p.ExtendedTo) {
			p.ExtendedTo = at
		}
	}
}

func (s *step) softMemory(p *Process, ev SoftMemoryPassed) {
	if p.SoftUsage != 0 || p.HasExited {
		return // said once
	}
	p.SoftUsage, p.SoftLimit = ev.Usage, ev.Limit
	if p.Type == spec.Task {
		s.note(p, event.Record{Kind: event.Warning, Reason: event.SoftMemory, Memory: int64(ev.Usage), MemoryLimit: int64(ev.Limit),
			Message: "is above its soft memory limit; a task is let run"})
		return
	}
	s.brake(p)
}

// brake asks for the recycle at once, unless process after process came to
// nothing: no execution, and no life of restart_reset. Then the limit is lower
// than what the worker needs to begin with, and each is let run for longer than
// the one before, as after failures, so that it does not spend its time starting.
func (s *step) brake(p *Process) {
	if p.Executions > 0 || s.now.Sub(p.Started) >= s.w.Spec.RestartReset {
		s.w.Storm = 0
		s.ask(p, event.SoftMemory)
		return
	}
	s.w.Storm++
	d := delay(s.w.Spec, s.w.Storm-1, p.Generation)
	at := p.Started.Add(d)
	if s.w.Storm < 2 || !at.After(s.now) { // the first may be a peak
		s.ask(p, event.SoftMemory)
		return
	}
	p.AskAt = at
	s.note(p, event.Record{Kind: event.Warning, Reason: event.SoftMemory, Memory: int64(p.SoftUsage), MemoryLimit: int64(p.SoftLimit),
		Message: fmt.Sprintf("is above its soft memory limit [%v] again soon after its start, uses %v: it is let run for %v (the limit is lower than what it needs)", p.SoftLimit, p.SoftUsage, d.Round(time.Millisecond))})
}

func (s *step) hardMemory(p *Process, ev HardMemoryPassed) {
	if p.HasExited || p.State == Killing {
		return
	}
	p.Ending = event.HardMemory
	s.kill(p, event.Record{Memory: int64(ev.Usage), MemoryLimit: int64(ev.Limit), Message: hardMessage(ev)})
}

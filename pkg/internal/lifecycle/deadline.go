package lifecycle

import (
	"time"

	"github.com/workersd/workersd/pkg/internal/event"
	"github.com/workersd/workersd/pkg/spec"
)

// silence is how long a worker with a timeout or max_requests may work without
// ever reporting an execution before somebody is told.
const silence = time.Minute

// deadline is when the process's state must have ended, or be looked at again.
func (p *Process) deadline(w *Worker) time.Time {
	switch p.State {
	case Starting:
		return later(p.Since.Add(w.Spec.StartTimeout), p.ExtendedTo)
	case Up:
		_, at := p.nextTimeout(w.Spec)
		if w.Spec.Watchdog > 0 {
			at = earlier(at, p.LastPing.Add(w.Spec.Watchdog))
		}
		if p.Asked == "" {
			at = earlier(at, p.LifeDeadline)
		}
		return earlier(at, p.warnAt(w.Spec))
	case Stopping:
		return p.stopDeadline(w)
	case Killing:
		return p.ExtendedTo
	}
	return time.Time{}
}

// stopDeadline is the end of the grace.
func (p *Process) stopDeadline(w *Worker) time.Time {
	at := later(p.StopBegan.Add(w.Spec.StopTimeout), p.ExtendedTo)
	switch p.Ending {
	case event.Timeout, event.Watchdog, event.StartTimeout:
		// What it is doing is what it is ended for.
	default:
		if w.Spec.Timeout > 0 {
			for _, e := range p.Running {
				at = later(at, e.Began.Add(w.Spec.Timeout))
			}
			if w.Spec.Type == spec.Task && p.PID != 0 {
				at = later(at, p.Started.Add(w.Spec.Timeout))
			}
		}
	}
	if w.DrainMax > 0 {
		at = earlier(at, p.StopBegan.Add(w.DrainMax))
	}
	return at
}

// nextTimeout is the execution whose time ends first, and when.
func (p *Process) nextTimeout(sp *spec.Worker) (Execution, time.Time) {
	if sp.Timeout <= 0 {
		return Execution{}, time.Time{}
	}
	if sp.Type == spec.Task {
		return Execution{}, p.Started.Add(sp.Timeout)
	}
	e, ok := p.oldest()
	if !ok {
		return e, time.Time{}
	}
	return e, e.Began.Add(sp.Timeout)
}

// warnAt is when a process that never reported an execution is named, once.
func (p *Process) warnAt(sp *spec.Worker) time.Time {
	if p.Warned || p.Reported || sp.Type == spec.Task || sp.Timeout == 0 && sp.MaxRequests == 0 {
		return time.Time{}
	}
	return p.Started.Add(max(silence, sp.Timeout))
}

// earlier is the earlier of two times, of which the zero one means never.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// later is the later of two times, of which the zero one means unset.
func later(a, b time.Time) time.Time {
	if a.IsZero() || b.After(a) {
		return b
	}
	return a
}

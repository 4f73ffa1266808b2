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
		return later(p.startDeadline(w), p.LookAgain)
	case Up:
		at := p.nextTimeout(w.Spec)
		if p.Watchdog > 0 {
			at = earlier(at, p.LastPing.Add(p.Watchdog))
		}
		if p.Asked == "" {
			at = earlier(at, p.LifeDeadline)
		}
		return earlier(earlier(at, p.AskAt), p.warnAt(w.Spec))
	case Stopping:
		return p.stopDeadline(w)
	case Killing:
		return p.LookAgain
	}
	return time.Time{}
}

// startDeadline is the end of start_timeout, which the process may put off, but
// not for ever: it holds one of max_starting.
func (p *Process) startDeadline(w *Worker) time.Time {
	at := later(p.Since.Add(w.Spec.StartTimeout), p.ExtendedTo)
	if w.DrainMax > 0 {
		at = earlier(at, p.Since.Add(max(w.Spec.StartTimeout, w.DrainMax)))
	}
	return at
}

// stopDeadline is the end of the grace. An execution that outlived its time adds
// nothing to it, those beside it may finish; one that began after the signal has
// no claim, or a process that ignores signals would put off its end for ever.
// Who has finished what it was let finish has stop_timeout once more, to leave.
func (p *Process) stopDeadline(w *Worker) time.Time {
	at := later(p.StopBegan.Add(w.Spec.StopTimeout), p.ExtendedTo)
	// A process that hangs as a whole finishes nothing.
	hangs := p.Ending == event.Watchdog || p.Ending == event.StartTimeout
	if w.Spec.Timeout > 0 && !hangs {
		for _, e := range p.Running {
			if p.mayFinish(e, w.Spec) {
				at = later(at, e.Began.Add(w.Spec.Timeout))
			}
		}
		if !p.FinishedAt.IsZero() {
			at = later(at, p.FinishedAt.Add(w.Spec.StopTimeout))
		}
		if p.Type == spec.Task && p.PID != 0 {
			at = later(at, p.Started.Add(w.Spec.Timeout))
		}
	}
	if w.DrainMax > 0 {
		at = earlier(at, p.StopBegan.Add(w.DrainMax))
	}
	return at
}

// mayFinish reports whether the execution puts off the end of its process.
func (p *Process) mayFinish(e Execution, sp *spec.Worker) bool {
	return !e.Began.After(p.StopBegan) && e.Began.Add(sp.Timeout).After(p.StopBegan)
}

// nextTimeout is when the first execution will have outlived its time.
func (p *Process) nextTimeout(sp *spec.Worker) time.Time {
	if sp.Timeout <= 0 {
		return time.Time{}
	}
	if p.Type == spec.Task {
		return p.Started.Add(sp.Timeout)
	}
	if e, ok := p.oldest(); ok {
		return e.Began.Add(sp.Timeout)
	}
	return time.Time{}
}

// warnAt is when a process that never reported an execution is named, once.
func (p *Process) warnAt(sp *spec.Worker) time.Time {
	if p.Warned || p.Reported || p.Type == spec.Task || sp.Timeout == 0 && sp.MaxRequests == 0 {
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

package lifecycle

import (
	"fmt"
	"time"

	"github.com/workersd/workersd/pkg/internal/event"
	"github.com/workersd/workersd/pkg/spec"
)

// exited: the main process is gone; what it left behind goes now.
func (s *step) exited(p *Process, st Status) {
	if p.HasExited {
		return
	}
	p.HasExited, p.ExitStatus = true, st
	if p.Ending == "" && s.w.Wanted == WantedUp && verdict(p, NoOOM) == event.MaxRequests {
		// It knew its number and left before it was its turn to be told: whoever
		// reads the log, or counts, reads the same of both.
		s.note(p, event.Record{Kind: event.Recycling, Reason: event.MaxRequests, Message: requestsMessage(p)})
	}
	s.clear(p)
}

// emptied: nothing of the process is left. Only now is its reason decided, its
// leaf released, and the next generation thought of.
func (s *step) emptied(p *Process, ev Evidence) {
	if p.PID == 0 && !p.HasExited {
		return // there was nothing yet
	}
	if !p.HasExited {
		p.HasExited, p.ExitStatus = true, Status{Unknown: true}
	}
	end := *p
	if end.Type == spec.Task && end.ExitStatus.clean() && end.Ending == "" {
		end.Executions = max(end.Executions, 1)
	}
	reason := verdict(&end, ev.OOM)
	s.do(Release{end.Generation})
	r := event.Record{
		Kind: event.Gone, Reason: reason, Status: end.ExitStatus.String(), Uptime: s.now.Sub(end.Started),
		Message: "is not existed any more: " + goneMessage(reason, &end), PostMortem: ev.PostMortem,
	}
	if reason == event.SoftMemory {
		r.Memory, r.MemoryLimit = int64(end.SoftUsage), int64(end.SoftLimit)
	}
	if e, ok := end.oldest(); ok {
		r.Execution, r.ExecutionAge = e.ID, s.now.Sub(e.Began)
	}
	if reason == event.Timeout && end.Overdue.ID != "" {
		r.Execution, r.ExecutionAge = end.Overdue.ID, end.OverdueAge
	}
	s.note(&end, r)
	successor := p == &s.w.Places[1]
	*p = Process{}
	if successor {
		s.successorFailed()
		return
	}
	s.w.LastReason, s.w.LastStatus = reason, end.ExitStatus
	s.after(&end, reason)
}

// after decides what comes after a process that is gone.
func (s *step) after(end *Process, reason event.Reason) {
	task := end.Type == spec.Task
	planned := reason.Planned() && !(task && reason == event.Timeout) // a task has failed then
	if planned && reason != event.Finished {
		s.w.Failures = 0
	}
	if s.movedUp() {
		return
	}
	if s.w.Wanted == WantedDown {
		s.w.Failures, s.w.Delays = 0, 0
		s.idle(Down, time.Time{})
		return
	}
	healthy := s.now.Sub(end.Started) >= s.w.Spec.RestartReset
	if healthy {
		s.w.Failures, s.w.Delays = 0, 0
	}
	var least time.Duration
	if task {
		least = s.w.Spec.Interval
	}
	switch {
	case s.w.RespawnNow:
		s.w.Failures, s.w.Delays = 0, 0
		s.again(0)
	case reason == event.Finished && s.w.Spec.Restart != spec.RestartAlways, !planned && s.w.Spec.Restart == spec.RestartNever:
		s.done()
	case reason == event.Finished && (task || healthy || end.Executions > 0):
		s.w.Failures, s.w.Delays = 0, 0
		s.again(least)
	case reason == event.Finished: // young: it backs off without being a failure
		s.backoff(0)
	case planned:
		s.again(0)
	default:
		s.w.Failures++
		s.backoff(least)
	}
}

// again starts the next process after its interval; 0: at once.
func (s *step) again(interval time.Duration) {
	s.w.Restarts++
	s.wait(s.now.Add(interval))
}

func (s *step) backoff(least time.Duration) {
	s.w.Delays++
	s.w.Restarts++
	d := max(delay(s.w.Spec, s.w.Delays, s.w.Generation), least)
	s.idle(Backoff, s.now.Add(d))
	s.note(nil, event.Record{Kind: event.BackingOff, Reason: s.w.LastReason, Delay: d,
		Message: fmt.Sprintf("starts again in %v", d.Round(time.Millisecond))})
}

func (s *step) done() {
	s.idle(Done, time.Time{})
	s.note(nil, event.Record{Kind: event.Ended, Reason: s.w.LastReason,
		Message: fmt.Sprintf("is not started again (restart = %q)", s.w.Spec.Restart)})
}

// verdict decides why a process ended: what the counters show, then our own
// order, then its exit status.
func verdict(p *Process, oom OOM) event.Reason {
	st := p.ExitStatus
	if oom != NoOOM && !p.KillOrdered && (st.Signal == spec.SIGKILL || st.Unknown) {
		switch oom {
		case OOMLeaf:
			return event.HardMemory
		case OOMPool:
			return event.PoolMemory
		case OOMUnit:
			return event.UnitMemory
		default:
			return event.HostMemory
		}
	}
	switch {
	case p.Ending != "":
		return p.Ending
	case st.Unknown:
		return event.Lost
	case st.Signal == spec.SIGKILL:
		return event.Killed
	case !st.clean():
		return event.Crashed
	case p.MaxRequests > 0 && p.Executions >= p.MaxRequests, p.ToldRequests > 0 && p.Executions >= p.ToldRequests:
		return event.MaxRequests
	case p.Asked == event.Reloaded, p.Asked != "" && p.Type == spec.Service: // a task is through
		return p.Asked
	}
	return event.Finished
}

// clean is what systemd calls a clean exit: code 0, or one of the signals that
// ask a program to leave (systemd.service(5), SuccessExitStatus=).
func (s Status) clean() bool {
	switch s.Signal {
	case 0:
		return !s.Unknown && s.Code == 0
	case spec.SIGHUP, spec.SIGINT, spec.SIGTERM, spec.SIGPIPE:
		return true
	}
	return false
}

// String is "exit 3", "signal SIGKILL" or "unknown".
func (s Status) String() string {
	switch {
	case s.Unknown:
		return "unknown"
	case s.Signal != 0 && s.Core:
		return "signal " + s.Signal.String() + " (core dumped)"
	case s.Signal != 0:
		return "signal " + s.Signal.String()
	}
	return fmt.Sprintf("exit %d", s.Code)
}

package lifecycle

import (
	"slices"

	"github.com/workersd/workersd/pkg/internal/event"
)

// maxRunning bounds what a process can make us remember.
const maxRunning = 1024

func (s *step) began(p *Process, id string) {
	p.Reported = true
	if p.HasExited {
		return
	}
	i := slices.IndexFunc(p.Running, func(e Execution) bool { return e.ID == id })
	switch {
	case i >= 0: // the same id again: the end was lost
		p.Running = slices.Clone(p.Running)
		p.Running[i].Began = s.now
	case len(p.Running) < maxRunning:
		running := make([]Execution, len(p.Running), len(p.Running)+1)
		copy(running, p.Running)
		p.Running = append(running, Execution{id, s.now})
	}
}

func (s *step) ended(p *Process, id string, result Result) {
	p.Reported = true
	if i := slices.IndexFunc(p.Running, func(e Execution) bool { return e.ID == id }); i >= 0 {
		if p.State == Stopping && p.mayFinish(p.Running[i], s.w.Spec) {
			p.FinishedAt = s.now
		}
		if len(p.Running) == 1 {
			p.Running = nil
		} else {
			p.Running = slices.Delete(slices.Clone(p.Running), i, i+1)
		}
	}
	switch result {
	case Skip:
		return
	case Fail:
		p.Failed++
	}
	p.Ends++
	s.count(p, p.Ends)
}

// counted: the process's own count. It repairs what lost datagrams took. Which
// comes first, COUNT or the END that is in it, must not matter: so both are kept
// and the greater one counts.
func (s *step) counted(p *Process, n int) {
	p.Reported = true
	s.count(p, n)
}

func (s *step) count(p *Process, n int) {
	p.Executions = max(p.Executions, n)
	if p.MaxRequests > 0 && p.Executions >= p.MaxRequests {
		s.ask(p, event.MaxRequests)
	}
}

// oldest is the running execution that began first.
func (p *Process) oldest() (Execution, bool) {
	var first Execution
	for _, e := range p.Running {
		if first.Began.IsZero() || e.Began.Before(first.Began) {
			first = e
		}
	}
	return first, len(p.Running) > 0
}

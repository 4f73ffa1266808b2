package lifecycle

import (
	"slices"

	"github.com/workersd/workersd/pkg/internal/event"
)

// maxRunning bounds what a process can make us remember.
const maxRunning = 1024

func (s *step) began(p *Process, id string) {
	p.Reported = true
	if p.HasExited || len(p.Running) >= maxRunning {
		return
	}
	i := slices.IndexFunc(p.Running, func(e Execution) bool { return e.ID == id })
	running := slices.Clone(p.Running)
	if i >= 0 {
		running[i].Began = s.now // the same id again: the end was lost
	} else {
		running = append(running, Execution{id, s.now})
	}
	p.Running = running
}

func (s *step) ended(p *Process, id string, result Result) {
	p.Reported = true
	if i := slices.IndexFunc(p.Running, func(e Execution) bool { return e.ID == id }); i >= 0 {
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
	s.count(p, p.Executions+1)
}

// counted: the process's own count. It repairs what lost datagrams took.
func (s *step) counted(p *Process, n int) {
	p.Reported = true
	if n > p.Executions {
		s.count(p, n)
	}
}

func (s *step) count(p *Process, n int) {
	p.Executions = n
	if p.MaxRequests > 0 && n >= p.MaxRequests {
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

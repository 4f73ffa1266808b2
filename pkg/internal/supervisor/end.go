package supervisor

import (
	"slices"

	"github.com/workersd/workersd/pkg/internal/event"
	"github.com/workersd/workersd/pkg/internal/lifecycle"
)

// Shutdown ends all workers, each with its own grace; called again, at once. It
// does not wait: Run returns when they have ended.
func (s *Supervisor) Shutdown() {
	select {
	case s.ends <- struct{}{}:
	default: // the two that mean something are on their way
	}
}

func (s *Supervisor) shutdown() {
	if !s.stopping {
		s.stopping, s.stopBegan = true, s.now
		s.record(event.Record{Kind: event.ManagerStopping, Message: "stopping, with " + countWorkers(s.living) + " running"})
		for _, sl := range slices.Clone(s.order) {
			s.apply(sl, lifecycle.StopWanted{Reason: event.Shutdown})
		}
		return
	}
	if s.killing {
		return
	}
	s.killing = true
	s.record(event.Record{Kind: event.ManagerStopping, Message: "stopping at once: " + countWorkers(s.living) + " killed"})
	for _, sl := range slices.Clone(s.order) {
		s.apply(sl, lifecycle.KillWanted{Reason: event.Shutdown})
	}
}

// nameStuck says what is left behind at the end.
func (s *Supervisor) nameStuck() {
	for _, sl := range s.order {
		for i := range sl.w.Places {
			p := &sl.w.Places[i]
			if !p.Living() {
				continue
			}
			text := "is left behind: SIGKILL does not end it (uninterruptible sleep)"
			if p.PID == 0 {
				text = "is left behind: its start hangs"
			}
			s.record(event.Record{Kind: event.Warning, Worker: sl.w.Spec.Name, Generation: p.Generation, PID: p.PID, Message: text})
		}
	}
}

package supervisor

import (
	"context"
	"fmt"
	"slices"

	"github.com/workersd/workersd/pkg/internal/event"
	"github.com/workersd/workersd/pkg/internal/lifecycle"
	"github.com/workersd/workersd/pkg/internal/plan"
	"github.com/workersd/workersd/pkg/spec"
)

// FirstRound is closed once a first start of every wanted worker was attempted.
func (s *Supervisor) FirstRound() <-chan struct{} { return s.first }

// Ping returns when the loop has gone round.
func (s *Supervisor) Ping(ctx context.Context) error { return s.call(ctx, func() {}) }

// Snapshot is all workers at one moment.
func (s *Supervisor) Snapshot(ctx context.Context) (snap Snapshot, err error) {
	err = s.call(ctx, func() {
		snap = Snapshot{
			Time: s.now, Started: s.started, Manager: s.list.Manager, Files: s.list.Files,
			Workers: make([]Status, len(s.order)), FirstRound: s.untried < 0, Stopping: s.stopping,
		}
		for i, sl := range s.order {
			snap.Workers[i] = Status{Spec: sl.w.Spec, Worker: sl.w, OperatorStop: sl.operatorStop, Removed: sl.removed}
			if s.stopping && !sl.w.Idle() && sl.w.Deadline.After(snap.StoppingUntil) {
				snap.StoppingUntil = sl.w.Deadline
			}
		}
	})
	return snap, err
}

// List is the list that is in force.
func (s *Supervisor) List(ctx context.Context) (l spec.List, err error) {
	err = s.call(ctx, func() { l = s.list })
	return l, err
}

// Apply does what an operator asks of workers, all or, where a name is
// unknown, none. It does not wait for their processes.
func (s *Supervisor) Apply(ctx context.Context, v Verb, names []string) error {
	var failed error
	err := s.call(ctx, func() { failed = s.applyVerb(v, names) })
	if err != nil {
		return err
	}
	return failed
}

func (s *Supervisor) applyVerb(v Verb, names []string) error {
	slots := make([]*slot, 0, len(names))
	for _, n := range names {
		sl := s.slots[n]
		if sl == nil {
			return fmt.Errorf("unknown worker %q (workersctl status lists them)", n)
		}
		slots = append(slots, sl)
	}
	if s.stopping && v != Kill && v != Stop {
		return fmt.Errorf("the manager is ending: nothing is started any more")
	}
	for _, sl := range slots {
		switch v {
		case Start:
			if sl.removed {
				return fmt.Errorf("worker %q was removed from the list and drains", sl.w.Spec.Name)
			}
			sl.operatorStop = false
			s.apply(sl, lifecycle.StartWanted{})
		case Stop:
			sl.operatorStop = true
			s.apply(sl, lifecycle.StopWanted{Reason: event.Stopped})
		case Restart:
			s.apply(sl, lifecycle.RestartWanted{Reason: event.Restarted})
		case Kill:
			s.apply(sl, lifecycle.KillWanted{})
		default:
			return fmt.Errorf("unknown verb %q", v)
		}
	}
	if v == Start || v == Stop {
		s.tellOperatorStops()
	}
	return nil
}

func (s *Supervisor) tellOperatorStops() {
	if s.o.OperatorStops == nil {
		return
	}
	var names []string
	for _, sl := range s.order {
		if sl.operatorStop {
			names = append(names, sl.w.Spec.Name)
		}
	}
	s.o.OperatorStops(names)
}

// Plan is what Reload would do.
func (s *Supervisor) Plan(ctx context.Context, l spec.List) (p plan.Plan, err error) {
	old, err := s.List(ctx)
	if err != nil {
		return p, err
	}
	return plan.Make(old, l), nil // a list is never changed: compared outside the loop
}

// Reload puts a new list in force and returns what that changed. It does not
// wait for the processes.
func (s *Supervisor) Reload(ctx context.Context, l spec.List) (p plan.Plan, err error) {
	var failed error
	err = s.call(ctx, func() {
		if s.stopping {
			failed = fmt.Errorf("the manager is ending: no list is read any more")
			return
		}
		p = plan.Make(s.list, l)
		s.enforce(p, l)
		s.record(event.Record{Kind: event.ManagerReloaded, Message: "reloaded: " + p.Summary()})
	})
	if err == nil {
		err = failed
	}
	return p, err
}

// Refused records that a new list was not taken.
func (s *Supervisor) Refused(ctx context.Context, why error) error {
	return s.call(ctx, func() {
		s.record(event.Record{Kind: event.ManagerRefused, Message: "the new worker list is refused, the old one stays in force:\n" + why.Error()})
	})
}

// enforce makes l the list in force, touching only what p says.
func (s *Supervisor) enforce(p plan.Plan, l spec.List) {
	s.list = l
	if len(p.Manager) > 0 {
		s.o.Host.Configure(l.Manager)
	}
	for _, e := range s.entries {
		e.size = 0
	}
	changes := make(map[string]plan.Change, len(p.Changed))
	for _, c := range p.Changed {
		changes[c.Name] = c
	}
	for _, n := range p.Removed {
		if sl := s.slots[n]; sl != nil {
			sl.removed = true
			sl.operatorStop = false
			s.apply(sl, lifecycle.StopWanted{Reason: event.Removed})
		}
	}
	order := make([]*slot, 0, len(l.Workers))
	var wake []*slot
	for i := range l.Workers {
		w := &l.Workers[i]
		sl := s.slots[w.Name]
		if sl == nil {
			sl = s.add(w)
			wake = append(wake, sl)
		} else {
			s.entry(w.Entry).size++
			c, changed := changes[w.Name]
			switch {
			case sl.removed: // it comes back while it drains
				sl.removed = false
				s.apply(sl, lifecycle.SpecChanged{Spec: w})
				wake = append(wake, sl)
			case changed:
				s.change(sl, w, c)
			default:
				sl.w.Spec = w // equal; the old list need not stay in memory
			}
		}
		sl.w.DrainMax = l.Manager.DrainMax
		order = append(order, sl)
	}
	for _, sl := range s.order {
		if sl.removed {
			order = append(order, sl)
		}
	}
	s.order = order
	for _, sl := range wake {
		if sl.wanted() {
			s.apply(sl, lifecycle.StartWanted{})
		}
	}
}

// change brings one worker from its old spec to the new one.
func (s *Supervisor) change(sl *slot, w *spec.Worker, c plan.Change) {
	was := sl.w.Spec.Enabled
	s.apply(sl, lifecycle.SpecChanged{Spec: w})
	switch {
	case was && !w.Enabled:
		s.apply(sl, lifecycle.StopWanted{Reason: event.Reloaded})
	case !was && w.Enabled:
		if sl.wanted() {
			s.apply(sl, lifecycle.StartWanted{})
		}
	case sl.w.State == lifecycle.Done:
		s.apply(sl, lifecycle.StartWanted{})
	case len(c.Restart) > 0:
		s.apply(sl, lifecycle.RestartWanted{Reason: event.Reloaded})
	}
	if len(c.Live) > 0 && slices.Contains(c.Live, "max_recycling") {
		s.grant(w)
	}
}

// Shutdown ends all workers, each with its own grace; called again, at once.
// It returns before they have ended; Run returns when they have.
func (s *Supervisor) Shutdown() {
	s.call(context.Background(), func() {
		if !s.stopping {
			s.stopping, s.stopBegan = true, s.now
			s.record(event.Record{Kind: event.ManagerStopping, Message: countMessage("stopping", s.living)})
			for _, sl := range slices.Clone(s.order) {
				s.apply(sl, lifecycle.StopWanted{Reason: event.Shutdown})
			}
			return
		}
		s.killing = true
		for _, sl := range slices.Clone(s.order) {
			s.apply(sl, lifecycle.KillWanted{})
		}
	})
}

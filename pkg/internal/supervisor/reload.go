package supervisor

import (
	"context"
	"slices"
	"strings"

	"github.com/workersd/workersd/pkg/internal/event"
	"github.com/workersd/workersd/pkg/internal/lifecycle"
	"github.com/workersd/workersd/pkg/internal/plan"
	"github.com/workersd/workersd/pkg/spec"
)

// Plan is what Reload would do.
func (s *Supervisor) Plan(ctx context.Context, l spec.List) (p plan.Plan, err error) {
	if err := unique(l); err != nil {
		return p, err
	}
	old, err := s.List(ctx)
	if err != nil {
		return p, err
	}
	return plan.Make(old, l), nil
}

// Reload puts a new list in force and returns what that changed. It does not
// wait for the processes. The list must not be changed after.
func (s *Supervisor) Reload(ctx context.Context, l spec.List) (p plan.Plan, err error) {
	if err := unique(l); err != nil {
		return p, err
	}
	var failed error
	for done := false; !done; {
		// Comparing thousands of workers takes a while, and the loop must not
		// stand still for it: it is done here, and again in the rare case that
		// another reload came between.
		var version uint64
		var old spec.List
		if err := s.call(ctx, func() { old, version = s.list, s.version }); err != nil {
			return p, err
		}
		p = plan.Make(old, l)
		err := s.call(ctx, func() {
			switch {
			case s.stopping:
				failed, done = errEnding, true
			case s.version == version:
				s.enforce(p, l)
				done = true
			}
		})
		if err != nil {
			return plan.Plan{}, err
		}
	}
	if failed != nil {
		return plan.Plan{}, failed
	}
	return p, nil
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
	s.version++
	s.record(event.Record{Kind: event.ManagerReloaded, Message: "reloaded: " + strings.TrimSpace(p.Summary())})
	if len(p.Manager) > 0 {
		s.o.Host.Configure(l.Manager)
	}
	s.sizes()
	stops := s.remove(p.Removed)
	changes := make(map[string]*plan.Change, len(p.Changed))
	for i := range p.Changed {
		changes[p.Changed[i].Name] = &p.Changed[i]
	}
	drain := slices.Contains(p.Manager, "drain_max")
	order := make([]*slot, 0, len(l.Workers))
	for i := range l.Workers {
		order = append(order, s.enforceOne(&l.Workers[i], changes))
	}
	for _, sl := range s.order {
		if sl.removed && !sl.gone {
			order = append(order, sl)
		}
	}
	s.order, s.gone = order, 0
	if drain {
		for _, sl := range slices.Clone(s.order) {
			s.apply(sl, lifecycle.DrainMaxChanged{Max: l.Manager.DrainMax})
		}
	}
	for _, e := range s.entries {
		s.look(e) // max_recycling, or what it is a percentage of, may have changed
	}
	if stops {
		s.tellOperatorStops()
	}
}

// sizes counts the workers of each entry before any of them asks for something.
func (s *Supervisor) sizes() {
	for _, e := range s.entries {
		e.size = 0
	}
	for i := range s.list.Workers {
		w := &s.list.Workers[i]
		if sl := s.slots[w.Name]; sl != nil {
			s.join(sl, w.Entry)
			if w.Enabled {
				sl.entry.size++
			}
		}
	}
}

// remove drains what is not in the list any more. It reports whether one of
// them was stopped by an operator: that is forgotten with the worker.
func (s *Supervisor) remove(names []string) (stops bool) {
	for _, n := range names {
		sl := s.slots[n]
		stops = stops || sl.operatorStop
		sl.removed, sl.operatorStop = true, false
		s.apply(sl, lifecycle.StopWanted{Reason: event.Removed})
	}
	return stops
}

// enforceOne brings one worker of the new list to what it says.
func (s *Supervisor) enforceOne(w *spec.Worker, changes map[string]*plan.Change) *slot {
	sl := s.slots[w.Name]
	switch {
	case sl == nil:
		sl = s.add(w)
		s.wake(sl)
	case sl.removed: // it comes back while it drains
		sl.removed = false
		s.apply(sl, lifecycle.SpecChanged{Spec: w})
		s.wake(sl)
	case changes[w.Name] != nil:
		s.change(sl, w, changes[w.Name])
	default:
		sl.w.Spec = w // equal; the old list need not stay in memory
	}
	return sl
}

func (s *Supervisor) wake(sl *slot) {
	if sl.wanted() {
		s.apply(sl, lifecycle.StartWanted{})
	}
}

// change brings one worker from its old spec to the new one.
func (s *Supervisor) change(sl *slot, w *spec.Worker, c *plan.Change) {
	was := sl.w.Spec.Enabled
	s.apply(sl, lifecycle.SpecChanged{Spec: w})
	switch {
	case was && !w.Enabled:
		s.apply(sl, lifecycle.StopWanted{Reason: event.Reloaded})
	case !was && w.Enabled:
		s.wake(sl)
	case sl.w.State == lifecycle.Done:
		s.wake(sl)
	case len(c.Restart) > 0:
		s.apply(sl, lifecycle.RestartWanted{Reason: event.Reloaded})
	}
}

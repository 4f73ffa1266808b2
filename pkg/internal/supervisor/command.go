package supervisor

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/workersd/workersd/pkg/internal/event"
	"github.com/workersd/workersd/pkg/internal/lifecycle"
	"github.com/workersd/workersd/pkg/spec"
)

// errEnding is the answer to what would start something at the end.
var errEnding = errors.New("the manager is ending: nothing is started or changed any more")

// FirstRound is closed once a first start of every wanted worker was attempted.
func (s *Supervisor) FirstRound() <-chan struct{} { return s.first }

// Ping returns when the loop has gone round.
func (s *Supervisor) Ping(ctx context.Context) error { return s.call(ctx, func() {}) }

// Snapshot is all workers at one moment.
func (s *Supervisor) Snapshot(ctx context.Context) (snap Snapshot, err error) {
	room := make([]Status, 0, s.size.Load()) // the loop only copies
	err = s.call(ctx, func() {
		snap = Snapshot{
			Counts: s.counts(), Started: s.started, Manager: s.list.Manager, Files: s.list.Files,
			Workers: room, FirstRound: s.untried < 0, Unknown: s.unknown,
		}
		for _, sl := range s.order {
			if sl.gone {
				continue
			}
			snap.Workers = append(snap.Workers, sl.status())
		}
	})
	return snap, err
}

// Counts tell how the workers are. Who asks every few seconds asks for them: it
// costs no copy.
func (s *Supervisor) Counts(ctx context.Context) (c Counts, err error) {
	err = s.call(ctx, func() { c = s.counts() })
	return c, err
}

func (s *Supervisor) counts() Counts {
	c := Counts{Time: s.now, Title: s.list.Manager.Title, Living: s.living, Stopping: s.stopping}
	for _, sl := range s.order {
		if sl.w.Wanted == lifecycle.WantedUp {
			c.Wanted++
		}
		switch sl.w.State {
		case lifecycle.Up:
			c.Up++
		case lifecycle.Backoff:
			c.Backoff++
		}
	}
	return c
}

// List is the list that is in force.
func (s *Supervisor) List(ctx context.Context) (l spec.List, err error) {
	err = s.call(ctx, func() { l = s.list })
	return l, err
}

// Apply does what an operator asks of workers: all of it or, where it cannot be
// done for one of them, nothing. It does not wait for their processes.
func (s *Supervisor) Apply(ctx context.Context, v Verb, names []string) error {
	var failed error
	err := s.call(ctx, func() { failed = s.applyVerb(v, names) })
	if err != nil {
		return err
	}
	return failed
}

func (s *Supervisor) applyVerb(v Verb, names []string) error {
	slots, err := s.find(v, names)
	if err != nil {
		return err
	}
	for _, sl := range slots {
		switch v {
		case Start:
			sl.operatorStop = false
			s.apply(sl, lifecycle.StartWanted{})
		case Stop:
			sl.operatorStop = !sl.removed
			s.apply(sl, lifecycle.StopWanted{Reason: event.Stopped})
		case Restart:
			s.apply(sl, lifecycle.RestartWanted{Reason: event.Restarted})
		case Kill:
			s.apply(sl, lifecycle.KillWanted{Reason: event.Killed})
		}
	}
	if v == Start || v == Stop {
		s.tellOperatorStops()
	}
	return nil
}

// find gives the workers that a verb is about, or why it cannot be done.
func (s *Supervisor) find(v Verb, names []string) ([]*slot, error) {
	switch v {
	case Start, Stop, Restart, Kill:
	default:
		return nil, fmt.Errorf("unknown verb %q (expected start, stop, restart or kill)", v)
	}
	if s.stopping && (v == Start || v == Restart) {
		return nil, errEnding
	}
	var unknown []string
	slots := make([]*slot, 0, len(names))
	for _, n := range names {
		sl := s.slots[n]
		switch {
		case sl == nil:
			unknown = append(unknown, fmt.Sprintf("%q", n))
		case sl.removed && (v == Start || v == Restart):
			return nil, fmt.Errorf("worker %q is not in the worker list any more: it is being stopped", n)
		default:
			slots = append(slots, sl)
		}
	}
	switch len(unknown) {
	case 0:
		return slots, nil
	case 1:
		return nil, fmt.Errorf("unknown worker %s (workersctl status lists them all)", unknown[0])
	}
	return nil, fmt.Errorf("unknown workers %s (workersctl status lists them all)", strings.Join(unknown, ", "))
}

// tellOperatorStops has the names kept that survive a restart of the manager.
func (s *Supervisor) tellOperatorStops() {
	if s.o.OperatorStops == nil {
		return
	}
	names := []string{}
	for _, sl := range s.order {
		if sl.operatorStop && !sl.gone {
			names = append(names, sl.w.Spec.Name)
		}
	}
	s.o.OperatorStops(names)
}

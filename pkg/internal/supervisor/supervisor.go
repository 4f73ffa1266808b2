package supervisor

import (
	"context"
	"errors"
	"time"

	"github.com/workersd/workersd/pkg/internal/event"
	"github.com/workersd/workersd/pkg/internal/lifecycle"
	"github.com/workersd/workersd/pkg/spec"
)

// reserveBlock is how many generations one write to disk covers.
const reserveBlock = 1000

// batch is how many host events are handled before the timer is looked at again.
const batch = 256

// ErrEnded is returned by commands that come after the end.
var ErrEnded = errors.New("the manager has ended")

// Supervisor owns all workers of one list. Make it with New, then Run it; all
// other methods may be called from any goroutine while it runs.
type Supervisor struct {
	o Options

	// cmds has no buffer: a command is taken by the loop or not at all. It is
	// never closed; done is closed when the loop has ended.
	cmds chan func()
	done chan struct{}
	// first is closed by the loop once every wanted worker was tried once.
	first chan struct{}
	// reserved tells the loop of a floor that is safe; one at a time is asked.
	reserved chan uint64

	// All below belongs to the loop.
	started time.Time
	now     time.Time // of the turn of the loop
	list    spec.List
	slots   map[string]*slot
	order   []*slot // in the order of the list, removed ones behind
	entries map[string]*entry
	due     deadlines
	held    []*slot // due to start, held by admission, in order
	pending []pending
	busy    bool // pending is being worked off

	starting  int // processes between their start and being up
	living    int // workers of which something lives
	untried   int // wanted workers not tried yet; -1 once told
	seq       uint64
	askSeq    uint64
	unknown   uint64 // host events about workers that are not here
	floor     uint64 // generations below it are safe to use
	reserving bool

	stopping  bool
	killing   bool
	stopBegan time.Time
}

type pending struct {
	s  *slot
	ev lifecycle.Event
}

// New makes a supervisor; nothing happens before Run.
func New(o Options) *Supervisor {
	if o.Floor == 0 {
		o.Floor = 1
	}
	if o.Record == nil {
		o.Record = func(event.Record) {}
	}
	s := &Supervisor{
		o: o, cmds: make(chan func()), done: make(chan struct{}), first: make(chan struct{}),
		reserved: make(chan uint64, 1), list: o.List, slots: map[string]*slot{}, entries: map[string]*entry{},
		floor: o.Floor,
	}
	if o.Reserve == nil {
		s.floor = ^uint64(0)
	}
	stopped := map[string]bool{}
	for _, n := range o.StoppedByOperator {
		stopped[n] = true
	}
	for i := range o.List.Workers {
		w := &o.List.Workers[i]
		s.add(w).operatorStop = stopped[w.Name]
	}
	return s
}

// Run is the loop. It returns when Shutdown was called and nothing of any
// worker is left, or, past drain_max, when what is left cannot be killed.
func (s *Supervisor) Run() error {
	defer close(s.done)
	s.now = time.Now()
	s.started = s.now
	s.o.Host.Configure(s.list.Manager)
	s.reserve()
	s.record(event.Record{Kind: event.ManagerStarted, Message: countMessage("started", len(s.order))})
	for _, sl := range s.order {
		if sl.wanted() {
			s.untried++
		}
	}
	for _, sl := range s.order {
		if sl.wanted() {
			s.apply(sl, lifecycle.StartWanted{})
		}
	}
	s.tellFirst()

	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	var armed time.Time
	for !s.finished() {
		if next := s.due.next(); next != armed {
			armed = next
			timer.Stop()
			if !next.IsZero() {
				timer.Reset(time.Until(next))
			}
		}
		select {
		case ev := <-s.o.Host.Events():
			s.now = time.Now()
			s.host(ev)
			s.drain()
		case fn := <-s.cmds:
			s.now = time.Now()
			fn()
		case <-timer.C:
			s.now = time.Now()
			armed = time.Time{}
		case floor := <-s.reserved:
			s.now = time.Now()
			s.floor, s.reserving = floor, false
		}
		s.tick()
		s.release()
		s.tellFirst()
	}
	s.now = time.Now()
	s.nameStuck()
	s.record(event.Record{Kind: event.ManagerStopped, Message: "stopped"})
	return nil
}

// drain handles what the host has to say already, within bounds.
func (s *Supervisor) drain() {
	for range batch {
		select {
		case ev := <-s.o.Host.Events():
			s.host(ev)
		default:
			return
		}
	}
}

func (s *Supervisor) host(ev HostEvent) {
	sl := s.slots[ev.Worker]
	if sl == nil {
		s.unknown++
		return
	}
	switch ev.Event.(type) {
	case lifecycle.Spawned, lifecycle.SpawnFailed:
		s.tried(sl)
	}
	s.apply(sl, ev.Event)
}

// tick delivers Tick to every worker whose deadline has passed.
func (s *Supervisor) tick() {
	for {
		sl := s.due.first()
		if sl == nil || sl.w.Deadline.After(s.now) {
			return
		}
		if sl.w.DueToStart(s.now) && !s.mayStart(sl) {
			s.due.remove(sl)
			sl.held = true
			s.held = append(s.held, sl)
			continue
		}
		before := sl.w.Deadline
		s.apply(sl, lifecycle.Tick{})
		if sl.w.Deadline.Equal(before) && sl.index >= 0 {
			// A deadline that a Tick does not move would spin the loop.
			panic("supervisor: worker " + sl.w.Spec.Name + " keeps a deadline that has passed in state " + sl.w.State.String())
		}
	}
}

// release starts what admission held, as far as there is room now.
func (s *Supervisor) release() {
	for len(s.held) > 0 {
		sl := s.held[0]
		if !sl.held || !sl.w.DueToStart(s.now) { // stopped, removed or moved meanwhile
			s.unhold()
			continue
		}
		if !s.mayStart(sl) {
			return
		}
		s.unhold()
		s.apply(sl, lifecycle.Tick{})
	}
}

func (s *Supervisor) unhold() {
	sl := s.held[0]
	s.held[0] = nil
	s.held = s.held[1:]
	sl.held = false
	s.due.update(sl)
}

// finished reports whether the loop may end.
func (s *Supervisor) finished() bool {
	if !s.stopping {
		return false
	}
	if s.living == 0 {
		return true
	}
	if !s.killing && s.now.Before(s.stopBegan.Add(s.list.Manager.DrainMax)) {
		return false
	}
	for _, sl := range s.order {
		for i := range sl.w.Places {
			if p := &sl.w.Places[i]; p.Living() && !p.Stuck {
				return false
			}
		}
	}
	return true
}

func (s *Supervisor) nameStuck() {
	for _, sl := range s.order {
		for i := range sl.w.Places {
			if p := &sl.w.Places[i]; p.Living() {
				s.record(event.Record{Kind: event.Stuck, Worker: sl.w.Spec.Name, Generation: p.Generation, PID: p.PID,
					Message: "is left behind: SIGKILL does not end it (uninterruptible sleep)"})
			}
		}
	}
}

// call runs fn on the loop and waits until it has run.
func (s *Supervisor) call(ctx context.Context, fn func()) error {
	ran := make(chan struct{})
	select {
	case s.cmds <- func() { fn(); close(ran) }:
		<-ran
		return nil
	case <-s.done:
		return ErrEnded
	case <-ctx.Done():
		return ctx.Err()
	}
}

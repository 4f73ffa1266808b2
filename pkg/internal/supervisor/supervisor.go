package supervisor

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/workersd/workersd/pkg/internal/event"
	"github.com/workersd/workersd/pkg/internal/lifecycle"
	"github.com/workersd/workersd/pkg/spec"
)

// batch is how many host events are handled before the timer and the commands
// are looked at again: a flood of one worker holds up nothing else.
const batch = 256

// maxTicks is how often one worker may be due at one moment: a deadline may
// come right after another, with a grace of zero.
const maxTicks = 8

// ErrEnded is returned by commands that come after the end.
var ErrEnded = errors.New("the manager has ended")

// Supervisor owns all workers of one list. Make it with New, then Run it; all
// other methods may be called from any goroutine.
type Supervisor struct {
	o Options

	// cmds has no buffer: a command is taken by the loop or not at all. It is
	// never closed; done is closed when the loop has ended.
	cmds chan func()
	done chan struct{}
	// ends holds the two calls of Shutdown that mean something, so that neither
	// waits, also before Run.
	ends chan struct{}
	// first is closed by the loop once every wanted worker was tried once.
	first chan struct{}
	// reserved tells the loop of a floor that is safe. Only one is asked for at
	// a time, so that with room for one nobody waits.
	reserved chan uint64
	size     atomic.Int64 // workers, for who makes room for a snapshot

	// All below belongs to the loop.
	started time.Time
	now     time.Time // of the turn of the loop
	// hearUntil is how long no deadline is judged, after a turn that came late.
	hearUntil time.Time
	list      spec.List
	version   uint64 // of the list: how many came before it
	slots     map[string]*slot
	order     []*slot // in the order of the list, removed ones behind
	gone      int     // slots in order that are no longer in slots
	entries   map[string]*entry
	due       deadlines
	pending   []pending // events that follow from the one being handled
	busy      bool      // pending is being worked off

	held    []*slot   // due to start, held by admission, in order
	blocked []pending // would use a generation that is not reserved yet
	dirty   []*entry  // whose waiting recycles are to be looked at in this turn
	crowded []*entry  // and in the next: there was no room to start a successor
	askSeq  uint64

	starting int    // processes between their start and being up
	ordered  int    // of them: the host has not made them yet
	living   int    // workers of which something lives
	untried  int    // wanted workers not tried yet
	seq      uint64 // of the last record
	unknown  uint64 // host events about workers that are not here

	last      uint64 // highest generation used, by any manager so far
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
	o.Floor = max(o.Floor, 1)
	if o.Record == nil {
		o.Record = func(event.Record) {}
	}
	s := &Supervisor{
		o: o, cmds: make(chan func()), done: make(chan struct{}), ends: make(chan struct{}, 2),
		first: make(chan struct{}), reserved: make(chan uint64, 1),
		list: o.List, slots: map[string]*slot{}, entries: map[string]*entry{},
		last: o.Floor - 1, floor: o.Floor,
	}
	if o.Reserve == nil {
		s.floor = ^uint64(0)
	}
	return s
}

// Run is the loop. It returns when Shutdown was called and nothing of any
// worker is left, or, past drain_max, when what is left cannot be killed.
func (s *Supervisor) Run() error {
	defer close(s.done)
	if err := unique(s.list); err != nil {
		return err
	}
	s.now = time.Now()
	s.begin()
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	events := s.o.Host.Events()
	var armed time.Time
	for s.turn(); !s.finished(); s.turn() {
		if next := s.next(); next != armed {
			armed = next
			timer.Stop()
			if !next.IsZero() {
				timer.Reset(time.Until(next))
			}
		}
		planned := armed
		select {
		case ev, ok := <-events:
			if !ok { // a host that is closed says nothing more
				events = nil
				break
			}
			s.now = time.Now()
			s.host(ev)
			s.drain(events)
		case fn := <-s.cmds:
			s.now = time.Now()
			fn()
		case <-s.ends:
			s.now = time.Now()
			s.shutdown()
		case floor := <-s.reserved:
			s.now = time.Now()
			s.raised(floor)
		case <-timer.C:
			s.now = time.Now()
			armed = time.Time{}
		}
		s.noticeStall(planned)
	}
	s.nameStuck()
	s.record(event.Record{Kind: event.ManagerStopped, Message: "stopped"})
	return nil
}

// begin starts what the list wants up.
func (s *Supervisor) begin() {
	s.started = s.now
	s.o.Host.Configure(s.list.Manager)
	s.record(event.Record{Kind: event.ManagerStarted, Message: "started with " + countWorkers(len(s.list.Workers))})
	s.reserve()
	stopped := map[string]bool{}
	for _, n := range s.o.StoppedByOperator {
		stopped[n] = true
	}
	for i := range s.list.Workers {
		sl := s.add(&s.list.Workers[i])
		sl.operatorStop = stopped[sl.w.Spec.Name]
		if sl.wanted() {
			sl.awaited = true
			s.untried++
		}
	}
	for _, sl := range s.order {
		if sl.wanted() {
			s.apply(sl, lifecycle.StartWanted{})
		}
	}
}

// turn does what follows from what has happened, until nothing does.
func (s *Supervisor) turn() {
	s.dirty, s.crowded = append(s.dirty, s.crowded...), nil
	for {
		s.tick()
		s.grants()
		s.release()
		if len(s.dirty) == 0 {
			break
		}
	}
	s.compact()
	if s.untried == 0 {
		s.untried = -1
		close(s.first)
	}
}

// A loop that comes so late was held up, or the whole program was (SIGSTOP, a
// frozen cgroup, a machine without memory). What workers said meanwhile has not
// been read, and is given time to come before anybody is judged for silence.
const (
	stalledBy = 250 * time.Millisecond
	hearMost  = time.Second
)

// noticeStall puts deadlines off after a turn that came late.
func (s *Supervisor) noticeStall(planned time.Time) {
	if late := s.now.Sub(planned); !planned.IsZero() && late > stalledBy {
		s.hearUntil = s.now.Add(min(late, hearMost))
	}
}

// drain handles what the host has to say already, within bounds.
func (s *Supervisor) drain(events <-chan HostEvent) {
	for range batch {
		select {
		case ev, ok := <-events:
			if !ok {
				return
			}
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
	if s.now.Before(s.hearUntil) {
		return
	}
	for {
		sl := s.due.first()
		if sl == nil || sl.at.After(s.now) {
			return
		}
		if sl.w.DueToStart(s.now) && !s.mayStart() {
			s.hold(sl)
			continue
		}
		if sl.w.DueToRetry(s.now) && !s.mayStart() {
			s.due.put(sl, s.now.Add(time.Second)) // the process that works needs its deadlines
			continue
		}
		if sl.ticked != s.now {
			sl.ticked, sl.ticks = s.now, 0
		}
		if sl.ticks++; sl.ticks > maxTicks {
			s.putOff(sl)
			continue
		}
		s.apply(sl, lifecycle.Tick{})
	}
}

// putOff keeps a deadline that Ticks do not move from spinning the loop.
func (s *Supervisor) putOff(sl *slot) {
	s.due.put(sl, s.now.Add(time.Second))
	if !sl.odd {
		sl.odd = true
		s.record(event.Record{Kind: event.Warning, Worker: sl.w.Spec.Name,
			Message: "nothing comes of its deadline in state " + sl.w.State.String() + ": please report this as a defect of workersd"})
	}
}

// next is when the loop must turn at the latest; zero: never by itself.
func (s *Supervisor) next() time.Time {
	at := s.due.next()
	if !at.IsZero() && at.Before(s.hearUntil) {
		at = s.hearUntil
	}
	if end := s.drained(); s.stopping && end.After(s.now) && (at.IsZero() || end.Before(at)) {
		at = end
	}
	return at
}

// drained is when the end no longer waits for what cannot be killed.
func (s *Supervisor) drained() time.Time {
	if s.killing {
		return s.stopBegan
	}
	return s.stopBegan.Add(s.list.Manager.DrainMax)
}

// finished reports whether the loop may end.
func (s *Supervisor) finished() bool {
	if !s.stopping {
		return false
	}
	if s.living == 0 {
		return true
	}
	if s.now.Before(s.drained()) {
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

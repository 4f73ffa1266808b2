package supervisor

import (
	"fmt"
	"slices"
	"time"

	"github.com/workersd/workersd/pkg/internal/lifecycle"
	"github.com/workersd/workersd/pkg/spec"
)

// slot is one worker, with what the loop knows about it.
type slot struct {
	w            lifecycle.Worker
	entry        *entry
	operatorStop bool
	removed      bool // not in the list any more; drains
	gone         bool // removed, and nothing of it is left
	awaited      bool // counted in untried

	at     time.Time // deadline, as the heap has it
	index  int       // in deadlines; -1: not there
	ticked time.Time // turn of the last Tick
	ticks  int       // in that turn
	odd    bool      // said that Ticks do not move its deadline

	held      bool // due to start, held by admission
	asked     bool // waits for admission to recycle
	askSeq    uint64
	recycling bool // counts against max_recycling
	failing   bool // recycling, and its successor does not come up
}

func (sl *slot) wanted() bool { return sl.w.Spec.Enabled && !sl.operatorStop && !sl.removed }

// status is what there is to see.
func (sl *slot) status() Status {
	w, p := &sl.w, &sl.w.Places[0]
	st := Status{
		Spec: w.Spec, State: w.State, Wanted: w.Wanted, OperatorStop: sl.operatorStop, Removed: sl.removed, Idle: w.Idle(),
		Overlaps: w.Places[1].Living(), Stuck: p.Stuck || w.Places[1].Stuck,
		Generation: w.Generation, Since: w.Since, NextStart: w.NextStart,
		Restarts: w.Restarts, Failures: w.Failures, LastReason: w.LastReason,
	}
	if p.Living() {
		st.Process = Process{
			Generation: p.Generation, PID: p.PID, Started: p.Started,
			Executions: p.Executions, Failed: p.Failed, Reported: p.Reported, Running: p.Running, StatusText: p.StatusText, Leaving: p.Leaving,
		}
	}
	return st
}

// entry is what the workers of one entry share.
type entry struct {
	name      string
	slots     int // that point here
	size      int // of them enabled in the list
	recycling int
	failing   int // of them
	asked     []*slot
	dirty     bool // is in Supervisor.dirty or crowded
}

// add makes the slot of a worker that has none. Its generations follow all that
// were ever used, so that a worker which comes back repeats none.
func (s *Supervisor) add(w *spec.Worker) *slot {
	sl := &slot{w: lifecycle.New(w, s.list.Manager.DrainMax, s.last), index: -1}
	s.slots[w.Name] = sl
	s.order = append(s.order, sl)
	s.join(sl, w.Entry)
	if w.Enabled {
		sl.entry.size++
	}
	s.size.Store(int64(len(s.slots)))
	return sl
}

// join makes a slot one of an entry, and no more of the one it was of.
func (s *Supervisor) join(sl *slot, name string) {
	if sl.entry != nil {
		if sl.entry.name == name {
			return
		}
		asked := sl.asked
		s.leave(sl)
		defer func() {
			if asked { // it asks once for each reason
				s.ask(sl)
			}
		}()
	}
	e := s.entries[name]
	if e == nil {
		e = &entry{name: name}
		s.entries[name] = e
	}
	e.slots++
	sl.entry = e
}

func (s *Supervisor) leave(sl *slot) {
	e := sl.entry
	if sl.asked {
		e.asked = slices.DeleteFunc(e.asked, func(other *slot) bool { return other == sl })
		sl.asked = false
	}
	s.endRecycle(sl)
	e.slots--
	if e.slots == 0 {
		delete(s.entries, e.name)
	}
	sl.entry = nil
}

// forget ends a slot that was removed from the list and of which nothing lives.
func (s *Supervisor) forget(sl *slot) {
	if sl.gone {
		return
	}
	sl.gone = true
	s.gone++
	s.due.remove(sl)
	s.leave(sl)
	delete(s.slots, sl.w.Spec.Name)
	s.size.Store(int64(len(s.slots)))
}

// compact takes what was forgotten out of the order, once in a turn.
func (s *Supervisor) compact() {
	if s.gone > 0 {
		s.order = slices.DeleteFunc(s.order, func(sl *slot) bool { return sl.gone })
		s.gone = 0
	}
}

// tried notes that a first start was attempted, or is not wanted any more.
func (s *Supervisor) tried(sl *slot) {
	if sl.awaited {
		sl.awaited = false
		s.untried--
	}
}

func unique(l spec.List) error {
	seen := make(map[string]bool, len(l.Workers))
	for i := range l.Workers {
		name := l.Workers[i].Name
		if seen[name] {
			return fmt.Errorf("worker %q stands twice in the list: names must differ", name)
		}
		seen[name] = true
	}
	return nil
}

func countWorkers(n int) string {
	if n == 1 {
		return "1 worker"
	}
	return fmt.Sprintf("%d workers", n)
}

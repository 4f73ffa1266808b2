package supervisor

import (
	"container/heap"
	"time"

	"github.com/workersd/workersd/pkg/internal/admission"
	"github.com/workersd/workersd/pkg/internal/lifecycle"
	"github.com/workersd/workersd/pkg/spec"
)

// slot is one worker of the list, with what the loop knows about it.
type slot struct {
	w            lifecycle.Worker
	operatorStop bool
	removed      bool // not in the list any more; drains
	tried        bool // a first start was attempted
	held         bool // due to start, held by admission
	asked        bool // waits for admission to recycle
	askSeq       uint64
	recycling    bool // counts against max_recycling
	index        int  // in deadlines; -1: not there
}

func (sl *slot) wanted() bool { return sl.w.Spec.Enabled && !sl.operatorStop && !sl.removed }

// entry is what the workers of one entry share.
type entry struct {
	size      int // workers in the list
	recycling int
	asked     []*slot
}

func (s *Supervisor) entry(name string) *entry {
	e := s.entries[name]
	if e == nil {
		e = &entry{}
		s.entries[name] = e
	}
	return e
}

// add makes the slot of a worker that has none.
func (s *Supervisor) add(w *spec.Worker) *slot {
	sl := &slot{w: lifecycle.New(w, s.list.Manager.DrainMax, s.o.Floor-1), index: -1}
	s.slots[w.Name] = sl
	s.order = append(s.order, sl)
	s.entry(w.Entry).size++
	return sl
}

// grant lets as many workers of an entry recycle as max_recycling has room for.
func (s *Supervisor) grant(sp *spec.Worker) {
	e := s.entry(sp.Entry)
	if len(e.asked) == 0 {
		return
	}
	asked := make([]admission.Asked, 0, len(e.asked))
	kept := e.asked[:0]
	for _, sl := range e.asked {
		p := &sl.w.Places[0]
		if p.Asked == "" || p.Ending != "" || p.HasExited { // it left by itself
			sl.asked = false
			continue
		}
		kept = append(kept, sl)
		asked = append(asked, admission.Asked{Name: sl.w.Spec.Name, Reason: p.Asked, Seq: sl.askSeq})
	}
	clear(e.asked[len(kept):])
	e.asked = kept
	for _, name := range admission.Recycles(sp.MaxRecycling, e.size, e.recycling, asked) {
		sl := s.slots[name]
		sl.asked = false
		for i, other := range e.asked {
			if other == sl {
				e.asked = append(e.asked[:i], e.asked[i+1:]...)
				break
			}
		}
		if !sl.recycling {
			sl.recycling = true
			e.recycling++
		}
		s.apply(sl, lifecycle.RecycleGranted{})
	}
}

// recycled takes a worker out of the count when its successor works, or when
// there will be none.
func (s *Supervisor) recycled(sl *slot) {
	if !sl.recycling {
		return
	}
	p := &sl.w.Places[0]
	switch {
	case p.Living() && p.State == lifecycle.Up && p.Ending == "" && p.Asked == "" && !sl.w.Places[1].Living():
	case sl.w.Idle() && (sl.w.State == lifecycle.Down || sl.w.State == lifecycle.Done || sl.w.State == lifecycle.Backoff):
	default:
		return
	}
	sl.recycling = false
	s.entry(sl.w.Spec.Entry).recycling--
	s.grant(sl.w.Spec)
}

// deadlines is a heap of the slots that have one, the earliest first.
type deadlines struct{ slots []*slot }

func (d *deadlines) Len() int           { return len(d.slots) }
func (d *deadlines) Less(i, j int) bool { return d.slots[i].w.Deadline.Before(d.slots[j].w.Deadline) }
func (d *deadlines) Swap(i, j int) {
	d.slots[i], d.slots[j] = d.slots[j], d.slots[i]
	d.slots[i].index, d.slots[j].index = i, j
}
func (d *deadlines) Push(x any) {
	sl := x.(*slot)
	sl.index = len(d.slots)
	d.slots = append(d.slots, sl)
}
func (d *deadlines) Pop() any {
	last := len(d.slots) - 1
	sl := d.slots[last]
	d.slots[last] = nil
	d.slots = d.slots[:last]
	sl.index = -1
	return sl
}

// update puts a slot where its deadline belongs; one that is held is not there.
func (d *deadlines) update(sl *slot) {
	switch {
	case sl.w.Deadline.IsZero() || sl.held:
		d.remove(sl)
	case sl.index < 0:
		heap.Push(d, sl)
	default:
		heap.Fix(d, sl.index)
	}
}

func (d *deadlines) remove(sl *slot) {
	if sl.index >= 0 {
		heap.Remove(d, sl.index)
	}
}

func (d *deadlines) first() *slot {
	if len(d.slots) == 0 {
		return nil
	}
	return d.slots[0]
}

func (d *deadlines) next() time.Time {
	if sl := d.first(); sl != nil {
		return sl.w.Deadline
	}
	return time.Time{}
}

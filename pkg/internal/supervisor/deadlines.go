package supervisor

import (
	"container/heap"
	"time"
)

// deadlines is a heap of the slots that have one, the earliest first.
type deadlines struct{ slots []*slot }

func (d *deadlines) Len() int           { return len(d.slots) }
func (d *deadlines) Less(i, j int) bool { return d.slots[i].at.Before(d.slots[j].at) }
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
	if sl.w.Deadline.IsZero() || sl.held {
		d.remove(sl)
	} else {
		d.put(sl, sl.w.Deadline)
	}
}

func (d *deadlines) put(sl *slot, at time.Time) {
	switch {
	case sl.index < 0:
		sl.at = at
		heap.Push(d, sl)
	case !sl.at.Equal(at):
		sl.at = at
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
		return sl.at
	}
	return time.Time{}
}

package hosttest

import (
	"container/heap"
	"time"

	"github.com/workersd/workersd/pkg/internal/lifecycle"
	"github.com/workersd/workersd/pkg/internal/supervisor"
)

// happening is what will be at some time.
type happening struct {
	at  time.Time
	seq uint64 // in the order of planning, among those of one time
	p   *Process
	do  func()
}

type schedule []*happening

func (s schedule) Len() int { return len(s) }
func (s schedule) Less(i, j int) bool {
	if s[i].at.Equal(s[j].at) {
		return s[i].seq < s[j].seq
	}
	return s[i].at.Before(s[j].at)
}
func (s schedule) Swap(i, j int) { s[i], s[j] = s[j], s[i] }
func (s *schedule) Push(x any)   { *s = append(*s, x.(*happening)) }
func (s *schedule) Pop() any {
	old := *s
	last := old[len(old)-1]
	old[len(old)-1] = nil
	*s = old[:len(old)-1]
	return last
}

// run makes everything happen. It alone sends events.
func (h *Host) run() {
	defer close(h.closed)
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		var events chan supervisor.HostEvent
		var first outgoing
		h.mu.Lock()
		h.happen(time.Now())
		if len(h.out) > 0 {
			events, first = h.events, h.out[0]
		}
		timer.Stop()
		if len(h.schedule) > 0 {
			timer.Reset(time.Until(h.schedule[0].at))
		}
		h.mu.Unlock()
		select {
		case events <- first.ev:
			h.locked(func() {
				h.out[0] = outgoing{}
				h.out = h.out[1:]
				first.p.told(first.ev.Event)
			})
		case <-timer.C:
		case <-h.wake:
		case <-h.closing:
			return
		}
	}
}

func (h *Host) happen(now time.Time) {
	for len(h.schedule) > 0 && !h.schedule[0].at.After(now) {
		heap.Pop(&h.schedule).(*happening).do()
	}
}

// after plans what will happen to a process.
func (h *Host) after(d time.Duration, p *Process, do func()) {
	h.seq++
	heap.Push(&h.schedule, &happening{time.Now().Add(d), h.seq, p, do})
	select {
	case h.wake <- struct{}{}:
	default: // it is awake
	}
}

// line is orders that are carried out one after the other; those in other lines
// do not wait.
type line struct {
	queue []func() bool // false: it goes on later, and calls work then
	busy  bool
}

func (h *Host) enqueue(l *line, do func() bool) {
	l.queue = append(l.queue, do)
	if !l.busy {
		l.busy = true
		h.after(latency, nil, func() { h.work(l) })
	}
}

func (h *Host) work(l *line) {
	for len(l.queue) > 0 {
		do := l.queue[0]
		l.queue[0] = nil
		l.queue = l.queue[1:]
		if !do() {
			return
		}
	}
	l.busy = false
}

// send tells the supervisor of something.
func (h *Host) send(p *Process, ev lifecycle.Event) {
	h.out = append(h.out, outgoing{supervisor.HostEvent{Worker: p.ID.Worker, Event: ev}, p})
}

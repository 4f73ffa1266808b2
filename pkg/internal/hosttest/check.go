package hosttest

import (
	"slices"
	"time"

	"github.com/workersd/workersd/pkg/internal/lifecycle"
	"github.com/workersd/workersd/pkg/internal/supervisor"
	"github.com/workersd/workersd/pkg/spec"
)

// The contract of supervisor.Host, checked at each order. An order may cross
// with an event: only what the supervisor was told counts against it.

func (h *Host) checkSpawn(w *worker, o supervisor.SpawnOrder) {
	h.t.Helper()
	if o.ID.Generation <= w.last {
		h.t.Errorf("spawn %s: generation %d after %d", o.ID.Worker, o.ID.Generation, w.last)
	}
	if o.Spec == nil || o.Spec.Name != o.ID.Worker {
		h.t.Errorf("spawn %s: with the spec of another worker", o.ID.Worker)
		return
	}
	places := 1
	if o.Spec.Overlap == spec.OverlapReady {
		places = 2
	}
	for _, p := range w.procs {
		if !p.released && !p.failed {
			places--
		}
	}
	if places < 1 {
		h.t.Errorf("spawn %s:%d: an earlier process is not released", o.ID.Worker, o.ID.Generation)
	}
}

func (h *Host) checkOrder(o Order, p *Process) bool {
	h.t.Helper()
	switch {
	case p == nil:
		h.t.Errorf("%v: there is no such process", o)
	case p.released:
		h.t.Errorf("%v: after its release", o)
	case p.toldGone:
		h.t.Errorf("%v: nothing of it is left", o)
	default:
		return true
	}
	return false
}

func (h *Host) checkRelease(id lifecycle.ProcessID, p *Process) bool {
	h.t.Helper()
	switch {
	case p == nil:
		h.t.Errorf("release %s:%d: there is no such process", id.Worker, id.Generation)
	case p.released:
		h.t.Errorf("release %s:%d: for the second time", id.Worker, id.Generation)
	case !p.emptied:
		h.t.Errorf("release %s:%d: something of it lives", id.Worker, id.Generation)
	default:
		return true
	}
	return false
}

// told is called when the supervisor has taken an event.
func (p *Process) told(ev lifecycle.Event) {
	switch ev.(type) {
	case lifecycle.SpawnFailed:
		p.worker.procs = slices.DeleteFunc(p.worker.procs, func(q *Process) bool { return q == p })
	case lifecycle.Emptied:
		p.toldGone = true
	}
}

func (p *Process) age() float64 { return time.Since(p.began).Seconds() }

// AssertEmpty fails the test when anything is left: a process, a part of one, a
// leaf that was not released, an order or an event under way.
func (h *Host) AssertEmpty() {
	h.t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	for name, w := range h.workers {
		orders := len(w.starts.queue)
		for _, p := range w.procs {
			orders += len(p.orders.queue)
			switch {
			case p.main:
				h.t.Errorf("%s:%d: its main process lives", name, p.ID.Generation)
			case p.rest:
				h.t.Errorf("%s:%d: a part of its tree lives", name, p.ID.Generation)
			case p.hanging:
				h.t.Errorf("%s:%d: its start hangs", name, p.ID.Generation)
			case !p.released:
				h.t.Errorf("%s:%d: was not released", name, p.ID.Generation)
			}
		}
		if orders > 0 {
			h.t.Errorf("%s: %d orders are under way", name, orders)
		}
	}
	for _, o := range h.out {
		h.t.Errorf("%s: %T was not taken", o.ev.Worker, o.ev.Event)
	}
}

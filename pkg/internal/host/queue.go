package host

import (
	"context"
	"sync"
	"time"

	"github.com/workersd/workersd/pkg/internal/host/room"
)

// ordersAtATime is how many orders are carried out at a time, but for those that
// hang. Hundreds that wait for the kernel's locks, as after the end of hundreds of
// workers, would take a thread each, which the Go runtime never gives back.
const ordersAtATime = 8

// queues carry out the orders for each worker in their order, and those of
// different workers side by side. A worker without orders costs nothing; one
// whose order hangs holds up nobody else.
type queues struct {
	room   *room.Room
	ending <-chan struct{} // closed: nothing is waited for any more

	mu     sync.Mutex // guards all below
	work   map[string][]queued
	closed bool
	idle   chan struct{} // closed when closed and no order is carried out
}

// queued is what to do, and what has to be closed before; nil: nothing. Who
// waits takes no room: it may be for an order that has none yet.
type queued struct {
	after <-chan struct{}
	do    func()
}

func newQueues(ending <-chan struct{}) *queues {
	return &queues{room: room.New(ordersAtATime), ending: ending, work: map[string][]queued{}, idle: make(chan struct{})}
}

// add never blocks.
func (q *queues) add(worker string, o queued) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return
	}
	waiting, running := q.work[worker]
	q.work[worker] = append(waiting, o)
	if !running {
		go q.run(worker)
	}
}

// close drops what waits, and waits for what is being carried out as long as
// ctx and closeWait let it.
func (q *queues) close(ctx context.Context) {
	q.mu.Lock()
	q.closed = true
	for worker := range q.work {
		q.work[worker] = nil
	}
	if len(q.work) == 0 {
		close(q.idle)
	}
	q.mu.Unlock()
	late := time.NewTimer(closeWait)
	defer late.Stop()
	select {
	case <-q.idle:
	case <-late.C:
	case <-ctx.Done():
	}
}

// closeWait is what orders that hang may cost the end.
const closeWait = 5 * time.Second

func (q *queues) run(worker string) {
	for {
		q.mu.Lock()
		waiting := q.work[worker]
		if len(waiting) == 0 {
			delete(q.work, worker)
			if q.closed && len(q.work) == 0 {
				close(q.idle)
			}
			q.mu.Unlock()
			return
		}
		next := waiting[0]
		waiting[0] = queued{}
		q.work[worker] = waiting[1:]
		q.mu.Unlock()
		q.carryOut(next)
	}
}

func (q *queues) carryOut(o queued) {
	if o.after != nil {
		select {
		case <-o.after:
		case <-q.ending:
			return
		}
	}
	if o.do != nil {
		defer q.room.Enter()()
		o.do()
	}
}

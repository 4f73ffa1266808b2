package host

import (
	"context"
	"sync"
	"time"
)

// queues carry out the orders for each worker in their order, and those of
// different workers side by side. A worker without orders costs nothing; one
// whose order hangs holds up nobody else.
type queues struct {
	mu     sync.Mutex // guards all below
	work   map[string][]func()
	closed bool
	idle   chan struct{} // closed when closed and no order is carried out
}

func newQueues() *queues { return &queues{work: map[string][]func(){}, idle: make(chan struct{})} }

// add never blocks.
func (q *queues) add(worker string, fn func()) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return
	}
	waiting, running := q.work[worker]
	q.work[worker] = append(waiting, fn)
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
		fn := waiting[0]
		waiting[0] = nil
		q.work[worker] = waiting[1:]
		q.mu.Unlock()
		fn()
	}
}

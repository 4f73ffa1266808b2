package host

import "sync"

// queues carry out the orders for each worker in their order, and those of
// different workers side by side. A worker without orders costs nothing; one
// whose order hangs holds up nobody else.
type queues struct {
	mu   sync.Mutex // guards work
	work map[string][]func()
	wg   sync.WaitGroup
}

func newQueues() *queues { return &queues{work: map[string][]func(){}} }

// add never blocks.
func (q *queues) add(worker string, fn func()) {
	q.mu.Lock()
	defer q.mu.Unlock()
	waiting, running := q.work[worker]
	q.work[worker] = append(waiting, fn)
	if !running {
		q.wg.Add(1)
		go q.run(worker)
	}
}

func (q *queues) run(worker string) {
	defer q.wg.Done()
	for {
		q.mu.Lock()
		waiting := q.work[worker]
		if len(waiting) == 0 {
			delete(q.work, worker)
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

package backlog

import (
	"context"
	"sync"
)

// kept is for how many items room is kept when they are written: what thousands
// of starts have said at once is a megabyte.
const kept = 64

// Queue hands items, in their order, to a function that may block. One goroutine
// waits for it, and nobody who puts does. What finds the queue full is dropped and
// counted.
type Queue[T any] struct {
	most    int
	write   func(T)
	dropped func(n int)

	mu      sync.Mutex // guards what follows
	waiting []T
	lost    int // since dropped was called last
	closed  bool
	wake    chan struct{} // buffer of 1: there is something to do
	done    chan struct{} // closed when all is written
}

// New makes a queue of at most so many items. Write and dropped are called by its
// goroutine alone; dropped tells, behind what was kept, how many were not.
func New[T any](most int, write func(T), dropped func(n int)) *Queue[T] {
	q := &Queue[T]{most: most, write: write, dropped: dropped, wake: make(chan struct{}, 1), done: make(chan struct{})}
	go q.work()
	return q
}

// Put never blocks; any goroutine may call it, also after Close.
func (q *Queue[T]) Put(item T) {
	q.mu.Lock()
	if len(q.waiting) < q.most && !q.closed {
		q.waiting = append(q.waiting, item)
	} else {
		q.lost++
	}
	q.mu.Unlock()
	q.call()
}

// Close waits until all is written, but no longer than ctx. It may be called
// again, to go on waiting.
func (q *Queue[T]) Close(ctx context.Context) {
	q.mu.Lock()
	q.closed = true
	q.mu.Unlock()
	q.call()
	select {
	case <-q.done:
	case <-ctx.Done():
	}
}

func (q *Queue[T]) call() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// work is the goroutine.
func (q *Queue[T]) work() {
	defer close(q.done)
	var batch []T
	for {
		q.mu.Lock()
		batch, q.waiting = q.waiting, batch[:0]
		lost, closed := q.lost, q.closed
		q.lost = 0
		q.mu.Unlock()
		for _, item := range batch {
			q.write(item)
		}
		if lost > 0 {
			q.dropped(lost)
		}
		idle := len(batch) == 0 && lost == 0
		if cap(batch) > kept {
			batch = nil // a burst is no reason to keep its room
		}
		clear(batch)
		if idle {
			if closed {
				return
			}
			<-q.wake
		}
	}
}

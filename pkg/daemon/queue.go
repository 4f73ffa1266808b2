package daemon

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"
)

// logQueue is how many lines of the log wait for who reads them; more are
// dropped and counted, because no line is worth a worker.
const logQueue = 4096

// keptQueue is for how many of them room is kept when they are written: what
// thousands of starts have said at once is a megabyte.
const keptQueue = 64

// queued hands records to a handler that may block: a person who pages through
// the log, a terminal that is held, a pipe that nobody reads. One goroutine
// waits for it, and nobody who logs does, least of all the loop.
type queued struct {
	slog.Handler // knows what is enabled
	q            *queue
}

type queue struct {
	mu      sync.Mutex // guards what follows
	waiting []entry
	dropped int
	closed  bool
	wake    chan struct{} // buffer of 1: there is something to do
	done    chan struct{} // closed when all is written
}

type entry struct {
	to slog.Handler
	r  slog.Record
}

func newQueued(h slog.Handler) queued {
	q := &queue{wake: make(chan struct{}, 1), done: make(chan struct{})}
	go q.write(h)
	return queued{h, q}
}

// Handle never blocks.
func (h queued) Handle(_ context.Context, r slog.Record) error {
	h.q.put(entry{h.Handler, r.Clone()})
	return nil
}

func (h queued) WithAttrs(attrs []slog.Attr) slog.Handler {
	return queued{h.Handler.WithAttrs(attrs), h.q}
}

func (h queued) WithGroup(name string) slog.Handler {
	return queued{h.Handler.WithGroup(name), h.q}
}

// Close waits until all is written, but no longer than ctx.
func (h queued) Close(ctx context.Context) {
	h.q.mu.Lock()
	h.q.closed = true
	h.q.mu.Unlock()
	h.q.call()
	select {
	case <-h.q.done:
	case <-ctx.Done():
	}
}

func (q *queue) put(e entry) {
	q.mu.Lock()
	if len(q.waiting) < logQueue && !q.closed {
		q.waiting = append(q.waiting, e)
	} else {
		q.dropped++
	}
	q.mu.Unlock()
	q.call()
}

func (q *queue) call() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// write is the goroutine. What was dropped is said behind what was kept.
func (q *queue) write(h slog.Handler) {
	defer close(q.done)
	ctx := context.Background()
	var batch []entry
	for {
		q.mu.Lock()
		batch, q.waiting = q.waiting, batch[:0]
		dropped, closed := q.dropped, q.closed
		q.dropped = 0
		q.mu.Unlock()
		for _, e := range batch {
			e.to.Handle(ctx, e.r)
		}
		if dropped > 0 {
			h.Handle(ctx, slog.NewRecord(time.Now(), slog.LevelWarn,
				fmt.Sprintf("%d lines of the log were dropped: they were not read in time", dropped), 0))
		}
		idle := len(batch) == 0 && dropped == 0
		if cap(batch) > keptQueue {
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

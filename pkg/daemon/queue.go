package daemon

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/workersd/workersd/pkg/internal/backlog"
)

// logQueue is how many lines of the log wait for who reads them; more are
// dropped and counted, because no line is worth a worker.
const logQueue = 4096

// queued hands records to a handler that may block: a person who pages through
// the log, a terminal that is held, a pipe that nobody reads. Nobody who logs
// waits for it, least of all the loop.
type queued struct {
	slog.Handler // knows what is enabled
	q            *backlog.Queue[entry]
}

type entry struct {
	to slog.Handler
	r  slog.Record
}

func newQueued(h slog.Handler) queued {
	return queued{h, backlog.New(logQueue, func(e entry) { e.to.Handle(context.Background(), e.r) }, func(n int) {
		h.Handle(context.Background(), slog.NewRecord(time.Now(), slog.LevelWarn,
			fmt.Sprintf("%d lines of the log were dropped: they were not read in time", n), 0))
	})}
}

// Handle never blocks.
func (h queued) Handle(_ context.Context, r slog.Record) error {
	h.q.Put(entry{h.Handler, r.Clone()})
	return nil
}

func (h queued) WithAttrs(attrs []slog.Attr) slog.Handler {
	return queued{h.Handler.WithAttrs(attrs), h.q}
}

func (h queued) WithGroup(name string) slog.Handler {
	return queued{h.Handler.WithGroup(name), h.q}
}

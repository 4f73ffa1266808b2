package systemd

import (
	"context"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"

	sdjournal "github.com/coreos/go-systemd/v22/journal"
)

// Identifier is SYSLOG_IDENTIFIER of the manager's own records.
const Identifier = "workersd"

// queueSize records wait for journald; more are dropped and counted, because
// no record is worth a worker.
const queueSize = 1024

// entry is one record for journald.
type entry struct {
	priority sdjournal.Priority
	message  string
	fields   map[string]string
}

// Journal writes the manager's records to journald. No method but Close waits:
// sending blocks for as long as journald does (it may be stopped), so one
// goroutine does it.
type Journal struct {
	send     func(message string, p sdjournal.Priority, fields map[string]string) error
	fallback io.Writer

	dropped atomic.Uint64
	total   atomic.Uint64

	mu     sync.RWMutex // guards closed against a send on a closed queue
	closed bool
	queue  chan entry    // closed by Close; as long as the longest burst we keep
	done   chan struct{} // closed by the sender when it ended
}

// NewJournal starts the sender. What journald refuses is written to fallback,
// with the priority in front as systemd reads it from a service's output; nil is
// os.Stderr.
func NewJournal(fallback io.Writer) *Journal {
	return newJournal(sdjournal.Send, fallback)
}

func newJournal(send func(string, sdjournal.Priority, map[string]string) error, fallback io.Writer) *Journal {
	if fallback == nil {
		fallback = os.Stderr
	}
	j := &Journal{send: send, fallback: fallback, queue: make(chan entry, queueSize), done: make(chan struct{})}
	go j.loop()
	return j
}

// StderrIsJournal reports whether standard error goes to the journal: then
// records with fields say more than lines.
func StderrIsJournal() bool {
	ok, err := sdjournal.StderrIsJournalStream()
	return err == nil && ok
}

// Dropped says how many records were lost because journald did not take them.
func (j *Journal) Dropped() uint64 { return j.total.Load() }

// Close sends what is queued, but waits no longer than ctx.
func (j *Journal) Close(ctx context.Context) error {
	j.mu.Lock()
	if !j.closed {
		j.closed = true
		close(j.queue)
	}
	j.mu.Unlock()
	select {
	case <-j.done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("journald does not take records: %w", context.Cause(ctx))
	}
}

func (j *Journal) put(e entry) {
	j.mu.RLock()
	defer j.mu.RUnlock()
	if j.closed {
		return
	}
	select {
	case j.queue <- e:
	default:
		j.dropped.Add(1)
		j.total.Add(1)
	}
}

func (j *Journal) loop() {
	defer close(j.done)
	for e := range j.queue {
		if n := j.dropped.Swap(0); n > 0 {
			j.write(entry{sdjournal.PriWarning, fmt.Sprintf("%d records were dropped, because journald did not take them in time", n), nil})
		}
		j.write(e)
	}
}

func (j *Journal) write(e entry) {
	if e.fields == nil {
		e.fields = make(map[string]string, 1)
	}
	e.fields["SYSLOG_IDENTIFIER"] = Identifier
	if err := j.send(e.message, e.priority, e.fields); err != nil {
		// Standard error is a stream that outlives a restart of journald.
		fmt.Fprintf(j.fallback, "<%d>%s\n", e.priority, e.message)
	}
}

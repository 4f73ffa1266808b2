package systemd

import (
	"context"
	"fmt"
	"io"
	"os"

	sdjournal "github.com/coreos/go-systemd/v22/journal"

	"github.com/workersd/workersd/pkg/internal/backlog"
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

// Journal writes the manager's records to journald. No method but Close waits,
// though sending blocks for as long as journald does (it may be stopped).
type Journal struct {
	send     func(message string, p sdjournal.Priority, fields map[string]string) error
	fallback io.Writer
	queue    *backlog.Queue[entry]
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
	j := &Journal{send: send, fallback: fallback}
	j.queue = backlog.New(queueSize, j.write, func(n int) {
		j.write(entry{sdjournal.PriWarning, fmt.Sprintf("%d records were dropped, because journald did not take them in time", n), nil})
	})
	return j
}

// StderrIsJournal reports whether standard error goes to the journal: then
// records with fields say more than lines.
func StderrIsJournal() bool {
	ok, err := sdjournal.StderrIsJournalStream()
	return err == nil && ok
}

// Close sends what is queued, but waits no longer than ctx.
func (j *Journal) Close(ctx context.Context) { j.queue.Close(ctx) }

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

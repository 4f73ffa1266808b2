package logs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/workersd/workersd/pkg/internal/host/epoll"
	"github.com/workersd/workersd/pkg/spec"
)

// Target is where the output of a worker goes.
type Target uint8

const (
	Inherit  Target = iota // the manager's own standard output and error
	Terminal               // line by line to Options.Lines
	Journal                // a stream of journald
	File                   // a file, rotated by size
)

// Continues ends a piece of a line that is too long to be delivered as one.
const Continues = "…"

// Options are what a Hub is made of.
type Options struct {
	// Lines takes one line of a worker, without its line end. It is called by
	// one goroutine at a time and may block: then the workers wait, and nothing
	// is lost. The line is valid until it returns. A line of more than 64 KiB
	// comes in pieces, all but the last of which end in Continues.
	Lines func(worker string, line []byte)
	// Auto is where spec.LogAuto goes.
	Auto Target
	// JournalSocket is where journald takes streams; "" is its usual place.
	JournalSocket string
	// Unit is the systemd unit that we are in. Without it a line of a process
	// that has ended already is found by its identifier, but not by the unit.
	Unit string
	// Problem is told what an administrator should know, once at the beginning
	// and once at the end of a trouble, from any goroutine.
	Problem func(worker string, err error)
	// Stdout and Stderr are the manager's own; nil is os.Stdout and os.Stderr.
	Stdout, Stderr *os.File
}

// Output is what a process is started with.
type Output struct {
	Stdout, Stderr *os.File // may be the same file
	Env            []string // to be added to its environment: JOURNAL_STREAM, or nothing
	Target         Target   // where the output really goes
	// Identifier finds the output in the journal (journalctl -t).
	Identifier string
	// Gone is to be called once, when the process is gone or could not be started;
	// nil: nothing is to be given back.
	Gone func()
}

// Close closes the manager's copies, after the spawn.
func (o Output) Close() {
	if o.Stdout != nil {
		o.Stdout.Close()
	}
	if o.Stderr != nil && o.Stderr != o.Stdout {
		o.Stderr.Close()
	}
}

// Hub is the output of all workers. One goroutine reads all pipes; a file or
// the terminal has a goroutine only while there is something to write to it.
type Hub struct {
	options  Options
	poller   *epoll.Poller
	terminal *sink
	journal  journal
	done     chan struct{} // closed by the loop when it ended
	changed  chan struct{} // room for one: a stream ended or a sink went idle

	open func(path string) (handle, error) // a file; another one in tests

	mu      sync.Mutex // guards what follows; taken before a sink's
	next    uint64     // token of the next stream
	streams map[uint64]*stream
	files   map[string]*sink
	closed  bool
}

// NewHub starts reading.
func NewHub(o Options) (*Hub, error) {
	if o.Lines == nil && o.Auto == Terminal {
		return nil, errors.New("logs: nobody takes the lines for the terminal")
	}
	if o.Stdout == nil {
		o.Stdout = os.Stdout
	}
	if o.Stderr == nil {
		o.Stderr = os.Stderr
	}
	if o.Problem == nil {
		o.Problem = func(string, error) {}
	}
	p, err := epoll.New()
	if err != nil {
		return nil, err
	}
	h := &Hub{
		options: o,
		poller:  p,
		done:    make(chan struct{}),
		changed: make(chan struct{}, 1),
		open:    openFile,
		streams: map[uint64]*stream{},
		files:   map[string]*sink{},
	}
	h.journal = newJournal(o.JournalSocket, o.Unit)
	h.terminal = &sink{hub: h, consume: h.lines}
	go h.loop()
	return h, nil
}

// Open makes the output of one process of w, which runs as uid and gid. The
// caller closes it after the spawn; it ends when the last process that holds it
// is gone.
func (h *Hub) Open(w *spec.Worker, uid, gid int) (Output, error) {
	target := h.options.Auto
	switch w.Log {
	case spec.LogAuto:
	case spec.LogJournal:
		target = Journal
	case spec.LogInherit:
		target = Inherit
	default:
		target = File
	}
	if target == Journal {
		out, err := h.openJournal(w)
		if err == nil {
			return out, nil
		}
		target = Inherit
		if h.options.Auto == Terminal {
			target = Terminal
		}
	}
	switch target {
	case File:
		k, err := h.file(w)
		if err != nil {
			return Output{}, fmt.Errorf("worker %s: %w", w.Name, err)
		}
		return h.pipe(w, k, uid, gid, File)
	case Terminal:
		return h.pipe(w, h.terminal, uid, gid, Terminal)
	}
	return h.inherit()
}

// Update gives an open log file the limits of the worker's changed spec.
func (h *Hub) Update(w *spec.Worker) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if k := h.files[w.Log]; k != nil {
		k.file.limit(w)
	}
}

// Reopen makes each log file be opened anew before the next write: somebody has
// moved them away. It is noticed without Reopen too, a little later.
func (h *Hub) Reopen() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, k := range h.files {
		k.file.moved.Store(true)
	}
}

// Shutdown waits until all that was written has arrived and no process holds a
// pipe any more, but not longer than ctx; then it takes what lies in the pipes
// and closes them. Whoever still writes gets SIGPIPE.
func (h *Hub) Shutdown(ctx context.Context) error {
	h.mu.Lock()
	if h.closed {
		h.mu.Unlock()
		return os.ErrClosed
	}
	h.closed = true
	h.mu.Unlock()
	err := h.await(ctx, h.quiet)
	h.poller.Close()
	<-h.done
	left := h.closeStreams()
	// What has been read already only needs a target that takes it.
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), flushTime)
	defer cancel()
	if e := h.await(last, h.idle); e != nil {
		return fmt.Errorf("logs: a log did not take what was written within %v: %w", flushTime, e)
	}
	h.journal.close()
	if err != nil {
		return fmt.Errorf("logs: %d outputs were still held by a process: %w", left, err)
	}
	return nil
}

// flushTime is what Shutdown gives a slow target after the last byte was read.
const flushTime = 2 * time.Second

// await waits until ok, which is asked after every change.
func (h *Hub) await(ctx context.Context, ok func() bool) error {
	for !ok() {
		select {
		case <-h.changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// change wakes Shutdown.
func (h *Hub) change() {
	select {
	case h.changed <- struct{}{}:
	default:
	}
}

func (h *Hub) quiet() bool {
	h.mu.Lock()
	n := len(h.streams)
	h.mu.Unlock()
	return n == 0 && h.idle()
}

func (h *Hub) idle() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, k := range h.files {
		if !k.idle() {
			return false
		}
	}
	return h.terminal.idle()
}

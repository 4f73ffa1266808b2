package worker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/workersd/workersd/pkg/sdnotify"
)

// notifier is what the loop needs of sdnotify.
type notifier interface {
	Send(message string) error
	Barrier(ctx context.Context) error
	Close() error
}

// loop drives one worker: n slots, each of which does one execution after the
// other, and one goroutine that waits for them.
type loop struct {
	config
	w      Worker
	notify notifier

	asked    context.Context // cancelled when somebody asks us to leave
	stopping chan struct{}   // closed by stop, once
	idle     chan struct{}   // closed when no slot is active any more

	endMu sync.Mutex // makes counts leave in the order they were made

	mu       sync.Mutex // protects what follows, and the fields of slots and executions
	room     *sync.Cond // on mu: counted, reserved or stopped changed
	stopped  bool
	active   int // slots that have neither left nor been abandoned
	slots    []*slot
	running  map[*execution]struct{}
	lastID   uint64
	reserved int // executions that may still turn out to count
	counted  int
	errs     []error
}

// slot is one of the loops that Parallel asked for.
type slot struct {
	left     bool
	resting  bool      // between two executions
	progress time.Time // for the watchdog
	failures int       // in a row
	skips    int       // in a row
}

func newLoop(w Worker, opts []Option) (*loop, error) {
	env, err := readEnvironment()
	if err != nil {
		return nil, err
	}
	if o, ok := w.(Optioner); ok {
		opts = append(slices.Clone(o.Options()), opts...)
	}
	l := &loop{
		config:   newConfig(env, opts),
		w:        w,
		stopping: make(chan struct{}),
		idle:     make(chan struct{}),
		running:  map[*execution]struct{}{},
	}
	l.room = sync.NewCond(&l.mu)
	n, err := sdnotify.FromEnvironment()
	if err != nil {
		// Nobody there is no reason not to work, as sd_notify(3) has it.
		l.log.Warn("the manager does not listen", slog.Any("error", err))
	}
	l.notify = n
	return l, nil
}

// run is the whole life. The context says when to leave; it is not handed to
// executions, which may finish.
func (l *loop) run(ctx context.Context) error {
	l.asked = ctx
	defer l.notify.Close()
	unhook := context.AfterFunc(ctx, l.stop)
	defer unhook()
	if i, ok := l.w.(Initializer); ok {
		if err := l.guard("Init", func() error { return i.Init(l.context(ctx, nil)) }); err != nil {
			if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
				return nil // it was asked to leave while it prepared itself
			}
			l.log.Error("init failed", slog.Any("error", err))
			return fmt.Errorf("init: %w", err)
		}
	}
	l.tell(sdnotify.Ready)
	base := context.WithoutCancel(ctx)
	l.start(base)
	endWatch := l.watch()
	defer endWatch()
	<-l.idle

	l.tell(sdnotify.Stopping)
	l.afterRun(base)
	if l.env.managed() {
		// The last END must not be read after our exit: it may be the one
		// that makes the exit a planned one.
		l.barrier(base)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return errors.Join(l.errs...)
}

func (l *loop) start(base context.Context) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.active = l.parallel
	for range l.parallel {
		s := &slot{resting: true, progress: time.Now()}
		l.slots = append(l.slots, s)
		go l.work(base, s)
	}
}

// work is one slot's loop.
func (l *loop) work(base context.Context, s *slot) {
	defer l.leave(s)
	for l.reserve(s) {
		began := time.Now()
		out := l.execute(base, s)
		l.rest(s, out, time.Since(began))
	}
}

// reserve waits until one more execution may begin, so that no more than
// maxRequests can ever count.
func (l *loop) reserve(s *slot) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	s.resting = true
	for {
		switch {
		case l.stopped || l.asked.Err() != nil: // stop runs a moment after the cancel
			return false
		case l.maxRequests == 0 || l.counted+l.reserved < l.maxRequests:
			l.reserved++
			return true
		}
		l.room.Wait()
	}
}

// rest pauses between two executions, no longer than until stop.
func (l *loop) rest(s *slot, out sdnotify.Result, took time.Duration) {
	pause := l.pauseAfter(s, out, took)
	if pause <= 0 {
		return
	}
	l.setResting(s, true)
	defer l.setResting(s, false)
	t := time.NewTimer(pause)
	defer t.Stop()
	select {
	case <-t.C:
	case <-l.stopping:
	}
}

func (l *loop) pauseAfter(s *slot, out sdnotify.Result, took time.Duration) time.Duration {
	switch {
	case out == sdnotify.Fail:
		s.failures, s.skips = s.failures+1, 0
		return max(doubled(l.failureFirst, s.failures, l.failureMost), l.checkPoint)
	case l.checkPoint > 0:
		s.failures, s.skips = 0, 0
		return l.checkPoint
	case out == sdnotify.Skip:
		s.failures, s.skips = 0, s.skips+1
		return doubled(l.idleFirst, s.skips, l.idleMost) - took
	}
	s.failures, s.skips = 0, 0
	return 0
}

// doubled is first, doubled n-1 times, at most most.
func doubled(first time.Duration, n int, most time.Duration) time.Duration {
	d := first
	for range n - 1 {
		if d >= most {
			break
		}
		d *= 2
	}
	return min(d, most)
}

func (l *loop) setResting(s *slot, resting bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s.resting, s.progress = resting, time.Now()
}

// leave takes a slot out of the loop: it ended, or nobody waits for it longer.
func (l *loop) leave(s *slot) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if s.left {
		return
	}
	s.left = true
	if l.active--; l.active == 0 {
		close(l.idle)
	}
}

// stop lets no other execution begin.
func (l *loop) stop() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stopLocked()
}

func (l *loop) stopLocked() {
	if l.stopped {
		return
	}
	l.stopped = true
	close(l.stopping)
	l.room.Broadcast()
	if now, ok := l.env.timeoutNow(); ok && now != l.timeout {
		l.timeout = now
		for e := range l.running {
			e.retimeLocked()
		}
	}
	for e := range l.running {
		if e.overdue {
			e.expireLocked()
		}
	}
}

// interrupt cancels what runs.
func (l *loop) interrupt() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stopLocked()
	for e := range l.running {
		e.cancel(ErrInterrupted)
	}
}

func (l *loop) failLocked(err error) { l.errs = append(l.errs, err) }

func (l *loop) afterRun(base context.Context) {
	a, ok := l.w.(AfterRunner)
	if !ok {
		return
	}
	l.mu.Lock()
	s := &slot{progress: time.Now()}
	l.slots = append(l.slots, s)
	l.mu.Unlock()
	if err := l.guard("AfterRun", func() error { return a.AfterRun(scope{loop: l, slot: s}.in(base)) }); err != nil {
		l.log.Error("after_run failed", slog.Any("error", err))
		l.mu.Lock()
		l.failLocked(fmt.Errorf("after_run: %w", err))
		l.mu.Unlock()
	}
}

// guard makes an error of a panic and of Goexit. That would end our goroutine, in
// Main the program's first one, and leave a process that does nothing: so f has
// one of its own.
func (l *loop) guard(in string, f func() error) (err error) {
	ended := make(chan struct{}) // closed when f has, in whichever way
	go func() {
		defer close(ended)
		returned := false
		defer func() {
			if !returned {
				err = l.panicked(in, recover())
			}
		}()
		err = f()
		returned = true
	}()
	<-ended
	return err
}

func (l *loop) panicked(in string, v any) *PanicError {
	p := &PanicError{In: in, Value: v, Stack: debug.Stack()}
	l.log.Error(p.Error(), slog.String("stack", string(p.Stack)))
	return p
}

// tell sends fields to the manager. Nobody there is no error: the worker goes on,
// as sd_notify(3) has it.
func (l *loop) tell(fields ...string) {
	if err := l.notify.Send(strings.Join(fields, "\n")); err != nil {
		l.log.Debug("manager does not listen", slog.Any("error", err))
	}
}

func (l *loop) barrier(base context.Context) {
	ctx, cancel := context.WithTimeout(base, l.barrierFor)
	defer cancel()
	if err := l.notify.Barrier(ctx); err != nil {
		l.log.Debug("leaving without an answer", slog.Any("error", err))
	}
}

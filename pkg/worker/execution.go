package worker

import (
	"context"
	"errors"
	"log/slog"
	"strconv"
	"strings"
	"time"

	"github.com/workersd/workersd/pkg/sdnotify"
)

// execution is one call of Run.
type execution struct {
	loop *loop
	slot *slot
	ctx  context.Context
	// cancel is called with the lock held or not: context functions of the
	// worker run on goroutines of their own.
	cancel context.CancelCauseFunc

	// Protected by loop.mu.
	id       string // empty before it began
	began    time.Time
	timer    *time.Timer // nil: it has no timeout, or is overdue
	until    time.Time   // when the timer is due; zero without a timeout
	abandon  *time.Timer
	overdue  bool // it outlived its timeout
	expired  bool // and was told so
	finished bool
}

// execute calls Run once. What Run leaves behind, return, panic or Goexit, is
// reported from the deferred function, which runs in all three.
func (l *loop) execute(base context.Context, s *slot) (out sdnotify.Result) {
	e := &execution{loop: l, slot: s}
	ctx, cancel := context.WithCancelCause(base)
	e.ctx, e.cancel = l.context(ctx, e), cancel
	defer cancel(nil)
	l.mu.Lock()
	l.running[e] = struct{}{}
	s.resting, s.progress = false, time.Now()
	l.mu.Unlock()
	if !l.later {
		e.begin("")
	}
	var done, returned bool
	var err error
	defer func() {
		if !returned {
			err = l.panicked("Run", recover())
			l.mu.Lock()
			l.failLocked(err)
			l.stopLocked()
			l.mu.Unlock()
		}
		out = e.end(done, err)
	}()
	done, err = l.w.Run(e.ctx)
	returned = true
	return
}

// begin starts the execution's clock and reports it, once.
func (e *execution) begin(label string) {
	l := e.loop
	l.mu.Lock()
	if e.id != "" || e.finished {
		l.mu.Unlock()
		return
	}
	l.lastID++
	e.id = strconv.FormatUint(l.lastID, 10)
	if label != "" {
		e.id += ":" + safeLabel(label)
	}
	id := e.id
	e.began = time.Now()
	e.slot.progress = e.began
	e.startClockLocked()
	l.mu.Unlock()
	l.tell(sdnotify.Begin(id), sdnotify.Monotonic())
}

// safeLabel keeps what is harmless on one line of a log or a table.
func safeLabel(s string) string {
	const most = 64
	if len(s) > most {
		s = s[:most]
	}
	return strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', strings.ContainsRune("_.:+-@#", r):
			return r
		}
		return '_'
	}, s)
}

func (e *execution) startClockLocked() {
	if e.loop.timeout <= 0 {
		return
	}
	e.until = e.began.Add(e.loop.timeout)
	if left := time.Until(e.until); left > 0 {
		e.timer = time.AfterFunc(left, e.outlive)
	} else {
		e.overdue = true
	}
}

// retimeLocked judges by a timeout that a reload has set: what is overdue by the
// one of our start may have time left, or the other way round.
func (e *execution) retimeLocked() {
	if e.id == "" || e.finished || e.expired {
		return
	}
	if e.timer != nil {
		e.timer.Stop()
	}
	e.timer, e.overdue = nil, false
	e.startClockLocked()
}

// outlive runs when the timeout is over. Below a manager its word is waited for:
// the timeout in our environment may be older than the one in its list.
func (e *execution) outlive() {
	l := e.loop
	l.mu.Lock()
	defer l.mu.Unlock()
	if e.finished || e.timer == nil || time.Now().Before(e.until) {
		return
	}
	e.overdue = true
	if l.env.managed() && !l.stopped {
		return
	}
	e.expireLocked()
	l.stopLocked()
}

// extend gives an execution that was let finish more time, as the manager does.
func (e *execution) extend(d time.Duration) {
	l := e.loop
	l.mu.Lock()
	defer l.mu.Unlock()
	at := time.Now().Add(d)
	if !l.stopped || !l.env.managed() || e.timer == nil || e.expired || !at.After(e.until) {
		return
	}
	e.until = at
	e.timer.Reset(d)
}

// expireLocked tells Run that its time is over, and bounds how long it may take
// to hear it.
func (e *execution) expireLocked() {
	if e.expired || e.finished {
		return
	}
	e.expired = true
	l := e.loop
	l.failLocked(ErrTimeout)
	l.log.Error("execution timed out", slog.String("execution", e.id), slog.Duration("timeout", l.timeout))
	e.cancel(ErrTimeout)
	e.abandon = time.AfterFunc(l.abandonAfter, func() {
		l.log.Error("execution ignores its cancelled context and is abandoned: let Run watch ctx.Done()",
			slog.String("execution", e.id))
		l.leave(e.slot)
	})
}

// end books what Run returned and reports it.
func (e *execution) end(done bool, err error) sdnotify.Result {
	l := e.loop
	if err == nil && done || err != nil && panicIn(err) {
		e.begin("") // BeginLater, and Run did not: it counts all the same
	}
	l.endMu.Lock()
	defer l.endMu.Unlock()

	l.mu.Lock()
	e.finished = true
	delete(l.running, e)
	for _, t := range []*time.Timer{e.timer, e.abandon} {
		if t != nil {
			t.Stop()
		}
	}
	if e.expired && err == nil {
		err = ErrTimeout // whatever it says: it was too late
	}
	began, id, out := e.id != "", e.id, sdnotify.OK
	switch {
	case err != nil:
		out = sdnotify.Fail
	case !done:
		out = sdnotify.Skip
	}
	l.reserved--
	if began && out != sdnotify.Skip {
		l.counted++
	}
	count := l.counted
	if l.maxRequests > 0 && count >= l.maxRequests {
		l.stopLocked()
	}
	l.room.Broadcast()
	e.slot.progress = time.Now()
	l.mu.Unlock()

	if err != nil && !panicIn(err) && err != ErrTimeout {
		l.log.Error("execution failed", slog.String("execution", id), slog.Any("error", err))
	}
	if began {
		l.tell(sdnotify.End(id, out), sdnotify.Count(count), sdnotify.Monotonic())
	}
	return out
}

func panicIn(err error) bool {
	var p *PanicError
	return errors.As(err, &p)
}

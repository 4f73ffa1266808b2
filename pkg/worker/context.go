package worker

import (
	"context"
	"time"

	"github.com/workersd/workersd/pkg/sdnotify"
)

// scope is what the functions below find in a context.
type scope struct {
	loop *loop
	exec *execution // nil in Init and AfterRun
	slot *slot      // whose progress the watchdog looks at; nil in Init
}

type scopeKey struct{}

func scopeOf(ctx context.Context) (scope, bool) {
	s, ok := ctx.Value(scopeKey{}).(scope)
	return s, ok
}

func (l *loop) context(parent context.Context, e *execution) context.Context {
	s := scope{loop: l, exec: e}
	if e != nil {
		s.slot = e.slot
	}
	return s.in(parent)
}

func (s scope) in(parent context.Context) context.Context {
	return context.WithValue(parent, scopeKey{}, s)
}

// Begin says that Run has found work: with [BeginLater] the execution begins
// here, its timeout too. The label becomes part of the execution's id, which
// status and reasons show; it may be empty. An execution begins once: without
// BeginLater, or called again, Begin does nothing.
func Begin(ctx context.Context, label string) {
	if s, ok := scopeOf(ctx); ok && s.exec != nil {
		s.exec.begin(label)
	}
}

// ID is the execution's id, unique in the process; "" before it began.
func ID(ctx context.Context) string {
	s, ok := scopeOf(ctx)
	if !ok || s.exec == nil {
		return ""
	}
	s.loop.mu.Lock()
	defer s.loop.mu.Unlock()
	return s.exec.id
}

// Stopping is closed when the process shall leave, so that a Run that waits for
// work returns (false, nil) then. One that works goes on. Outside of a worker's
// context it is nil, which never becomes ready.
func Stopping(ctx context.Context) <-chan struct{} {
	if s, ok := scopeOf(ctx); ok {
		return s.loop.stopping
	}
	return nil
}

// Alive says that a long execution, or AfterRun, moves on: see Watchdog in the
// package documentation. It is cheap.
func Alive(ctx context.Context) {
	if s, ok := scopeOf(ctx); ok && s.slot != nil {
		s.loop.mu.Lock()
		s.slot.progress = time.Now()
		s.loop.mu.Unlock()
	}
}

// Status shows one line about the worker in the manager's status.
func Status(ctx context.Context, text string) {
	if s, ok := scopeOf(ctx); ok {
		s.loop.tell(sdnotify.Status(text))
	}
}

// Extend asks the manager for d more, from now on, for the start (in Init) or the
// stop (once [Stopping] is closed) that is under way; an execution that was let
// finish then has that time too. At other times it changes nothing: the timeout
// of an execution is a promise to those who wait.
func Extend(ctx context.Context, d time.Duration) {
	s, ok := scopeOf(ctx)
	if !ok {
		return
	}
	s.loop.tell(sdnotify.ExtendTimeout(d))
	if s.exec != nil {
		s.exec.extend(d)
	}
}

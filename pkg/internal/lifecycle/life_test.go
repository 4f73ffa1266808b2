package lifecycle

import (
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/workersd/workersd/pkg/internal/event"
	"github.com/workersd/workersd/pkg/spec"
)

const (
	sigterm = spec.Signal(syscall.SIGTERM)
	sigkill = spec.Signal(syscall.SIGKILL)
	sigabrt = spec.Signal(syscall.SIGABRT)
)

// epoch is when the tests' worlds begin.
var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// life drives one worker by hand, with a clock of its own.
type life struct {
	*testing.T
	w      Worker
	now    time.Time
	orders []string       // since the last want
	notes  []event.Record // since the beginning
}

type change = func(*spec.Worker)

func worker(changes ...change) *spec.Worker {
	w := spec.Default("w")
	w.Command = []string{"/bin/true"}
	for _, c := range changes {
		c(&w)
	}
	return &w
}

// Settings that several tests share.
func task(w *spec.Worker)    { w.Type = spec.Task }
func notify(w *spec.Worker)  { w.Ready = spec.ReadyNotify }
func overlap(w *spec.Worker) { w.Overlap = spec.OverlapReady }
func timeout(d time.Duration) change {
	return func(w *spec.Worker) { w.Timeout = d }
}
func restart(m spec.RestartMode) change {
	return func(w *spec.Worker) { w.Restart = m }
}
func maxReq(n int) change { return func(w *spec.Worker) { w.MaxRequests = n } }

const drainMax = 5 * time.Minute

// down is a worker that was never started.
func down(t *testing.T, changes ...change) *life {
	return &life{T: t, w: New(worker(changes...), drainMax, 0), now: epoch}
}

// up is a worker whose first process works.
func up(t *testing.T, changes ...change) *life {
	t.Helper()
	l := down(t, changes...)
	l.on(StartWanted{}, Tick{}, Spawned{1, 101})
	if l.w.State == Starting {
		l.on(Ready{1})
	}
	l.want(Up, "spawn 1")
	return l
}

// on gives events, at this moment.
func (l *life) on(evs ...Event) {
	for _, ev := range evs {
		var actions []Action
		l.w, actions = Step(l.w, l.now, ev)
		for _, a := range actions {
			if n, ok := a.(Note); ok {
				l.notes = append(l.notes, n.Record)
			} else {
				l.orders = append(l.orders, order(a))
			}
		}
	}
}

// order is an action for a person.
func order(a Action) string {
	switch a := a.(type) {
	case Spawn:
		return fmt.Sprintf("spawn %d", a.Generation)
	case Signal:
		return fmt.Sprintf("signal %d %v", a.Generation, a.Signal)
	case Kill:
		return fmt.Sprintf("kill %d", a.Generation)
	case Release:
		return fmt.Sprintf("release %d", a.Generation)
	case Update:
		return fmt.Sprintf("update %d", a.Generation)
	case AskRecycle:
		return "ask " + string(a.Reason)
	case Note:
		return "note " + string(a.Record.Kind)
	}
	return fmt.Sprintf("%T", a)
}

// pass lets time pass, with a Tick at each deadline as the supervisor has it.
func (l *life) pass(d time.Duration) {
	l.Helper()
	end := l.now.Add(d)
	for n := 0; !l.w.Deadline.IsZero() && !l.w.Deadline.After(end); n++ {
		if n > 10_000 {
			l.Fatalf("no Tick moves the deadline of a worker that is %v", l.w.State)
		}
		if l.w.Deadline.After(l.now) {
			l.now = l.w.Deadline
		}
		l.on(Tick{})
	}
	l.now = end
}

// want checks the state, and all orders since it was last asked.
func (l *life) want(s State, orders ...string) {
	l.Helper()
	if l.w.State != s {
		l.Errorf("the worker is %v, want %v", l.w.State, s)
	}
	if !slices.Equal(l.orders, orders) {
		l.Errorf("orders: %s; want: %s", strings.Join(l.orders, ", "), strings.Join(orders, ", "))
	}
	l.orders = nil
}

// in checks when the worker's deadline is, from now; negative: there is none.
func (l *life) in(d time.Duration) {
	l.Helper()
	switch {
	case d < 0 && !l.w.Deadline.IsZero():
		l.Errorf("there is a deadline, in %v", l.w.Deadline.Sub(l.now))
	case d >= 0 && l.w.Deadline.IsZero():
		l.Errorf("there is no deadline, want one in %v", d)
	case d >= 0 && !l.w.Deadline.Equal(l.now.Add(d)):
		l.Errorf("the deadline is in %v, want %v", l.w.Deadline.Sub(l.now), d)
	}
}

const never = -1

// last is the youngest record of a kind.
func (l *life) last(k event.Kind) event.Record {
	l.Helper()
	for i := len(l.notes) - 1; i >= 0; i-- {
		if l.notes[i].Kind == k {
			return l.notes[i]
		}
	}
	l.Errorf("there is no record of kind %s", k)
	return event.Record{}
}

func (l *life) count(k event.Kind) (n int) {
	for _, r := range l.notes {
		if r.Kind == k {
			n++
		}
	}
	return n
}

// gone ends a process and all that is left of it.
func (l *life) gone(generation uint64, st Status) {
	l.Helper()
	l.on(Exited{generation, st}, Emptied{Generation: generation})
}

func exit(code int) Status              { return Status{Code: code} }
func signalled(s syscall.Signal) Status { return Status{Signal: spec.Signal(s)} }

// same reports whether two values of a worker are equal, running executions too.
func same(a, b Worker) bool {
	for i := range a.Places {
		if !slices.Equal(a.Places[i].Running, b.Places[i].Running) {
			return false
		}
		a.Places[i].Running, b.Places[i].Running = nil, nil
	}
	return fmt.Sprintf("%+v", a) == fmt.Sprintf("%+v", b)
}

package lifecycle

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/workersd/workersd/pkg/internal/event"
	"github.com/workersd/workersd/pkg/spec"
)

// model is what a bystander knows of one worker: which orders were given, and
// what the host has told. It holds Step to the invariants and knows nothing of
// how Step comes to its orders.
type model struct {
	w     Worker
	now   time.Time
	procs []*proc // ordered, and not known to be gone
	most  uint64  // generation
	steps int
	seen  map[string]int // for the test that all was tried
	log   []string       // nil: not wanted
	loud  bool
}

// proc is one process, from the order to start it.
type proc struct {
	generation uint64
	typ        spec.Type
	spawned    bool // it was told so
	exited     bool
	started    time.Time
	ending     event.Reason // said when it was asked to leave
	asked      time.Time    // to leave
	signal     time.Time    // when that signal was ordered
	extended   time.Time
	finished   time.Time // what it was let finish
	running    map[string]time.Time
	killed     bool
	hard, kill bool // HardMemoryPassed, KillWanted came
	released   bool
}

type broken struct{ invariant, text string }

func (b broken) Error() string { return b.invariant + ": " + b.text }

func breaks(invariant, format string, args ...any) {
	panic(broken{invariant, fmt.Sprintf(format, args...)})
}

func newModel(s *spec.Worker) *model {
	return &model{w: New(s, drainMax, 0), now: epoch, seen: map[string]int{}}
}

func (m *model) find(generation uint64) *proc {
	for _, p := range m.procs {
		if p.generation == generation {
			return p
		}
	}
	return nil
}

// step gives one event, and checks what follows from it.
func (m *model) step(ev Event) {
	before, idle := m.w, len(m.procs) == 0
	stale := generationOf(ev) != 0 && m.find(generationOf(ev)) == nil
	running := [2][]Execution{slices.Clone(before.Places[0].Running), slices.Clone(before.Places[1].Running)}
	w, actions := Step(m.w, m.now, ev)
	m.steps++
	for i := range running {
		if !slices.Equal(running[i], before.Places[i].Running) {
			breaks("pure", "%T changed the value before it", ev)
		}
	}
	if m.loud {
		m.write(ev, w, actions)
	}
	if m.steps%64 == 0 {
		again, _ := Step(m.w, m.now, ev)
		if !reflect.DeepEqual(w, again) {
			breaks("pure", "the same Step gives another worker")
		}
	}
	if stale && (len(actions) > 0 || !reflect.DeepEqual(before, w)) {
		breaks("4 stale", "%T of generation %d leads to %d actions", ev, generationOf(ev), len(actions))
	}
	m.w = w
	gone := m.told(ev)
	var end *event.Record
	for _, a := range actions {
		if n, ok := a.(Note); ok && n.Record.Kind == event.Gone {
			end = &n.Record
		}
		m.ordered(ev, a, gone)
	}
	m.ended(before, ev, gone, end)
	m.holds()
	m.seen["state "+w.State.String()]++
	m.seen[fmt.Sprintf("%T", ev)]++
	if idle && len(m.procs) == 0 && before.Wanted == WantedUp && w.State == Backoff {
		m.seen["back-off while idle"]++
	}
	if len(m.procs) == 2 {
		m.seen["two places"]++
	}
}

// told takes what the host or the process tells; it gives the process of which
// nothing is left by that.
func (m *model) told(ev Event) (gone *proc) {
	if _, ok := ev.(KillWanted); ok {
		for _, p := range m.procs {
			p.kill = true
		}
	}
	p := m.find(generationOf(ev))
	if p == nil {
		return nil
	}
	switch ev.(type) {
	case Spawned:
		if !p.spawned {
			p.spawned, p.started = true, m.now
		}
		return nil
	case SpawnFailed:
		if p.spawned || p.exited {
			return nil
		}
		m.procs = slices.DeleteFunc(m.procs, func(q *proc) bool { return q == p })
		return p
	case Exited:
		p.exited = true
		return nil
	case Emptied:
		if !p.spawned && !p.exited {
			return nil
		}
		m.procs = slices.DeleteFunc(m.procs, func(q *proc) bool { return q == p })
		return p
	}
	if !p.spawned {
		return nil
	}
	switch ev := ev.(type) {
	case HardMemoryPassed:
		p.hard = true
	case ExecutionBegan:
		if !p.exited {
			p.running[ev.ID] = m.now
		}
	case ExecutionEnded:
		if began, ok := p.running[ev.ID]; ok && !p.signal.IsZero() && !began.After(p.signal) && began.Add(m.w.Spec.Timeout).After(p.signal) {
			p.finished = m.now
		}
		delete(p.running, ev.ID)
	case Extended:
		if at := m.now.Add(ev.By); !p.signal.IsZero() && at.After(p.extended) {
			p.extended = at
		}
	}
	return nil
}

// ordered checks one action.
func (m *model) ordered(ev Event, a Action, gone *proc) {
	alive := func(g uint64) *proc {
		p := m.find(g)
		if p == nil {
			breaks("1 places", "%s for a process that is not there", order(a))
		}
		return p
	}
	switch a := a.(type) {
	case Spawn:
		m.spawn(a)
	case Signal:
		p := alive(a.Generation)
		if !p.spawned || p.exited {
			breaks("1 places", "%s while nobody can take it", order(a))
		}
		p.signal = m.now
	case Kill:
		p := alive(a.Generation)
		m.mayKill(ev, p)
		p.killed = true
	case Release:
		if gone == nil || gone.generation != a.Generation || gone.released {
			breaks("5 release", "%s without an end, or for the second time", order(a))
		}
		gone.released = true
	case Update:
		alive(a.Generation)
	case AskRecycle:
		if m.w.Places[0].Asked != a.Reason {
			breaks("ask", "asks for %s, its place says %q", a.Reason, m.w.Places[0].Asked)
		}
	case Note:
		if a.Record.Kind == event.Recycling || a.Record.Kind == event.Stopping {
			p := alive(a.Record.Generation)
			p.ending, p.asked = a.Record.Reason, m.now
		}
		m.seen[string(a.Record.Kind)+" "+string(a.Record.Reason)]++
	}
}

func (m *model) spawn(a Spawn) {
	s := m.w.Spec
	if a.Generation <= m.most {
		breaks("1 places", "generation %d after %d", a.Generation, m.most)
	}
	if m.w.Wanted == WantedDown {
		breaks("1 places", "a start that nobody wants")
	}
	switch {
	case len(m.procs) == 0:
	case len(m.procs) == 1 && s.Overlap == spec.OverlapReady && s.Type == spec.Service && m.procs[0].typ == spec.Service && !m.procs[0].exited && m.procs[0].ending == "":
	default:
		breaks("1 places", "%s beside %d others (overlap = %s)", order(a), len(m.procs), s.Overlap)
	}
	m.most = a.Generation
	m.procs = append(m.procs, &proc{generation: a.Generation, typ: s.Type, running: map[string]time.Time{}})
}

// mayKill is invariant 7, with the grace told from the outside.
func (m *model) mayKill(ev Event, p *proc) {
	_, operator := ev.(KillWanted)
	if operator || p.exited || p.killed || p.hard {
		return
	}
	if p.ending == "" {
		breaks("7 grace", "SIGKILL for a process that was not asked to leave")
	}
	if !p.spawned { // its start hangs; nobody is there who could use a grace
		if m.now.Before(p.asked.Add(min(m.w.Spec.StopTimeout, m.w.DrainMax))) {
			breaks("7 grace", "SIGKILL %v after the stop of a start that hangs", m.now.Sub(p.asked))
		}
		return
	}
	if p.signal.IsZero() {
		breaks("7 grace", "SIGKILL without a stop signal")
	}
	if until := m.grace(p); m.now.Before(until) {
		breaks("7 grace", "SIGKILL %v before the end of the grace", until.Sub(m.now))
	}
}

func (m *model) grace(p *proc) time.Time {
	s := m.w.Spec
	until := p.signal.Add(s.StopTimeout)
	if p.extended.After(until) {
		until = p.extended
	}
	if s.Timeout > 0 && p.ending != event.Watchdog && p.ending != event.StartTimeout {
		for _, began := range p.running {
			if at := began.Add(s.Timeout); !began.After(p.signal) && at.After(until) {
				until = at
			}
		}
		if at := p.finished.Add(s.StopTimeout); !p.finished.IsZero() && at.After(until) {
			until = at
		}
		if at := p.started.Add(s.Timeout); p.typ == spec.Task && at.After(until) {
			until = at
		}
	}
	if at := p.signal.Add(m.w.DrainMax); at.Before(until) {
		until = at
	}
	return until
}

// ended checks what follows the end of a process.
func (m *model) ended(before Worker, ev Event, gone *proc, r *event.Record) {
	if gone == nil {
		return
	}
	failed := false
	if _, failed = ev.(SpawnFailed); failed {
		if gone.released {
			breaks("5 release", "a process that never was is released")
		}
		return
	}
	if !gone.released || r == nil {
		breaks("5 release", "generation %d is gone: released %v, told %v", gone.generation, gone.released, r != nil)
	}
	e := ev.(Emptied)
	if gone.ending != "" && !gone.hard && !gone.kill && e.Evidence.OOM == NoOOM && r.Reason != gone.ending {
		breaks("6 planned", "it was asked to leave for %s, the verdict is %s", gone.ending, r.Reason)
	}
	planned := map[event.Reason]bool{
		event.MaxRequests: true, event.MaxLifetime: true, event.SoftMemory: true, event.Stopped: true, event.Restarted: true,
		event.Reloaded: true, event.Removed: true, event.Shutdown: true, event.Timeout: gone.typ == spec.Service,
	}[r.Reason]
	if !planned {
		return
	}
	successor := before.Places[1].Generation == gone.generation // the old one works on, nothing is to be replaced
	if m.w.State == Backoff || m.w.Failures > before.Failures || !successor && m.w.Delays > before.Delays {
		breaks("6 planned", "after %s it is %v with %d failures (before: %d)", r.Reason, m.w.State, m.w.Failures, before.Failures)
	}
}

// holds checks what is true after every step.
func (m *model) holds() {
	w := &m.w
	var living []uint64
	for i := range w.Places {
		p := &w.Places[i]
		if !p.Living() {
			continue
		}
		living = append(living, p.Generation)
		if p.State != Up && p.Deadline.IsZero() {
			breaks("3 deadline", "generation %d is %v for ever", p.Generation, p.State)
		}
		if !p.Deadline.IsZero() && (w.Deadline.IsZero() || w.Deadline.After(p.Deadline)) {
			breaks("3 deadline", "the worker waits for %v, its process for %v", w.Deadline, p.Deadline)
		}
		if !p.State.Passing() && p.State != Up {
			breaks("3 deadline", "a process is %v", p.State)
		}
	}
	if len(living) != len(m.procs) {
		breaks("1 places", "generations %v are in the places, %d processes live", living, len(m.procs))
	}
	for _, p := range m.procs {
		if !slices.Contains(living, p.generation) {
			breaks("1 places", "generation %d lives and is in no place", p.generation)
		}
	}
	if len(living) > 0 && w.State != w.Places[0].State {
		breaks("1 places", "the worker is %v, its process %v", w.State, w.Places[0].State)
	}
	if len(living) > 0 {
		return
	}
	switch {
	case w.Wanted == WantedDown && (w.State != Down || !w.Deadline.IsZero()):
		breaks("5 down", "nothing lives or is wanted, and it is %v with deadline %v", w.State, w.Deadline)
	case w.Wanted == WantedUp && w.Deadline.IsZero() && w.State != Done:
		breaks("2 up", "it is wanted, %v, and waits for nothing", w.State)
	case w.Wanted == WantedUp && w.State != Done && w.State != Backoff && w.State != Waiting:
		breaks("2 up", "it is wanted, nothing lives, and it is %v", w.State)
	case w.State == Done && !w.Deadline.IsZero():
		breaks("3 deadline", "Done has a deadline")
	}
}

// tick lets Ticks come as the supervisor has them, save one that admission holds.
func (m *model) tick(held bool) {
	for n := 0; !m.w.Deadline.IsZero() && !m.w.Deadline.After(m.now); n++ {
		if held && (m.w.DueToStart(m.now) || m.w.DueToRetry(m.now)) {
			m.seen["held"]++
			return
		}
		if n == 8 {
			breaks("3 deadline", "no Tick moves its deadline, it is %v", m.w.State)
		}
		m.step(Tick{})
	}
	for _, p := range m.procs {
		if !p.signal.IsZero() && !p.killed && !p.exited && !m.now.Before(m.grace(p)) {
			breaks("3 deadline", "the grace of generation %d is over and it is not killed", p.generation)
		}
	}
}

// write keeps one step for a person.
func (m *model) write(ev Event, w Worker, actions []Action) {
	name := strings.TrimPrefix(fmt.Sprintf("%T", ev), "lifecycle.")
	if c, ok := ev.(SpecChanged); ok {
		name += settings(c.Spec)
	} else if text := fmt.Sprintf("%+v", ev); text != "{}" {
		name += text
	}
	orders := make([]string, len(actions))
	for i, a := range actions {
		orders[i] = order(a)
	}
	m.log = append(m.log, fmt.Sprintf("%12v  %-50s -> %-8v %s", m.now.Sub(epoch), name, w.State, strings.Join(orders, ", ")))
}

// settings is what a spec has other than the default.
func settings(s *spec.Worker) string {
	base := worker()
	var b []string
	for _, k := range spec.Keys {
		if k.Worker != nil {
			if v := reflect.ValueOf(k.Worker(s)).Elem().Interface(); !reflect.DeepEqual(v, reflect.ValueOf(k.Worker(base)).Elem().Interface()) {
				b = append(b, fmt.Sprintf("%s=%v", k.Name, v))
			}
		}
	}
	return "{" + strings.Join(b, " ") + "}"
}

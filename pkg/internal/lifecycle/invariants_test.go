package lifecycle

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/workersd/workersd/pkg/internal/event"
	"github.com/workersd/workersd/pkg/spec"
)

var (
	steps = flag.Int("lifecycle.steps", 0, "how many steps the invariants are held against; 0: a few")
	seed  = flag.Uint64("lifecycle.seed", 0, "of the invariants' first life; 0: another one each time")
)

// op is one thing that happens. All that is random about it comes out of r, so
// that a trace with parts cut out is a trace again.
type op struct {
	kind int
	r    uint64
}

// What can happen, with how often it does. Named for the traces of a failure.
var kinds = []struct {
	weight int
	do     func(m *model, r *rand.Rand)
}{
	{25, passes}, {18, answers}, {7, exits}, {14, empties}, {20, speaks}, {6, commanded},
	{5, outdated}, {3, respecified}, {6, granted}, {2, oddities}, {3, remembers},
}

// TestInvariants holds the seven invariants of the package comment against random
// sequences of events and times.
func TestInvariants(t *testing.T) {
	n := *steps
	if n == 0 {
		if n = 60_000; testing.Short() {
			n = 10_000
		}
	}
	first := *seed
	if first == 0 {
		first = rand.Uint64N(1 << 40)
	}
	seen := map[string]int{}
	done := 0
	for s := first; done < n; s++ {
		ops := trace(s)
		m, err := play(ops, false)
		if err != nil {
			report(t, s, ops, err)
			return
		}
		done += m.steps
		for k, v := range m.seen {
			seen[k] += v
		}
	}
	t.Logf("%d steps from seed %d", done, first)
	if n >= 50_000 {
		assertSeen(t, seen)
	}
}

// trace is one life: a spec and what happens to it.
func trace(seed uint64) []op {
	r := rand.New(rand.NewPCG(seed, 1))
	total := 0
	for _, k := range kinds {
		total += k.weight
	}
	ops := make([]op, 20+r.IntN(400))
	for i := range ops {
		n := r.IntN(total)
		for ops[i].kind = 0; n >= kinds[ops[i].kind].weight; ops[i].kind++ {
			n -= kinds[ops[i].kind].weight
		}
		ops[i].r = r.Uint64()
	}
	return ops
}

// play lets it happen; err is the invariant that broke.
func play(ops []op, loud bool) (m *model, err error) {
	r := rand.New(rand.NewPCG(ops[0].r, 2))
	m = newModel(randomSpec(r))
	m.loud = loud
	if loud {
		m.log = append(m.log, "            "+settings(m.w.Spec))
	}
	defer func() {
		switch b := recover().(type) {
		case nil:
		case broken:
			err = b
		default:
			panic(b)
		}
	}()
	m.step(StartWanted{})
	for _, o := range ops[1:] {
		kinds[o.kind].do(m, rand.New(rand.NewPCG(o.r, 3)))
	}
	return m, nil
}

// report shrinks a trace that breaks an invariant as far as it still breaks the
// same, and prints it.
func report(t *testing.T, seed uint64, ops []op, err error) {
	t.Helper()
	invariant := err.(broken).invariant
	fails := func(ops []op) bool {
		_, err := play(ops, false)
		return err != nil && err.(broken).invariant == invariant
	}
	for size := len(ops) / 2; size > 0; size /= 2 {
		for at := 1; at < len(ops); { // the first is the spec
			if less := slices.Delete(slices.Clone(ops), at, min(at+size, len(ops))); fails(less) {
				ops = less
			} else {
				at += size
			}
		}
	}
	m, err := play(ops, true)
	t.Errorf("invariant %v\nagain: go test ./pkg/internal/lifecycle -run Invariants -lifecycle.seed=%d\n%s", err, seed, strings.Join(m.log, "\n"))
}

// assertSeen keeps the test from holding because nothing happened.
func assertSeen(t *testing.T, seen map[string]int) {
	t.Helper()
	want := []string{"held", "two places", "created ", "ready ", "not_started spawn_failed", "done finished", "done crashed", "done spawn_failed",
		"backing_off finished", "stuck stopped", "stuck start_timeout", "warning soft_memory", "warning ",
		"killing stopped", "killing timeout", "killing hard_memory", "killing killed"}
	for _, s := range States {
		want = append(want, "state "+s.String())
	}
	for _, r := range event.Reasons {
		if r != event.SpawnFailed {
			want = append(want, "gone "+string(r))
		}
	}
	for _, r := range rows {
		want = append(want, fmt.Sprintf("%T", r.ev(1, situations[0])))
	}
	for _, w := range want {
		if seen[w] == 0 {
			t.Errorf("it never came to %q", w)
		}
	}
}

func pick[T any](r *rand.Rand, of ...T) T { return of[r.IntN(len(of))] }

func randomSpec(r *rand.Rand) *spec.Worker {
	d := func(most time.Duration) time.Duration { return time.Duration(r.Int64N(int64(most))) }
	s := worker()
	if r.IntN(5) == 0 {
		s.Type = spec.Task
	} else {
		s.Ready = pick(r, spec.ReadyExec, spec.ReadyNotify)
		s.Overlap = pick(r, spec.OverlapNone, spec.OverlapReady)
		s.MaxRequests = pick(r, 0, 1, 3)
		s.MaxRequestsJitter = pick(r, 0, 2)
	}
	s.Interval = pick(r, 0, time.Second, time.Minute)
	s.MaxLifetime = pick(r, 0, 0, d(time.Hour)+1)
	s.MaxLifetimeJitter = pick(r, 0, d(time.Hour))
	s.Timeout = pick(r, 0, d(time.Minute)+1)
	s.TimeoutSignal = pick(r, 0, sigabrt)
	s.Watchdog = pick(r, 0, 0, d(time.Minute)+1)
	s.StartTimeout = pick(r, time.Second, 30*time.Second)
	s.StopTimeout = pick(r, 0, time.Second, 10*time.Second, time.Hour)
	s.Restart = pick(r, spec.RestartAlways, spec.RestartAlways, spec.RestartOnFailure, spec.RestartNever)
	s.RestartDelay = pick(r, 0, 100*time.Millisecond, time.Minute)
	s.RestartDelayMax = max(s.RestartDelay, pick(r, time.Second, time.Minute))
	s.RestartReset = pick(r, 0, 10*time.Second, time.Hour)
	return s
}

func passes(m *model, r *rand.Rand) {
	switch r.IntN(6) {
	case 0, 1: // to the deadline, or a bit before
		if d := m.w.Deadline.Sub(m.now); !m.w.Deadline.IsZero() && d > 0 {
			m.now = m.now.Add(d - time.Duration(r.IntN(2)))
		}
	case 2, 3:
		m.now = m.now.Add(time.Duration(r.Int64N(int64(time.Second))))
	case 4:
		m.now = m.now.Add(time.Duration(r.Int64N(int64(2 * time.Minute))))
	case 5:
		m.now = m.now.Add(time.Duration(r.Int64N(int64(time.Hour))))
	}
	m.tick(r.IntN(5) == 0)
}

// one picks a process that fits.
func (m *model) one(r *rand.Rand, ok func(*proc) bool) *proc {
	var fits []*proc
	for _, p := range m.procs {
		if ok(p) {
			fits = append(fits, p)
		}
	}
	if len(fits) == 0 {
		return nil
	}
	return pick(r, fits...)
}

func answers(m *model, r *rand.Rand) {
	p := m.one(r, func(p *proc) bool { return !p.spawned && !p.exited })
	switch {
	case p == nil:
	case r.IntN(5) == 0:
		m.step(SpawnFailed{p.generation, "no"})
	default:
		m.step(Spawned{p.generation, 100 + int(p.generation)})
		if r.IntN(2) == 0 {
			m.step(Ready{p.generation})
		}
	}
}

func randomStatus(r *rand.Rand) Status {
	return pick(r, exit(0), exit(0), exit(1), Status{Signal: sigterm}, Status{Signal: sigkill}, signalled(syscall.SIGSEGV), Status{Unknown: true})
}

func exits(m *model, r *rand.Rand) {
	if p := m.one(r, func(p *proc) bool { return p.spawned && !p.exited }); p != nil {
		m.step(Exited{p.generation, randomStatus(r)})
	}
}

func empties(m *model, r *rand.Rand) {
	p := m.one(r, func(p *proc) bool { return p.spawned && (p.exited || p.killed) })
	if p == nil {
		return
	}
	if !p.exited && r.IntN(4) > 0 {
		m.step(Exited{p.generation, Status{Signal: sigkill}})
	}
	ev := Emptied{Generation: p.generation}
	if r.IntN(6) == 0 {
		ev.Evidence.OOM = pick(r, OOMLeaf, OOMPool, OOMUnit, OOMHost)
	}
	m.step(ev)
}

// said is something a process may say.
func said(r *rand.Rand, g uint64) Event {
	id := pick(r, "a", "b", "c")
	switch r.IntN(20) {
	case 0, 1:
		return Ready{g}
	case 2:
		return SaidStopping{g}
	case 3:
		return SaidStatus{g, id}
	case 4, 5:
		return WatchdogPinged{g}
	case 6:
		return Extended{g, time.Duration(r.Int64N(int64(10 * time.Minute)))}
	case 7:
		return MainPIDChanged{g, 1 + r.IntN(1000)}
	case 8:
		return pick[Event](r, SoftMemoryPassed{g, 2, 1}, WatchdogTriggered{g}, HardMemoryPassed{g, 2, 1})
	case 9, 10:
		return ExecutionsCounted{g, r.IntN(4)}
	case 11, 12, 13, 14:
		return ExecutionEnded{g, id, pick(r, OK, Fail, Skip)}
	}
	return ExecutionBegan{g, id}
}

func speaks(m *model, r *rand.Rand) {
	if p := m.one(r, func(*proc) bool { return true }); p != nil {
		m.step(said(r, p.generation))
	}
}

func commanded(m *model, r *rand.Rand) {
	m.step(pick[Event](r,
		StartWanted{}, StartWanted{}, StartWanted{},
		StopWanted{pick(r, event.Stopped, event.Removed, event.Shutdown, event.Reloaded)},
		RestartWanted{event.Restarted}, RestartWanted{event.Reloaded}, RestartWanted{event.Reloaded}, KillWanted{event.Killed}))
}

// remembers starts what was stopped, so that not most of a life is spent down.
func remembers(m *model, r *rand.Rand) {
	if m.w.Wanted == WantedDown || m.w.State == Done {
		m.step(StartWanted{})
	}
}

// outdated is an event about a process that is not there.
func outdated(m *model, r *rand.Rand) {
	g := 1 + r.Uint64N(m.most+3)
	if m.find(g) != nil {
		g = m.most + 1
	}
	m.step(pick[Event](r, Spawned{g, 7}, SpawnFailed{g, "no"}, Exited{g, randomStatus(r)}, Emptied{Generation: g}, said(r, g)))
}

func respecified(m *model, r *rand.Rand) {
	if r.IntN(4) == 0 {
		m.step(DrainMaxChanged{pick(r, time.Minute, drainMax, time.Hour)})
		return
	}
	m.step(SpecChanged{randomSpec(r)})
	if r.IntN(2) == 0 {
		m.step(RestartWanted{event.Reloaded})
	}
	m.tick(r.IntN(5) == 0)
}

func granted(m *model, r *rand.Rand) {
	if m.w.Places[0].Asked != "" || r.IntN(10) == 0 {
		m.step(RecycleGranted{})
	}
}

// oddities are orders of events that a host should not have.
func oddities(m *model, r *rand.Rand) {
	p := m.one(r, func(*proc) bool { return true })
	if p == nil {
		return
	}
	switch g := p.generation; r.IntN(5) {
	case 0: // an end without an exit
		m.step(Emptied{Generation: g})
	case 1: // an exit before the start
		m.step(Exited{g, randomStatus(r)})
	case 2: // twice
		m.step(Spawned{g, 8})
		m.step(Spawned{g, 9})
	case 3:
		m.step(SpawnFailed{g, "no"})
	case 4:
		m.step(Exited{g, exit(0)})
		m.step(Exited{g, exit(1)})
	}
}

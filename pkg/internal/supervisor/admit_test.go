package supervisor_test

import (
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/workersd/workersd/pkg/internal/admission"
	"github.com/workersd/workersd/pkg/internal/event"
	"github.com/workersd/workersd/pkg/internal/hosttest"
	"github.com/workersd/workersd/pkg/internal/lifecycle"
	"github.com/workersd/workersd/pkg/internal/supervisor"
	"github.com/workersd/workersd/pkg/spec"
)

func ready(w *spec.Worker) { w.Ready = spec.ReadyNotify }

// down counts workers that are not up now.
func (r *rig) down() (n int) {
	for _, st := range r.workers() {
		if st.Worker.State != lifecycle.Up && !(st.Worker.Places[1].State == lifecycle.Up && st.Worker.Places[1].Living()) {
			n++
		}
	}
	return n
}

func TestMaxStarting(t *testing.T) {
	l := many(20, ready)
	l.Manager.MaxStarting = 4
	run(t, options{list: l, script: behave(hosttest.Behaviour{ReadyAfter: 10 * time.Second})}, func(r *rig) {
		for step := range 5 {
			r.sleep(5 * time.Second)
			starting, up := 0, 0
			for _, st := range r.workers() {
				switch st.Worker.State {
				case lifecycle.Starting:
					starting++
				case lifecycle.Up:
					up++
				}
			}
			if starting != 4 || up != 4*step {
				t.Errorf("after %v: %d starting, %d up", time.Since(r.began), starting, up)
			}
			if r.snapshot().FirstRound != (step == 4) {
				t.Errorf("after %v: first round %v", time.Since(r.began), r.snapshot().FirstRound)
			}
			r.sleep(5*time.Second + time.Millisecond)
		}
		if n := r.down(); n != 0 {
			t.Errorf("%d are not up", n)
		}
	})
}

// A long list is not ordered all at once: of 5000 starts that the host was asked
// for together most waited for their turn until start_timeout, or found no
// descriptor.
func TestManyStartsAreOrderedInTurn(t *testing.T) {
	const n = 8 * admission.AtOnce
	run(t, options{list: many(n), script: behave(hosttest.Behaviour{StartDelay: 10 * time.Second})}, func(r *rig) {
		most := 0
		for range 100 {
			ordered := 0
			for _, st := range r.workers() {
				if p := &st.Worker.Places[0]; st.Worker.State == lifecycle.Starting && p.PID == 0 {
					ordered++
				}
			}
			most = max(most, ordered)
			r.sleep(time.Second)
		}
		if most != admission.AtOnce {
			t.Errorf("%d starts were ordered at once, want %d", most, admission.AtOnce)
		}
		if d := r.down(); d != 0 {
			t.Errorf("%d are not up", d)
		}
		r.want(n, event.Created, "", "")
		r.want(0, event.Stuck, "", "")
		<-r.s.FirstRound()
	})
}

func TestWhatIsHeldCanBeStoppedAndRemoved(t *testing.T) {
	l := many(6, ready)
	l.Manager.MaxStarting = 1
	run(t, options{list: l, script: behave(hosttest.Behaviour{ReadyAfter: 10 * time.Second})}, func(r *rig) {
		r.apply(supervisor.Stop, "w@1", "w@5")
		r.apply(supervisor.Start, "w@5")
		l.Workers = append(l.Workers[:2:2], l.Workers[3:]...) // without w@2
		r.reload(l)
		r.sleep(time.Minute)
		for _, name := range []string{"w@0", "w@3", "w@4", "w@5"} {
			r.state(name, lifecycle.Up)
		}
		r.state("w@1", lifecycle.Down)
		r.want(0, event.Created, "w@2", "")
		<-r.s.FirstRound()
	})
}

func TestASlowStartHoldsUpNobody(t *testing.T) {
	l := many(10)
	l.Manager.MaxStarting = 2
	script := by(map[string]hosttest.Behaviour{"w@0": {StartHangs: true}, "w@1": {StartHangs: true}})
	run(t, options{list: l, script: script}, func(r *rig) {
		r.sleep(time.Minute) // start_timeout is 30 s
		for _, st := range r.workers()[2:] {
			r.state(st.Spec.Name, lifecycle.Up)
		}
		<-r.s.FirstRound()
		r.want(1, event.Stuck, "w@0", "")
		r.h.LetStart("w@0")
		r.h.LetStart("w@1")
		r.sleep(time.Minute)
		r.state("w@0", lifecycle.Up)
		r.want(1, event.Created, "w@0", "")
	})
}

func TestMaxRecyclingKeepsTheOthersAtWork(t *testing.T) {
	for _, c := range []struct {
		limit spec.Share
		want  int
	}{{spec.Share{N: 2}, 2}, {spec.Share{N: 25, Percent: true}, 3}, {spec.Share{}, 12}} {
		changes := []change{ready, func(w *spec.Worker) { w.MaxRecycling = c.limit }}
		b := hosttest.Behaviour{ReadyAfter: 3 * time.Second, StopDelay: 2 * time.Second}
		run(t, options{list: many(12, changes...), script: behave(b)}, func(r *rig) {
			r.sleep(time.Minute)
			r.reload(many(12, append(changes, func(w *spec.Worker) { w.Command = []string{"/bin/other"} })...))
			most := 0
			for range 60 {
				most = max(most, r.down())
				r.sleep(time.Second)
			}
			if most != c.want {
				t.Errorf("max_recycling %+v: %d were down at once", c.limit, most)
			}
			r.want(12, event.Gone, "", event.Reloaded)
			if n := r.down(); n != 0 {
				t.Errorf("%d are not up", n)
			}
		})
	}
}

func TestABadListGoesNoFurtherThanMaxRecycling(t *testing.T) {
	changes := []change{ready, func(w *spec.Worker) { w.MaxRecycling, w.StartTimeout = spec.Share{N: 1}, 5*time.Second }}
	script := func(o supervisor.SpawnOrder) hosttest.Behaviour {
		if o.Spec.Command[0] == "/bin/bad" {
			return hosttest.Behaviour{Exits: true, Status: lifecycle.Status{Code: 1}}
		}
		return hosttest.Behaviour{ReadyAfter: time.Second}
	}
	run(t, options{list: many(10, changes...), script: script}, func(r *rig) {
		r.sleep(time.Minute)
		r.reload(many(10, append(changes, func(w *spec.Worker) { w.Command = []string{"/bin/bad"} })...))
		r.sleep(time.Hour)
		if n := r.down(); n != 1 {
			t.Errorf("%d of 10 are down by a bad list, max_recycling is 1", n)
		}
		// What keeps the others healthy goes on.
		p := r.h.Process("w@7")
		p.Say(lifecycle.SoftMemoryPassed{Generation: p.ID.Generation, Usage: 2, Limit: 1})
		r.sleep(time.Minute)
		r.want(1, event.Gone, "w@7", event.SoftMemory)
		r.reload(many(10, append(changes, func(w *spec.Worker) { w.Command = []string{"/bin/good"} })...))
		r.sleep(10 * time.Minute)
		if n := r.down(); n != 0 {
			t.Errorf("%d of 10 are down after a good list", n)
		}
	})
}

func TestTheMoreUrgentRecyclesFirst(t *testing.T) {
	changes := []change{ready, func(w *spec.Worker) { w.MaxRecycling = spec.Share{N: 1} }}
	b := hosttest.Behaviour{ReadyAfter: 2 * time.Second, StopDelay: 2 * time.Second}
	run(t, options{list: many(5, changes...), script: behave(b)}, func(r *rig) {
		r.sleep(time.Minute)
		r.reload(many(5, append(changes, func(w *spec.Worker) { w.Command = []string{"/bin/other"} })...))
		p := r.h.Process("w@4")
		p.Say(lifecycle.SoftMemoryPassed{Generation: p.ID.Generation, Usage: 2, Limit: 1})
		r.sleep(time.Minute)
		var order []string
		for _, e := range r.all() {
			if e.Kind == event.Recycling {
				order = append(order, e.Worker+" "+string(e.Reason))
			}
		}
		want := "w@0 reloaded, w@4 soft_memory, w@1 reloaded, w@2 reloaded, w@3 reloaded"
		if got := strings.Join(order, ", "); got != want {
			t.Errorf("%s\nwant %s", got, want)
		}
	})
}

func TestOverlap(t *testing.T) {
	overlap := func(w *spec.Worker) { w.Overlap, w.MaxLifetime = spec.OverlapReady, 10*time.Minute }
	b := hosttest.Behaviour{ReadyAfter: 20 * time.Second, StopDelay: 5 * time.Second}
	run(t, options{list: many(4, ready, overlap), script: behave(b)}, func(r *rig) {
		r.sleep(time.Minute)
		for range 6 * 60 * 6 {
			r.sleep(10 * time.Second)
			if n := r.down(); n != 0 {
				for _, st := range r.workers() {
					p := st.Worker.Places
					if p[0].State != lifecycle.Up && p[1].State != lifecycle.Up {
						t.Fatalf("at %v %s is not up in either place: %v, %v", time.Since(r.began), st.Spec.Name, p[0].State, p[1].State)
					}
				}
			}
		}
		if n := r.of(event.Gone, "", event.MaxLifetime); n < 4*30 {
			t.Errorf("%d recycles in six hours", n)
		}
		r.want(0, event.BackingOff, "", "")
	})
}

func TestASuccessorThatFailsLeavesTheOldOneAtWork(t *testing.T) {
	overlap := func(w *spec.Worker) { w.Overlap = spec.OverlapReady }
	script := func(o supervisor.SpawnOrder) hosttest.Behaviour {
		if o.Spec.Command[0] == "/bin/bad" {
			return hosttest.Behaviour{StartError: "no such file"}
		}
		return hosttest.Behaviour{ReadyAfter: time.Second}
	}
	l := list(worker("a", ready, overlap))
	run(t, options{list: l, script: script}, func(r *rig) {
		r.sleep(time.Minute)
		before := r.pids()
		r.reload(list(worker("a", ready, overlap, func(w *spec.Worker) { w.Command = []string{"/bin/bad"} })))
		r.sleep(time.Hour)
		if after := r.pids(); after["a"] != before["a"] {
			t.Errorf("pid %d, then %d", before["a"], after["a"])
		}
		if n := r.of(event.NotStarted, "a", ""); n < 30 {
			t.Errorf("tried %d times", n)
		}
		r.reload(l)
		r.sleep(10 * time.Minute)
		r.want(1, event.Gone, "a", event.Reloaded)
		r.state("a", lifecycle.Up)
	})
}

func TestGenerationsNeverRepeat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := hosttest.New(t, behave(hosttest.Behaviour{Exits: true, ExitAfter: time.Second, Execution: 500 * time.Millisecond}))
		defer h.Close()
		floor, writes := uint64(1), 0
		for range 5 { // managers, one after the other, on one machine
			o := options{list: many(3, func(w *spec.Worker) { w.RestartDelay = 0 })}
			o.set = func(o *supervisor.Options) {
				o.Floor = floor
				o.Reserve = func(to uint64, done func()) {
					if to <= floor {
						t.Errorf("reserve %d after %d", to, floor)
					}
					time.AfterFunc(3*time.Second, func() { floor, writes = to, writes+1; done() })
				}
			}
			r := start(t, h, o)
			r.sleep(time.Second)
			r.want(0, event.Created, "", "") // nothing is safe yet
			r.sleep(time.Hour)
			if n := r.of(event.Created, "w@0", ""); n < 3000 {
				t.Errorf("%d starts in an hour of one-second lives", n)
			}
			r.s.Shutdown()
			r.end()
			time.Sleep(time.Minute)
		} // hosttest fails the test when a generation comes again
		if writes > 5*6 {
			t.Errorf("%d writes for five hours", writes)
		}
		h.AssertEmpty()
	})
}

func TestAHangingReservationBlocksOnlyWhatNeedsIt(t *testing.T) {
	var hang atomic.Bool
	var late func()
	set := func(o *supervisor.Options) {
		o.Reserve = func(_ uint64, done func()) {
			if hang.Load() {
				late = done
			} else {
				done()
			}
		}
	}
	fast := func(w *spec.Worker) { w.RestartDelay = 0 }
	script := by(map[string]hosttest.Behaviour{"loop": {Exits: true, ExitAfter: time.Second, Execution: 500 * time.Millisecond}})
	run(t, options{list: list(worker("loop", fast), worker("calm", fast)), set: set, script: script}, func(r *rig) {
		hang.Store(true)
		r.sleep(time.Hour)
		n := r.of(event.Created, "loop", "")
		if n > 1100 || n < 900 {
			t.Errorf("%d starts with a thousand reserved", n)
		}
		r.state("loop", lifecycle.Waiting)
		r.apply(supervisor.Restart, "calm")
		r.sleep(time.Minute)
		r.state("calm", lifecycle.Up)
		r.want(2, event.Created, "calm", "")
		late()
		r.sleep(10 * time.Minute)
		if after := r.of(event.Created, "loop", ""); after < n+500 {
			t.Errorf("%d starts, then %d", n, after)
		}
	})
}

func TestASuccessorThatIsTriedAgainWaitsForRoom(t *testing.T) {
	overlap := func(w *spec.Worker) { w.Overlap = spec.OverlapReady }
	l := many(6, ready, overlap, func(w *spec.Worker) { w.StartTimeout = 10 * time.Second })
	l.Manager.MaxStarting = 2
	script := func(o supervisor.SpawnOrder) hosttest.Behaviour {
		if o.Spec.Command[0] == "/bin/bad" {
			return hosttest.Behaviour{} // it is never ready
		}
		return hosttest.Behaviour{ReadyAfter: time.Second}
	}
	run(t, options{list: l, script: script}, func(r *rig) {
		r.sleep(time.Minute)
		bad := many(6, ready, overlap, func(w *spec.Worker) { w.StartTimeout, w.Command = 10*time.Second, []string{"/bin/bad"} })
		bad.Manager.MaxStarting = 2
		r.reload(bad)
		for range 600 {
			r.sleep(time.Second)
			starting := 0
			for _, st := range r.workers() {
				if p := st.Worker.Places[1]; p.Living() && p.State == lifecycle.Starting {
					starting++
				}
			}
			if starting > 2 {
				t.Errorf("%d are starting, max_starting is 2", starting)
				break
			}
		}
		if n := r.down(); n != 0 {
			t.Errorf("%d are down", n)
		}
		r.want(0, event.Gone, "", event.Reloaded)
		if n := r.of(event.Gone, "", event.StartTimeout); n < 60 {
			t.Errorf("%d tries", n)
		}
	})
}

// One that does not die holds its place against a reload alone: what keeps the
// others healthy goes on.
func TestAStuckProcessDoesNotHoldUpRecycling(t *testing.T) {
	l := many(2, func(w *spec.Worker) {
		w.MaxRecycling = spec.Share{N: 1}
		w.SoftMemory, w.HardMemory = 100*spec.MiB, spec.None
	})
	script := by(map[string]hosttest.Behaviour{
		"w@0": {Immortal: true, Deaf: true, Memory: spec.MiB, Growth: 10 * spec.MiB},
		"w@1": {Memory: spec.MiB, Growth: 5 * spec.MiB},
	})
	run(t, options{list: l, script: script, left: true}, func(r *rig) {
		r.sleep(time.Hour)
		r.want(1, event.Stuck, "w@0", "")
		if n := r.of(event.Gone, "w@1", event.SoftMemory); n < 10 {
			t.Errorf("w@1 was recycled %d times in an hour", n)
		}
		r.h.Process("w@0").Free()
	})
}

// A worker keeps its name where its entry gets another one, and what it has
// asked for.
func TestARenamedEntryKeepsWhoWaits(t *testing.T) {
	set := func(entry string) spec.List {
		return many(2, func(w *spec.Worker) {
			w.MaxRecycling = spec.Share{N: 1}
			w.MaxLifetime = time.Minute
			w.StopTimeout = 30 * time.Second
			w.Entry = entry
		})
	}
	run(t, options{list: set("a"), script: behave(hosttest.Behaviour{StopDelay: 20 * time.Second})}, func(r *rig) {
		r.sleep(time.Minute + time.Second)
		waits := ""
		for _, st := range r.workers() {
			if p := st.Worker.Places[0]; p.Asked != "" && p.Ending == "" {
				waits = st.Spec.Name
			}
		}
		if waits == "" {
			t.Fatal("nobody waits while the other drains")
		}
		r.reload(set("b"))
		r.sleep(time.Hour)
		if n := r.of(event.Gone, waits, event.MaxLifetime); n < 10 {
			t.Errorf("%s, which lives for a minute, was recycled %d times in an hour", waits, n)
		}
	})
}

// A start may be put off by who starts, but not for ever: it holds up the others.
func TestAStartThatIsExtendedEnds(t *testing.T) {
	l := many(3, ready)
	l.Manager.MaxStarting = 1
	script := by(map[string]hosttest.Behaviour{"w@0": {}, "w@1": {ReadyAfter: time.Second}, "w@2": {ReadyAfter: time.Second}})
	run(t, options{list: l, script: script}, func(r *rig) {
		p := r.h.Process("w@0")
		p.Say(lifecycle.Extended{Generation: p.ID.Generation, By: 1000 * time.Hour})
		r.sleep(l.Manager.DrainMax + time.Minute)
		for _, name := range []string{"w@1", "w@2"} {
			if st := r.status(name).Worker.State; st != lifecycle.Up {
				t.Errorf("%s is %v", name, st)
			}
		}
		if r.of(event.Gone, "w@0", event.StartTimeout) == 0 {
			t.Error("w@0 starts for ever")
		}
	})
}

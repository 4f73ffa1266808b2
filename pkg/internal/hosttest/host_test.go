package hosttest

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/workersd/workersd/pkg/internal/lifecycle"
	"github.com/workersd/workersd/pkg/internal/supervisor"
	"github.com/workersd/workersd/pkg/spec"
)

const sigterm = spec.Signal(syscall.SIGTERM)

// complaints takes what a host holds against its user.
type complaints struct {
	mu  sync.Mutex // guards all
	all []string
}

func (*complaints) Helper() {}
func (c *complaints) Errorf(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.all = append(c.all, fmt.Sprintf(format, args...))
}

// bench is a host on which orders are given by hand.
type bench struct {
	*testing.T
	*complaints
	h     *Host
	began time.Time

	mu    sync.Mutex // guards below
	heard []string   // events, with the second in which they came
}

func (*bench) Helper() {}

// on runs body with a host of one behaviour.
func on(t *testing.T, b Behaviour, body func(b *bench)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		be := &bench{T: t, complaints: &complaints{}, began: time.Now()}
		be.h = New(be.complaints, func(supervisor.SpawnOrder) Behaviour { return b })
		stop, stopped := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(stopped)
			for {
				select {
				case ev := <-be.h.Events():
					be.mu.Lock()
					be.heard = append(be.heard, fmt.Sprintf("%ds %s %s", int(time.Since(be.began).Seconds()), ev.Worker, describe(ev.Event)))
					be.mu.Unlock()
				case <-stop:
					return
				}
			}
		}()
		body(be)
		be.h.Close()
		close(stop)
		<-stopped
	})
}

func describe(ev lifecycle.Event) string {
	name := strings.TrimPrefix(fmt.Sprintf("%T", ev), "lifecycle.")
	switch ev := ev.(type) {
	case lifecycle.Exited:
		return fmt.Sprintf("%s %d %v", name, ev.Generation, ev.Status)
	case lifecycle.Emptied:
		return fmt.Sprintf("%s %d %d", name, ev.Generation, ev.Evidence.OOM)
	}
	return name + " " + strings.Trim(fmt.Sprintf("%v", ev), "{}")
}

func of(name string, generation uint64) lifecycle.ProcessID {
	return lifecycle.ProcessID{Worker: name, Generation: generation}
}

func (b *bench) spawn(name string, generation uint64, changes ...func(*spec.Worker)) {
	w := spec.Default(name)
	w.Command = []string{"/bin/true"}
	for _, c := range changes {
		c(&w)
	}
	b.h.Spawn(supervisor.SpawnOrder{ID: of(name, generation), Spec: &w, MaxRequests: w.MaxRequests})
}

func (b *bench) sleep(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// want checks all events since it was last asked.
func (b *bench) want(events ...string) {
	b.T.Helper()
	b.sleep(time.Millisecond)
	b.mu.Lock()
	defer b.mu.Unlock()
	if !slices.Equal(b.heard, events) {
		b.T.Errorf("heard:\n  %s\nwant:\n  %s", strings.Join(b.heard, "\n  "), strings.Join(events, "\n  "))
	}
	b.heard = nil
}

// held checks what the host holds against us, all of it.
func (b *bench) held(texts ...string) {
	b.T.Helper()
	b.complaints.mu.Lock()
	defer b.complaints.mu.Unlock()
	if !slices.Equal(b.all, texts) {
		b.T.Errorf("complaints:\n  %s\nwant:\n  %s", strings.Join(b.all, "\n  "), strings.Join(texts, "\n  "))
	}
	b.all = nil
}

// over ends a life as the supervisor would, and checks that nothing is left.
func (b *bench) over(name string, generation uint64) {
	b.T.Helper()
	b.h.Release(of(name, generation))
	b.sleep(time.Millisecond)
	b.h.AssertEmpty()
	b.held()
}

func TestAStart(t *testing.T) {
	on(t, Behaviour{}, func(b *bench) {
		b.spawn("a", 1)
		b.want("0s a Spawned 1 101")
		if p := b.h.Process("a"); p == nil || p.PID != 101 || !p.Alive() {
			t.Errorf("process %+v", p)
		}
		b.held()
	})
	on(t, Behaviour{StartDelay: 5 * time.Second, ReadyAfter: 2 * time.Second}, func(b *bench) {
		b.spawn("a", 1)
		b.sleep(4 * time.Second)
		b.want()
		b.sleep(time.Minute)
		b.want("5s a Spawned 1 101", "7s a Ready 1")
	})
	on(t, Behaviour{StartError: "no such file"}, func(b *bench) {
		b.spawn("a", 1)
		b.want("0s a SpawnFailed 1 no such file")
		b.h.AssertEmpty() // there is nothing to release
		b.held()
		b.spawn("a", 2)
		b.want("0s a SpawnFailed 2 no such file")
		b.held()
	})
}

func TestOrdersOfOneWorkerWaitForItsStart(t *testing.T) {
	on(t, Behaviour{StartHangs: true}, func(b *bench) {
		b.spawn("a", 1)
		b.h.Kill(of("a", 1))
		b.spawn("b", 2)
		b.sleep(time.Hour)
		b.want()
		b.h.LetStart("b") // a's orders hold up nobody else
		b.want("3600s b Spawned 2 101")
		b.h.LetStart("a")
		b.want("3600s a Spawned 1 102", "3600s a Exited 1 signal SIGKILL", "3600s a Emptied 1 0")
		b.h.Release(of("a", 1))
		b.held()
	})
}

// The old process must be reachable while the start of its successor hangs.
func TestAHangingSuccessorHoldsUpNoOrderOfTheOldOne(t *testing.T) {
	overlap := func(w *spec.Worker) { w.Overlap = spec.OverlapReady }
	synctest.Test(t, func(t *testing.T) {
		c := &complaints{}
		h := New(c, func(o supervisor.SpawnOrder) Behaviour { return Behaviour{StartHangs: o.ID.Generation == 2} })
		b := &bench{T: t, complaints: c, h: h}
		next := func() string { return describe((<-h.Events()).Event) }
		b.spawn("a", 1, overlap)
		if ev := next(); ev != "Spawned 1 101" {
			t.Error(ev)
		}
		b.spawn("a", 2, overlap)
		h.Kill(of("a", 2))
		h.Kill(of("a", 1))
		for _, want := range []string{"Exited 1 signal SIGKILL", "Emptied 1 0"} {
			if ev := next(); ev != want {
				t.Errorf("%s, want %s", ev, want)
			}
		}
		b.sleep(time.Second)
		h.Release(of("a", 1))
		h.LetStart("a")
		for _, want := range []string{"Spawned 2 102", "Exited 2 signal SIGKILL", "Emptied 2 0"} {
			if ev := next(); ev != want {
				t.Errorf("%s, want %s", ev, want)
			}
		}
		b.sleep(time.Second)
		h.Release(of("a", 2))
		b.sleep(time.Second)
		h.AssertEmpty()
		b.held()
		h.Close()
	})
}

func TestEnds(t *testing.T) {
	stop := func(b *bench) { b.h.Signal(of("a", 1), sigterm) }
	kill := func(b *bench) { b.h.Kill(of("a", 1)) }
	after := func(d time.Duration) func(*bench) { return func(b *bench) { b.sleep(d) } }
	for _, c := range []struct {
		name string
		b    Behaviour
		do   []func(*bench)
		want []string
		left string // why AssertEmpty complains; "": it does not, after a Release
	}{
		{"by itself", Behaviour{Exits: true, ExitAfter: 3 * time.Second, Status: lifecycle.Status{Code: 4}}, []func(*bench){after(5 * time.Second)},
			[]string{"3s a Exited 1 exit 4", "3s a Emptied 1 0"}, ""},
		{"by the stop signal", Behaviour{}, []func(*bench){stop}, []string{"0s a Exited 1 signal SIGTERM", "0s a Emptied 1 0"}, ""},
		{"slowly", Behaviour{StopDelay: 7 * time.Second}, []func(*bench){stop, after(10 * time.Second)}, []string{"7s a Exited 1 exit 0", "7s a Emptied 1 0"}, ""},
		{"deaf", Behaviour{Deaf: true}, []func(*bench){stop, after(time.Hour)}, nil, "a:1: its main process lives"},
		{"deaf, killed", Behaviour{Deaf: true}, []func(*bench){stop, kill}, []string{"0s a Exited 1 signal SIGKILL", "0s a Emptied 1 0"}, ""},
		{"its tree stays", Behaviour{Grandchildren: true}, []func(*bench){stop, after(time.Hour)}, []string{"0s a Exited 1 signal SIGTERM"}, "a:1: a part of its tree lives"},
		{"its tree stays until killed", Behaviour{Grandchildren: true}, []func(*bench){stop, after(time.Second), kill},
			[]string{"0s a Exited 1 signal SIGTERM", "1s a Emptied 1 0"}, ""},
		{"killed with its tree", Behaviour{Grandchildren: true}, []func(*bench){kill}, []string{"0s a Exited 1 signal SIGKILL", "0s a Emptied 1 0"}, ""},
		{"immortal", Behaviour{Immortal: true}, []func(*bench){kill, after(time.Hour), kill}, nil, "a:1: its main process lives"},
		{"immortal, then free", Behaviour{Immortal: true}, []func(*bench){kill, after(5 * time.Second), func(b *bench) { b.h.Process("a").Free() }},
			[]string{"5s a Exited 1 signal SIGKILL", "5s a Emptied 1 0"}, ""},
		{"free, and then killed", Behaviour{Immortal: true}, []func(*bench){func(b *bench) { b.h.Process("a").Free() }, after(time.Second), kill},
			[]string{"1s a Exited 1 signal SIGKILL", "1s a Emptied 1 0"}, ""},
		{"told to exit", Behaviour{}, []func(*bench){func(b *bench) { b.h.Process("a").Exit(lifecycle.Status{Code: 9}) }},
			[]string{"0s a Exited 1 exit 9", "0s a Emptied 1 0"}, ""},
		{"out of memory", Behaviour{Grandchildren: true}, []func(*bench){func(b *bench) { b.h.Process("a").OutOfMemory(lifecycle.OOMHost) }},
			[]string{"0s a Exited 1 signal SIGKILL", "0s a Emptied 1 4"}, ""},
		{"nothing released", Behaviour{Exits: true}, []func(*bench){func(b *bench) { b.h.Quiet() }},
			[]string{"0s a Exited 1 exit 0", "0s a Emptied 1 0"}, "a:1: was not released"},
	} {
		t.Run(c.name, func(t *testing.T) {
			on(t, c.b, func(b *bench) {
				b.spawn("a", 1)
				if !c.b.Exits {
					b.want("0s a Spawned 1 101")
				} else {
					c.want = append([]string{"0s a Spawned 1 101"}, c.want...)
				}
				for _, do := range c.do {
					do(b)
				}
				b.want(c.want...)
				if c.left == "" {
					b.over("a", 1)
					return
				}
				b.h.AssertEmpty()
				b.held(c.left)
			})
		})
	}
}

func TestSlowOrders(t *testing.T) {
	on(t, Behaviour{OrderDelay: 5 * time.Second}, func(b *bench) {
		b.spawn("a", 1)
		b.spawn("b", 2)
		b.want("0s a Spawned 1 101", "0s b Spawned 2 102")
		b.h.Signal(of("a", 1), sigterm)
		b.sleep(2 * time.Second)
		b.h.Kill(of("b", 2)) // waits for its own process alone
		b.sleep(10 * time.Second)
		b.want("5s a Exited 1 signal SIGTERM", "5s a Emptied 1 0", "7s b Exited 2 signal SIGKILL", "7s b Emptied 2 0")
		b.h.Release(of("a", 1))
		b.h.Release(of("b", 2))
		b.sleep(time.Second)
		b.spawn("a", 3) // allowed: it stands behind the release
		b.sleep(3 * time.Second)
		b.want()
		b.sleep(2 * time.Second)
		b.want("17s a Spawned 3 103")
		b.held()
	})
}

func TestExecutions(t *testing.T) {
	on(t, Behaviour{Execution: 2 * time.Second, Pause: time.Second, HangsAt: 2}, func(b *bench) {
		b.spawn("a", 1)
		b.sleep(time.Hour)
		b.want("0s a Spawned 1 101", "1s a ExecutionBegan 1 1", "3s a ExecutionEnded 1 1 0", "4s a ExecutionBegan 1 2")
	})
	on(t, Behaviour{Execution: time.Second, LeavesAtMax: true, Result: lifecycle.Fail}, func(b *bench) {
		b.spawn("a", 1, func(w *spec.Worker) { w.MaxRequests = 2 })
		b.sleep(time.Hour)
		b.want("0s a Spawned 1 101", "0s a ExecutionBegan 1 1", "1s a ExecutionEnded 1 1 1", "1s a ExecutionBegan 1 2", "2s a ExecutionEnded 1 2 1",
			"2s a Exited 1 exit 0", "2s a Emptied 1 0")
		b.over("a", 1)
	})
	on(t, Behaviour{Execution: 10 * time.Second, Finishes: true}, func(b *bench) {
		b.spawn("a", 1)
		b.sleep(4 * time.Second)
		b.h.Signal(of("a", 1), sigterm)
		b.sleep(time.Hour)
		b.want("0s a Spawned 1 101", "0s a ExecutionBegan 1 1", "10s a ExecutionEnded 1 1 0", "10s a Exited 1 exit 0", "10s a Emptied 1 0")
		b.over("a", 1)
	})
	on(t, Behaviour{Pings: 20 * time.Second}, func(b *bench) {
		b.spawn("a", 1)
		b.sleep(50 * time.Second)
		b.h.Process("a").Say(lifecycle.SaidStatus{Generation: 1, Text: "busy"})
		b.want("0s a Spawned 1 101", "20s a WatchdogPinged 1", "40s a WatchdogPinged 1", "50s a SaidStatus 1 busy")
	})
}

func TestMemory(t *testing.T) {
	limits := func(w *spec.Worker) { w.SoftMemory, w.HardMemory = 20*spec.MiB, 30*spec.MiB }
	const soft, hard = "10s a SoftMemoryPassed 1 20.0M 20M", "20s a Exited 1 signal SIGKILL"
	grows := Behaviour{Memory: 10 * spec.MiB, Growth: spec.MiB}
	on(t, grows, func(b *bench) {
		b.spawn("a", 1, limits)
		b.sleep(5 * time.Second)
		if m := b.h.Process("a").Memory(); m < 15*spec.MiB-spec.KiB || m > 15*spec.MiB+spec.KiB {
			t.Errorf("it uses %v after 5 s", m)
		}
		b.sleep(time.Minute)
		b.want("0s a Spawned 1 101", soft, hard, "20s a Emptied 1 1")
		b.over("a", 1)
	})
	sampled := grows
	sampled.Sampled = true
	on(t, sampled, func(b *bench) {
		b.spawn("a", 1, limits)
		b.sleep(time.Minute)
		b.want("0s a Spawned 1 101", soft, "20s a HardMemoryPassed 1 30.0M 30M") // told once, and it lives
	})
	on(t, Behaviour{Memory: 10 * spec.MiB}, func(b *bench) {
		b.spawn("a", 1, limits)
		b.sleep(time.Hour)
		b.want("0s a Spawned 1 101")
		low := spec.Default("a")
		low.SoftMemory, low.HardMemory = 5*spec.MiB, 30*spec.MiB
		b.h.Update(of("a", 1), &low)
		b.want("3600s a SoftMemoryPassed 1 10M 5M")
		b.h.Process("a").Grow(2 * spec.MiB)
		b.sleep(time.Minute)
		b.want("3610s a Exited 1 signal SIGKILL", "3610s a Emptied 1 1")
	})
}

// TestTheContractIsChecked: each order that supervisor.Host does not allow.
func TestTheContractIsChecked(t *testing.T) {
	gone := func(b *bench) {
		b.spawn("a", 1)
		b.h.Kill(of("a", 1))
		b.sleep(time.Second)
	}
	overlap := func(w *spec.Worker) { w.Overlap = spec.OverlapReady }
	for _, c := range []struct {
		name string
		do   func(*bench)
		want []string
	}{
		{"no such process", func(b *bench) {
			b.h.Signal(of("a", 1), sigterm)
			b.h.Kill(of("b", 2))
			b.h.Update(of("c", 3), nil)
			b.h.Release(of("d", 4))
		}, []string{"signal a:1 SIGTERM: there is no such process", "kill b:2: there is no such process", "update c:3: there is no such process", "release d:4: there is no such process"}},
		{"a generation again", func(b *bench) { gone(b); b.h.Release(of("a", 1)); b.spawn("a", 1) }, []string{"spawn a: generation 1 after 1"}},
		{"a generation that goes back", func(b *bench) { b.spawn("a", 7); b.spawn("b", 3); b.spawn("a", 6, overlap) }, []string{"spawn a: generation 6 after 7"}},
		{"two at once", func(b *bench) { b.spawn("a", 1); b.spawn("a", 2) }, []string{"spawn a:2: an earlier process is not released"}},
		{"two at once, with overlap", func(b *bench) { b.spawn("a", 1, overlap); b.spawn("a", 2, overlap) }, nil},
		{"three at once, with overlap", func(b *bench) { b.spawn("a", 1, overlap); b.spawn("a", 2, overlap); b.spawn("a", 3, overlap) },
			[]string{"spawn a:3: an earlier process is not released"}},
		{"the next before the release", func(b *bench) { gone(b); b.spawn("a", 2) }, []string{"spawn a:2: an earlier process is not released"}},
		{"a release of what lives", func(b *bench) { b.spawn("a", 1); b.sleep(time.Second); b.h.Release(of("a", 1)) }, []string{"release a:1: something of it lives"}},
		{"a release for the second time", func(b *bench) { gone(b); b.h.Release(of("a", 1)); b.h.Release(of("a", 1)) }, []string{"release a:1: for the second time"}},
		{"a signal to what is gone", func(b *bench) { gone(b); b.h.Signal(of("a", 1), sigterm) }, []string{"signal a:1 SIGTERM: nothing of it is left"}},
		{"a kill after the release", func(b *bench) { gone(b); b.h.Release(of("a", 1)); b.h.Kill(of("a", 1)) }, []string{"kill a:1: after its release"}},
		{"the spec of another", func(b *bench) {
			w := spec.Default("other")
			b.h.Spawn(supervisor.SpawnOrder{ID: of("a", 1), Spec: &w})
		}, []string{"spawn a: with the spec of another worker"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			on(t, Behaviour{}, func(b *bench) {
				c.do(b)
				b.held(c.want...)
			})
		})
	}
}

func TestAssertEmptyTellsWhatIsUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &complaints{}
		h := New(c, func(supervisor.SpawnOrder) Behaviour { return Behaviour{StartHangs: true} })
		b := &bench{T: t, complaints: c, h: h}
		b.spawn("a", 1)
		h.Kill(of("a", 1))
		h.Say("b", lifecycle.Ready{Generation: 1}) // nobody takes it
		b.sleep(time.Second)
		h.AssertEmpty()
		slices.Sort(c.all)
		b.held("a: 1 orders are under way", "a:1: its start hangs", "b: lifecycle.Ready was not taken")
		h.Close()
	})
}

func TestOrdersAreKept(t *testing.T) {
	on(t, Behaviour{}, func(b *bench) {
		b.h.Configure(spec.Manager{Title: "x"})
		b.spawn("a", 1)
		b.sleep(time.Second)
		b.h.Signal(of("a", 1), sigterm)
		var all []string
		for _, o := range b.h.Orders() {
			all = append(all, o.String())
		}
		if got := strings.Join(all, ", "); got != "configure, spawn a:1, signal a:1 SIGTERM" {
			t.Errorf("orders: %s", got)
		}
		if at := b.h.Orders()[2].At; at.Sub(b.began) < time.Second {
			t.Errorf("the signal was ordered after %v", at.Sub(b.began))
		}
		if n := b.h.Count(func(o Order) bool { return o.Verb == "spawn" }); n != 1 || b.h.Manager().Title != "x" {
			t.Errorf("%d spawns, title %q", n, b.h.Manager().Title)
		}
		if living := b.h.Living(); len(living["a"]) != 1 {
			t.Errorf("living: %v", living)
		}
		b.sleep(time.Second)
		if living := b.h.Living(); len(living) != 0 || b.h.Process("a") != nil {
			t.Errorf("living: %v", living)
		}
		b.h.Quiet()
		b.h.Release(of("a", 1))
		if n := len(b.h.Orders()); n != 3 {
			t.Errorf("%d orders are kept by a quiet host", n)
		}
	})
}

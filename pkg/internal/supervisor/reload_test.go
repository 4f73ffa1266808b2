package supervisor_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/workersd/workersd/pkg/internal/event"
	"github.com/workersd/workersd/pkg/internal/hosttest"
	"github.com/workersd/workersd/pkg/internal/lifecycle"
	"github.com/workersd/workersd/pkg/internal/supervisor"
	"github.com/workersd/workersd/pkg/spec"
)

func names(snap supervisor.Snapshot) (n []string) {
	for _, st := range snap.Workers {
		n = append(n, st.Spec.Name)
	}
	return n
}

func TestReloadTouchesOnlyWhatChanged(t *testing.T) {
	l := list(worker("same"), worker("gone"), worker("live"), worker("restart"), worker("off"))
	run(t, options{list: l, script: behave(hosttest.Behaviour{StopDelay: 5 * time.Second})}, func(r *rig) {
		r.sleep(time.Minute)
		before := r.pids()
		orders := len(r.h.Orders())
		text := r.reload(list(
			worker("new"),
			worker("same"),
			worker("live", func(w *spec.Worker) { w.SoftMemory = spec.MiB }),
			worker("restart", func(w *spec.Worker) { w.Command = []string{"/bin/other"} }),
			worker("off", func(w *spec.Worker) { w.Enabled = false }),
		))
		for _, want := range []string{"+ new\n", "- gone\n", "! restart restarts: command\n", "~ live in place: soft_memory_limit\n"} {
			if !strings.Contains(text, want) {
				t.Errorf("the plan lacks %q:\n%s", want, text)
			}
		}
		snap := r.snapshot()
		if got := names(snap); !slices.Equal(got, []string{"new", "same", "live", "restart", "off", "gone"}) {
			t.Errorf("workers %v", got)
		}
		if last := snap.Workers[5]; !last.Removed || last.State != lifecycle.Stopping {
			t.Errorf("gone: removed %v, %v", last.Removed, last.State)
		}
		r.sleep(time.Minute)
		after := r.pids()
		if got := names(r.snapshot()); !slices.Equal(got, []string{"new", "same", "live", "restart", "off"}) {
			t.Errorf("workers %v", got)
		}
		for name, kept := range map[string]bool{"same": true, "live": true, "restart": false} {
			if (before[name] == after[name]) != kept || after[name] == 0 {
				t.Errorf("%s: pid %d, then %d", name, before[name], after[name])
			}
		}
		for _, o := range r.h.Orders()[orders:] {
			if o.ID.Worker == "same" {
				t.Errorf("order %v for a worker that did not change", o)
			}
		}
		r.want(1, event.Gone, "gone", event.Removed)
		r.want(1, event.Gone, "restart", event.Reloaded)
		r.want(1, event.Gone, "off", event.Reloaded)
		r.state("off", lifecycle.Down)
		r.want(1, event.ManagerReloaded, "", "")
		r.want(0, event.BackingOff, "", "")
	})
}

func TestLiveLimitsReachTheProcess(t *testing.T) {
	l := list(worker("a", func(w *spec.Worker) { w.SoftMemory = 100 * spec.MiB }))
	script := func(o supervisor.SpawnOrder) hosttest.Behaviour {
		if o.ID.Generation > 1 {
			return hosttest.Behaviour{}
		}
		return hosttest.Behaviour{Memory: 50 * spec.MiB}
	}
	run(t, options{list: l, script: script}, func(r *rig) {
		r.sleep(time.Minute)
		r.reload(list(worker("a", func(w *spec.Worker) { w.SoftMemory = 40 * spec.MiB })))
		r.sleep(time.Second)
		r.want(1, event.Recycling, "a", event.SoftMemory)
	})
}

func TestANewManagerTableReachesTheHost(t *testing.T) {
	run(t, options{list: many(2)}, func(r *rig) {
		l := many(2)
		l.Manager.CheckInterval = 7 * time.Second
		if text := r.reload(l); !strings.Contains(text, "~ [manager] in place: check_interval") {
			t.Error(text)
		}
		if got := r.h.Manager().CheckInterval; got != 7*time.Second {
			t.Errorf("the host checks each %v", got)
		}
		if n := r.h.Count(func(o hosttest.Order) bool { return o.Verb == "configure" }); n != 2 {
			t.Errorf("%d orders to configure", n)
		}
		r.reload(l)
		if n := r.h.Count(func(o hosttest.Order) bool { return o.Verb == "configure" }); n != 2 {
			t.Errorf("%d orders to configure after a reload without change", n)
		}
	})
}

func TestALowerDrainMaxShortensWhatDrains(t *testing.T) {
	l := list(worker("a", func(w *spec.Worker) { w.StopTimeout = 4 * time.Minute }))
	run(t, options{list: l, script: behave(hosttest.Behaviour{Deaf: true})}, func(r *rig) {
		r.apply(supervisor.Stop, "a")
		r.sleep(time.Minute)
		l.Manager.DrainMax = 2 * time.Minute
		r.reload(l)
		r.sleep(time.Minute + time.Second)
		r.state("a", lifecycle.Down)
	})
}

func TestAWorkerThatComesBackWhileItDrains(t *testing.T) {
	run(t, options{list: many(2), script: behave(hosttest.Behaviour{StopDelay: 8 * time.Second})}, func(r *rig) {
		r.reload(many(1))
		r.sleep(time.Second)
		if !r.status("w@1").Removed {
			t.Error("w@1 is not shown as removed")
		}
		r.reload(many(2, func(w *spec.Worker) { w.Nice = 3 }))
		if st := r.status("w@1"); st.Removed || st.Worker.State != lifecycle.Stopping {
			t.Errorf("w@1: removed %v, %v", st.Removed, st.Worker.State)
		}
		r.sleep(30 * time.Second)
		r.state("w@1", lifecycle.Up)
		if n := r.status("w@1").Worker.Spec.Nice; n != 3 {
			t.Errorf("it was started with nice %d", n)
		}
		r.want(2, event.Created, "w@1", "")
	})
}

func TestAWorkerThatComesBackLaterRepeatsNoGeneration(t *testing.T) {
	run(t, options{list: many(2)}, func(r *rig) {
		for range 5 {
			r.reload(many(1))
			r.sleep(time.Minute)
			if n := len(r.snapshot().Workers); n != 1 {
				t.Errorf("%d workers", n)
			}
			r.reload(many(2))
			r.sleep(time.Minute)
		} // hosttest fails the test when a generation comes again
		r.want(6, event.Created, "w@1", "")
	})
}

func TestAWorkerThatMovesToAnotherEntryKeepsItsProcess(t *testing.T) {
	run(t, options{list: many(3)}, func(r *rig) {
		before := r.pids()
		l := many(3)
		l.Workers[1].Entry = "other"
		r.reload(l)
		r.sleep(time.Minute)
		if after := r.pids(); fmt.Sprint(after) != fmt.Sprint(before) {
			t.Errorf("%v, then %v", before, after)
		}
	})
}

func TestABadListChangesNothing(t *testing.T) {
	run(t, options{list: many(2)}, func(r *rig) {
		before, orders := r.pids(), len(r.h.Orders())
		twice := list(worker("b"), worker("b"))
		_, err := r.s.Reload(context.Background(), twice)
		if err == nil || err.Error() != `worker "b" stands twice in the list: names must differ` {
			t.Errorf("reload: %v", err)
		}
		if err := r.s.Refused(context.Background(), errors.New("workers.toml:3:1: unknown key")); err != nil {
			t.Error(err)
		}
		r.sleep(time.Minute)
		if after := r.pids(); fmt.Sprint(after) != fmt.Sprint(before) || len(r.h.Orders()) != orders {
			t.Errorf("%v, then %v; orders %v", before, after, r.h.Orders()[orders:])
		}
		last := r.all()[len(r.all())-1]
		if last.Kind != event.ManagerRefused || !strings.Contains(last.Message, "workers.toml:3:1: unknown key") {
			t.Errorf("record %s: %s", last.Kind, last.Message)
		}
	})
	s := supervisor.New(supervisor.Options{Host: hosttest.New(t, behave(hosttest.Behaviour{})), List: list(worker("b"), worker("b"))})
	if err := s.Run(); err == nil || !strings.Contains(err.Error(), `"b" stands twice`) {
		t.Errorf("run: %v", err)
	}
}

func TestPlanChangesNothing(t *testing.T) {
	run(t, options{list: many(2)}, func(r *rig) {
		p, err := r.s.Plan(context.Background(), many(3))
		if err != nil || !slices.Equal(p.Added, []string{"w@2"}) || len(p.Unchanged) != 2 {
			t.Errorf("%v, %v", p, err)
		}
		r.sleep(time.Minute)
		if n := len(r.snapshot().Workers); n != 2 {
			t.Errorf("%d workers", n)
		}
	})
}

func TestAStuckProcessDoesNotHoldUpAReload(t *testing.T) {
	l := list(worker("bad"), worker("good"))
	script := by(map[string]hosttest.Behaviour{"bad": {Immortal: true, Deaf: true}})
	run(t, options{list: l, script: script}, func(r *rig) {
		bad := r.h.Process("bad")
		r.reload(list(worker("good", func(w *spec.Worker) { w.Command = []string{"/bin/other"} }), worker("new")))
		r.sleep(time.Hour)
		r.state("good", lifecycle.Up)
		r.state("new", lifecycle.Up)
		r.want(2, event.Created, "good", "")
		if st := r.status("bad"); !st.Removed || !st.Worker.Places[0].Stuck {
			t.Errorf("bad: removed %v, %+v", st.Removed, st.Worker.Places[0])
		}
		bad.Free()
		r.sleep(time.Minute)
		if got := names(r.snapshot()); !slices.Equal(got, []string{"good", "new"}) {
			t.Errorf("workers %v", got)
		}
	})
}

func TestAChangedEntryLeavesDone(t *testing.T) {
	never := func(w *spec.Worker) { w.Restart = spec.RestartNever }
	b := hosttest.Behaviour{Exits: true, ExitAfter: time.Minute}
	run(t, options{list: many(2, never), script: behave(b)}, func(r *rig) {
		r.sleep(time.Hour)
		r.want(2, event.Ended, "", "")
		l := many(2, never)
		l.Workers[0].Timeout = time.Hour
		r.reload(l)
		r.sleep(10 * time.Second)
		r.state("w@0", lifecycle.Up)
		r.state("w@1", lifecycle.Done)
	})
}

// A process that was started without a watchdog does not ping: it must not die
// of the new one while it waits for its turn.
func TestANewWatchdogWaitsForTheRestart(t *testing.T) {
	slow := func(w *spec.Worker) { w.MaxRecycling, w.StopTimeout = spec.Share{N: 1}, time.Minute }
	script := func(o supervisor.SpawnOrder) hosttest.Behaviour {
		b := hosttest.Behaviour{StopDelay: 30 * time.Second}
		if o.Spec.Watchdog > 0 {
			b.Pings = time.Second
		}
		return b
	}
	run(t, options{list: many(6, slow), script: script}, func(r *rig) {
		r.sleep(time.Minute)
		r.reload(many(6, slow, func(w *spec.Worker) { w.Watchdog = 5 * time.Second }))
		r.sleep(10 * time.Minute)
		r.want(6, event.Gone, "", event.Reloaded)
		r.want(0, event.Gone, "", event.Watchdog)
	})
}

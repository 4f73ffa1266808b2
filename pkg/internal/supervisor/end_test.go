package supervisor_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/workersd/workersd/pkg/internal/event"
	"github.com/workersd/workersd/pkg/internal/hosttest"
	"github.com/workersd/workersd/pkg/internal/lifecycle"
	"github.com/workersd/workersd/pkg/internal/supervisor"
	"github.com/workersd/workersd/pkg/spec"
)

// ends shuts a supervisor down and tells how long that took.
func (r *rig) ends() time.Duration {
	r.Helper()
	began := time.Now()
	r.s.Shutdown()
	r.end()
	r.ended <- nil // run waits, too
	return time.Since(began)
}

func TestTheEndTakesTheLongestGraceNotTheSum(t *testing.T) {
	l := many(50, func(w *spec.Worker) { w.StopTimeout = time.Minute })
	behaviours := map[string]hosttest.Behaviour{"w@7": {Deaf: true}}
	for _, w := range l.Workers {
		if w.Name != "w@7" {
			behaviours[w.Name] = hosttest.Behaviour{StopDelay: 20 * time.Second, Grandchildren: true}
		}
	}
	run(t, options{list: l, script: by(behaviours)}, func(r *rig) {
		r.sleep(time.Hour)
		if took := r.ends(); took < time.Minute || took > time.Minute+time.Second {
			t.Errorf("the end took %v, the longest grace is 1m", took)
		}
		r.want(50, event.Gone, "", event.Shutdown)
		r.want(1, event.Killing, "", event.Shutdown)
	})
}

func TestTheEndLetsAnExecutionFinish(t *testing.T) {
	l := list(worker("a", func(w *spec.Worker) { w.Timeout = 2 * time.Minute }))
	b := hosttest.Behaviour{Execution: 100 * time.Second, Finishes: true}
	run(t, options{list: l, script: behave(b)}, func(r *rig) {
		r.sleep(10 * time.Second)
		if took := r.ends(); took < 85*time.Second || took > 95*time.Second {
			t.Errorf("the end took %v, the execution had 90 s to go", took)
		}
		r.want(0, event.Killing, "", "")
	})
}

func TestDrainMaxBoundsTheEnd(t *testing.T) {
	l := list(worker("a", func(w *spec.Worker) { w.StopTimeout = time.Hour }))
	run(t, options{list: l, script: behave(hosttest.Behaviour{Deaf: true})}, func(r *rig) {
		began := time.Now()
		r.s.Shutdown()
		r.sleep(time.Second)
		until := r.status("a").Worker.Deadline
		if want := began.Add(5 * time.Minute); !r.snapshot().Stopping || !until.Equal(want) {
			t.Errorf("stopping %v until %v, want %v", r.snapshot().Stopping, until, want)
		}
		if took := r.ends(); took > 5*time.Minute {
			t.Errorf("the end took %v, drain_max is 5m", took)
		}
	})
}

func TestTheSecondSignalKills(t *testing.T) {
	run(t, options{list: many(50), script: behave(hosttest.Behaviour{Deaf: true, Grandchildren: true})}, func(r *rig) {
		r.s.Shutdown()
		r.sleep(time.Second)
		r.want(0, event.Killing, "", "")
		if took := r.ends(); took > time.Second {
			t.Errorf("the end took %v after the second signal", took)
		}
		r.want(50, event.Killing, "", event.Shutdown)
		for _, rec := range r.all() {
			if rec.Kind == event.Gone && !strings.Contains(rec.Message, "killed by a second signal to the manager") {
				t.Errorf("it says %q", rec.Message)
			}
		}
	})
}

func TestShutdownBeforeRunEndsAtOnce(t *testing.T) {
	s := supervisor.New(supervisor.Options{Host: hosttest.New(t, behave(hosttest.Behaviour{})), List: list()})
	s.Shutdown()
	s.Shutdown()
	s.Shutdown()
	if err := s.Run(); err != nil {
		t.Error(err)
	}
	<-s.FirstRound()
}

func TestAStuckProcessDoesNotHoldUpTheEndPastDrainMax(t *testing.T) {
	l := list(worker("bad"), worker("good"))
	script := by(map[string]hosttest.Behaviour{"bad": {Immortal: true, Deaf: true}})
	run(t, options{list: l, script: script, left: true}, func(r *rig) {
		r.sleep(time.Minute)
		if took := r.ends(); took != 5*time.Minute {
			t.Errorf("the end took %v, drain_max is 5m", took)
		}
		var text string
		for _, e := range r.all() {
			if e.Kind == event.Warning && e.Worker == "bad" {
				text = e.Message
			}
		}
		if !strings.Contains(text, "left behind") || !strings.Contains(text, "SIGKILL") {
			t.Errorf("the warning says %q", text)
		}
		if _, ok := r.h.Living()["good"]; ok {
			t.Error("good lives")
		}
	})
}

func TestAStartThatHangsDoesNotHoldUpTheEnd(t *testing.T) {
	l := list(worker("bad"), worker("good"))
	script := by(map[string]hosttest.Behaviour{"bad": {StartHangs: true}})
	run(t, options{list: l, script: script, left: true}, func(r *rig) {
		r.sleep(time.Minute)
		if took := r.ends(); took > 5*time.Minute+time.Second {
			t.Errorf("the end took %v", took)
		}
		last := r.all()[len(r.all())-2]
		if last.Worker != "bad" || last.Message != "is left behind: its start hangs" {
			t.Errorf("%s: %s", last.Worker, last.Message)
		}
		r.h.LetStart("bad") // its orders to end stand behind the start
		r.sleep(time.Second)
		if len(r.h.Living()) != 0 {
			t.Errorf("%v live", r.h.Living())
		}
	})
}

func TestNothingStartsAtTheEnd(t *testing.T) {
	l := list(worker("a"), worker("b", func(w *spec.Worker) { w.Enabled = false }))
	run(t, options{list: l, script: behave(hosttest.Behaviour{Deaf: true})}, func(r *rig) {
		ctx := context.Background()
		r.s.Shutdown()
		r.sleep(time.Second)
		for _, v := range []supervisor.Verb{supervisor.Start, supervisor.Restart} {
			if err := r.s.Apply(ctx, v, []string{"b"}); err == nil || !strings.Contains(err.Error(), "the manager is ending") {
				t.Errorf("%s at the end: %v", v, err)
			}
		}
		if _, err := r.s.Reload(ctx, many(3)); err == nil || !strings.Contains(err.Error(), "the manager is ending") {
			t.Errorf("reload at the end: %v", err)
		}
		r.apply(supervisor.Kill, "a") // this is still allowed
		r.state("a", lifecycle.Killing)
		r.sleep(time.Second)
		if n := r.h.Count(func(o hosttest.Order) bool { return o.Verb == "spawn" }); n != 1 {
			t.Errorf("%d starts", n)
		}
	})
}

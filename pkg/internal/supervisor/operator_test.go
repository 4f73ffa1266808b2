package supervisor_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/workersd/workersd/pkg/internal/event"
	"github.com/workersd/workersd/pkg/internal/hosttest"
	"github.com/workersd/workersd/pkg/internal/lifecycle"
	"github.com/workersd/workersd/pkg/internal/supervisor"
	"github.com/workersd/workersd/pkg/spec"
)

func TestAnOperatorsStopSurvives(t *testing.T) {
	var kept []string
	set := func(o *supervisor.Options) { o.OperatorStops = func(n []string) { kept = n } }
	run(t, options{list: many(3), set: set}, func(r *rig) {
		r.apply(supervisor.Stop, "w@0", "w@1")
		r.sleep(time.Minute)
		if !slices.Equal(kept, []string{"w@0", "w@1"}) {
			t.Errorf("kept %v", kept)
		}
		r.want(2, event.Gone, "", event.Stopped)
		// A reload that changes it, live and by restart, does not start it.
		r.reload(many(3, func(w *spec.Worker) { w.Timeout, w.Command = time.Hour, []string{"/bin/other"} }))
		r.sleep(time.Minute)
		r.state("w@0", lifecycle.Down)
		if !r.status("w@0").OperatorStop || r.status("w@2").OperatorStop {
			t.Error("the operator's stop is not shown, or is shown elsewhere")
		}
		r.apply(supervisor.Start, "w@0")
		r.sleep(time.Minute)
		r.state("w@0", lifecycle.Up)
		if !slices.Equal(kept, []string{"w@1"}) {
			t.Errorf("kept %v", kept)
		}
		// With the worker goes the stop.
		r.reload(many(1))
		if len(kept) != 0 {
			t.Errorf("kept %v", kept)
		}
		r.reload(many(2))
		r.sleep(time.Minute)
		r.state("w@1", lifecycle.Up)
	})
	set = func(o *supervisor.Options) { o.StoppedByOperator = []string{"w@1", "not there"} }
	run(t, options{list: many(2), set: set}, func(r *rig) {
		r.sleep(time.Minute)
		r.state("w@0", lifecycle.Up)
		r.state("w@1", lifecycle.Down)
		<-r.s.FirstRound()
		r.apply(supervisor.Start, "w@1")
		r.sleep(time.Second)
		r.state("w@1", lifecycle.Up)
	})
}

func TestVerbs(t *testing.T) {
	run(t, options{list: many(3)}, func(r *rig) {
		r.sleep(time.Minute)
		before := r.pids()
		r.apply(supervisor.Restart, "w@0")
		r.apply(supervisor.Kill, "w@1")
		r.sleep(time.Minute)
		after := r.pids()
		if before["w@0"] == after["w@0"] || before["w@1"] == after["w@1"] || before["w@2"] != after["w@2"] {
			t.Errorf("pids %v, then %v", before, after)
		}
		r.want(1, event.Gone, "w@0", event.Restarted)
		r.want(1, event.Gone, "w@1", event.Killed)
		if n := r.h.Count(func(o hosttest.Order) bool { return o.Verb == "signal" && o.ID.Worker == "w@1" }); n != 0 {
			t.Errorf("kill sent %d signals first", n)
		}
	})
}

func TestWhatAnOperatorCannotDo(t *testing.T) {
	run(t, options{list: many(3), script: behave(hosttest.Behaviour{Deaf: true})}, func(r *rig) {
		r.reload(many(2))
		for _, c := range []struct {
			verb  supervisor.Verb
			names []string
			want  string
		}{
			{supervisor.Stop, []string{"w@0", "x"}, `unknown worker "x" (workersctl status lists them all)`},
			{supervisor.Stop, []string{"y", "w@0", "x"}, `unknown workers "y", "x" (workersctl status lists them all)`},
			{supervisor.Start, []string{"w@0", "w@2"}, `worker "w@2" is not in the worker list any more: it is being stopped`},
			{"pause", []string{"w@0"}, `unknown verb "pause" (expected start, stop, restart or kill)`},
		} {
			err := r.s.Apply(context.Background(), c.verb, c.names)
			if fmt.Sprint(err) != c.want {
				t.Errorf("%s %v: %v, want %s", c.verb, c.names, err, c.want)
			}
		}
		r.state("w@0", lifecycle.Up) // all of it or nothing
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		if err := supervisor.New(supervisor.Options{}).Ping(ctx); err != context.Canceled {
			t.Errorf("a command to a loop that does not run: %v", err)
		}
	})
}

func TestStopWhileStartingAndStartWhileStopping(t *testing.T) {
	b := hosttest.Behaviour{StartDelay: 10 * time.Second, StopDelay: 5 * time.Second}
	run(t, options{list: list(worker("a")), script: behave(b)}, func(r *rig) {
		r.apply(supervisor.Stop, "a")
		r.sleep(time.Minute)
		r.state("a", lifecycle.Down)
		r.apply(supervisor.Start, "a")
		r.sleep(20 * time.Second)
		r.state("a", lifecycle.Up)
		r.apply(supervisor.Stop, "a")
		r.sleep(time.Second)
		r.apply(supervisor.Start, "a")
		r.state("a", lifecycle.Stopping)
		r.sleep(time.Minute)
		r.state("a", lifecycle.Up)
		r.want(3, event.Created, "a", "")
	})
}

package supervisor_test

import (
	"testing"
	"time"

	"github.com/workersd/workersd/pkg/internal/event"
	"github.com/workersd/workersd/pkg/internal/hosttest"
	"github.com/workersd/workersd/pkg/internal/lifecycle"
	"github.com/workersd/workersd/pkg/internal/supervisor"
	"github.com/workersd/workersd/pkg/spec"
)

func TestCrashLoopsBackOff(t *testing.T) {
	script := behave(hosttest.Behaviour{Exits: true, ExitAfter: time.Millisecond, Status: lifecycle.Status{Code: 3}})
	run(t, options{list: many(100), script: script}, func(r *rig) {
		r.sleep(2 * time.Hour)
		for _, st := range r.workers() {
			// Ten doublings from 100 ms, then one start each minute and a jitter
			// of up to a quarter.
			if n := st.Worker.Restarts; n < 7200/75 || n > 7200/60+12 {
				t.Errorf("%s was started again %d times in two hours", st.Spec.Name, n)
			}
		}
		r.want(0, event.Warning, "", "")
	})
}

func TestBackOffIsResetByAHealthyLife(t *testing.T) {
	lives := 0
	script := func(supervisor.SpawnOrder) hosttest.Behaviour {
		lives++
		b := hosttest.Behaviour{Exits: true, Status: lifecycle.Status{Code: 1}}
		if lives == 12 {
			b.ExitAfter = time.Hour
		}
		return b
	}
	run(t, options{list: list(worker("a")), script: script}, func(r *rig) {
		r.sleep(time.Hour + 10*time.Minute)
		var delays []time.Duration
		healthy := -1
		for _, e := range r.all() {
			if e.Kind == event.Gone && e.Uptime >= time.Hour {
				healthy = len(delays)
			}
			if e.Kind == event.BackingOff {
				delays = append(delays, e.Delay)
			}
		}
		if healthy < 1 || len(delays) <= healthy {
			t.Fatalf("no back-off after the long life: %v", delays)
		}
		if before, after := delays[healthy-1], delays[healthy]; before < time.Minute || after > 125*time.Millisecond {
			t.Errorf("the delay was %v before a life of an hour and %v after it", before, after)
		}
	})
}

func TestMaxRequests(t *testing.T) {
	for _, sdk := range []bool{false, true} {
		b := hosttest.Behaviour{Execution: time.Second, LeavesAtMax: sdk, Finishes: true}
		l := list(worker("a", func(w *spec.Worker) { w.MaxRequests = 2 }))
		run(t, options{list: l, script: behave(b)}, func(r *rig) {
			r.sleep(time.Hour)
			n := r.of(event.Gone, "a", event.MaxRequests)
			if n < 1000 {
				t.Errorf("sdk %v: recycled %d times in an hour of one-second executions", sdk, n)
			}
			for _, e := range r.all() {
				// A worker without the SDK may finish what it has begun.
				if e.Kind == event.Gone && (e.Executions < 2 || e.Executions > 3 || sdk && e.Executions != 2) {
					t.Fatalf("sdk %v: a process did %d executions, max_requests is 2", sdk, e.Executions)
				}
			}
			r.want(0, event.BackingOff, "", "")
		})
	}
}

func TestMaxLifetime(t *testing.T) {
	l := many(20, func(w *spec.Worker) { w.MaxLifetime, w.MaxLifetimeJitter = time.Hour, time.Hour })
	run(t, options{list: l}, func(r *rig) {
		r.sleep(24*time.Hour + time.Minute)
		n := r.of(event.Gone, "", event.MaxLifetime)
		if n < 20*12 || n > 20*24 {
			t.Errorf("20 workers of one to two hours were recycled %d times in a day", n)
		}
		at := map[time.Time]int{}
		for _, e := range r.all() {
			if e.Kind == event.Recycling {
				at[e.Time.Truncate(time.Minute)]++
			}
		}
		for when, n := range at {
			if n > 5 {
				t.Errorf("%d of 20 were recycled in the minute of %v: the jitter does not spread them", n, when)
			}
		}
		r.want(0, event.BackingOff, "", "")
	})
}

func TestSoftMemoryLetsTheJobFinish(t *testing.T) {
	b := hosttest.Behaviour{Execution: 7 * time.Second, Finishes: true, Memory: 50 * spec.MiB, Growth: spec.MiB}
	l := list(worker("a", func(w *spec.Worker) { w.Timeout = time.Minute }))
	run(t, options{list: l, script: behave(b)}, func(r *rig) {
		r.sleep(time.Hour)
		if n := r.of(event.Gone, "a", event.SoftMemory); n < 20 {
			t.Errorf("recycled %d times", n)
		}
		for _, e := range r.all() {
			if e.Kind == event.Gone && (e.Status != "exit 0" || e.Execution != "") {
				t.Fatalf("it was not let finish: %s, in execution %q", e.Status, e.Execution)
			}
		}
		r.want(0, event.Killing, "", "")
		r.want(0, event.BackingOff, "", "")
	})
}

func TestHardMemory(t *testing.T) {
	for _, sampled := range []bool{false, true} {
		// It does not react to the stop signal, so the soft limit does not help.
		b := hosttest.Behaviour{Deaf: true, Memory: 190 * spec.MiB, Growth: 50 * spec.MiB, Sampled: sampled}
		run(t, options{list: list(worker("a")), script: behave(b)}, func(r *rig) {
			r.sleep(2400 * time.Millisecond)
			r.want(1, event.Recycling, "a", event.SoftMemory)
			r.want(1, event.Gone, "a", event.HardMemory)
		})
	}
}

func TestTimeoutReplacesTheProcess(t *testing.T) {
	b := hosttest.Behaviour{Execution: time.Second, HangsAt: 3, Deaf: true}
	l := list(worker("a", func(w *spec.Worker) { w.Timeout = 30 * time.Second }))
	run(t, options{list: l, script: behave(b)}, func(r *rig) {
		r.sleep(10 * time.Minute)
		// 2 s of work, 30 s of timeout, 10 s of grace.
		if n := r.of(event.Gone, "a", event.Timeout); n != 14 {
			t.Errorf("replaced %d times in ten minutes", n)
		}
		r.want(0, event.BackingOff, "", "")
	})
}

func TestTaskRunsAgainAfterItsInterval(t *testing.T) {
	b := hosttest.Behaviour{Exits: true, ExitAfter: 10 * time.Second}
	l := list(worker("a", func(w *spec.Worker) { w.Type, w.Interval = spec.Task, 50*time.Second }))
	run(t, options{list: l, script: behave(b)}, func(r *rig) {
		r.sleep(time.Hour)
		r.want(60, event.Gone, "a", event.Finished)
		r.want(0, event.BackingOff, "", "")
	})
}

func TestWatchdog(t *testing.T) {
	l := list(
		worker("loud", func(w *spec.Worker) { w.Watchdog = 10 * time.Second }),
		worker("mute", func(w *spec.Worker) { w.Watchdog = 10 * time.Second }),
	)
	script := by(map[string]hosttest.Behaviour{"loud": {Pings: 5 * time.Second}})
	run(t, options{list: l, script: script}, func(r *rig) {
		r.sleep(time.Hour)
		r.want(1, event.Created, "loud", "")
		if n := r.of(event.Gone, "mute", event.Watchdog); n < 50 {
			t.Errorf("mute was ended %d times by its watchdog", n)
		}
	})
}

func TestWhatIsLeftOfATreeGoesBeforeTheNext(t *testing.T) {
	b := hosttest.Behaviour{Exits: true, ExitAfter: time.Minute, Grandchildren: true}
	run(t, options{list: list(worker("a")), script: behave(b)}, func(r *rig) {
		r.sleep(time.Hour)
		if n := r.of(event.Gone, "a", event.Finished); n < 55 {
			t.Errorf("gone %d times", n)
		}
	}) // hosttest fails the test when two generations live
}

func TestAStuckProcessIsNamedAndNeverDoubled(t *testing.T) {
	l := list(worker("bad"), worker("good"))
	script := by(map[string]hosttest.Behaviour{"bad": {Immortal: true}})
	run(t, options{list: l, script: script}, func(r *rig) {
		r.apply(supervisor.Kill, "bad", "good")
		r.sleep(time.Hour)
		r.want(1, event.Stuck, "bad", "")
		r.want(1, event.Created, "bad", "")
		r.want(2, event.Created, "good", "")
		if p := r.status("bad").Worker.Places[0]; !p.Stuck {
			t.Error("bad is not shown as stuck")
		}
		r.h.Process("bad").Free()
		r.sleep(time.Minute)
		r.want(2, event.Created, "bad", "")
		for _, ps := range r.h.Living() { // or the end would wait for them
			for _, p := range ps {
				p.Free()
			}
		}
		r.s.Shutdown()
		r.sleep(time.Minute)
		for _, p := range r.h.Living()["bad"] {
			p.Free()
		}
	})
}

func TestAFailedStartBacksOffAndHarmsNobody(t *testing.T) {
	l := list(worker("bad"), worker("good"))
	text := "/usr/bin/nothing: no such file (look at command)"
	script := by(map[string]hosttest.Behaviour{"bad": {StartError: text}})
	run(t, options{list: l, script: script}, func(r *rig) {
		r.sleep(time.Hour)
		if n := r.of(event.NotStarted, "bad", event.SpawnFailed); n < 48 || n > 72 {
			t.Errorf("tried %d times in an hour", n)
		}
		for _, e := range r.all() {
			if e.Kind == event.NotStarted && e.Message != "cannot be started: "+text {
				t.Errorf("it says %q", e.Message)
			}
		}
		r.state("bad", lifecycle.Backoff)
		r.state("good", lifecycle.Up)
		r.want(1, event.Created, "good", "")
	})
}

func TestSlowOrdersHoldUpOnlyTheirWorker(t *testing.T) {
	l := list(worker("slow"), worker("good"))
	script := by(map[string]hosttest.Behaviour{"slow": {OrderDelay: 20 * time.Second, Deaf: true}})
	run(t, options{list: l, script: script}, func(r *rig) {
		r.apply(supervisor.Restart, "slow", "good")
		r.sleep(time.Second)
		r.want(2, event.Created, "good", "")
		r.want(1, event.Created, "slow", "")
		// The signal takes 20 s, the kill that was ordered after 10 s 20 more,
		// as does the release before the next start.
		r.sleep(2 * time.Minute)
		r.state("slow", lifecycle.Up)
		r.want(2, event.Created, "slow", "")
		r.want(1, event.Gone, "slow", event.Restarted)
	})
}

package lifecycle

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/workersd/workersd/pkg/internal/event"
	"github.com/workersd/workersd/pkg/spec"
)

func TestMaxRequests(t *testing.T) {
	l := up(t, maxReq(2))
	for i := range 2 {
		id := fmt.Sprint(i)
		l.on(ExecutionBegan{1, id}, ExecutionEnded{1, id, OK})
	}
	l.want(Up, "ask max_requests")
	l.on(ExecutionBegan{1, "3"}, ExecutionEnded{1, "3", OK}) // not granted yet
	l.want(Up)                                               // and asked once
	l.on(RecycleGranted{})
	l.want(Stopping, "signal 1 SIGTERM")
	if r := l.last(event.Recycling); r.Reason != event.MaxRequests || r.Message != "cancelled by reaching max requests count [2]" || r.Executions != 3 {
		t.Errorf("%+v", r)
	}
	l.gone(1, signalled(syscall.SIGTERM))
	l.want(Waiting, "kill 1", "release 1")
	l.in(0)
}

func TestACleanExitAtItsNumberIsMaxRequests(t *testing.T) {
	for _, mode := range []spec.RestartMode{spec.RestartAlways, spec.RestartOnFailure, spec.RestartNever} {
		l := up(t, maxReq(1), restart(mode))
		l.on(ExecutionBegan{1, "1"}, ExecutionEnded{1, "1", Fail})
		l.gone(1, exit(0)) // before admission answered
		l.want(Waiting, "ask max_requests", "kill 1", "release 1")
		l.in(0)
		if r := l.last(event.Gone); r.Reason != event.MaxRequests {
			t.Errorf("restart = %s: reason %s", mode, r.Reason)
		}
		if r := l.last(event.Recycling); r.Reason != event.MaxRequests || r.Message != "cancelled by reaching max requests count [1]" || r.Generation != 1 {
			t.Errorf("restart = %s: nobody was told that it was recycled: %+v", mode, r)
		}
	}
}

// The SDK leaves at the number that stands in its environment, also when a
// reload has raised the number since.
func TestACleanExitAtTheNumberItWasToldIsMaxRequests(t *testing.T) {
	l := up(t, maxReq(2), restart(spec.RestartOnFailure))
	l.on(SpecChanged{worker(maxReq(100), restart(spec.RestartOnFailure))})
	l.on(ExecutionEnded{1, "1", OK}, ExecutionEnded{1, "2", OK})
	l.gone(1, exit(0))
	l.want(Waiting, "update 1", "kill 1", "release 1")
	if r := l.last(event.Gone); r.Reason != event.MaxRequests {
		t.Errorf("reason %s", r.Reason)
	}
}

func TestMaxRequestsJitter(t *testing.T) {
	w := worker(func(w *spec.Worker) { w.MaxRequests, w.MaxRequestsJitter = 1000, 100 })
	seen := map[int]bool{}
	for g := range uint64(2000) {
		n := maxRequests(w, g)
		if n < 1000 || n > 1100 {
			t.Fatalf("generation %d has %d", g, n)
		}
		seen[n] = true
	}
	if len(seen) < 95 || !seen[1000] || !seen[1100] {
		t.Errorf("%d different numbers of 101", len(seen))
	}
	l := down(t, func(w *spec.Worker) { w.MaxRequests, w.MaxRequestsJitter = 10, 5 })
	l.on(StartWanted{})
	_, actions := Step(l.w, l.now, Tick{})
	l.on(Tick{})
	if sp := actions[0].(Spawn); sp.MaxRequests != l.w.Places[0].MaxRequests || sp.MaxRequests < 10 {
		t.Errorf("the process is told %d, it is held to %d", sp.MaxRequests, l.w.Places[0].MaxRequests)
	}
}

func TestMaxLifetime(t *testing.T) {
	l := up(t, func(w *spec.Worker) { w.MaxLifetime = time.Hour })
	l.in(time.Hour)
	l.pass(time.Hour)
	l.want(Up, "ask max_lifetime")
	l.in(never)
	l.on(RecycleGranted{})
	l.want(Stopping, "signal 1 SIGTERM")
	l.gone(1, exit(0))
	l.want(Waiting, "kill 1", "release 1")

	w := worker(func(w *spec.Worker) { w.MaxLifetime, w.MaxLifetimeJitter = time.Hour, time.Hour })
	var sum time.Duration
	for g := range uint64(1000) {
		d := lifeDeadline(w, g, epoch).Sub(epoch)
		if d < time.Hour || d >= 2*time.Hour {
			t.Fatalf("generation %d lives %v", g, d)
		}
		sum += d
	}
	if mean := sum / 1000; mean < 85*time.Minute || mean > 95*time.Minute {
		t.Errorf("the mean life is %v", mean)
	}
}

func TestTimeoutReplacesAtOnce(t *testing.T) {
	l := up(t, timeout(30*time.Second), restart(spec.RestartNever))
	l.on(ExecutionBegan{1, "a"})
	l.pass(10 * time.Second)
	l.on(ExecutionBegan{1, "b"})
	l.in(20 * time.Second)
	l.pass(20 * time.Second)
	l.want(Stopping, "signal 1 SIGTERM") // without asking admission
	r := l.last(event.Recycling)
	if r.Reason != event.Timeout || r.Execution != "a" || r.ExecutionAge != 30*time.Second || !strings.Contains(r.Message, "cancelled by timeout: execution a runs for 30s") {
		t.Errorf("%+v", r)
	}
	l.in(10 * time.Second) // b's own time ends then, too
	l.gone(1, signalled(syscall.SIGTERM))
	l.want(Waiting, "kill 1", "release 1")
	l.in(0)
	if l.w.Failures != 0 {
		t.Errorf("%d failures", l.w.Failures)
	}
}

func TestTheOthersMayFinishWhenOneOutlivedItsTime(t *testing.T) {
	l := up(t, timeout(time.Minute))
	l.on(ExecutionBegan{1, "hangs"})
	l.pass(40 * time.Second)
	l.on(ExecutionBegan{1, "works"})
	l.pass(20 * time.Second)
	l.want(Stopping, "signal 1 SIGTERM")
	l.in(40 * time.Second)
	l.on(ExecutionEnded{1, "works", OK})
	l.in(10 * time.Second)
}

func TestTimeoutSignal(t *testing.T) {
	l := up(t, timeout(time.Second), func(w *spec.Worker) { w.TimeoutSignal = sigabrt })
	l.on(ExecutionBegan{1, "a"})
	l.pass(time.Second)
	l.want(Stopping, "signal 1 SIGABRT")
}

func TestWatchdog(t *testing.T) {
	l := up(t, func(w *spec.Worker) { w.Watchdog = 10 * time.Second })
	for range 5 {
		l.pass(9 * time.Second)
		l.on(WatchdogPinged{1})
		l.in(10 * time.Second)
	}
	l.want(Up)
	l.on(SaidStatus{1, "busy"}, ExecutionBegan{1, "a"})
	l.pass(10 * time.Second)
	l.want(Stopping, "signal 1 SIGABRT")
	l.in(10 * time.Second) // a process that hangs gets no time for its execution
	if r := l.last(event.Recycling); r.Message != "cancelled by its watchdog: was silent for 10s" {
		t.Errorf("it says %q", r.Message)
	}
	if text := l.w.Places[0].StatusText; text != "busy" {
		t.Errorf("its own status text became %q", text)
	}
	l.on(WatchdogPinged{1}) // too late
	l.gone(1, signalled(syscall.SIGABRT))
	l.want(Backoff, "kill 1", "release 1")
	if l.w.LastReason != event.Watchdog || l.w.Failures != 1 {
		t.Errorf("%s, %d failures", l.w.LastReason, l.w.Failures)
	}

	l = up(t) // also where none is set, as systemd has it
	l.on(WatchdogTriggered{1}, WatchdogTriggered{1})
	l.want(Stopping, "signal 1 SIGABRT")
}

func TestSoftMemory(t *testing.T) {
	l := up(t, timeout(time.Minute))
	l.on(ExecutionBegan{1, "a"})
	l.on(SoftMemoryPassed{1, 210 * spec.MiB, 200 * spec.MiB}, SoftMemoryPassed{1, 220 * spec.MiB, 200 * spec.MiB})
	l.want(Up, "ask soft_memory")
	l.on(RecycleGranted{})
	l.want(Stopping, "signal 1 SIGTERM")
	l.in(time.Minute) // the job may finish
	r := l.last(event.Recycling)
	if r.Memory != int64(210*spec.MiB) || r.MemoryLimit != int64(200*spec.MiB) || r.Message != "cancelled by reaching soft memory limit [200M], uses 210M" {
		t.Errorf("%+v", r)
	}
	l.on(ExecutionEnded{1, "a", OK})
	l.gone(1, exit(0))
	l.want(Waiting, "kill 1", "release 1")
	l.in(0)
}

// A soft limit below what a worker needs to begin with must not make it spend
// its time starting: each process is let run for longer than the one before.
func TestSoftLimitBelowNeed(t *testing.T) {
	l := up(t, func(w *spec.Worker) { w.RestartDelay, w.RestartDelayMax = time.Second, 10*time.Second })
	passed := func() { l.on(SoftMemoryPassed{l.w.Generation, 2, 1}) }
	next := func() {
		l.on(RecycleGranted{})
		l.gone(l.w.Generation, exit(0))
		l.on(Tick{})
		l.on(Spawned{l.w.Generation, 100})
		l.orders = nil
	}
	l.pass(10 * time.Millisecond)
	passed()
	l.want(Up, "ask soft_memory") // the first one may be a peak
	var lives []time.Duration
	for range 7 {
		next()
		began := l.now
		l.pass(10 * time.Millisecond)
		passed()
		l.want(Up)
		if r := l.last(event.Warning); r.Reason != event.SoftMemory || !strings.Contains(r.Message, "again soon after its start") {
			t.Errorf("%+v", r)
		}
		l.now = l.w.Deadline
		l.on(Tick{})
		l.want(Up, "ask soft_memory")
		lives = append(lives, l.now.Sub(began))
	}
	for i, least := range []time.Duration{1, 2, 4, 8, 10, 10, 10} {
		if least *= time.Second; lives[i] < least || lives[i] > least+least/4 {
			t.Errorf("they were let run for %v", lives)
		}
	}
	// One that takes its time to get there is no part of it.
	next()
	l.pass(time.Minute)
	passed()
	l.want(Up, "ask soft_memory")
	next()
	l.pass(10 * time.Millisecond)
	passed()
	l.want(Up, "ask soft_memory")
	// Nor one that has done something.
	for range 3 {
		next()
		l.pass(10 * time.Millisecond)
		l.on(ExecutionsCounted{l.w.Generation, 1})
		passed()
		l.want(Up, "ask soft_memory")
	}
	// One that takes three seconds to load is braked once the delay is longer.
	for _, held := range []bool{false, false, false, true} {
		next()
		l.pass(3 * time.Second)
		passed()
		if held {
			l.want(Up)
			if d := l.w.Deadline.Sub(l.now); d < time.Second || d > 2*time.Second {
				t.Errorf("held for %v more", d)
			}
			l.now = l.w.Deadline
			l.on(Tick{})
		}
		l.want(Up, "ask soft_memory")
	}
	// A new limit makes a new beginning, and what was put off is told anew.
	next()
	l.pass(10 * time.Millisecond)
	passed()
	l.want(Up)
	w := *l.w.Spec
	w.SoftMemory = spec.GiB
	l.on(SpecChanged{&w})
	l.want(Up, fmt.Sprint("update ", l.w.Generation))
	if !l.w.Deadline.IsZero() {
		t.Errorf("still due in %v", l.w.Deadline.Sub(l.now))
	}
	passed()
	l.want(Up, "ask soft_memory")
}

func TestSoftMemoryOfATaskIsRecordedOnly(t *testing.T) {
	l := up(t, task)
	l.on(SoftMemoryPassed{1, 210 * spec.MiB, 200 * spec.MiB}, SoftMemoryPassed{1, 220 * spec.MiB, 200 * spec.MiB}, RecycleGranted{})
	l.want(Up)
	if r := l.last(event.Warning); r.Reason != event.SoftMemory || l.count(event.Warning) != 1 {
		t.Errorf("%d warnings, %+v", l.count(event.Warning), r)
	}
	l.on(HardMemoryPassed{1, 310 * spec.MiB, 300 * spec.MiB})
	l.want(Killing, "kill 1") // the hard limit stays
}

func TestHardMemoryKillsAtOnceAndIsNoPlannedEnd(t *testing.T) {
	for name, before := range map[string][]Event{
		"up":                   nil,
		"at the soft limit":    {SoftMemoryPassed{1, 2, 1}, RecycleGranted{}},
		"stopping for timeout": {ExecutionBegan{1, "a"}},
	} {
		t.Run(name, func(t *testing.T) {
			l := up(t, timeout(time.Second))
			l.on(before...)
			l.pass(time.Second)
			l.orders = nil
			l.on(HardMemoryPassed{1, 310 * spec.MiB, 300 * spec.MiB}, HardMemoryPassed{1, 320 * spec.MiB, 300 * spec.MiB})
			l.want(Killing, "kill 1")
			l.gone(1, Status{Signal: sigkill})
			// The soft limit did not help in time: a leak this fast backs off.
			l.want(Backoff, "kill 1", "release 1")
			if l.w.LastReason != event.HardMemory || l.w.Failures != 1 {
				t.Errorf("%s, %d failures", l.w.LastReason, l.w.Failures)
			}
		})
	}
}

func TestTheMoreUrgentReasonIsAsked(t *testing.T) {
	l := up(t, maxReq(1), func(w *spec.Worker) { w.MaxLifetime = time.Hour })
	l.on(RestartWanted{event.Reloaded}, RestartWanted{event.Reloaded})
	l.want(Up, "ask reloaded")
	l.on(ExecutionsCounted{1, 1})
	l.want(Up, "ask max_requests")
	l.pass(2 * time.Hour) // the lifetime is less urgent
	l.want(Up)
	l.on(SoftMemoryPassed{1, 2, 1})
	l.want(Up, "ask soft_memory")
	l.on(ExecutionsCounted{1, 2})
	l.want(Up)
	l.on(RecycleGranted{})
	l.want(Stopping, "signal 1 SIGTERM")
	if r := l.last(event.Recycling); r.Reason != event.SoftMemory {
		t.Errorf("reason %s", r.Reason)
	}
	l.on(RecycleGranted{}) // answered twice
	l.want(Stopping)
}

func TestAWorkerThatReportsNothingIsNamedOnce(t *testing.T) {
	for _, c := range []struct {
		changes []change
		after   time.Duration
		key     string
	}{
		{[]change{maxReq(10)}, silence, "max_requests"},
		{[]change{timeout(time.Second)}, silence, "timeout"},
		{[]change{timeout(time.Hour)}, time.Hour, "timeout"},
	} {
		l := up(t, c.changes...)
		l.in(c.after)
		l.pass(c.after)
		l.pass(100 * time.Hour)
		l.want(Up)
		if r := l.last(event.Warning); l.count(event.Warning) != 1 || !strings.HasPrefix(r.Message, c.key+" is set but") {
			t.Errorf("%d warnings: %q", l.count(event.Warning), r.Message)
		}
		if l.w.Places[0].Reported {
			t.Error("it counts as one that reports")
		}
		// Each generation anew.
		l.gone(1, exit(1))
		l.pass(time.Minute)
		l.on(Spawned{2, 102})
		l.pass(100 * time.Hour)
		if n := l.count(event.Warning); n != 2 {
			t.Errorf("%d warnings for two generations", n)
		}
	}
	for name, l := range map[string]*life{
		"reports": up(t, maxReq(10)), "has neither": up(t), "is a task": up(t, task, timeout(time.Hour)),
	} {
		if name == "reports" {
			l.on(ExecutionBegan{1, "a"})
		}
		l.pass(50 * time.Minute)
		if n := l.count(event.Warning); n != 0 {
			t.Errorf("a worker that %s is warned about", name)
		}
	}
}

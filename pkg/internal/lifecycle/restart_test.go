package lifecycle

import (
	"math"
	"syscall"
	"testing"
	"time"

	"github.com/workersd/workersd/pkg/internal/event"
	"github.com/workersd/workersd/pkg/spec"
)

func TestBackOffDoublesUpToItsMaximum(t *testing.T) {
	l := down(t, func(w *spec.Worker) {
		w.RestartDelay, w.RestartDelayMax = 100*time.Millisecond, time.Minute
	})
	l.on(StartWanted{}, Tick{})
	least := 100 * time.Millisecond
	for n := 1; n <= 20; n++ {
		g := l.w.Generation
		l.on(Spawned{g, 100})
		l.gone(g, exit(1))
		if l.w.State != Backoff || l.w.Failures != n {
			t.Fatalf("%v with %d failures after crash %d", l.w.State, l.w.Failures, n)
		}
		d := l.last(event.BackingOff).Delay
		if d < least || d > least+least/4 {
			t.Errorf("delay %d is %v, want %v and up to a quarter more", n, d, least)
		}
		l.in(d)
		least = min(2*least, time.Minute)
		l.pass(d)
	}
}

func TestDelayIsBoundedWhateverItIsMadeOf(t *testing.T) {
	const most = time.Duration(math.MaxInt64 / 2)
	for _, c := range []struct{ first, most time.Duration }{
		{0, time.Minute}, {1, time.Minute}, {time.Minute, time.Minute}, {time.Nanosecond, most}, {time.Hour, most}, {most - 1, most},
	} {
		w := worker(func(w *spec.Worker) { w.RestartDelay, w.RestartDelayMax = c.first, c.most })
		was := time.Duration(0)
		for n := range 200 {
			d := delay(w, n, 1)
			if d < was || d < c.first || d > c.most+c.most/4 {
				t.Errorf("delay %d from %v to %v is %v after %v", n, c.first, c.most, d, was)
			}
			was = d
		}
	}
}

func TestJitterSpreadsAndRepeats(t *testing.T) {
	const n = 10_000
	var buckets [10]int
	for i := range uint64(n) {
		j := Jitter("queue@10.0.0.1,mail", i, "restart_delay")
		if j < 0 || j >= 1 || j != Jitter("queue@10.0.0.1,mail", i, "restart_delay") {
			t.Fatalf("jitter of generation %d is %v", i, j)
		}
		buckets[int(j*10)]++
	}
	for i, in := range buckets {
		if in < n/10*8/10 || in > n/10*12/10 {
			t.Errorf("%d of %d draws between %d and %d tenths", in, n, i, i+1)
		}
	}
	a := Jitter("a", 1, "x")
	for _, other := range []float64{Jitter("b", 1, "x"), Jitter("a", 2, "x"), Jitter("a", 1, "y"), Jitter("", 1, "xa")} {
		if a == other {
			t.Errorf("two different uses draw %v", a)
		}
	}
}

func TestBackOffBeginsAnewAfterAHealthyLifeOnly(t *testing.T) {
	reset := 10 * time.Second
	for _, c := range []struct {
		name  string
		life  time.Duration
		works bool // it does one execution
		want  time.Duration
	}{
		{"at once", 0, false, 800 * time.Millisecond},
		{"just too young", reset - 1, false, 800 * time.Millisecond},
		{"healthy", reset, false, 100 * time.Millisecond},
		// One good execution before each crash must not make a loop that never
		// slows down.
		{"poison", time.Second, true, 800 * time.Millisecond},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := up(t, func(w *spec.Worker) { w.RestartReset = reset })
			for range 3 {
				l.gone(l.w.Generation, exit(1))
				l.pass(time.Minute)
				l.on(Spawned{l.w.Generation, 1})
			}
			g := l.w.Generation
			l.pass(c.life)
			if c.works {
				l.on(ExecutionBegan{g, "a"}, ExecutionEnded{g, "a", OK})
			}
			l.gone(g, exit(1))
			if d := l.last(event.BackingOff).Delay; d < c.want || d > c.want+c.want/4 {
				t.Errorf("the delay is %v, want %v and up to a quarter more", d, c.want)
			}
			if failures := l.w.Failures; (failures == 1) != (c.life >= reset) {
				t.Errorf("%d failures in a row", failures)
			}
		})
	}
}

// TestAfterTheEnd is what follows a process that left, by restart=.
func TestAfterTheEnd(t *testing.T) {
	const (
		young   = time.Second
		healthy = 10 * time.Second
	)
	work := func(l *life) { l.on(ExecutionBegan{1, "a"}, ExecutionEnded{1, "a", OK}) }
	for _, c := range []struct {
		name                     string
		life                     time.Duration
		before                   func(*life)
		st                       Status
		reason                   event.Reason
		always, onFailure, never State
		failures                 int // under always
	}{
		{"clean, young, nothing done", young, nil, exit(0), event.Finished, Backoff, Done, Done, 0},
		{"clean by SIGTERM of somebody", young, nil, signalled(syscall.SIGTERM), event.Finished, Backoff, Done, Done, 0},
		{"clean, young, one execution", young, work, exit(0), event.Finished, Waiting, Done, Done, 0},
		{"clean, healthy", healthy, nil, exit(0), event.Finished, Waiting, Done, Done, 0},
		{"crash, young", young, nil, exit(3), event.Crashed, Backoff, Backoff, Done, 1},
		{"crash, healthy", healthy, nil, exit(3), event.Crashed, Backoff, Backoff, Done, 1},
		{"crash by a signal", young, work, signalled(syscall.SIGSEGV), event.Crashed, Backoff, Backoff, Done, 1},
		{"somebody's SIGKILL", young, nil, signalled(syscall.SIGKILL), event.Killed, Backoff, Backoff, Done, 1},
		{"status unknown", young, nil, Status{Unknown: true}, event.Lost, Backoff, Backoff, Done, 1},
	} {
		for mode, want := range map[spec.RestartMode]State{
			spec.RestartAlways: c.always, spec.RestartOnFailure: c.onFailure, spec.RestartNever: c.never,
		} {
			t.Run(c.name+"/"+string(mode), func(t *testing.T) {
				l := up(t, restart(mode))
				if c.before != nil {
					c.before(l)
				}
				l.pass(c.life)
				l.gone(1, c.st)
				l.want(want, "kill 1", "release 1")
				if r := l.last(event.Gone); r.Reason != c.reason || r.Uptime != c.life || r.Status != c.st.String() {
					t.Errorf("reason %s after %v with %s, want %s", r.Reason, r.Uptime, r.Status, c.reason)
				}
				if l.w.LastReason != c.reason || l.w.LastStatus != c.st {
					t.Errorf("the worker remembers %s, %v", l.w.LastReason, l.w.LastStatus)
				}
				switch want {
				case Waiting:
					l.in(0)
				case Done:
					l.in(never)
					l.last(event.Ended)
				}
				if mode == spec.RestartAlways && l.w.Failures != c.failures {
					t.Errorf("%d failures, want %d", l.w.Failures, c.failures)
				}
				l.pass(time.Hour)
				if want == Done {
					l.want(Done)
				} else {
					l.want(Starting, "spawn 2")
				}
			})
		}
	}
}

func TestDoneIsLeftByStartAndRestart(t *testing.T) {
	for _, ev := range []Event{StartWanted{}, RestartWanted{event.Restarted}, RestartWanted{event.Reloaded}} {
		l := up(t, restart(spec.RestartNever))
		l.gone(1, exit(1))
		l.want(Done, "kill 1", "release 1")
		l.on(ev)
		l.want(Waiting)
		l.in(0)
		l.on(Tick{})
		l.want(Starting, "spawn 2")
	}
}

func TestAStartWhileTheLastOneIsClearedAwayIsNotLost(t *testing.T) {
	for _, ev := range []Event{StartWanted{}, RestartWanted{event.Restarted}} {
		for _, st := range []Status{exit(0), exit(1)} {
			l := up(t, restart(spec.RestartNever))
			l.on(Exited{1, st})
			l.on(ev)
			l.on(Emptied{Generation: 1})
			l.want(Waiting, "kill 1", "release 1")
			l.in(0)
		}
	}
}

func TestAStopIsAStopInEachState(t *testing.T) {
	crash := func(l *life) { l.gone(1, exit(1)) }
	for name, c := range map[string]struct {
		changes []change
		before  func(*life)
	}{
		"backoff": {nil, crash},
		"done":    {[]change{restart(spec.RestartNever)}, crash},
		"waiting": {[]change{task}, func(l *life) { l.gone(1, exit(0)) }},
	} {
		t.Run(name, func(t *testing.T) {
			l := up(t, c.changes...)
			c.before(l)
			l.want(l.w.State, "kill 1", "release 1")
			l.on(StopWanted{event.Stopped})
			l.want(Down)
			l.in(never)
			l.pass(time.Hour)
			l.want(Down)
			l.on(RestartWanted{event.Restarted}) // what is down stays down
			l.want(Down)
			l.on(StartWanted{}, Tick{})
			l.want(Starting, "spawn 2")
			if l.w.Failures != 0 || l.w.Delays != 0 {
				t.Errorf("a start leaves %d failures and %d delays", l.w.Failures, l.w.Delays)
			}
		})
	}
}

func TestRestartDuringBackOffStartsAtOnce(t *testing.T) {
	l := up(t)
	for range 5 {
		l.gone(l.w.Generation, exit(1))
		l.pass(time.Minute)
		l.on(Spawned{l.w.Generation, 1})
	}
	l.gone(l.w.Generation, exit(1))
	l.orders = nil
	l.on(RestartWanted{event.Restarted}, Tick{})
	l.want(Starting, "spawn 7")
	l.on(Spawned{7, 1})
	l.gone(7, exit(1))
	if d := l.last(event.BackingOff).Delay; d > 125*time.Millisecond {
		t.Errorf("the back-off goes on with %v after an operator's restart", d)
	}
}

func TestATaskRunsAgainAfterItsInterval(t *testing.T) {
	l := up(t, task, timeout(time.Minute), func(w *spec.Worker) { w.Interval = 10 * time.Second })
	l.in(time.Minute) // the process is the execution
	l.pass(50 * time.Second)
	l.gone(1, exit(0))
	l.want(Waiting, "kill 1", "release 1")
	l.in(10 * time.Second)
	if r := l.last(event.Gone); r.Executions != 1 || r.Reason != event.Finished {
		t.Errorf("%d executions, %s", r.Executions, r.Reason)
	}
	l.pass(10 * time.Second)
	l.want(Starting, "spawn 2")
	l.on(Spawned{2, 102})
	l.gone(2, exit(1))
	l.want(Backoff, "kill 2", "release 2")
	if r := l.last(event.Gone); r.Executions != 0 || r.Reason != event.Crashed {
		t.Errorf("a task that failed: %d executions, %s", r.Executions, r.Reason)
	}
	l.in(10 * time.Second) // never sooner than its interval
	if l.w.Failures != 1 {
		t.Errorf("%d failures", l.w.Failures)
	}
}

func TestATaskThatOutlivesItsTimeoutFailed(t *testing.T) {
	l := up(t, task, timeout(time.Minute))
	l.pass(time.Minute)
	l.want(Stopping, "signal 1 SIGTERM")
	l.gone(1, signalled(syscall.SIGTERM))
	l.want(Backoff, "kill 1", "release 1")
	if r := l.last(event.Gone); r.Reason != event.Timeout || l.w.Failures != 1 {
		t.Errorf("%s, %d failures", r.Reason, l.w.Failures)
	}
}

func TestATaskByRestart(t *testing.T) {
	for _, c := range []struct {
		mode          spec.RestartMode
		clean, failed State
	}{
		{spec.RestartAlways, Waiting, Backoff},
		{spec.RestartOnFailure, Done, Backoff},
		{spec.RestartNever, Done, Done},
	} {
		l := up(t, task, restart(c.mode))
		l.gone(1, exit(0))
		l.want(c.clean, "kill 1", "release 1")
		l = up(t, task, restart(c.mode))
		l.gone(1, exit(1))
		l.want(c.failed, "kill 1", "release 1")
	}
}

func TestARestartedTaskDoesNotWaitForItsInterval(t *testing.T) {
	l := up(t, task, func(w *spec.Worker) { w.Interval = time.Hour })
	l.on(RestartWanted{event.Restarted})
	l.want(Stopping, "signal 1 SIGTERM")
	l.gone(1, signalled(syscall.SIGTERM))
	l.want(Waiting, "kill 1", "release 1")
	l.in(0)
}

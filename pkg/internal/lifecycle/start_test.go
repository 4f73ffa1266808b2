package lifecycle

import (
	"strings"
	"testing"
	"time"

	"github.com/workersd/workersd/pkg/internal/event"
	"github.com/workersd/workersd/pkg/spec"
)

func TestUpByExecAndByNotify(t *testing.T) {
	l := down(t)
	l.on(StartWanted{})
	l.want(Waiting)
	l.in(0)
	l.on(Tick{})
	l.want(Starting, "spawn 1")
	l.in(30 * time.Second)
	l.on(Spawned{1, 101})
	l.want(Up)
	l.in(never)
	if p := l.w.Places[0]; p.PID != 101 || p.Generation != 1 {
		t.Errorf("pid %d, generation %d", p.PID, p.Generation)
	}

	l = down(t, notify)
	l.on(StartWanted{}, Tick{})
	l.pass(20 * time.Second)
	l.on(Spawned{1, 101})
	l.want(Starting, "spawn 1")
	l.in(30 * time.Second) // from the moment it was there
	l.on(Ready{1})
	l.want(Up)
	l.in(never)
}

func TestStartTimeout(t *testing.T) {
	l := down(t, notify, func(w *spec.Worker) { w.StartTimeout = 5 * time.Second })
	l.on(StartWanted{}, Tick{}, Spawned{1, 101})
	l.pass(5 * time.Second)
	l.want(Stopping, "spawn 1", "signal 1 SIGTERM")
	l.on(Ready{1}) // too late
	l.want(Stopping)
	l.pass(10 * time.Second)
	l.want(Killing, "kill 1")
	l.gone(1, Status{Signal: sigkill})
	l.want(Backoff, "kill 1", "release 1")
	if r := l.last(event.Gone); r.Reason != event.StartTimeout {
		t.Errorf("reason %s", r.Reason)
	}
	if l.w.Failures != 1 {
		t.Errorf("%d failures", l.w.Failures)
	}
}

func TestStartTimeoutIsExtendedByTheProcess(t *testing.T) {
	l := down(t, notify, func(w *spec.Worker) { w.StartTimeout = 5 * time.Second })
	l.on(StartWanted{}, Tick{}, Spawned{1, 101})
	l.on(Extended{1, time.Second}) // less than it has anyhow
	l.in(5 * time.Second)
	l.on(Extended{1, time.Minute})
	l.in(time.Minute)
	l.pass(time.Minute - 1)
	l.want(Starting, "spawn 1")
	l.pass(1)
	l.want(Stopping, "signal 1 SIGTERM")
	l.in(10 * time.Second) // what it asked for was for its start
}

func TestAStartThatHangsIsNamedAndNeverDoubled(t *testing.T) {
	l := down(t, notify, func(w *spec.Worker) { w.StartTimeout = 5 * time.Second })
	l.on(StartWanted{}, Tick{})
	l.pass(time.Hour)
	l.want(Starting, "spawn 1")
	if n := l.count(event.Stuck); n != 1 {
		t.Errorf("named %d times", n)
	}
	if r := l.last(event.Stuck); !strings.Contains(r.Message, "start hangs") {
		t.Errorf("it says %q", r.Message)
	}
	if !l.w.Places[0].Stuck {
		t.Error("it is not shown as stuck")
	}
	l.on(Spawned{1, 101})
	l.in(5 * time.Second) // start_timeout from here, and no more of the waiting
	if l.w.Places[0].Stuck {
		t.Error("a process that lives is shown as stuck")
	}
	l.on(Ready{1})
	l.want(Up)
}

func TestASpawnThatFailsBacksOff(t *testing.T) {
	l := down(t)
	l.on(StartWanted{}, Tick{}, SpawnFailed{1, "/bin/nothing: no such file"})
	l.want(Backoff, "spawn 1") // and no release: there never was a process
	if r := l.last(event.NotStarted); r.Message != "cannot be started: /bin/nothing: no such file" || r.Reason != event.SpawnFailed || r.Generation != 1 {
		t.Errorf("%+v", r)
	}
	if l.w.Failures != 1 || l.w.LastReason != event.SpawnFailed {
		t.Errorf("%d failures, last %s", l.w.Failures, l.w.LastReason)
	}
	l.pass(time.Minute)
	l.want(Starting, "spawn 2")

	l = down(t, restart(spec.RestartNever))
	l.on(StartWanted{}, Tick{}, SpawnFailed{1, "no"})
	l.want(Done, "spawn 1")
	l.in(never)
}

func TestAStopWhileTheStartIsUnderWay(t *testing.T) {
	begin := func(t *testing.T) *life {
		l := down(t, notify)
		l.on(StartWanted{}, Tick{})
		l.pass(4 * time.Second)
		l.on(StopWanted{event.Stopped})
		l.want(Stopping, "spawn 1") // there is nobody to signal yet
		return l
	}
	t.Run("it comes", func(t *testing.T) {
		l := begin(t)
		l.pass(4 * time.Second)
		l.on(Spawned{1, 101})
		l.want(Stopping, "signal 1 SIGTERM")
		l.in(10 * time.Second) // its grace begins when it can use it
		l.gone(1, exit(0))
		l.want(Down, "kill 1", "release 1")
		l.in(never)
	})
	t.Run("it fails", func(t *testing.T) {
		l := begin(t)
		l.on(SpawnFailed{1, "no"})
		l.want(Down)
		l.in(never)
	})
	t.Run("it hangs", func(t *testing.T) {
		l := begin(t)
		l.pass(time.Hour)
		l.want(Killing, "kill 1") // once: the order stands behind the start
		l.on(Spawned{1, 101})
		l.want(Killing)
		l.gone(1, Status{Signal: sigkill})
		l.want(Down, "kill 1", "release 1")
	})
	t.Run("it is wanted again", func(t *testing.T) {
		l := begin(t)
		l.on(StartWanted{})
		l.on(Spawned{1, 101})
		l.gone(1, exit(0))
		l.want(Waiting, "signal 1 SIGTERM", "kill 1", "release 1")
		l.in(0)
	})
}

func TestAKillWhileTheStartIsUnderWay(t *testing.T) {
	l := down(t)
	l.on(StartWanted{}, Tick{}, KillWanted{event.Killed}, KillWanted{event.Killed})
	l.want(Killing, "spawn 1", "kill 1")
	l.on(Spawned{1, 101})
	l.want(Killing)
	l.gone(1, Status{Signal: sigkill})
	l.want(Backoff, "kill 1", "release 1")
	if r := l.last(event.Gone); r.Reason != event.Killed {
		t.Errorf("reason %s", r.Reason)
	}

	l = down(t)
	l.on(StartWanted{}, Tick{}, KillWanted{event.Killed}, SpawnFailed{1, "no"})
	l.want(Backoff, "spawn 1", "kill 1")
}

// The host tells of a start first; a worker must not hang where it did not.
func TestAnEndThatComesBeforeTheStart(t *testing.T) {
	l := down(t)
	l.on(StartWanted{}, Tick{}, Exited{1, exit(1)}, Spawned{1, 101}, Emptied{Generation: 1})
	l.want(Backoff, "spawn 1", "kill 1", "release 1")

	l = down(t)
	l.on(StartWanted{}, Tick{}, Exited{1, exit(1)}, Emptied{Generation: 1}, Spawned{1, 101})
	l.want(Backoff, "spawn 1", "kill 1", "release 1")
}

func TestWhatANobodySaysBeforeItsStartChangesNothing(t *testing.T) {
	l := down(t, notify, func(w *spec.Worker) { w.Watchdog = time.Second })
	l.on(StartWanted{}, Tick{})
	before := l.w
	for _, ev := range []Event{
		Ready{1}, SaidStopping{1}, SaidStatus{1, "x"}, WatchdogPinged{1}, WatchdogTriggered{1}, Extended{1, time.Hour},
		MainPIDChanged{1, 7}, ExecutionBegan{1, "a"}, ExecutionEnded{1, "a", OK}, ExecutionsCounted{1, 9},
		SoftMemoryPassed{1, 2, 1}, HardMemoryPassed{1, 2, 1}, Emptied{Generation: 1},
	} {
		l.on(ev)
		if !same(before, l.w) {
			t.Errorf("%T changed the worker", ev)
		}
	}
	l.want(Starting, "spawn 1")
}

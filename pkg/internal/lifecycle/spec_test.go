package lifecycle

import (
	"testing"
	"time"

	"github.com/workersd/workersd/pkg/internal/event"
	"github.com/workersd/workersd/pkg/spec"
)

func TestLiveKeysReachTheRunningProcess(t *testing.T) {
	l := up(t, maxReq(100))
	l.on(ExecutionBegan{1, "a"})
	l.pass(10 * time.Second)
	l.on(SpecChanged{worker(maxReq(100), timeout(30*time.Second), func(w *spec.Worker) { w.MaxLifetime = time.Minute })})
	l.want(Up, "update 1")
	l.in(20 * time.Second) // the timeout of what runs already
	l.on(ExecutionEnded{1, "a", OK})
	l.in(50 * time.Second) // the lifetime, from its start
}

func TestALowerMaxRequestsIsAskedAtOnce(t *testing.T) {
	l := up(t, maxReq(100))
	l.on(ExecutionsCounted{1, 50}, SpecChanged{worker(maxReq(40))})
	l.want(Up, "update 1", "ask max_requests")
}

func TestASpecThatChangesInEachState(t *testing.T) {
	other := worker(func(w *spec.Worker) { w.RestartDelay = 7 * time.Second; w.RestartDelayMax = time.Minute })
	for _, c := range []struct {
		name   string
		before []Event
		want   State
		orders []string
	}{
		{"down", nil, Down, nil},
		{"waiting", []Event{StartWanted{}}, Waiting, nil},
		{"starting", []Event{StartWanted{}, Tick{}}, Starting, []string{"spawn 1", "update 1"}},
		{"up", []Event{StartWanted{}, Tick{}, Spawned{1, 101}}, Up, []string{"spawn 1", "update 1"}},
		{"stopping", []Event{StartWanted{}, Tick{}, Spawned{1, 101}, StopWanted{event.Stopped}}, Stopping, []string{"spawn 1", "signal 1 SIGTERM", "update 1"}},
		{"killing", []Event{StartWanted{}, Tick{}, Spawned{1, 101}, KillWanted{event.Killed}}, Killing, []string{"spawn 1", "kill 1", "update 1"}},
		{"backoff", []Event{StartWanted{}, Tick{}, SpawnFailed{1, "no"}}, Backoff, []string{"spawn 1"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := down(t)
			l.on(c.before...)
			l.on(SpecChanged{other})
			l.want(c.want, c.orders...)
			if l.w.Spec != other {
				t.Error("the spec is the old one")
			}
		})
	}
}

// Keys that take effect by a restart must not be held against a process that
// was started without them: it may have to wait for admission.
func TestKeysOfARestartWaitForIt(t *testing.T) {
	t.Run("watchdog", func(t *testing.T) {
		l := up(t)
		l.on(SpecChanged{worker(func(w *spec.Worker) { w.Watchdog = time.Second })}, RestartWanted{event.Reloaded})
		l.pass(time.Hour)
		l.want(Up, "update 1", "ask reloaded")
		l.in(never)
	})
	t.Run("type", func(t *testing.T) {
		l := up(t)
		l.pass(time.Hour)
		l.on(SpecChanged{worker(task, timeout(time.Minute))}, RestartWanted{event.Reloaded})
		l.pass(time.Hour)
		l.want(Up, "update 1", "ask reloaded")
		l.on(SoftMemoryPassed{1, 2, 1})
		l.want(Up, "ask soft_memory") // it still is a service
	})
	t.Run("ready", func(t *testing.T) {
		l := down(t)
		l.on(StartWanted{}, Tick{}, SpecChanged{worker(notify)}, RestartWanted{event.Reloaded}, Spawned{1, 101})
		l.want(Up, "spawn 1", "update 1", "ask reloaded")
	})
}

func TestAReloadWhileStarting(t *testing.T) {
	l := down(t, notify)
	l.on(StartWanted{}, Tick{}, SpecChanged{worker(notify)}, RestartWanted{event.Reloaded})
	l.want(Starting, "spawn 1", "update 1", "ask reloaded")
	l.on(RecycleGranted{})
	l.want(Stopping) // nobody to signal yet
	l.on(Spawned{1, 101})
	l.want(Stopping, "signal 1 SIGTERM")
	l.gone(1, exit(0))
	l.want(Waiting, "kill 1", "release 1")
}

func TestAReloadWhileStoppingStartsWithTheNewSpec(t *testing.T) {
	l := up(t, restart(spec.RestartNever))
	l.on(ExecutionBegan{1, "a"}, Exited{1, exit(0)})
	l.on(SpecChanged{worker(restart(spec.RestartNever))}, RestartWanted{event.Reloaded})
	l.on(Emptied{Generation: 1})
	l.want(Waiting, "kill 1", "update 1", "release 1")
}

func TestARemovedWorkerThatComesBackWhileItDrains(t *testing.T) {
	l := up(t)
	other := worker(func(w *spec.Worker) { w.Nice = 3 })
	l.on(StopWanted{event.Removed}, SpecChanged{other}, StartWanted{})
	l.want(Stopping, "signal 1 SIGTERM", "update 1")
	l.gone(1, exit(0))
	l.on(Tick{})
	l.want(Starting, "kill 1", "release 1", "spawn 2")
	if l.w.Spec != other {
		t.Error("it starts with the old spec")
	}
}

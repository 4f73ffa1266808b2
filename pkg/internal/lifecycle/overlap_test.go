package lifecycle

import (
	"testing"
	"time"

	"github.com/workersd/workersd/pkg/internal/event"
	"github.com/workersd/workersd/pkg/spec"
)

// replacing is a worker whose successor, generation 2, was ordered.
func replacing(t *testing.T, changes ...change) *life {
	t.Helper()
	l := up(t, append([]change{notify, overlap}, changes...)...)
	l.on(RestartWanted{event.Reloaded}, RecycleGranted{})
	l.want(Up, "ask reloaded", "spawn 2")
	return l
}

func TestOverlap(t *testing.T) {
	l := replacing(t)
	l.pass(time.Second)
	l.on(Spawned{2, 102})
	l.want(Up)
	l.pass(20 * time.Second)
	l.on(Ready{2})
	l.want(Stopping, "signal 1 SIGTERM") // now the old one may go
	l.gone(1, exit(0))
	l.want(Up, "kill 1", "release 1")
	if p := l.w.Places; p[0].Generation != 2 || p[1].Living() {
		t.Errorf("generations %d and %d in the places", p[0].Generation, p[1].Generation)
	}
	l.in(never)
	if l.w.Failures != 0 || l.w.Restarts != 1 || l.w.LastReason != event.Reloaded {
		t.Errorf("%d failures, %d restarts, last %s", l.w.Failures, l.w.Restarts, l.w.LastReason)
	}
}

func TestASuccessorThatFailsIsTriedAgain(t *testing.T) {
	for name, fail := range map[string]func(*life, uint64){
		"no such command": func(l *life, g uint64) { l.on(SpawnFailed{g, "no such file"}) },
		"crashes":         func(l *life, g uint64) { l.on(Spawned{g, 7}); l.gone(g, exit(1)) },
		"is never ready": func(l *life, g uint64) {
			l.on(Spawned{g, 7})
			l.pass(30 * time.Second)
			l.gone(g, exit(0))
		},
	} {
		t.Run(name, func(t *testing.T) {
			l := replacing(t)
			for g := uint64(2); g < 8; g++ {
				fail(l, g)
				if l.w.State != Up || l.w.Places[0].Generation != 1 || l.w.Places[1].Living() {
					t.Fatalf("the old one does not work on: %v", l.w.State)
				}
				if l.w.Failures != 0 {
					t.Errorf("%d failures of a worker that works", l.w.Failures)
				}
				d := l.last(event.BackingOff).Delay
				least := 100 * time.Millisecond << (g - 2)
				if d < least || d > least+least/4 {
					t.Errorf("try %d waits %v, want %v and up to a quarter more", g, d, least)
				}
				l.in(d)
				l.orders = nil
				l.pass(d)
				l.want(Up, order(Spawn{Generation: g + 1}))
			}
		})
	}
}

func TestTheOldOneEndsWhileItsSuccessorStarts(t *testing.T) {
	l := replacing(t)
	l.gone(1, exit(1))
	l.want(Starting, "kill 1", "release 1")
	if l.w.Places[0].Generation != 2 || l.w.Places[1].Living() {
		t.Error("the successor has not moved up")
	}
	l.on(Spawned{2, 102}, Ready{2})
	l.want(Up)
}

func TestTheOldOneEndsBetweenTwoTries(t *testing.T) {
	l := replacing(t)
	l.on(SpawnFailed{2, "no"})
	l.on(Exited{1, exit(1)})
	l.pass(time.Second) // the next try would be due: it is not made beside a dying one
	l.want(Killing, "kill 1")
	l.on(Emptied{Generation: 1})
	l.want(Backoff, "release 1")
	l.pass(time.Minute)
	l.want(Starting, "spawn 3")
}

// A deadline that no Tick moves would make the loop spin.
func TestTheOldOneIsStoppedBetweenTwoTries(t *testing.T) {
	l := replacing(t, timeout(50*time.Millisecond))
	l.on(SpawnFailed{2, "no"}, ExecutionBegan{1, "a"})
	l.pass(2 * time.Second)
	l.want(Stopping, "signal 1 SIGTERM")
	l.pass(time.Minute)
	l.want(Killing, "kill 1", "kill 1", "kill 1")
}

func TestOverlapThatIsTakenBackBetweenTwoTries(t *testing.T) {
	l := replacing(t)
	l.on(SpawnFailed{2, "no"}, SpecChanged{worker(notify)})
	l.want(Up, "update 1")
	l.pass(time.Second)
	l.want(Stopping, "signal 1 SIGTERM") // one place: the old one goes first
	l.gone(1, exit(0))
	l.want(Waiting, "kill 1", "release 1")
}

func TestASuccessorsOwnRecycleIsAskedWhenItMovesUp(t *testing.T) {
	l := replacing(t, maxReq(1))
	l.on(Spawned{2, 102}, Ready{2})
	l.want(Stopping, "signal 1 SIGTERM")
	l.on(ExecutionsCounted{2, 1}, SoftMemoryPassed{2, 2, 1})
	l.want(Stopping) // a third place there is not
	l.gone(1, exit(0))
	l.want(Up, "kill 1", "release 1", "ask soft_memory")
	l.on(RecycleGranted{})
	l.want(Up, "spawn 3")
}

func TestAReloadWhileASuccessorIsThereIsNotLost(t *testing.T) {
	for name, evs := range map[string][]Event{
		"starting": {},
		"ready":    {Spawned{2, 102}, Ready{2}},
	} {
		t.Run(name, func(t *testing.T) {
			l := replacing(t)
			l.on(evs...)
			l.on(SpecChanged{worker(notify, overlap, func(w *spec.Worker) { w.Nice = 5 })}, RestartWanted{event.Reloaded})
			if name == "starting" {
				l.on(Spawned{2, 102}, Ready{2})
			}
			l.orders = nil
			l.gone(1, exit(0))
			l.want(Up, "kill 1", "release 1", "ask reloaded") // 2 has the spec before
			l.on(RecycleGranted{})
			l.want(Up, "spawn 3")
		})
	}
}

func TestAnOperatorsRestartWhileASuccessorIsThere(t *testing.T) {
	l := replacing(t)
	l.on(Spawned{2, 102}, RestartWanted{event.Restarted}, Ready{2})
	l.want(Stopping, "signal 1 SIGTERM")
	l.gone(1, exit(0))
	l.want(Up, "kill 1", "release 1", "spawn 3") // it waits for nobody
	l.on(Spawned{3, 103}, Ready{3})
	l.want(Stopping, "signal 2 SIGTERM")
	l.gone(2, exit(0))
	l.want(Up, "kill 2", "release 2")
	if l.w.LastReason != event.Restarted {
		t.Errorf("last reason %s", l.w.LastReason)
	}
}

func TestAStopEndsBothPlaces(t *testing.T) {
	l := replacing(t)
	l.on(Spawned{2, 102}, StopWanted{event.Stopped})
	l.want(Stopping, "signal 1 SIGTERM", "signal 2 SIGTERM")
	l.gone(2, exit(0))
	l.want(Stopping, "kill 2", "release 2")
	l.gone(1, exit(0))
	l.want(Down, "kill 1", "release 1")
	l.in(never)

	l = replacing(t)
	l.on(Spawned{2, 102}, StopWanted{event.Stopped}, StartWanted{})
	l.gone(1, exit(0))
	l.gone(2, exit(0))
	l.want(Waiting, "signal 1 SIGTERM", "signal 2 SIGTERM", "kill 1", "release 1", "kill 2", "release 2")
	l.in(0)
}

func TestAKillEndsBothPlaces(t *testing.T) {
	l := replacing(t)
	l.on(Spawned{2, 102}, KillWanted{event.Killed})
	l.want(Killing, "kill 1", "kill 2")
}

func TestASuccessorThatDiesWhileTheOldOneLeaves(t *testing.T) {
	l := replacing(t)
	l.on(Spawned{2, 102}, Ready{2})
	l.gone(2, exit(1))
	l.want(Stopping, "signal 1 SIGTERM", "kill 2", "release 2")
	l.in(10 * time.Second)
	l.gone(1, exit(0))
	l.want(Waiting, "kill 1", "release 1")
	l.in(0)
}

func TestAnOldOneThatIsStuckIsNeverTripled(t *testing.T) {
	l := replacing(t)
	l.on(Spawned{2, 102}, Ready{2})
	l.pass(time.Minute)
	l.on(RestartWanted{event.Restarted}, SoftMemoryPassed{2, 2, 1}, RecycleGranted{})
	for _, o := range l.orders {
		if o == "spawn 3" {
			t.Errorf("orders: %v", l.orders)
		}
	}
	if !l.w.Places[0].Stuck || l.w.Places[1].State != Up {
		t.Errorf("stuck %v, successor %v", l.w.Places[0].Stuck, l.w.Places[1].State)
	}
}

func TestNoOverlapForARestartWithoutIt(t *testing.T) {
	l := up(t, overlap, notify)
	l.on(RestartWanted{event.Restarted})
	l.want(Up, "spawn 2") // an operator's restart overlaps, too
}

func TestAFirstStartThatFailsBesideItsSuccessor(t *testing.T) {
	l := down(t, overlap, notify)
	l.on(StartWanted{}, Tick{}, RestartWanted{event.Restarted}) // while the first one starts
	l.want(Starting, "spawn 1", "spawn 2")
	l.on(SpawnFailed{1, "no"})
	l.want(Starting)
	if l.w.Places[0].Generation != 2 || l.w.Places[1].Living() {
		t.Error("the successor has not moved up")
	}
}

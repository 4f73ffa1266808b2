package lifecycle

import (
	"testing"
	"time"

	"github.com/workersd/workersd/pkg/spec"
)

// steady is what happens all the time, with what it may allocate: an execution
// that begins makes the next list of those that run, for Step changes none.
var steady = []struct {
	name   string
	allocs float64
	evs    []Event
}{
	{"Tick", 0, []Event{Tick{}}},
	{"WATCHDOG", 0, []Event{WatchdogPinged{1}}},
	{"stale", 0, []Event{Exited{7, Status{}}}},
	{"BEGIN END COUNT", 1, []Event{ExecutionBegan{1, "a"}, ExecutionEnded{1, "a", OK}, ExecutionsCounted{1, 1}}},
}

func atWorkWithAll() Worker {
	w := New(worker(timeout(time.Minute), func(w *spec.Worker) { w.Watchdog, w.MaxLifetime = time.Minute, time.Hour }), drainMax, 0)
	for _, ev := range []Event{StartWanted{}, Tick{}, Spawned{1, 101}} {
		w, _ = Step(w, epoch, ev)
	}
	return w
}

func TestSteadyStepsAllocateNothing(t *testing.T) {
	for _, c := range steady {
		w := atWorkWithAll()
		if n := testing.AllocsPerRun(1000, func() {
			for _, ev := range c.evs {
				w, _ = Step(w, epoch, ev)
			}
		}); n > c.allocs {
			t.Errorf("%s: %v allocations, at most %v are needed", c.name, n, c.allocs)
		}
	}
}

// BenchmarkStep is what one worker costs the loop.
func BenchmarkStep(b *testing.B) {
	for _, c := range steady {
		b.Run(c.name, func(b *testing.B) {
			w := atWorkWithAll()
			b.ReportAllocs()
			for b.Loop() {
				for _, ev := range c.evs {
					w, _ = Step(w, epoch, ev)
				}
			}
		})
	}
}

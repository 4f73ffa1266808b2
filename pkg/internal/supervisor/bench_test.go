package supervisor_test

import (
	"context"
	"testing"
	"time"

	"github.com/workersd/workersd/pkg/internal/lifecycle"
	"github.com/workersd/workersd/pkg/internal/supervisor"
	"github.com/workersd/workersd/pkg/spec"
)

// prompt is a host on which every start succeeds at once, and every stop: it
// costs nothing that would be counted against the loop.
type prompt struct {
	events chan supervisor.HostEvent // with room for two answers of every worker: the loop itself puts them there
}

func (h prompt) Spawn(o supervisor.SpawnOrder) {
	h.events <- supervisor.HostEvent{Worker: o.ID.Worker, Event: lifecycle.Spawned{Generation: o.ID.Generation, PID: 1}}
}

func (h prompt) Signal(id lifecycle.ProcessID, _ spec.Signal) {
	h.events <- supervisor.HostEvent{Worker: id.Worker, Event: lifecycle.Exited{Generation: id.Generation}}
	h.events <- supervisor.HostEvent{Worker: id.Worker, Event: lifecycle.Emptied{Generation: id.Generation}}
}

func (prompt) Kill(lifecycle.ProcessID)                 {}
func (prompt) Update(lifecycle.ProcessID, *spec.Worker) {}
func (prompt) Release(lifecycle.ProcessID)              {}
func (prompt) Configure(spec.Manager)                   {}
func (h prompt) Events() <-chan supervisor.HostEvent    { return h.events }

// pool is n workers at work, and a ping of each.
func pool(t testing.TB, n int) (s *supervisor.Supervisor, h prompt, pings []supervisor.HostEvent) {
	h = prompt{make(chan supervisor.HostEvent, 2*n)}
	s = supervisor.New(supervisor.Options{Host: h, List: many(n, func(w *spec.Worker) {
		w.Watchdog, w.Timeout, w.MaxLifetime = 24*time.Hour, time.Hour, 48*time.Hour
	})})
	ended := make(chan error, 1)
	go func() { ended <- s.Run() }()
	t.Cleanup(func() {
		for len(h.events) > 0 { // the room is for the answers now
			s.Ping(context.Background())
		}
		s.Shutdown()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	<-s.FirstRound()
	snap, err := s.Snapshot(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	for _, st := range snap.Workers {
		if st.State != lifecycle.Up {
			t.Fatalf("%s is %v", st.Spec.Name, st.State)
		}
		pings = append(pings, supervisor.HostEvent{Worker: st.Spec.Name, Event: lifecycle.WatchdogPinged{Generation: st.Generation}})
	}
	return s, h, pings
}

func TestASteadyPoolAllocatesNothing(t *testing.T) {
	_, h, pings := pool(t, 500)
	i := 0
	if n := testing.AllocsPerRun(10_000, func() {
		h.events <- pings[i%len(pings)]
		i++
	}); n > 0 {
		t.Errorf("%v allocations for each event", n)
	}
}

// BenchmarkEvent is one word of one of 5000 workers, through the loop.
func BenchmarkEvent(b *testing.B) {
	s, h, pings := pool(b, 5000)
	i := 0
	b.ReportAllocs()
	for b.Loop() {
		h.events <- pings[i]
		if i++; i == len(pings) {
			i = 0
		}
	}
	for len(h.events) > 0 { // handled, and not only sent
		s.Ping(context.Background())
	}
}

// BenchmarkSnapshot is what status costs the loop with 5000 workers.
func BenchmarkSnapshot(b *testing.B) {
	s, _, _ := pool(b, 5000)
	b.ReportAllocs()
	for b.Loop() {
		if snap, err := s.Snapshot(context.Background()); err != nil || len(snap.Workers) != 5000 {
			b.Fatal(err)
		}
	}
}

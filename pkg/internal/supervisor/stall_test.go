package supervisor_test

import (
	"testing"
	"time"

	"github.com/workersd/workersd/pkg/internal/event"
	"github.com/workersd/workersd/pkg/internal/hosttest"
	"github.com/workersd/workersd/pkg/internal/supervisor"
	"github.com/workersd/workersd/pkg/spec"
)

// What workers said while the manager stood still is heard before anybody is
// judged for silence; who was silent is found out all the same.
func TestAStallIsNobodysSilence(t *testing.T) {
	l := many(20, func(w *spec.Worker) { w.Watchdog, w.Timeout = 2*time.Second, 2*time.Second })
	l.Workers = append(l.Workers, worker("x"), worker("mute", func(w *spec.Worker) { w.Watchdog = 2 * time.Second }))
	stall := func([]string) { time.Sleep(5 * time.Second) } // on the loop
	talks := hosttest.Behaviour{Pings: 300 * time.Millisecond, Execution: 700 * time.Millisecond, Pause: 100 * time.Millisecond}
	run(t, options{
		list: l,
		script: func(o supervisor.SpawnOrder) hosttest.Behaviour {
			switch o.ID.Worker {
			case "x", "mute":
				return hosttest.Behaviour{}
			}
			return talks
		},
		set: func(o *supervisor.Options) { o.OperatorStops = stall },
	}, func(r *rig) {
		for range 10 {
			r.apply(supervisor.Stop, "x")
			r.sleep(3 * time.Second)
			r.apply(supervisor.Start, "x")
			r.sleep(3 * time.Second)
		}
		r.want(0, event.Recycling, "", event.Timeout)
		mute := r.of(event.Gone, "mute", event.Watchdog)
		if all := r.of(event.Gone, "", event.Watchdog); all != mute || mute < 5 {
			t.Errorf("%d were ended for silence, %d of them mute", all, mute)
		}
	})
}

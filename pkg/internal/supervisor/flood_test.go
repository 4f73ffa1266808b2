package supervisor_test

import (
	"context"
	"testing"
	"time"

	"github.com/workersd/workersd/pkg/internal/event"
	"github.com/workersd/workersd/pkg/internal/lifecycle"
	"github.com/workersd/workersd/pkg/internal/supervisor"
	"github.com/workersd/workersd/pkg/spec"
)

func TestAFloodHoldsUpNobody(t *testing.T) {
	l := many(10)
	l.Workers[3].Watchdog = 10 * time.Second
	run(t, options{list: l}, func(r *rig) {
		p := r.h.Process("w@0")
		for range 50_000 {
			p.Say(lifecycle.SaidStatus{Generation: p.ID.Generation, Text: "again"})
		}
		// Commands and deadlines come through at the same virtual moment.
		if err := r.s.Ping(context.Background()); err != nil {
			t.Error(err)
		}
		r.apply(supervisor.Stop, "w@1")
		r.sleep(time.Minute)
		r.state("w@1", lifecycle.Down)
		if n := r.of(event.Gone, "w@3", event.Watchdog); n < 4 {
			t.Errorf("the watchdog of another worker ended it %d times in a minute", n)
		}
		if text := r.status("w@0").Worker.Places[0].StatusText; text != "again" {
			t.Errorf("status text %q", text)
		}
	})
}

func TestEventsAboutNobodyAreCounted(t *testing.T) {
	run(t, options{list: many(2)}, func(r *rig) {
		p := r.h.Process("w@1")
		r.reload(many(1))
		r.sleep(time.Minute)
		_ = p
		stale := r.h.Process("w@0")
		for range 3 {
			r.h.Say("not there", lifecycle.Ready{Generation: 1})
		}
		r.h.Say("w@0", lifecycle.Exited{Generation: stale.ID.Generation + 7})
		r.sleep(time.Second)
		if n := r.snapshot().Unknown; n != 3 {
			t.Errorf("%d unknown events", n)
		}
		r.state("w@0", lifecycle.Up)
	})
}

func TestAnIdlePoolWakesNobody(t *testing.T) {
	l := many(100, func(w *spec.Worker) { w.Timeout = time.Minute })
	for i := range l.Workers { // the warning that it reports nothing comes once
		l.Workers[i].MaxRequests = 5
	}
	run(t, options{list: l}, func(r *rig) {
		r.sleep(2 * time.Minute)
		r.want(100, event.Warning, "", "")
		orders, records := len(r.h.Orders()), len(r.all())
		r.sleep(1000 * time.Hour)
		if len(r.h.Orders()) != orders || len(r.all()) != records {
			t.Errorf("%d orders and %d records in idle time", len(r.h.Orders())-orders, len(r.all())-records)
		}
		for _, st := range r.workers() {
			if !st.Worker.Deadline.IsZero() {
				t.Errorf("%s waits for %v", st.Spec.Name, st.Worker.Deadline)
			}
		}
	})
}

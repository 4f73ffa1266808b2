package supervisor_test

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/workersd/workersd/pkg/internal/hosttest"
	"github.com/workersd/workersd/pkg/internal/lifecycle"
	"github.com/workersd/workersd/pkg/internal/supervisor"
	"github.com/workersd/workersd/pkg/spec"
)

var seed = flag.Uint64("supervisor.seed", 0, "of the first chaos; 0: another one each time")

// TestChaos lets anything happen to workers that behave in any way, and looks at
// what must hold all the same: the contract of Host, which hosttest checks at
// each order; deadlines of which something comes; and that at the end nothing is
// left of any worker.
func TestChaos(t *testing.T) {
	first, lives := *seed, 40
	if first == 0 {
		first = rand.Uint64N(1 << 40)
	} else {
		lives = 1
	}
	if testing.Short() {
		lives = 5
	}
	for s := first; s < first+uint64(lives); s++ {
		// The name of what fails says how to see it again.
		if !t.Run(fmt.Sprintf("-supervisor.seed=%d", s), func(t *testing.T) { chaos(t, s) }) {
			return
		}
	}
}

func pick[T any](r *rand.Rand, of ...T) T { return of[r.IntN(len(of))] }

func chaos(t *testing.T, seed uint64) {
	r := rand.New(rand.NewPCG(seed, 1))
	script := func(o supervisor.SpawnOrder) hosttest.Behaviour {
		// By the process, not by the moment: the order of starts need not repeat.
		return randomBehaviour(rand.New(rand.NewPCG(seed, o.ID.Generation)))
	}
	run(t, options{list: randomList(r), script: script}, func(r2 *rig) {
		ctx := context.Background()
		for range 60 {
			r2.sleep(pick(r, 0, time.Second, time.Minute, time.Hour) + time.Duration(r.IntN(1000))*time.Millisecond)
			r2.counted()
			name := fmt.Sprintf("w@%d", r.IntN(10))
			switch r.IntN(8) {
			case 0:
				r2.reload(randomList(r))
			case 1, 2, 3: // it may have been removed, that is no error of ours
				r2.s.Apply(ctx, pick(r, supervisor.Start, supervisor.Start, supervisor.Stop, supervisor.Restart, supervisor.Kill), []string{name})
			case 4:
				r2.h.LetStart(name)
			case 5:
				if p := r2.h.Process(name); p != nil {
					p.OutOfMemory(pick(r, lifecycle.OOMLeaf, lifecycle.OOMPool, lifecycle.OOMUnit, lifecycle.OOMHost))
				}
			case 6:
				if p := r2.h.Process(name); p != nil {
					p.Free()
				}
			}
		}
		// All is let go, so that the end can leave nothing.
		r2.s.Shutdown()
		for range 600 { // also what a hanging start brings
			left := r2.snapshotOrNone()
			if len(left) == 0 {
				break
			}
			for _, st := range left {
				r2.h.LetStart(st.Spec.Name)
			}
			for _, ps := range r2.h.Living() {
				for _, p := range ps {
					p.Free()
				}
			}
			r2.sleep(time.Second)
		}
	})
}

// counted checks the counts against all workers.
func (r *rig) counted() {
	r.Helper()
	snap, err := r.s.Snapshot(context.Background())
	counts, err2 := r.s.Counts(context.Background())
	if err != nil || err2 != nil {
		return // it has ended
	}
	want := supervisor.Counts{Time: counts.Time, Title: snap.Manager.Title, Stopping: snap.Stopping}
	for _, w := range snap.Workers {
		if w.Wanted == lifecycle.WantedUp {
			want.Wanted++
		}
		switch w.State {
		case lifecycle.Up:
			want.Up++
		case lifecycle.Backoff:
			want.Backoff++
		}
		if !w.Idle {
			want.Living++
		}
	}
	if counts != want {
		r.Errorf("counts are %+v, want %+v", counts, want)
	}
	if want.Time = snap.Time; snap.Counts != want {
		r.Errorf("a snapshot counts %+v, want %+v", snap.Counts, want)
	}
}

// snapshotOrNone is empty once the loop has ended.
func (r *rig) snapshotOrNone() []supervisor.Status {
	snap, _ := r.s.Snapshot(context.Background())
	return snap.Workers
}

func randomList(r *rand.Rand) spec.List {
	l := list()
	l.Manager.MaxStarting = pick(r, 0, 0, 1, 3)
	l.Manager.DrainMax = pick(r, time.Minute, 5*time.Minute)
	for _, i := range r.Perm(10)[:3+r.IntN(8)] {
		l.Workers = append(l.Workers, worker(fmt.Sprintf("w@%d", i), func(w *spec.Worker) {
			if r.IntN(5) == 0 {
				w.Type = spec.Task
			} else {
				w.Ready = pick(r, spec.ReadyExec, spec.ReadyNotify)
				w.Overlap = pick(r, spec.OverlapNone, spec.OverlapReady)
				w.MaxRequests = pick(r, 0, 0, 20)
			}
			w.Enabled = r.IntN(8) > 0
			w.MaxLifetime = pick(r, 0, 0, 10*time.Minute)
			w.Timeout = pick(r, 0, 20*time.Second)
			w.Watchdog = pick(r, 0, 0, 30*time.Second)
			w.MaxRecycling = pick(r, spec.Share{}, spec.Share{N: 1}, spec.Share{N: 50, Percent: true})
			w.Restart = pick(r, spec.RestartAlways, spec.RestartAlways, spec.RestartOnFailure, spec.RestartNever)
			w.StopTimeout = pick(r, 0, time.Second, time.Minute)
			w.Interval = time.Minute
			w.RestartDelayMax = 10 * time.Minute // not to spend the test on crash loops
			w.Nice = r.IntN(3)
		}))
	}
	return l
}

func randomBehaviour(r *rand.Rand) hosttest.Behaviour {
	b := hosttest.Behaviour{
		StartDelay: pick(r, 0, 0, time.Second, 20*time.Second),
		StartHangs: r.IntN(20) == 0,
		ReadyAfter: pick(r, 0, time.Second, time.Second, 25*time.Second),
		Execution:  pick(r, 0, 3*time.Second), Pause: 30 * time.Second, HangsAt: pick(r, 0, 0, 5),
		Result:        pick(r, lifecycle.OK, lifecycle.OK, lifecycle.Fail, lifecycle.Skip),
		LeavesAtMax:   r.IntN(2) == 0,
		Pings:         pick(r, 0, 20*time.Second, 20*time.Second),
		Deaf:          r.IntN(6) == 0,
		StopDelay:     pick(r, 0, time.Second, 40*time.Second),
		Finishes:      r.IntN(2) == 0,
		Grandchildren: r.IntN(3) == 0,
		Immortal:      r.IntN(15) == 0,
		OrderDelay:    pick(r, 0, 0, 0, 3*time.Second),
		Sampled:       r.IntN(2) == 0,
	}
	if r.IntN(8) == 0 {
		b.StartError = "no such file"
	}
	if r.IntN(3) == 0 {
		b.Exits, b.ExitAfter, b.Status = true, pick(r, 0, time.Second, 20*time.Second, time.Hour), pick(r, lifecycle.Status{}, lifecycle.Status{Code: 1})
	}
	if r.IntN(4) == 0 {
		b.Memory, b.Growth = 100*spec.MiB, pick(r, 0, spec.MiB, 50*spec.MiB)
	}
	return b
}

package supervisor_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/workersd/workersd/pkg/internal/event"
	"github.com/workersd/workersd/pkg/internal/hosttest"
	"github.com/workersd/workersd/pkg/internal/lifecycle"
	"github.com/workersd/workersd/pkg/internal/supervisor"
	"github.com/workersd/workersd/pkg/spec"
)

// rig is a supervisor on a machine in memory, in a bubble.
type rig struct {
	*testing.T
	h     *hosttest.Host
	s     *supervisor.Supervisor
	ended chan error
	began time.Time

	mu      sync.Mutex // guards below
	records []event.Record
}

type options struct {
	list   spec.List
	script hosttest.Script
	set    func(*supervisor.Options)
	// left names workers of which something may be left at the end.
	left bool
}

// run runs body beside a supervisor, ends it, and looks for what is left.
func run(t *testing.T, o options, body func(r *rig)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		if o.script == nil {
			o.script = behave(hosttest.Behaviour{})
		}
		h := hosttest.New(t, o.script)
		defer h.Close()
		r := start(t, h, o)
		body(r)
		r.s.Shutdown()
		r.end()
		if !o.left {
			time.Sleep(time.Minute) // the last releases are under way
			h.AssertEmpty()
		}
	})
}

// start runs a supervisor on a machine that may have had another one before.
func start(t *testing.T, h *hosttest.Host, o options) *rig {
	r := &rig{T: t, h: h, ended: make(chan error, 1), began: time.Now()}
	so := supervisor.Options{Host: h, List: o.list, Record: func(e event.Record) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.records = append(r.records, e)
	}}
	if o.set != nil {
		o.set(&so)
	}
	r.s = supervisor.New(so)
	go func() { r.ended <- r.s.Run() }()
	r.sleep(time.Millisecond) // the first starts take a moment
	return r
}

// end waits for Run and checks what holds after every life of a manager.
func (r *rig) end() {
	r.Helper()
	if err := <-r.ended; err != nil {
		r.Errorf("run: %v", err)
	}
	if err := r.s.Ping(context.Background()); !errors.Is(err, supervisor.ErrEnded) {
		r.Errorf("a command after the end: %v", err)
	}
	rs := r.all()
	for i, e := range rs {
		if e.Seq != uint64(i+1) || e.Time.IsZero() {
			r.Errorf("record %d has seq %d and time %v", i, e.Seq, e.Time)
		}
		if strings.Contains(e.Message, "defect") {
			r.Errorf("%s: %s", e.Worker, e.Message)
		}
	}
	if last := rs[len(rs)-1]; last.Kind != event.ManagerStopped {
		r.Errorf("the last record is %q", last.Kind)
	}
}

func (r *rig) all() []event.Record {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]event.Record(nil), r.records...)
}

// of counts records of a kind and, unless empty, of a worker and a reason.
func (r *rig) of(k event.Kind, worker string, reason event.Reason) (n int) {
	for _, e := range r.all() {
		if e.Kind == k && (worker == "" || e.Worker == worker) && (reason == "" || e.Reason == reason) {
			n++
		}
	}
	return n
}

// want checks how often something was recorded.
func (r *rig) want(n int, k event.Kind, worker string, reason event.Reason) {
	r.Helper()
	if got := r.of(k, worker, reason); got != n {
		r.Errorf("%s %s %s: %d records, want %d", worker, k, reason, got, n)
	}
}

func (r *rig) sleep(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func (r *rig) snapshot() supervisor.Snapshot {
	r.Helper()
	snap, err := r.s.Snapshot(context.Background())
	if err != nil {
		r.Fatalf("snapshot: %v", err)
	}
	return snap
}

func (r *rig) workers() []supervisor.Whole {
	r.Helper()
	all, err := r.s.Whole(context.Background())
	if err != nil {
		r.Fatalf("workers: %v", err)
	}
	return all
}

func (r *rig) status(name string) supervisor.Whole {
	r.Helper()
	for _, st := range r.workers() {
		if st.Spec.Name == name {
			return st
		}
	}
	r.Fatalf("no worker %q in the snapshot", name)
	return supervisor.Whole{}
}

func (r *rig) state(name string, want lifecycle.State) {
	r.Helper()
	if got := r.status(name).Worker.State; got != want {
		r.Errorf("%s is %v, want %v", name, got, want)
	}
}

// pids are of the processes that live, by worker.
func (r *rig) pids() map[string]int {
	pids := map[string]int{}
	for _, st := range r.workers() {
		if pid := st.Worker.Places[0].PID; pid != 0 {
			pids[st.Spec.Name] = pid
		}
	}
	return pids
}

func (r *rig) apply(v supervisor.Verb, names ...string) {
	r.Helper()
	if err := r.s.Apply(context.Background(), v, names); err != nil {
		r.Errorf("%s %v: %v", v, names, err)
	}
	synctest.Wait()
}

func (r *rig) reload(l spec.List) string {
	r.Helper()
	p, err := r.s.Reload(context.Background(), l)
	if err != nil {
		r.Errorf("reload: %v", err)
	}
	synctest.Wait()
	return p.String()
}

// behave gives all processes one behaviour.
func behave(b hosttest.Behaviour) hosttest.Script {
	return func(supervisor.SpawnOrder) hosttest.Behaviour { return b }
}

// by gives each worker its own behaviour.
func by(m map[string]hosttest.Behaviour) hosttest.Script {
	return func(o supervisor.SpawnOrder) hosttest.Behaviour { return m[o.ID.Worker] }
}

type change = func(*spec.Worker)

func worker(name string, changes ...change) spec.Worker {
	entry, _, _ := strings.Cut(name, "@")
	w := spec.Default(entry)
	w.Name, w.Command = name, []string{"/bin/true"}
	for _, c := range changes {
		c(&w)
	}
	return w
}

func list(ws ...spec.Worker) spec.List {
	return spec.List{Manager: spec.DefaultManager(), Workers: ws}
}

// many is n workers of one entry.
func many(n int, changes ...change) spec.List {
	l := list()
	for i := range n {
		l.Workers = append(l.Workers, worker(fmt.Sprintf("w@%d", i), changes...))
	}
	return l
}

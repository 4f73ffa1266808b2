package hosttest

import (
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/workersd/workersd/pkg/internal/lifecycle"
	"github.com/workersd/workersd/pkg/internal/supervisor"
	"github.com/workersd/workersd/pkg/spec"
)

// latency is how long an order takes. Inside a bubble time stands still until
// all goroutines wait, so the loop has always ended its turn before an order
// has its outcome.
const latency = time.Microsecond

// T is what a host needs of *testing.T.
type T interface {
	Helper()
	Errorf(format string, args ...any)
}

// Script says how a process behaves that is about to start.
type Script func(order supervisor.SpawnOrder) Behaviour

// Order is one order that the host was given.
type Order struct {
	At     time.Time
	Verb   string // spawn, signal, kill, update, release, configure
	ID     lifecycle.ProcessID
	Signal spec.Signal
	Spec   *spec.Worker
}

func (o Order) String() string {
	s := o.Verb
	if o.ID.Worker != "" {
		s += fmt.Sprintf(" %s:%d", o.ID.Worker, o.ID.Generation)
	}
	if o.Signal != 0 {
		s += " " + o.Signal.String()
	}
	return s
}

// Host is the machine. Make it with New, end it with Close.
type Host struct {
	t      T
	script Script

	events  chan supervisor.HostEvent // no buffer: what was sent was also taken
	wake    chan struct{}             // holds one: somebody changed the schedule
	closing chan struct{}             // closed by Close
	closed  chan struct{}             // closed when the machine stands still

	mu       sync.Mutex // guards all below
	schedule schedule
	seq      uint64
	pid      int
	out      []outgoing // events not taken yet
	workers  map[string]*worker
	orders   []Order
	manager  spec.Manager
	quiet    bool
}

var _ supervisor.Host = (*Host)(nil)

// worker is what the machine knows of all processes of one worker.
type worker struct {
	starts line
	last   uint64 // generation
	procs  []*Process
}

type outgoing struct {
	ev supervisor.HostEvent
	p  *Process
}

// New starts a machine.
func New(t T, script Script) *Host {
	h := &Host{
		t: t, script: script, events: make(chan supervisor.HostEvent), wake: make(chan struct{}, 1),
		closing: make(chan struct{}), closed: make(chan struct{}), workers: map[string]*worker{}, pid: 100,
	}
	go h.run()
	return h
}

// Quiet makes the host keep no orders: for benchmarks.
func (h *Host) Quiet() { h.locked(func() { h.quiet = true }) }

// Close makes the machine stand still and returns when it does.
func (h *Host) Close() {
	close(h.closing)
	<-h.closed
}

// Events is where the host answers.
func (h *Host) Events() <-chan supervisor.HostEvent { return h.events }

// Spawn starts a process.
func (h *Host) Spawn(o supervisor.SpawnOrder) {
	h.locked(func() {
		h.log(Order{Verb: "spawn", ID: o.ID, Spec: o.Spec})
		w := h.worker(o.ID.Worker)
		h.checkSpawn(w, o)
		p := &Process{h: h, ID: o.ID, Order: o, spec: o.Spec, worker: w}
		p.orders.busy = true // until it has started
		w.last = max(w.last, o.ID.Generation)
		w.procs = append(w.procs, p)
		h.enqueue(&w.starts, func() bool { return p.start(h.script(o)) })
	})
}

// Signal sends a signal to the main process.
func (h *Host) Signal(id lifecycle.ProcessID, sig spec.Signal) {
	h.order(Order{Verb: "signal", ID: id, Signal: sig}, func(p *Process) { p.signalled(sig) })
}

// Kill ends the whole tree.
func (h *Host) Kill(id lifecycle.ProcessID) {
	h.order(Order{Verb: "kill", ID: id}, func(p *Process) { p.killed() })
}

// Update applies the live limits of a new spec.
func (h *Host) Update(id lifecycle.ProcessID, sp *spec.Worker) {
	h.order(Order{Verb: "update", ID: id, Spec: sp}, func(p *Process) {
		p.spec = sp
		p.watchMemory()
	})
}

// Release gives back what is kept for a process.
func (h *Host) Release(id lifecycle.ProcessID) {
	h.locked(func() {
		h.log(Order{Verb: "release", ID: id})
		p := h.find(id)
		if !h.checkRelease(id, p) {
			return
		}
		p.released = true
		w := p.worker
		h.enqueue(&p.orders, func() bool {
			return p.slowly(func() {
				w.procs = slices.DeleteFunc(w.procs, func(q *Process) bool { return q == p })
				p.given = true
				if p.awaited {
					h.work(&w.starts)
				}
			})
		})
		h.enqueue(&w.starts, func() bool { // the next start waits for it
			p.awaited = !p.given
			return p.given
		})
	})
}

// Configure takes the [manager] table.
func (h *Host) Configure(m spec.Manager) {
	h.locked(func() {
		h.log(Order{Verb: "configure"})
		h.manager = m
	})
}

// Manager is the [manager] table that was given last.
func (h *Host) Manager() (m spec.Manager) {
	h.locked(func() { m = h.manager })
	return m
}

// Orders is every order so far.
func (h *Host) Orders() (o []Order) {
	h.locked(func() { o = slices.Clone(h.orders) })
	return o
}

// Count is how many orders so far are ok.
func (h *Host) Count(ok func(Order) bool) (n int) {
	for _, o := range h.Orders() {
		if ok(o) {
			n++
		}
	}
	return n
}

// Process is the youngest living process of a worker, or nil.
func (h *Host) Process(name string) (p *Process) {
	h.locked(func() {
		for _, q := range h.worker(name).procs {
			if q.main {
				p = q
			}
		}
	})
	return p
}

// Living is the processes of which the main process or a part of the tree
// lives, by worker.
func (h *Host) Living() map[string][]*Process {
	living := map[string][]*Process{}
	h.locked(func() {
		for name, w := range h.workers {
			for _, p := range w.procs {
				if p.main || p.rest {
					living[name] = append(living[name], p)
				}
			}
		}
	})
	return living
}

// LetStart lets a start go on that hangs (Behaviour.StartHangs).
func (h *Host) LetStart(name string) {
	h.locked(func() {
		for _, p := range h.worker(name).procs {
			if p.hanging {
				p.hanging = false
				h.after(latency, p, p.started)
			}
		}
	})
}

func (h *Host) order(o Order, do func(*Process)) {
	h.locked(func() {
		h.log(o)
		p := h.find(o.ID)
		if !h.checkOrder(o, p) {
			return
		}
		h.enqueue(&p.orders, func() bool { return p.slowly(func() { do(p) }) })
	})
}

func (h *Host) log(o Order) {
	if !h.quiet {
		o.At = time.Now()
		h.orders = append(h.orders, o)
	}
}

func (h *Host) worker(name string) *worker {
	w := h.workers[name]
	if w == nil {
		w = &worker{}
		h.workers[name] = w
	}
	return w
}

func (h *Host) find(id lifecycle.ProcessID) *Process {
	for _, p := range h.worker(id.Worker).procs {
		if p.ID == id {
			return p
		}
	}
	return nil
}

func (h *Host) locked(do func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	do()
}

package host

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/workersd/workersd/pkg/internal/event"
	"github.com/workersd/workersd/pkg/internal/host/guard"
	"github.com/workersd/workersd/pkg/internal/host/logs"
	"github.com/workersd/workersd/pkg/internal/host/notify"
	"github.com/workersd/workersd/pkg/internal/host/process"
	"github.com/workersd/workersd/pkg/internal/lifecycle"
	"github.com/workersd/workersd/pkg/internal/supervisor"
	"github.com/workersd/workersd/pkg/spec"
)

// Options are what a host is made of.
type Options struct {
	NotifyDir string // for the workers' notify sockets
	Logs      logs.Options
	Log       *slog.Logger
	Manager   spec.Manager
	Guard     *guard.Link // nil: none
	// Cgroups says how to find the delegated root; nil: do not look, limits are
	// sampled because SampledBecause.
	Cgroups        *Cgroups
	SampledBecause string
}

// Enforcement is how memory limits work here.
type Enforcement struct {
	Kernel  bool
	Because string // why not the kernel, or where the delegated root is
}

// Word is the word for it in status, JSON and metrics.
func (e Enforcement) Word() string {
	if e.Kernel {
		return "kernel"
	}
	return "sampled"
}

// Host is Linux. Its orders return at once; see supervisor.Host.
type Host struct {
	o         Options
	events    chan supervisor.HostEvent // bounded: who reports waits while the loop is busy
	closing   chan struct{}
	queues    *queues
	table     *process.Table
	spawner   *process.Spawner
	users     process.Users
	null      *os.File // every process's standard input
	inherited []string // of our variables
	notify    *notify.Hub
	logs      *logs.Hub
	hold      enforcer
	how       Enforcement

	mu    sync.RWMutex // guards procs
	procs map[lifecycle.ProcessID]*proc
}

var _ supervisor.Host = (*Host)(nil)

// proc is one process, from the order to start it until it is released.
type proc struct {
	id     lifecycle.ProcessID
	worker *spec.Worker
	// told is closed once Spawned was reported: nothing else about the process
	// may come before it.
	told chan struct{}
	// begun is closed once its start has succeeded or failed.
	begun chan struct{}

	mu      sync.Mutex    // guards all below
	holder  holder        // nil before there is one
	pid     int           // 0 before the start and after the end
	first   int           // what it was
	main    int           // MAINPID: who is signalled, where it is another
	timeout time.Duration // of one execution, as the process knows it
	end     stage
	// outputGone gives its output back; nil: there is nothing to give.
	outputGone func()
}

// stage is how far the end of a process has come.
type stage uint8

const (
	living   stage = iota // or to be started
	exited                // the reaper has its status
	ended                 // and it was reported: only then may Emptied follow
	emptying              // and its tree was killed: Emptied follows, once
	empty                 // Emptied was told with the exit: nothing was left of the tree
)

func (p *proc) reached(s stage) {
	p.mu.Lock()
	p.end = s
	p.mu.Unlock()
}

// New makes the machine ready. Close ends it.
func New(o Options) (_ *Host, err error) {
	h := &Host{
		o: o, events: make(chan supervisor.HostEvent, 256), closing: make(chan struct{}),
		inherited: inherited(), procs: map[lifecycle.ProcessID]*proc{},
	}
	h.queues = newQueues(h.closing)
	if err := process.BecomeSubreaper(); err != nil {
		return nil, fmt.Errorf("cannot become a subreaper: %w", err)
	}
	if err := process.KeepDescriptors(); err != nil {
		return nil, fmt.Errorf("descriptors that we were started with: %w", err)
	}
	if h.null, err = os.Open(os.DevNull); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			h.null.Close()
		}
	}()
	h.notify, err = notify.NewHub(notify.Options{
		Dir: o.NotifyDir, Deliver: h.said, Member: h.member,
		Problem: func(id lifecycle.ProcessID, text string) { o.Log.Warn(id.Worker + ": " + text) },
	})
	if err != nil {
		return nil, fmt.Errorf("notify sockets: %w", err)
	}
	h.logs, err = logs.NewHub(o.Logs)
	if err != nil {
		h.notify.Shutdown()
		return nil, fmt.Errorf("workers' output: %w", err)
	}
	h.table = process.NewTable()
	h.spawner = process.NewSpawner(h.table)
	if h.hold, h.how, err = h.enforcer(); err != nil {
		h.table.Close()
		h.spawner.Close(context.Background())
		h.notify.Shutdown()
		h.logs.Shutdown(context.Background()) // nothing was written yet
		return nil, err
	}
	return h, nil
}

// enforcer chooses the kernel where it may, and says why not. A root that the
// operator named and that cannot be had is an error.
func (h *Host) enforcer() (enforcer, Enforcement, error) {
	r := reports{
		soft: func(id lifecycle.ProcessID, usage, limit spec.Bytes) {
			h.report(id, lifecycle.SoftMemoryPassed{Generation: id.Generation, Usage: usage, Limit: limit})
		},
		hard: func(id lifecycle.ProcessID, usage, limit spec.Bytes) {
			h.report(id, lifecycle.HardMemoryPassed{Generation: id.Generation, Usage: usage, Limit: limit})
		},
		gone: func(id lifecycle.ProcessID, ev lifecycle.Evidence) {
			h.report(id, lifecycle.Emptied{Generation: id.Generation, Evidence: ev})
		},
		problem: func(text string) { h.o.Log.Warn(text) },
	}
	because := h.o.SampledBecause
	if h.o.Cgroups != nil {
		k, where, err := newKernel(*h.o.Cgroups, h.o.Manager, r)
		if err == nil {
			return k, Enforcement{true, where}, nil
		}
		if h.o.Cgroups.Override != "" {
			return nil, Enforcement{}, fmt.Errorf("--cgroup-root %s: %w", h.o.Cgroups.Override, err)
		}
		because = err.Error()
	}
	return newSampled(h.table, h.o.Manager, r), Enforcement{false, because}, nil
}

// Events is where the host answers.
func (h *Host) Events() <-chan supervisor.HostEvent { return h.events }

// Enforcement says how memory limits work here.
func (h *Host) Enforcement() Enforcement { return h.how }

// Enforced says of a key of the worker list whether it works here, and why not.
func (h *Host) Enforced(key string) (bool, string) { return h.hold.enforced(key) }

// Memory is what a process's tree uses now. Any goroutine may ask.
func (h *Host) Memory(id lifecycle.ProcessID) (spec.Bytes, bool) {
	p := h.find(id)
	if p == nil || p.hold() == nil {
		return 0, false
	}
	select {
	case <-p.told:
		return p.hold().memory()
	default:
		return 0, false
	}
}

// Statistics are the kernel's figures about a process's tree, nil where there
// are none. It reads many files; any goroutine may ask, and not often.
func (h *Host) Statistics(id lifecycle.ProcessID) *event.Statistics {
	if p := h.find(id); p != nil && p.hold() != nil {
		return p.hold().statistics()
	}
	return nil
}

// Unheard is how much of what was said to a process's notify socket was dropped:
// what is no message, and what others sent. Any goroutine may ask.
func (h *Host) Unheard(id lifecycle.ProcessID) (garbage, refused uint64) {
	refused, garbage = h.notify.Counters(id)
	return garbage, refused
}

// Owner is the worker that a process belongs to. Any goroutine may ask.
func (h *Host) Owner(pid int) (worker string, ok bool) { return h.hold.owner(pid) }

// Reopen makes log files be opened anew.
func (h *Host) Reopen() { h.logs.Reopen() }

func (h *Host) find(id lifecycle.ProcessID) *proc {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return h.procs[id]
}

// report sends one event; while the loop is busy the reporter waits.
func (h *Host) report(id lifecycle.ProcessID, ev lifecycle.Event) {
	select {
	case h.events <- supervisor.HostEvent{Worker: id.Worker, Event: ev}:
	case <-h.closing:
	}
}

// said is what a process says of itself. It was reported as spawned: only then
// it is listened to.
func (h *Host) said(id lifecycle.ProcessID, ev lifecycle.Event) {
	p := h.find(id)
	if p == nil {
		return
	}
	if m, ok := ev.(lifecycle.MainPIDChanged); ok {
		p.mu.Lock()
		p.main = m.PID
		p.mu.Unlock()
	}
	h.report(id, ev)
}

func (h *Host) member(id lifecycle.ProcessID, pid int) notify.Membership {
	p := h.find(id)
	if p == nil || p.hold() == nil {
		return notify.Unknown
	}
	switch in, known := p.hold().contains(pid); {
	case !known:
		return notify.Unknown
	case in:
		return notify.Member
	}
	if owner, ok := h.Owner(pid); ok && owner != "" && owner != id.Worker {
		return notify.Foreign
	}
	return notify.Unknown
}

// Configure applies the [manager] table.
func (h *Host) Configure(m spec.Manager) {
	h.queues.add("", queued{do: func() { h.hold.configure(m) }})
}

// Signal sends sig to the main process.
func (h *Host) Signal(id lifecycle.ProcessID, sig spec.Signal) {
	h.then(id, func() {
		p := h.find(id)
		if p == nil || p.hold() == nil {
			return
		}
		p.mu.Lock()
		pid, main := p.pid, p.main
		p.mu.Unlock()
		if pid == 0 {
			return
		}
		defer p.hold().signalled()
		if main != 0 && main != pid && signalMember(p.hold(), main, syscall.Signal(sig)) {
			return
		}
		h.table.Signal(pid, syscall.Signal(sig))
	})
}

// signalMember signals a process that is not our child. It is taken hold of
// before it is looked up, so that its pid cannot become a stranger's between.
func signalMember(hold holder, pid int, sig syscall.Signal) bool {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	in, known := hold.contains(pid)
	return in && known && unix.PidfdSendSignal(fd, sig, nil, 0) == nil
}

// Kill ends the whole tree.
func (h *Host) Kill(id lifecycle.ProcessID) {
	h.then(id, func() {
		p := h.find(id)
		if p == nil || p.hold() == nil {
			return
		}
		p.mu.Lock()
		gone := p.end == empty
		p.mu.Unlock()
		if gone {
			return
		}
		p.hold().kill()
		p.mu.Lock()
		tell, pid := p.end == ended, p.pid
		if tell {
			p.end = emptying
		}
		p.mu.Unlock()
		if pid != 0 { // somebody may have moved it out of its cgroup
			h.table.Signal(pid, syscall.SIGKILL)
		}
		if tell {
			p.hold().tellEmpty()
		}
	})
}

// Update applies live limits.
func (h *Host) Update(id lifecycle.ProcessID, w *spec.Worker) {
	h.then(id, func() {
		if p := h.find(id); p != nil && p.hold() != nil {
			p.hold().update(w)
			h.logs.Update(w)
			h.tellTimeout(p, w.Timeout)
		}
	})
}

// tellTimeout is for a process that has another one in its environment.
func (h *Host) tellTimeout(p *proc, now time.Duration) {
	p.mu.Lock()
	changed := now != p.timeout
	p.timeout = now
	p.mu.Unlock()
	if !changed {
		return
	}
	if err := h.notify.Timeout(p.id, now); err != nil {
		h.o.Log.Warn(err.Error())
	}
}

// Release gives back everything of a process. The next start of its worker
// waits only for what is kept by the worker's name: the removal of a cgroup takes
// long, and the next has another.
func (h *Host) Release(id lifecycle.ProcessID) {
	h.last(id, func() {
		p := h.find(id)
		if p == nil {
			return
		}
		h.notify.Close(id)
		p.mu.Lock()
		gone := p.outputGone
		p.mu.Unlock()
		if gone != nil {
			gone()
		}
		h.queues.add(queueOf(id), queued{do: func() {
			if p.hold() != nil {
				if err := p.hold().release(); err != nil {
					h.o.Log.Warn(fmt.Sprintf("%s: %v", id.Worker, err))
				}
			}
			h.mu.Lock()
			delete(h.procs, id)
			h.mu.Unlock()
		}})
	})
}

// Close ends what is left of all workers and gives everything back, as far as
// ctx lets it wait. The loop must not read Events any more.
func (h *Host) Close(ctx context.Context) {
	close(h.closing)
	// No start comes after this, and no fork is under way.
	soon, cancel := context.WithTimeout(ctx, closeWait)
	defer cancel()
	h.spawner.Close(soon)
	h.mu.RLock()
	var left []*proc
	for _, p := range h.procs {
		left = append(left, p)
	}
	h.mu.RUnlock()
	for _, p := range left {
		if p.hold() != nil {
			p.hold().kill()
		}
	}
	// An order that is not carried out by then hangs in a dead file system.
	h.queues.close(ctx)
	for _, p := range left {
		if p.hold() != nil {
			p.hold().release()
		}
	}
	h.hold.close()
	h.notify.Shutdown()
	if err := h.logs.Shutdown(ctx); err != nil {
		h.o.Log.Warn(fmt.Sprintf("output of workers: %v", err))
	}
	h.table.Close()
	h.null.Close()
}

// closeFiles closes our copies of what a child was given.
func closeFiles(files ...*os.File) {
	for _, f := range files {
		if f != nil {
			f.Close()
		}
	}
}

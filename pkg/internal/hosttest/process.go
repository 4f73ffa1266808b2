package hosttest

import (
	"strconv"
	"syscall"
	"time"

	"github.com/workersd/workersd/pkg/internal/lifecycle"
	"github.com/workersd/workersd/pkg/internal/supervisor"
	"github.com/workersd/workersd/pkg/spec"
)

// Behaviour is what a process does of itself. The zero value starts at once,
// does nothing, and dies of the stop signal.
type Behaviour struct {
	StartDelay time.Duration // until the command is executed
	StartHangs bool          // until Host.LetStart
	StartError string        // it cannot be started
	OrderDelay time.Duration // each order after the start takes so long

	ReadyAfter time.Duration // says READY=1 then; 0: never

	Exits     bool // by itself, ExitAfter its start, with Status
	ExitAfter time.Duration
	Status    lifecycle.Status

	Execution   time.Duration // it does one execution after the other, each this long
	Pause       time.Duration // between two of them
	HangsAt     int           // this execution, from 1, never ends
	Result      lifecycle.Result
	LeavesAtMax bool // it leaves by itself after SpawnOrder.MaxRequests

	Memory  spec.Bytes // at its start
	Growth  spec.Bytes // each second
	Sampled bool       // the hard limit is told, not enforced

	Pings time.Duration // WATCHDOG=1 each

	Deaf          bool          // stop signals do nothing
	StopDelay     time.Duration // between the stop signal and a clean exit
	Finishes      bool          // the running execution is ended before the exit
	Grandchildren bool          // they stay when the main process has gone, until killed
	Immortal      bool          // SIGKILL does nothing, until Process.Free
}

// Process is one process of the machine.
type Process struct {
	ID    lifecycle.ProcessID
	Order supervisor.SpawnOrder
	PID   int

	// All below is guarded by Host.mu.
	h       *Host
	worker  *worker
	orders  line
	spec    *spec.Worker
	b       Behaviour
	began   time.Time
	hanging bool // its start hangs
	main    bool // the main process lives
	rest    bool // something else of its tree lives
	failed  bool // there never was a process

	stopping bool
	kill     bool // was ordered
	running  int  // execution, from 1; 0: none
	done     int
	soft     bool // told
	hard     bool // told
	memory   int  // version of the plan when a limit is passed
	oom      lifecycle.OOM

	emptied  bool // on its way to the supervisor
	toldGone bool // the supervisor was told that there is nothing left
	released bool // that was ordered
	given    bool // and done
	awaited  bool // a start waits for it
}

// start begins the process; false: it takes a while.
func (p *Process) start(b Behaviour) bool {
	p.b = b
	if p.b.StartHangs {
		p.hanging = true
	} else {
		p.h.after(b.StartDelay, p, p.started)
	}
	return false
}

// slowly carries out an order; false: it takes a while.
func (p *Process) slowly(do func()) bool {
	if p.b.OrderDelay == 0 {
		do()
		return true
	}
	p.h.after(p.b.OrderDelay, p, func() {
		do()
		p.h.work(&p.orders)
	})
	return false
}

// started is the outcome of a start. Its other orders, and other starts of the
// worker, go on after it.
func (p *Process) started() {
	defer p.h.work(&p.worker.starts)
	defer p.h.work(&p.orders)
	if p.b.StartError != "" {
		p.failed = true
		p.h.send(p, lifecycle.SpawnFailed{Generation: p.ID.Generation, Text: p.b.StartError})
		return
	}
	p.h.pid++
	p.PID, p.began = p.h.pid, time.Now()
	p.main, p.rest = true, p.b.Grandchildren
	p.h.send(p, lifecycle.Spawned{Generation: p.ID.Generation, PID: p.PID})
	if p.b.ReadyAfter > 0 {
		p.while(p.b.ReadyAfter, func() { p.say(lifecycle.Ready{Generation: p.ID.Generation}) })
	}
	if p.b.Execution > 0 {
		p.while(p.b.Pause, p.begin)
	}
	if p.b.Pings > 0 {
		p.while(p.b.Pings, p.ping)
	}
	if p.b.Exits {
		p.while(p.b.ExitAfter, func() { p.exit(p.b.Status) })
	}
	p.watchMemory()
}

// while plans what the main process does, if it lives then.
func (p *Process) while(d time.Duration, do func()) {
	p.h.after(d, p, func() {
		if p.main {
			do()
		}
	})
}

func (p *Process) say(ev lifecycle.Event) { p.h.send(p, ev) }

func (p *Process) begin() {
	if p.stopping {
		return
	}
	p.running = p.done + 1
	p.say(lifecycle.ExecutionBegan{Generation: p.ID.Generation, ID: strconv.Itoa(p.running)})
	if p.running != p.b.HangsAt {
		p.while(p.b.Execution, p.end)
	}
}

func (p *Process) end() {
	p.say(lifecycle.ExecutionEnded{Generation: p.ID.Generation, ID: strconv.Itoa(p.running), Result: p.b.Result})
	p.done, p.running = p.running, 0
	switch {
	case p.stopping && p.b.Finishes, p.b.LeavesAtMax && p.done == p.Order.MaxRequests:
		p.exit(lifecycle.Status{})
	default:
		p.while(p.b.Pause, p.begin)
	}
}

func (p *Process) ping() {
	p.say(lifecycle.WatchdogPinged{Generation: p.ID.Generation})
	p.while(p.b.Pings, p.ping)
}

// usage is the memory now.
func (p *Process) usage() spec.Bytes {
	if !p.main && !p.rest {
		return 0
	}
	return p.b.Memory + spec.Bytes(float64(p.b.Growth)*time.Since(p.began).Seconds())
}

// watchMemory plans when the limits will be passed.
func (p *Process) watchMemory() {
	p.memory++
	version := p.memory
	plan := func(limit spec.Bytes, passed func()) {
		if !limit.Set() || p.b.Growth == 0 && p.b.Memory <= limit {
			return
		}
		var in time.Duration
		if now := p.usage(); now <= limit {
			in = time.Duration(float64(limit-now)/float64(p.b.Growth)*float64(time.Second)) + time.Millisecond
		}
		p.while(in, func() {
			if version == p.memory {
				passed()
			}
		})
	}
	plan(p.spec.SoftMemory, func() {
		if !p.soft {
			p.soft = true
			p.say(lifecycle.SoftMemoryPassed{Generation: p.ID.Generation, Usage: p.usage(), Limit: p.spec.SoftMemory})
		}
	})
	plan(p.spec.HardMemory, func() {
		switch {
		case !p.b.Sampled:
			p.outOfMemory(lifecycle.OOMLeaf)
		case !p.hard:
			p.hard = true
			p.say(lifecycle.HardMemoryPassed{Generation: p.ID.Generation, Usage: p.usage(), Limit: p.spec.HardMemory})
		}
	})
}

// outOfMemory is the kernel killing the whole tree (memory.oom.group).
func (p *Process) outOfMemory(whose lifecycle.OOM) {
	p.oom = whose
	p.rest = false
	p.exit(lifecycle.Status{Signal: spec.Signal(syscall.SIGKILL)})
}

func (p *Process) signalled(sig spec.Signal) {
	switch {
	case !p.main || p.b.Deaf || p.stopping:
	case sig == spec.Signal(syscall.SIGKILL):
		p.exit(lifecycle.Status{Signal: sig})
	case p.b.Finishes && p.running > 0:
		p.stopping = true
	case p.b.StopDelay > 0 || p.b.Finishes:
		p.stopping = true
		p.while(p.b.StopDelay, func() { p.exit(lifecycle.Status{}) })
	default:
		p.exit(lifecycle.Status{Signal: sig})
	}
}

func (p *Process) killed() {
	if p.failed {
		return
	}
	p.kill = true
	if p.b.Immortal {
		return
	}
	p.rest = false
	if p.main {
		p.exit(lifecycle.Status{Signal: spec.Signal(syscall.SIGKILL)})
	} else {
		p.empty()
	}
}

// exit ends the main process.
func (p *Process) exit(st lifecycle.Status) {
	p.main = false
	p.say(lifecycle.Exited{Generation: p.ID.Generation, Status: st})
	p.empty()
}

// empty tells, once, that nothing is left.
func (p *Process) empty() {
	if !p.main && !p.rest && !p.emptied {
		p.emptied = true
		p.h.after(latency, nil, func() {
			p.say(lifecycle.Emptied{Generation: p.ID.Generation, Evidence: lifecycle.Evidence{OOM: p.oom}})
		})
	}
}

package hosttest

import (
	"github.com/workersd/workersd/pkg/internal/lifecycle"
	"github.com/workersd/workersd/pkg/spec"
)

// What a test can make happen to a process that lives. Each takes effect a
// little later, and not at all when the process has gone before.

// Exit ends the main process.
func (p *Process) Exit(st lifecycle.Status) { p.tell(func() { p.exit(st) }) }

// Say sends what a process says of itself; ev carries its generation.
func (p *Process) Say(ev lifecycle.Event) { p.tell(func() { p.say(ev) }) }

// OutOfMemory is the kernel killing the tree, for the limit of whose.
func (p *Process) OutOfMemory(whose lifecycle.OOM) { p.tell(func() { p.outOfMemory(whose) }) }

// Grow makes the process use so much more memory each second from now on.
func (p *Process) Grow(perSecond spec.Bytes) {
	p.tell(func() {
		p.b.Memory = p.usage() - spec.Bytes(float64(perSecond)*p.age())
		p.b.Growth = perSecond
		p.watchMemory()
	})
}

// Free lets a process die that SIGKILL did not help against.
func (p *Process) Free() {
	p.h.locked(func() {
		p.h.after(latency, p, func() {
			p.b.Immortal = false
			if p.kill {
				p.killed()
			}
		})
	})
}

// Memory is what its tree uses now.
func (p *Process) Memory() (b spec.Bytes) {
	p.h.locked(func() { b = p.usage() })
	return b
}

// Alive reports whether the main process lives.
func (p *Process) Alive() (alive bool) {
	p.h.locked(func() { alive = p.main })
	return alive
}

func (p *Process) tell(do func()) {
	p.h.locked(func() { p.while(latency, do) })
}

// Say sends an event about a worker that need not be here.
func (h *Host) Say(worker string, ev lifecycle.Event) {
	h.locked(func() {
		p := &Process{h: h, ID: lifecycle.ProcessID{Worker: worker}, worker: h.worker(worker)}
		h.after(latency, nil, func() { h.send(p, ev) })
	})
}

package host

import (
	"strconv"

	"github.com/workersd/workersd/pkg/internal/lifecycle"
)

// Orders for one process are carried out in their order, after its start. Its
// worker's queue is for starts: under overlap a successor's start may hang, and
// the process that works must be signalled and killed all the same.

// then carries out an order for a process that was ordered to start.
func (h *Host) then(id lifecycle.ProcessID, do func()) {
	p := h.find(id)
	if p == nil {
		return // it could not be started, or was released
	}
	h.queues.add(queueOf(id), queued{after: p.begun, do: do})
}

// last carries out the last order for a process. The next start of its worker
// waits until do has returned: they share what is kept by the worker's name.
func (h *Host) last(id lifecycle.ProcessID, do func()) {
	done := make(chan struct{})
	h.then(id, func() {
		defer close(done)
		do()
	})
	if h.find(id) == nil {
		return
	}
	h.queues.add(id.Worker, queued{after: done})
}

// queueOf is no worker's name: those have no zero byte.
func queueOf(id lifecycle.ProcessID) string {
	return id.Worker + "\x00" + strconv.FormatUint(id.Generation, 10)
}

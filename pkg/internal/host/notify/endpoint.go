package notify

import (
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/workersd/workersd/pkg/internal/lifecycle"
)

// endpoint is where one process of one worker talks.
type endpoint struct {
	id   lifecycle.ProcessID
	uid  uint32
	path string

	refused, garbage atomic.Uint64
	closing          atomic.Bool
	timeout          atomic.Bool // there may be a file of Timeout

	// mu is held while something is read and delivered, so that Drain and the
	// loop keep the order. Close must not wait for it: Deliver may be waiting
	// for Close's own caller.
	mu      sync.Mutex
	sources []*source
	told    said
}

// said is what the process said last, so that repeating it costs nothing.
type said struct {
	id     string // of an execution
	status string
	hasPID bool
	pid    int32 // the last sender that was looked up and let in
}

// source is one descriptor of an endpoint, guarded by the endpoint's mu.
type source struct {
	ep    *endpoint
	fd    int // -1 once it is closed
	token uint64
	pipe  bool
	lines lines // of a pipe
	aside int   // descriptors that came with its messages and are not closed yet
}

// unlock lets go of mu, and closes what Close could not.
func (ep *endpoint) unlock(h *Hub) {
	ep.mu.Unlock()
	ep.finish(h)
}

// finish closes the descriptors of an endpoint that is to be closed, unless
// somebody is reading: then that one does it, in unlock.
func (ep *endpoint) finish(h *Hub) {
	for ep.closing.Load() && ep.mu.TryLock() {
		for _, src := range ep.sources {
			src.close(h)
		}
		n := len(ep.sources)
		ep.sources = nil
		ep.mu.Unlock()
		if n == 0 {
			return
		}
	}
}

func (src *source) close(h *Hub) {
	if src.fd < 0 {
		return
	}
	h.mu.Lock()
	delete(h.byToken, src.token)
	h.mu.Unlock()
	h.poller.Remove(src.fd)
	unix.Close(src.fd)
	src.fd = -1
}

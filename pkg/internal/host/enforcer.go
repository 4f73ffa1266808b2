package host

import (
	"github.com/workersd/workersd/pkg/internal/event"
	"github.com/workersd/workersd/pkg/internal/lifecycle"
	"github.com/workersd/workersd/pkg/spec"
)

// enforcer is one of the two ways to hold process trees and their memory.
type enforcer interface {
	// prepare makes what will hold one process. It may take its time.
	prepare(id lifecycle.ProcessID, w *spec.Worker) (holder, error)
	// configure applies the [manager] table. It may take its time.
	configure(m spec.Manager)
	// enforced says of a key of the worker list whether it works here.
	enforced(key string) (ok bool, because string)
	// owner is the worker that a process belongs to, by one look at the process
	// and no walk over the workers. Any goroutine may ask.
	owner(pid int) (worker string, ok bool)
	// close ends it; no holder may be left.
	close()
}

// holder holds the tree of one process. Its methods are called from the order
// queue of one worker, one at a time, save memory, contains and pids.
type holder interface {
	// place is the directory to be born into, -1 where there is none.
	place() (fd int, path string)
	// started says that the command runs as pid.
	started(pid int)
	// signalled says that it has been asked to leave and needs its memory for that.
	signalled()
	// kill ends every process of the tree.
	kill()
	// tellIfEmpty calls gone if nothing of the tree is left, and reports that; it
	// takes one cheap look. The main process has ended.
	tellIfEmpty() bool
	// tellEmpty asks for gone to be called, once and from any goroutine, as
	// soon as nothing of the tree is left. The main process has ended.
	tellEmpty()
	update(w *spec.Worker)
	// release gives back what prepare took.
	release() error
	// memory is what the tree uses now, contains whether pid is in the tree, and
	// pids who is, as far as one look tells, in a slice of the caller's; any
	// goroutine may call them.
	memory() (spec.Bytes, bool)
	contains(pid int) (in, known bool)
	pids() []int
	// statistics are the kernel's own, nil where it keeps none of the tree.
	statistics() *event.Statistics
}

// reports is where an enforcer tells what it sees.
type reports struct {
	soft, hard func(id lifecycle.ProcessID, usage, limit spec.Bytes)
	gone       func(id lifecycle.ProcessID, ev lifecycle.Evidence)
	problem    func(text string)
}

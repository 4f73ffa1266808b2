package supervisor

import (
	"github.com/workersd/workersd/pkg/internal/lifecycle"
	"github.com/workersd/workersd/pkg/spec"
)

// Host is the machine, as the supervisor needs it. No order blocks: each
// returns at once and its outcome arrives as an event. Orders for one process
// are carried out in the order they were given; those for different processes do
// not wait for each other, save that a start waits for the starts of the same
// worker that were ordered before it, and for its releases as far as they give
// back what is kept by the worker's name. A start that hangs therefore holds up its
// own process, and not the one that works beside it under overlap. All methods are
// called by the loop alone.
type Host interface {
	// Spawn starts a process. Answered by Spawned or SpawnFailed.
	Spawn(order SpawnOrder)
	// Signal sends sig to the main process; a process that is gone is no error.
	Signal(id lifecycle.ProcessID, sig spec.Signal)
	// Kill ends the whole tree with SIGKILL. Once the main process has exited
	// and nothing is left, Emptied follows; without Kill it follows only if the
	// tree empties by itself.
	Kill(id lifecycle.ProcessID)
	// Update applies the live limits of the worker's new spec.
	Update(id lifecycle.ProcessID, w *spec.Worker)
	// Release gives back everything kept for the process. Not answered.
	Release(id lifecycle.ProcessID)
	// Configure applies the [manager] table: check interval, pool limit.
	Configure(m spec.Manager)
	// Events is where the host answers. It is never closed before Close
	// returned. The loop always reads on, so a host may block on it.
	Events() <-chan HostEvent
}

// SpawnOrder says what to start.
type SpawnOrder struct {
	ID          lifecycle.ProcessID
	Spec        *spec.Worker
	MaxRequests int // for WORKERSD_MAX_REQUESTS; 0: unset
}

// HostEvent is one answer of the host about one worker.
type HostEvent = lifecycle.HostEvent

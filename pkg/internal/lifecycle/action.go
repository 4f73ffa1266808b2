package lifecycle

import (
	"github.com/workersd/workersd/pkg/internal/event"
	"github.com/workersd/workersd/pkg/spec"
)

// Action is an order of Step to whoever runs the worker, imperative.
type Action interface{ isAction() }

type (
	// Spawn starts a process in a fresh leaf. MaxRequests is the jittered
	// number of this generation (0: no limit), for WORKERSD_MAX_REQUESTS.
	Spawn struct {
		Generation  uint64
		MaxRequests int
	}
	// Signal sends Signal to the main process (to its whole session where the
	// host cannot tell better).
	Signal struct {
		Generation uint64
		Signal     spec.Signal
	}
	// Kill ends every process of the tree with SIGKILL, main process or not.
	Kill struct{ Generation uint64 }
	// Release gives back the leaf, the sockets and the log of a process of
	// which nothing is left. It is ordered exactly once for each Spawn that was
	// answered by Spawned.
	Release struct{ Generation uint64 }
	// Update writes the live limits of the new spec to the running process.
	Update struct{ Generation uint64 }
	// AskRecycle asks admission for a planned replacement; RecycleGranted
	// answers. Asked once per process.
	AskRecycle struct{ Reason event.Reason }
	// Note makes a record. The supervisor fills Seq, Time and Worker.
	Note struct{ Record event.Record }
)

func (Spawn) isAction()      {}
func (Signal) isAction()     {}
func (Kill) isAction()       {}
func (Release) isAction()    {}
func (Update) isAction()     {}
func (AskRecycle) isAction() {}
func (Note) isAction()       {}

package supervisor

import (
	"time"

	"github.com/workersd/workersd/pkg/internal/event"
	"github.com/workersd/workersd/pkg/internal/lifecycle"
	"github.com/workersd/workersd/pkg/spec"
)

// Options are what a supervisor is made of.
type Options struct {
	Host Host
	List spec.List
	// Record receives every record, on the loop: it must not block. Seq and
	// Time are set.
	Record func(event.Record)
	// Floor is the least generation no earlier manager has used; Reserve is
	// asked, on the loop and without blocking, to move the floor on disk. It
	// calls done (from any goroutine) when the new floor is safe.
	Floor   uint64
	Reserve func(floor uint64, done func())
	// StoppedByOperator names workers that stay down until an operator starts
	// them; OperatorStops is told of every change, on the loop.
	StoppedByOperator []string
	OperatorStops     func(names []string)
}

// Status is one worker in a Snapshot: what there is to see of it. The whole value
// is several times as large, and a status of thousands copies them all.
type Status struct {
	Spec         *spec.Worker
	State        lifecycle.State
	Wanted       lifecycle.Wanted
	OperatorStop bool      // down because an operator said so
	Removed      bool      // not in the list any more; drains
	Idle         bool      // nothing of it lives
	Overlaps     bool      // a successor lives beside its process
	Stuck        bool      // something of it does not die, or its start hangs
	Generation   uint64    // last used
	Since        time.Time // of the state
	NextStart    time.Time
	Restarts     int
	Failures     int // in a row
	LastReason   event.Reason
	Process      Process
}

// Process is what is in a worker's first place; its zero value is an empty one.
type Process struct {
	Generation uint64 // 0: there is none
	PID        int    // 0: it was not made yet
	Started    time.Time
	Executions int
	Failed     int                   // of them
	Reported   bool                  // it has ever reported an execution
	Running    []lifecycle.Execution // shared, not to be changed
	StatusText string
	Leaving    bool // it has said that it leaves by itself
}

// Snapshot is all workers at one moment of the loop.
type Snapshot struct {
	Counts
	Started time.Time // of the manager
	Manager spec.Manager
	Files   []string
	Workers []Status // in the order of the list, removed ones last
	// FirstRound is true once a first start of every wanted worker was attempted.
	FirstRound bool
	// Unknown is how many events of the host were about no worker here.
	Unknown uint64
}

// Counts are how many workers are how, at one moment of the loop.
type Counts struct {
	Time     time.Time
	Title    string // of the manager
	Wanted   int    // to be up
	Up       int
	Backoff  int
	Living   int // something of them lives
	Stopping bool
}

// Verb is what an operator can ask of workers.
type Verb string

const (
	Start   Verb = "start"
	Stop    Verb = "stop"
	Restart Verb = "restart"
	Kill    Verb = "kill"
)

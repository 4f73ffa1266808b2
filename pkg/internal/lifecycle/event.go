package lifecycle

import (
	"time"

	"github.com/workersd/workersd/pkg/internal/event"
	"github.com/workersd/workersd/pkg/spec"
)

// Event is something that happened to one worker. Events of a process carry
// its generation; one about a process that is no longer there changes nothing.
// They are past tense; orders are imperative (see Action).
type Event interface{ isEvent() }

// Status is how a main process ended.
type Status struct {
	Code    int         // exit code, when Signal is 0
	Signal  spec.Signal // that killed it, or 0
	Core    bool        // it left a core dump
	Unknown bool        // nobody could tell (the process was not our child)
}

// OOM says whose limit an out-of-memory kill was about.
type OOM uint8

const (
	NoOOM   OOM = iota
	OOMLeaf     // the worker's own hard limit
	OOMPool     // [manager] memory_limit
	OOMUnit     // a limit on the service's unit
	OOMHost     // the machine
)

// Evidence is what the host found when nothing of a process was left.
type Evidence struct {
	OOM        OOM
	PostMortem *event.PostMortem // nil where nothing could be read
}

// What the host tells of a process.
type (
	// Spawned: the command was executed as PID.
	Spawned struct {
		Generation uint64
		PID        int
	}
	// SpawnFailed: there is no process and nothing is left of the try. Text
	// names the path or user and says what to do.
	SpawnFailed struct {
		Generation uint64
		Text       string
	}
	// Exited: the main process ended; others of its tree may still live.
	Exited struct {
		Generation uint64
		Status     Status
	}
	// Emptied: after Exited, nothing of the process's tree is left.
	Emptied struct {
		Generation uint64
		Evidence   Evidence
	}
	// SoftMemoryPassed: memory that cannot be taken away is above the soft
	// limit. The host has lifted the tripwire already.
	SoftMemoryPassed struct {
		Generation   uint64
		Usage, Limit spec.Bytes
	}
	// HardMemoryPassed: seen by sampling only; the kernel kills by itself.
	HardMemoryPassed struct {
		Generation   uint64
		Usage, Limit spec.Bytes
	}
)

// What a process says of itself.
type (
	// Ready: READY=1.
	Ready struct{ Generation uint64 }
	// SaidStopping: STOPPING=1, it leaves by itself.
	SaidStopping struct{ Generation uint64 }
	// SaidStatus: STATUS=.
	SaidStatus struct {
		Generation uint64
		Text       string
	}
	// WatchdogPinged: WATCHDOG=1.
	WatchdogPinged struct{ Generation uint64 }
	// WatchdogTriggered: WATCHDOG=trigger.
	WatchdogTriggered struct{ Generation uint64 }
	// Extended: EXTEND_TIMEOUT_USEC=, from now on.
	Extended struct {
		Generation uint64
		By         time.Duration
	}
	// MainPIDChanged: MAINPID=, checked by the host to be of the same tree.
	MainPIDChanged struct {
		Generation uint64
		PID        int
	}
	// ExecutionBegan: X_WORKERSD_BEGIN=.
	ExecutionBegan struct {
		Generation uint64
		ID         string
	}
	// ExecutionEnded: X_WORKERSD_END=, with X_WORKERSD_RESULT=.
	ExecutionEnded struct {
		Generation uint64
		ID         string
		Result     Result
	}
	// ExecutionsCounted: X_WORKERSD_COUNT=, cumulative for the process.
	ExecutionsCounted struct {
		Generation uint64
		N          int
	}
)

// Result is how an execution ended.
type Result uint8

const (
	OK   Result = iota // counted
	Fail               // counted, and a failure
	Skip               // nothing was there to do: not counted
)

// What the supervisor says.
type (
	// Tick: time has passed. Step compares its deadlines with now.
	Tick struct{}
	// StartWanted: an operator or the list wants it up. Clears Done and Backoff,
	// also those that the end of a process would lead to.
	StartWanted struct{}
	// StopWanted: an operator, a reload or the end wants it down.
	StopWanted struct{ Reason event.Reason }
	// RestartWanted: replace the process, planned (Restarted or Reloaded). A
	// worker that is down stays down.
	RestartWanted struct{ Reason event.Reason }
	// KillWanted: no more grace, at an operator's kill (Killed) or at a second signal
	// to the manager (Shutdown).
	KillWanted struct{ Reason event.Reason }
	// SpecChanged: keys that need no restart have new values. For a change that
	// does, RestartWanted follows.
	SpecChanged struct{ Spec *spec.Worker }
	// DrainMaxChanged: no stop may take longer, also one that runs already.
	DrainMaxChanged struct{ Max time.Duration }
	// RecycleGranted: admission lets the asked-for recycle (AskRecycle) begin.
	RecycleGranted struct{}
)

func (Spawned) isEvent()           {}
func (SpawnFailed) isEvent()       {}
func (Exited) isEvent()            {}
func (Emptied) isEvent()           {}
func (SoftMemoryPassed) isEvent()  {}
func (HardMemoryPassed) isEvent()  {}
func (Ready) isEvent()             {}
func (SaidStopping) isEvent()      {}
func (SaidStatus) isEvent()        {}
func (WatchdogPinged) isEvent()    {}
func (WatchdogTriggered) isEvent() {}
func (Extended) isEvent()          {}
func (MainPIDChanged) isEvent()    {}
func (ExecutionBegan) isEvent()    {}
func (ExecutionEnded) isEvent()    {}
func (ExecutionsCounted) isEvent() {}
func (Tick) isEvent()              {}
func (StartWanted) isEvent()       {}
func (StopWanted) isEvent()        {}
func (RestartWanted) isEvent()     {}
func (KillWanted) isEvent()        {}
func (SpecChanged) isEvent()       {}
func (DrainMaxChanged) isEvent()   {}
func (RecycleGranted) isEvent()    {}

// ProcessID names one process of one worker, over all time.
type ProcessID struct {
	Worker     string
	Generation uint64
}

// HostEvent is an event with the worker it is about. A host sends only events
// that carry a generation.
type HostEvent struct {
	Worker string
	Event  Event
}

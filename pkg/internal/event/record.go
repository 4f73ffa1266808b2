package event

import "time"

// Kind says what happened.
type Kind string

// What can happen to a worker, in the order of a life, then to the manager.
const (
	Created    Kind = "created"     // a process was started
	Ready      Kind = "ready"       // it said READY=1
	Recycling  Kind = "recycling"   // it is being replaced; Reason says why
	Stopping   Kind = "stopping"    // it is being ended and not replaced; Reason says why
	Killing    Kind = "killing"     // its grace is over, or it may not have one
	Gone       Kind = "gone"        // nothing of it is left; Reason is the verdict
	NotStarted Kind = "not_started" // the start failed; Message says what to do
	BackingOff Kind = "backing_off" // the next start waits; Delay says how long
	Ended      Kind = "done"        // it will not be started again by itself
	Stuck      Kind = "stuck"       // SIGKILL was sent and it does not go away
	Changed    Kind = "changed"     // live keys of its entry changed in place
	Warning    Kind = "warning"     // something an administrator should read

	ManagerStarted  Kind = "manager_started"
	ManagerReloaded Kind = "manager_reloaded"
	ManagerRefused  Kind = "manager_refused" // a new worker list was refused
	ManagerStopping Kind = "manager_stopping"
	ManagerStopped  Kind = "manager_stopped"
)

// Record is one thing that happened. A zero field does not apply.
type Record struct {
	Seq        uint64    `json:"seq"`
	Time       time.Time `json:"time"`
	Kind       Kind      `json:"kind"`
	Worker     string    `json:"worker,omitempty"`
	Generation uint64    `json:"generation,omitempty"`
	PID        int       `json:"pid,omitempty"`
	Reason     Reason    `json:"reason,omitempty"`
	// Message is one sentence for a person, without the worker's name and pid.
	Message string `json:"message"`

	// Status of the main process, where there is one ("exit 3", "signal KILL").
	Status string `json:"status,omitempty"`
	// Uptime of the process when it was gone.
	Uptime time.Duration `json:"uptime_ns,omitempty"`
	// Delay until the next start.
	Delay time.Duration `json:"delay_ns,omitempty"`
	// Executions the process had counted.
	Executions int `json:"executions,omitempty"`
	// Execution that was running, and for how long.
	Execution    string        `json:"execution,omitempty"`
	ExecutionAge time.Duration `json:"execution_age_ns,omitempty"`
	// Memory in bytes when it happened, and the limit it was compared with.
	Memory      int64 `json:"memory_bytes,omitempty"`
	MemoryLimit int64 `json:"memory_limit_bytes,omitempty"`
	// PostMortem is what was read before the leaf was removed.
	PostMortem *PostMortem `json:"post_mortem,omitempty"`
}

// PostMortem is what the host could still read of a process at its death.
// Counters are for comparison, never numbers of processes.
type PostMortem struct {
	Peak     int64            `json:"memory_peak_bytes,omitempty"`
	Swap     int64            `json:"swap_bytes,omitempty"`
	Stat     map[string]int64 `json:"memory_stat,omitempty"`   // of memory.stat, the lines that matter
	Events   map[string]int64 `json:"memory_events,omitempty"` // of memory.events.local, since the start
	Pressure string           `json:"memory_pressure,omitempty"`
	PidsPeak int64            `json:"pids_peak,omitempty"`
	Procs    []PostMortemProc `json:"processes,omitempty"` // the last process table, largest first
	Note     string           `json:"note,omitempty"`
}

// PostMortemProc is one line of the last process table.
type PostMortemProc struct {
	PID     int    `json:"pid"`
	PPID    int    `json:"ppid"`
	RSS     int64  `json:"rss_bytes"`
	Command string `json:"command"`
}

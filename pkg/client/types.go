package client

import (
	"time"

	"github.com/workersd/workersd/pkg/internal/event"
)

// Record is one thing that happened to a worker or to the manager.
type Record = event.Record

// Statistics are the kernel's figures about the cgroup of a living process.
type Statistics = event.Statistics

// Manager is the manager itself.
type Manager struct {
	Title       string    `json:"title"`
	Version     string    `json:"version"`
	PID         int       `json:"pid"`
	Started     time.Time `json:"started"`
	Now         time.Time `json:"now"`
	Files       []string  `json:"files,omitempty"`
	Enforcement string    `json:"enforcement"` // "kernel" or "sampled"
	Because     string    `json:"because,omitempty"`
	Workers     int       `json:"workers"` // in the list
	Wanted      int       `json:"wanted"`  // to be up
	Up          int       `json:"up"`
	Recycled    int       `json:"recycled_last_hour"`
	Stopping    bool      `json:"stopping,omitempty"`
	Refused     uint64    `json:"refused_requests,omitempty"` // garbage on the control socket
}

// Execution is one that is running.
type Execution struct {
	ID  string        `json:"id"`
	Age time.Duration `json:"age_ns"`
}

// Worker is one worker. A limit of -1 is none.
type Worker struct {
	Name       string            `json:"name"`
	Entry      string            `json:"entry"`
	Params     map[string]string `json:"params,omitempty"`
	State      string            `json:"state"`
	Wanted     bool              `json:"wanted"`
	PID        int               `json:"pid,omitempty"`
	Generation uint64            `json:"generation,omitempty"`
	Since      time.Time         `json:"since,omitzero"` // of the state
	Started    time.Time         `json:"started,omitzero"`
	NextStart  time.Time         `json:"next_start,omitzero"`

	Executions int         `json:"executions"`
	Failed     int         `json:"failed"`
	Reports    bool        `json:"reports"` // it has reported executions
	Running    []Execution `json:"running,omitempty"`

	Memory      int64  `json:"memory_bytes"` // -1: not known
	SoftMemory  int64  `json:"soft_memory_limit_bytes"`
	HardMemory  int64  `json:"hard_memory_limit_bytes"`
	Enforcement string `json:"enforcement"`

	Restarts     int    `json:"restarts"`
	Failures     int    `json:"failures"` // in a row
	LastReason   string `json:"last_reason,omitempty"`
	StatusText   string `json:"status_text,omitempty"`
	Leaving      bool   `json:"leaving,omitempty"` // it has said STOPPING=1
	Stuck        bool   `json:"stuck,omitempty"`
	OperatorStop bool   `json:"operator_stop,omitempty"`
	Removed      bool   `json:"removed,omitempty"`

	// Keys are the keys of the worker list that differ from their default,
	// written as there; values of environment are left out. Only of show.
	Keys map[string]string `json:"keys,omitempty"`
	// Statistics are the kernel's, where it enforces. Only of show.
	Statistics *Statistics `json:"statistics,omitempty"`
	// What was dropped of what was said to its notify socket: what is no message,
	// and what others sent. Only of show.
	Garbage uint64 `json:"garbage_messages,omitempty"`
	Refused uint64 `json:"refused_messages,omitempty"`
	// Log says where its output goes: "journal", "terminal", "inherit" or a path.
	Log string `json:"log,omitempty"`
}

// Status is the manager and the workers that were asked for.
type Status struct {
	Manager Manager  `json:"manager"`
	Workers []Worker `json:"workers"`
}

// Change is a worker whose entry changed, by keys.
type Change struct {
	Name    string   `json:"name"`
	Live    []string `json:"live,omitempty"`
	Restart []string `json:"restart,omitempty"`
}

// Plan is what a reload does or did.
type Plan struct {
	Added     []string `json:"added,omitempty"`
	Removed   []string `json:"removed,omitempty"`
	Changed   []Change `json:"changed,omitempty"`
	Unchanged int      `json:"unchanged"`
	Manager   []string `json:"manager,omitempty"`
	Text      string   `json:"text"` // for a person
}

// Digests are the list in force without its values: what they are is told by
// keyed hashes, so that a client can compare a list of its own.
type Digests struct {
	// MemoryTotal is what percentages are of, where the manager is.
	MemoryTotal int64 `json:"memory_total_bytes"`

	Key     []byte                       `json:"key"`
	Manager map[string]string            `json:"manager"`
	Workers map[string]map[string]string `json:"workers"`
}

// Error is what the server refuses with.
type Error struct {
	Status int    `json:"-"`
	Text   string `json:"error"`
	Hint   string `json:"hint,omitempty"`
}

func (e *Error) Error() string { return e.Text }

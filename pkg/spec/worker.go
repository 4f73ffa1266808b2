package spec

import (
	"time"
)

// Type says what one process of a worker is.
type Type string

const (
	Service Type = "service" // one process does many executions
	Task    Type = "task"    // one process is one execution
)

// ReadyMode says when a process counts as up.
type ReadyMode string

const (
	ReadyExec   ReadyMode = "exec"   // as soon as the command was executed
	ReadyNotify ReadyMode = "notify" // when it says READY=1 (sd_notify(3))
)

// RestartMode says whether a process that left by itself is started again.
type RestartMode string

const (
	RestartAlways    RestartMode = "always"
	RestartOnFailure RestartMode = "on-failure"
	RestartNever     RestartMode = "never"
)

// Overlap says whether a successor may start before its predecessor is gone.
type Overlap string

const (
	OverlapNone  Overlap = "none"  // stop first: an in-flight list is never read by two
	OverlapReady Overlap = "ready" // the successor is ready before the old one is asked to leave
)

// Log targets that are words; anything else is the path of a file.
const (
	LogAuto    = ""        // journal under systemd, prefixed lines in a terminal
	LogJournal = "journal" // a journal stream of the worker's own
	LogInherit = "inherit" // the manager's own standard output and error
)

// Param is one parameter of a worker, in the order of the worker list.
type Param struct{ Name, Value string }

// EnvVar is one variable of the environment. Its value is secret: it is shown
// in no plan, API answer, metric or record.
type EnvVar struct{ Name, Value string }

// String leaves the value out.
func (v EnvVar) String() string { return v.Name + "=…" }

// GoString leaves the value out, for %#v.
func (v EnvVar) GoString() string { return v.String() }

// MarshalText leaves the value out, for JSON and logs.
func (v EnvVar) MarshalText() ([]byte, error) { return []byte(v.String()), nil }

// Share is a number of workers, absolute or as a percentage of the entry's.
type Share struct {
	N       int
	Percent bool
}

// Worker is one supervised place of the worker list, complete: defaults are
// filled in and parameters expanded. Make it with config.Load or, in a program
// of its own, with Default and Validate. A Worker is never changed after
// Validate accepted it, so it may be shared between goroutines.
type Worker struct {
	Name    string  // "queue@10.0.0.1,mail#2"; unique in a list
	Entry   string  // "queue"
	Params  []Param // in the order of the list
	Replica int     // from 1; 0 when the entry has no replicas

	Type            Type
	Command         []string
	Self            bool // Command is for the manager's own program, executed again
	Directory       string
	Environment     []EnvVar
	EnvironmentFile string
	User, Group     string
	Enabled         bool

	MaxRequests       int // 0: no limit
	MaxRequestsJitter int
	MaxLifetime       time.Duration // 0: no limit
	MaxLifetimeJitter time.Duration
	Timeout           time.Duration // 0: no limit
	TimeoutSignal     Signal        // 0: StopSignal
	Interval          time.Duration // between two processes of a task
	MaxRecycling      Share         // 0: no limit
	Overlap           Overlap

	SoftMemory Bytes // None: no limit
	HardMemory Bytes // None: no limit
	SwapLimit  Bytes // None: no limit

	CPUMax      float64 // CPUs; 0: no limit
	CPUWeight   int     // 1..10000; 0: unset
	IOWeight    int     // 1..10000; 0: unset
	PidsMax     int     // 0: no limit
	Nice        int     // -20..19; added to nothing, set as it is
	OOMScoreAdj int     // -1000..1000
	LimitNoFile int     // 0: as the manager was started
	Umask       int     // -1: as the manager's

	Ready           ReadyMode
	StartTimeout    time.Duration
	Watchdog        time.Duration // 0: none
	Restart         RestartMode
	RestartDelay    time.Duration // first back-off
	RestartDelayMax time.Duration
	RestartReset    time.Duration // a life this long resets the back-off
	StopSignal      Signal
	StopTimeout     time.Duration

	Log        string // LogAuto, LogJournal, LogInherit or an absolute path
	LogMaxSize Bytes
	LogBackups int
}

// Manager is the [manager] table of the worker list.
type Manager struct {
	Title         string
	CheckInterval time.Duration
	MemoryLimit   Bytes // of all workers together; None: no limit
	DrainMax      time.Duration
	MaxWorkers    int // a list that expands to more is refused
	MaxStarting   int // processes between their start and being up, at most
}

// List is an accepted worker list.
type List struct {
	Manager Manager
	Workers []Worker // in the order of the list, also those not enabled
	Files   []string // read, in order
}

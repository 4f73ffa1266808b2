package lifecycle

import (
	"time"

	"github.com/workersd/workersd/pkg/internal/event"
	"github.com/workersd/workersd/pkg/spec"
)

// Wanted is what the list and the operator want, apart from what is.
type Wanted bool

const (
	WantedDown Wanted = false
	WantedUp   Wanted = true
)

// State is where a worker is.
type State uint8

const (
	Down     State = iota // not wanted, nothing lives
	Starting              // the start was ordered, or the process is not ready yet
	Up                    // a process works
	Stopping              // asked to leave; its grace runs
	Killing               // SIGKILL was ordered, or the main process ended and its tree is being cleared
	Backoff               // wanted up, waits after a failure
	Waiting               // wanted up, waits for a task's interval or for admission
	Done                  // wanted up, but restart= says it is not started again
)

// States is every state, in order.
var States = []State{Down, Starting, Up, Stopping, Killing, Backoff, Waiting, Done}

func (s State) String() string {
	return [...]string{"down", "starting", "up", "stopping", "killing", "backoff", "waiting", "done"}[s]
}

// Passing reports whether the state must end by itself, so that it has a deadline.
func (s State) Passing() bool {
	switch s {
	case Starting, Stopping, Killing, Backoff, Waiting:
		return true
	}
	return false
}

// Execution is one piece of work that is being done.
type Execution struct {
	ID    string
	Began time.Time
}

// Process is one life of a worker: what is in one of its two places. The zero
// value is an empty place.
type Process struct {
	Generation uint64
	PID        int       // 0 until Spawned
	State      State     // Starting, Up, Stopping or Killing
	Since      time.Time // of the state
	Started    time.Time // Spawn was ordered; then, when it was Spawned
	Deadline   time.Time // of the state; zero where it has none

	// Of the entry as it was when the process was started: a reload changes them
	// by a restart, which may have to wait.
	Type     spec.Type
	Ready    spec.ReadyMode
	Watchdog time.Duration

	Ending     event.Reason // why we end it; empty while nobody does
	Asked      event.Reason // recycle asked of admission, not yet granted
	ExitStatus Status       // once it exited
	HasExited  bool
	Stuck      bool // SIGKILL did not help, or its start hangs

	ToldRequests int         // jittered, as the process was told it; 0: none
	MaxRequests  int         // the same of the entry as it is now
	LifeDeadline time.Time   // jittered; zero: none
	Executions   int         // counted: the greater of Ends and what it said itself
	Ends         int         // END that counted
	Failed       int         // of them
	Reported     bool        // it has ever reported an execution
	Running      []Execution // never changed in place: Step copies
	Overdue      Execution   // that it is ended for; it may report its end before it leaves
	OverdueAge   time.Duration
	LastPing     time.Time
	StatusText   string
	Leaving      bool // it has said STOPPING=1

	StopBegan   time.Time    // the stop signal was ordered
	FinishedAt  time.Time    // the end, after that, of an execution that was let finish
	ExtendedTo  time.Time    // EXTEND_TIMEOUT_USEC moved the deadline of the state there
	LookAgain   time.Time    // when what should have happened by itself is looked at again
	KillOrdered bool         // we ordered SIGKILL while the main process lived
	KilledFor   event.Reason // of KillWanted; empty: it was given its grace
	SoftUsage   spec.Bytes   // when the soft limit was passed; 0: it was not
	SoftLimit   spec.Bytes
	AskAt       time.Time // when the recycle for that is asked for; zero: it was, or there is none
	Warned      bool      // said that it reports no executions
}

// Living reports whether the place holds a process or the rest of one.
func (p *Process) Living() bool { return p.Generation != 0 }

// ending reports whether the process is on its way out, by our order or by itself.
func (p *Process) ending() bool { return p.Ending != "" || p.HasExited }

// Worker is one supervised place of the list, as a value. Step makes the next
// one; nobody else changes it.
type Worker struct {
	Spec     *spec.Worker
	DrainMax time.Duration // of [manager]; bounds every stop
	Wanted   Wanted
	State    State     // of the whole; that of Place[0] while a process lives
	Since    time.Time // of State
	Deadline time.Time // the earliest of all that this worker waits for; zero: none

	Generation uint64 // last used; never goes back
	// Places: the current process, and under overlap its successor while it
	// starts. The successor moves to Places[0] when the old one is gone.
	Places [2]Process

	NextStart  time.Time    // of Backoff and Waiting, and of a successor that failed
	Failures   int          // in a row; resets after a healthy time
	Delays     int          // exponent of the back-off; a young clean exit raises it, too
	Restarts   int          // processes that followed another, in all
	Storm      int          // processes in a row that passed their soft limit and came to nothing
	DownReason event.Reason // why it is wanted down
	LastReason event.Reason // verdict on the process before
	LastStatus Status
	RespawnNow bool // asked for while the youngest process was ending: no back-off, no Done
}

// New is a worker of which no process exists. Generation is the last that an
// earlier manager may have used.
func New(s *spec.Worker, drainMax time.Duration, generation uint64) Worker {
	return Worker{Spec: s, DrainMax: drainMax, Generation: generation}
}

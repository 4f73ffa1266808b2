// Package lifecycle is the life of one worker as a pure function.
//
// # The model
//
// A worker is wanted up or wanted down; that is one thing. Where it is, its
// state, is another. "Stop while starting" therefore needs no state of its own:
// wanted changes, and each state knows what to do about it.
//
//   - Down: not wanted, nothing lives. Only StartWanted leaves it.
//   - Waiting: wanted up; starts when its time has come. The time is now, or a
//     task's interval after its last end. Whoever delivers the Tick that starts
//     it may hold that Tick: this is where admission stands.
//   - Backoff: wanted up; the last start or process failed, or ended young. The
//     delay doubles from restart_delay to restart_delay_max, with jitter, and
//     begins anew after a life of restart_reset.
//   - Starting: the start is ordered, or the process lives and has not said
//     READY=1. start_timeout bounds it.
//   - Up: a process works. Its deadlines are those of its executions, of its
//     lifetime and of its watchdog; without any of them it has none.
//   - Stopping: asked to leave by a signal. Its deadline is the later of
//     stop_timeout and the end of each running execution's timeout, of those that
//     had begun before the signal; the process may move it by
//     EXTEND_TIMEOUT_USEC; drain_max bounds it. A process that is stopped before
//     it was started is signalled as soon as it is there.
//   - Killing: SIGKILL was ordered for the tree, or the main process ended and
//     what it left behind is being cleared. It ends when nothing is left; a tree
//     that does not go away is stuck, is named, and is never doubled.
//   - Done: wanted up, but restart= says that it is not started again. Start,
//     restart, a changed entry or a new manager leave it.
//
// A process is in one of two places. Without overlap the second is never used.
// With overlap a planned replacement starts in the second place; when it is up
// the first is asked to leave, and when the first is gone the second moves up.
// What the second was to be replaced for meanwhile is asked of admission then:
// there is no third place.
//
// A replacement that can wait (max_requests, max_lifetime, soft_memory,
// reloaded) is asked of admission once (AskRecycle) and begins when granted. An
// execution that outlived its timeout does not wait. For processes that
// pass their soft limit before restart_reset and without an execution, one after
// the other, it is asked later each time: the delay is that of failures, counted
// from the start, and they work meanwhile.
//
// The reason of an end is decided once, when nothing of the process is left:
// an out-of-memory kill that the counters show, then our own order, then the
// exit status.
//
// A reload changes live keys in the process that runs. Keys that need a restart
// are those of the process's start until it is replaced, which may have to wait.
//
// Executions count once, whether END, COUNT or both tell of them, in any order.
//
// # What always holds
//
//  1. A place holds at most one living process, and the second place is used
//     only with overlap.
//  2. A worker that is wanted up has a living process or a deadline, or is Done.
//  3. Every state that passes has a deadline.
//  4. An event about a generation that is over orders nothing.
//  5. A worker that is wanted down and of which nothing lives has no deadline,
//     and each process was released exactly once.
//  6. A planned replacement never backs off and never counts as a failure.
//  7. SIGKILL never comes before the stop signal and its grace, save at the hard
//     limit, at an operator's kill, at a second signal to the manager, and for
//     what a main process left behind.
//
// # Purity
//
// Nothing here reads a clock, waits, or draws a random number: jitter is a hash
// of worker and generation, so that a test, and a manager after a crash, repeat
// it. A deadline is a value that is compared with now, never a timer, so it
// cannot fire into the next process's life.
package lifecycle

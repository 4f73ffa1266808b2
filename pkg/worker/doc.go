// Package worker is the SDK for worker programs in Go: a loop around Run that
// counts, times and reports executions.
//
// A worker is a value with one method:
//
//	type mail struct{ … }
//
//	func (m *mail) Run(ctx context.Context) (done bool, err error) {
//		…one piece of work…
//		return true, nil
//	}
//
//	func main() { worker.Main(&mail{}) }
//
// # What an execution is
//
// Each call of Run is one execution (but see Waiting for work). What it returns is
// how it ended:
//
//	true, nil     ok: counted
//	false, nil    skip: nothing was there to do, not counted
//	…, an error   fail: logged, counted, and followed by a pause
//
// The pause after failures grows from 100 ms to 5 s while they follow each other
// (see [FailurePause]), so that a broken database is not asked a thousand times
// a second. A skip that came back at once is followed by a shorter one, up to
// 1 s, for the same reason; one that waited inside of Run costs nothing more.
//
// # The life of a process
//
// Init, if the worker has it; READY=1; Run again and again; AfterRun, if the
// worker has it; exit. The process leaves
//
//   - after exactly WORKERSD_MAX_REQUESTS counted executions (2 means two);
//   - on SIGTERM or SIGINT: a Run that has begun may finish, no other begins. How
//     long it may take is the manager's matter (stop_timeout, and the timeout of
//     the execution). In a terminal a second Ctrl-C cancels its context;
//   - when an execution outlives its timeout: its context is cancelled with
//     [ErrTimeout] as cause. A Run that does not come back within 3 s after that
//     is abandoned (see [AbandonAfter]);
//   - when Run panics: the panic is logged with its stack.
//
// In all of these AfterRun is called. It is not called at SIGKILL, after an Init
// that failed, or when another goroutine of the program panics. The exit code is
// 0 when it was asked to leave or had done its number, 1 after a timeout or an
// error of Init or AfterRun, 2 after a panic.
//
// Under a manager it is the manager who measures the timeout, since that can
// change while the process runs: the context is cancelled when its stop signal
// comes. Without a manager the SDK measures by itself.
//
// # Waiting for work
//
// Time spent in Run counts towards the timeout. A worker that waits in Run for
// its work uses the option [BeginLater] and calls [Begin] when it has some: the
// execution begins there. While it waits it watches [Stopping]. A Run that says
// true without having begun is counted all the same. One that says false or
// returns an error without having begun was no execution: nothing is counted or
// reported, and an error is logged and followed by the pause.
//
// # Watchdog
//
// Where the manager (or systemd) wants to hear from the worker, the SDK says
// WATCHDOG=1 at half the interval, and only while that is true: every one of its
// loops either rests between two executions, or is inside of an execution that
// has a timeout (then the timeout is the judge), or has begun or ended one, or
// called [Alive], within the interval. So a Run that hangs without a timeout
// stops the pings, and so does an AfterRun that takes longer than the interval
// and does not call Alive. Init is not watched: where it can take longer than the
// watchdog, ready = "notify" lets the watchdog begin behind it.
//
// # Without a manager
//
// The same program runs in a terminal, as a plain systemd service, or below
// another supervisor. What nobody listens to is not sent.
package worker

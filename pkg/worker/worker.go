package worker

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

// Worker does one piece of work at a time. With [Parallel] its Run is called by
// several goroutines at once.
type Worker interface {
	Run(ctx context.Context) (done bool, err error)
}

// Initializer is a Worker that prepares itself before the first Run. Its context
// is cancelled when the process shall leave. An error ends the process with
// exit code 1; the manager starts it again with back-off.
type Initializer interface {
	Init(ctx context.Context) error
}

// AfterRunner is a Worker that cleans up when the process leaves by itself: see
// the package documentation for when it is called. Its context has no deadline;
// the grace of the manager bounds it.
type AfterRunner interface {
	AfterRun(ctx context.Context) error
}

// Optioner is a Worker that needs options of its own, such as [BeginLater]. Those
// of the caller come after them.
type Optioner interface {
	Options() []Option
}

// Func makes a Worker of a function.
type Func func(ctx context.Context) (done bool, err error)

// Run calls f.
func (f Func) Run(ctx context.Context) (bool, error) { return f(ctx) }

// ErrTimeout is the cause of a context whose execution outlived its timeout.
var ErrTimeout = fmt.Errorf("execution timed out: %w", context.DeadlineExceeded)

// ErrInterrupted is the cause of a context that was cancelled by a second Ctrl-C.
var ErrInterrupted = errors.New("interrupted twice")

// PanicError is what became of a panic in Init, Run or AfterRun.
type PanicError struct {
	In    string // "Run"
	Value any    // nil: runtime.Goexit was called
	Stack []byte
}

func (e *PanicError) Error() string {
	if e.Value == nil {
		return e.In + " called runtime.Goexit"
	}
	return fmt.Sprintf("%s panicked: %v", e.In, e.Value)
}

// Exit codes of Main.
const (
	exitOK    = 0
	exitError = 1
	exitPanic = 2 // as an unrecovered panic has
)

// Main runs w until the process shall leave, and leaves: it never returns.
func Main(w Worker, opts ...Option) {
	os.Exit(runMain(w, opts))
}

func runMain(w Worker, opts []Option) int {
	l, err := newLoop(w, opts)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return exitError
	}
	// Room for both signals twice: a signal is lost only when as many of them
	// wait already.
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	go func() {
		interrupts := 0
		for s := range signals {
			stop()
			if s == syscall.SIGINT {
				interrupts++
			}
			// Only Ctrl-C counts: a manager may repeat its stop signal.
			if interrupts == 2 {
				l.interrupt()
				signal.Reset(syscall.SIGINT) // the third one ends the process
			}
		}
	}()
	err = l.run(ctx)
	switch p := (*PanicError)(nil); {
	case err == nil:
		return exitOK
	case errors.As(err, &p):
		return exitPanic
	}
	return exitError
}

// Run is Main for programs that have more to do: it returns when w has left its
// loop, and asks it to leave when ctx is cancelled. It installs no signal
// handlers. The error joins what made the exit code of Main.
func Run(ctx context.Context, w Worker, opts ...Option) error {
	l, err := newLoop(w, opts)
	if err != nil {
		return err
	}
	return l.run(ctx)
}

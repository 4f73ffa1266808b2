package worker

import (
	"log/slog"
	"time"
)

// Option changes how Main and Run drive a worker.
type Option func(*config)

type config struct {
	env                       environment
	log                       *slog.Logger
	parallel                  int
	checkPoint                time.Duration
	failureFirst, failureMost time.Duration
	idleFirst, idleMost       time.Duration
	abandonAfter              time.Duration
	later                     bool
	maxRequests               int
	timeout                   time.Duration
	barrierFor                time.Duration
}

func newConfig(env environment, opts []Option) config {
	c := config{
		env:          env,
		log:          slog.Default(),
		parallel:     1,
		failureFirst: 100 * time.Millisecond,
		failureMost:  5 * time.Second,
		idleFirst:    10 * time.Millisecond,
		idleMost:     time.Second,
		abandonAfter: 3 * time.Second,
		barrierFor:   time.Second,
	}
	for _, o := range opts {
		o(&c)
	}
	// The manager's word stands above the program's: the list is where an
	// administrator looks.
	if env.maxRequests > 0 {
		c.maxRequests = env.maxRequests
	}
	if env.timeout > 0 {
		c.timeout = env.timeout
	}
	return c
}

// Parallel lets n executions run at once, each with an id of its own. Without
// it there is one.
func Parallel(n int) Option {
	return func(c *config) { c.parallel = max(n, 1) }
}

// CheckPoint is a pause between two executions of one loop, in place of the
// pauses after skips; those after failures are never shorter.
func CheckPoint(pause time.Duration) Option {
	return func(c *config) { c.checkPoint = pause }
}

// FailurePause sets the pause after a failed execution: first after one, doubled
// with each that follows, never more than most. Zero for both is no pause.
func FailurePause(first, most time.Duration) Option {
	return func(c *config) { c.failureFirst, c.failureMost = first, max(first, most) }
}

// AbandonAfter sets how long a Run may go on after its context was cancelled at
// the timeout. Then AfterRun is called while Run still hangs, and the process
// leaves. It should be below the worker's stop_timeout, at which the manager
// kills without asking.
func AbandonAfter(d time.Duration) Option {
	return func(c *config) { c.abandonAfter = d }
}

// BeginLater lets an execution begin where Run calls [Begin], not where Run is
// called. A Run that returns false or an error without having begun is not
// reported at all, and not counted.
func BeginLater() Option {
	return func(c *config) { c.later = true }
}

// MaxRequests is the number of counted executions after which the process
// leaves, where the environment (WORKERSD_MAX_REQUESTS) does not say.
func MaxRequests(n int) Option {
	return func(c *config) { c.maxRequests = n }
}

// Timeout is the time one execution may take, where the environment
// (WORKERSD_TIMEOUT_USEC) does not say.
func Timeout(d time.Duration) Option {
	return func(c *config) { c.timeout = d }
}

// Log sets the logger; slog.Default() without it.
func Log(l *slog.Logger) Option {
	return func(c *config) { c.log = l }
}

package redisqueue

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/workersd/workersd/pkg/worker"
)

// margin is how long an answer may take beyond the time Redis was asked to wait.
const margin = 5 * time.Second

// Pauses while Redis is gone.
const (
	firstPause = 100 * time.Millisecond
	mostPause  = 5 * time.Second
)

// quiet is the logger of go-redis, which would say at every attempt what the
// worker says once. A program that wants those lines calls redis.SetLogger.
type quiet struct{}

func (quiet) Printf(context.Context, string, ...any) {}

func init() { redis.SetLogger(quiet{}) }

// conn is what both forms share: the connection, and patience when it is gone.
type conn struct {
	given Options // as the program said
	opt   Options // completed by Init
	rdb   *redis.Client

	mu      sync.Mutex // protects what follows
	since   time.Time  // when Redis was gone; zero: it is there
	refuses bool       // it is there, but answers with an error
	pause   time.Duration
}

// Options lets the wait for a message not count as an execution.
func (c *conn) Options() []worker.Option { return []worker.Option{worker.BeginLater()} }

// Init reads the options. It needs no server: a worker that starts before Redis
// waits for it.
func (c *conn) Init(context.Context) error {
	o, r, err := c.given.complete()
	if err != nil {
		return err
	}
	c.opt, c.rdb = o, redis.NewClient(r)
	return nil
}

func (c *conn) close() error {
	if err := c.rdb.Close(); err != nil && !errors.Is(err, redis.ErrClosed) {
		return fmt.Errorf("closing the connection to redis: %w", err)
	}
	return nil
}

// bounded is a context for one round trip in which Redis may wait.
func bounded(ctx context.Context, wait time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, wait+margin)
}

// gone waits a while because Redis did not answer, or not as it should. It
// returns early when the process shall leave.
func (c *conn) gone(ctx context.Context, err error) {
	refuses := answered(err)
	c.mu.Lock()
	first := c.since.IsZero()
	if first {
		c.since, c.pause = time.Now(), 0
	}
	news := first || refuses != c.refuses
	c.refuses = refuses
	c.pause = min(max(2*c.pause, firstPause), mostPause)
	pause := c.pause
	c.mu.Unlock()
	if news {
		c.tell(ctx, refuses, err)
	}
	t := time.NewTimer(pause)
	defer t.Stop()
	select {
	case <-t.C:
	case <-worker.Stopping(ctx):
	case <-ctx.Done():
	}
}

// tell says why nothing is done: whoever reads it looks for a server that is not
// there elsewhere than for one that refuses.
func (c *conn) tell(ctx context.Context, refuses bool, err error) {
	text, status := "redis does not answer; waiting for it", "waiting for redis: %v"
	if refuses {
		text, status = "redis answers with an error; asking it again", "redis answers with an error: %v"
	}
	c.opt.Log.Warn(text, slog.String("queue", c.opt.Queue), slog.Any("error", err))
	worker.Status(ctx, fmt.Sprintf(status, err))
}

// misfit is an answer that is none to what was asked.
type misfit struct{ error }

func (m misfit) Unwrap() error { return m.error }

// answered reports whether an error is what Redis answered, not that it did not.
func answered(err error) bool {
	var refusal redis.Error
	var answer misfit
	return errors.As(err, &refusal) || errors.As(err, &answer)
}

// back books that Redis answered.
func (c *conn) back(ctx context.Context) {
	c.mu.Lock()
	since, text := c.since, "redis is back"
	if c.refuses {
		text = "redis does as it is asked again"
	}
	c.since, c.refuses = time.Time{}, false
	c.mu.Unlock()
	if !since.IsZero() {
		c.opt.Log.Info(text, slog.String("queue", c.opt.Queue), slog.Duration("after", time.Since(since)))
		worker.Status(ctx, "")
	}
}

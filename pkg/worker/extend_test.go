package worker

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// After the stop signal the SDK ends an execution at its timeout by itself. The
// manager grants more to who asks for it, so the SDK must grant it too.
func TestExtendMovesTheTimeoutOfAStop(t *testing.T) {
	for name, c := range map[string]struct {
		timeout, stop, ask, by, want time.Duration // since the begin
	}{
		"asked after the signal": {30 * time.Second, 10 * time.Second, 20 * time.Second, time.Minute, 80 * time.Second},
		"less than there was":    {30 * time.Second, 10 * time.Second, 20 * time.Second, time.Second, 30 * time.Second},
		// The manager's word sd_notify(3): it is about what is under way when it is
		// said, and then that was no stop.
		"asked before the signal": {30 * time.Second, 20 * time.Second, 10 * time.Second, time.Minute, 30 * time.Second},
		"it is over already":      {30 * time.Second, 40 * time.Second, 50 * time.Second, time.Minute, 40 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				began := time.Now()
				l, e, _ := testLoop(t, environment{worker: "q", timeout: c.timeout}, Func(func(ctx context.Context) (bool, error) {
					ask := time.AfterFunc(c.ask, func() { Extend(ctx, c.by) })
					defer ask.Stop()
					<-ctx.Done()
					return false, ctx.Err()
				}))
				time.AfterFunc(c.stop, cancel)
				if err := l.run(ctx); !errors.Is(err, ErrTimeout) || time.Since(began) != c.want {
					t.Errorf("error %v after %v, want the timeout after %v", err, time.Since(began), c.want)
				}
				if c.ask < c.want && e.count("EXTEND_TIMEOUT_USEC=", time.Now().Add(1)) != 1 {
					t.Errorf("the manager was not asked: %q", e.heard())
				}
			})
		})
	}
}

// Without a manager nobody grants anything.
func TestExtendAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		l, _, _ := testLoop(t, environment{}, Func(func(ctx context.Context) (bool, error) {
			Extend(ctx, time.Hour)
			<-ctx.Done()
			return false, ctx.Err()
		}), Timeout(time.Second))
		if err := l.run(t.Context()); !errors.Is(err, ErrTimeout) || time.Since(began) != time.Second {
			t.Errorf("error %v after %v", err, time.Since(began))
		}
	})
}

// What belongs to a worker's context does nothing elsewhere.
func TestOutsideOfAWorker(t *testing.T) {
	ctx := t.Context()
	Begin(ctx, "x")
	Alive(ctx)
	Status(ctx, "x")
	Extend(ctx, time.Second)
	if ID(ctx) != "" || Stopping(ctx) != nil {
		t.Errorf("id %q, stopping %v", ID(ctx), Stopping(ctx))
	}
	synctest.Test(t, func(t *testing.T) {
		l, e, _ := testLoop(t, environment{maxRequests: 1}, &inInit{full: full{run: always(true, nil)}})
		if err := l.run(t.Context()); err != nil {
			t.Fatal(err)
		}
		wantSaid(t, e, "STATUS=opening", "EXTEND_TIMEOUT_USEC=60000000", "READY=1", "BEGIN=1", "END=1 RESULT=ok COUNT=1", "STOPPING=1")
	})
}

// inInit uses the functions of a context before there is an execution.
type inInit struct{ full }

func (i *inInit) Init(ctx context.Context) error {
	Begin(ctx, "x")
	Alive(ctx)
	Status(ctx, "opening")
	Extend(ctx, time.Minute)
	return nil
}

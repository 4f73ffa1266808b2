package worker

import (
	"context"
	"errors"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func exitGoroutine() { runtime.Goexit() }

// untilCancelled runs until its context says that its time is over.
func untilCancelled(cause *error) func(context.Context) (bool, error) {
	return func(ctx context.Context) (bool, error) {
		<-ctx.Done()
		*cause = context.Cause(ctx)
		return false, ctx.Err()
	}
}

func TestTimeoutWithoutAManager(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var cause error
		w := &full{run: untilCancelled(&cause)}
		began := time.Now()
		l, e, _ := testLoop(t, environment{}, w, Timeout(30*time.Second))
		err := l.run(t.Context())
		if !errors.Is(err, ErrTimeout) || cause != ErrTimeout || time.Since(began) != 30*time.Second {
			t.Errorf("error %v, cause %v after %v", err, cause, time.Since(began))
		}
		wantSaid(t, e, "READY=1", "BEGIN=1", "END=1 RESULT=fail COUNT=1", "STOPPING=1")
		if got := strings.Join(w.calls, " "); got != "init run after" {
			t.Errorf("calls: %s", got)
		}
	})
}

// The manager's clock decides: its timeout may have been changed since the start.
func TestTimeoutWaitsForTheManager(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		var cause error
		began := time.Now()
		l, e, _ := testLoop(t, environment{worker: "q", timeout: 30 * time.Second}, Func(untilCancelled(&cause)))
		time.AfterFunc(60*time.Second, cancel) // the manager's stop signal
		err := l.run(ctx)
		if !errors.Is(err, ErrTimeout) || cause != ErrTimeout || time.Since(began) != 60*time.Second {
			t.Errorf("error %v, cause %v after %v", err, cause, time.Since(began))
		}
		wantSaid(t, e, "READY=1", "BEGIN=1", "END=1 RESULT=fail COUNT=1", "STOPPING=1")
	})
}

// A stop for another reason leaves the execution its time, and not more.
func TestTimeoutAfterStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		var cause error
		began := time.Now()
		l, _, _ := testLoop(t, environment{worker: "q", timeout: 30 * time.Second}, Func(untilCancelled(&cause)))
		time.AfterFunc(10*time.Second, cancel)
		if err := l.run(ctx); !errors.Is(err, ErrTimeout) || time.Since(began) != 30*time.Second {
			t.Errorf("error %v after %v", err, time.Since(began))
		}
	})
}

func TestRunThatIgnoresItsContextIsAbandoned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		w := &full{run: func(context.Context) (bool, error) { <-release; return true, nil }}
		began := time.Now()
		l, e, log := testLoop(t, environment{}, w, Timeout(time.Second), AbandonAfter(5*time.Second))
		if err := l.run(t.Context()); !errors.Is(err, ErrTimeout) || time.Since(began) != 6*time.Second {
			t.Errorf("error %v after %v", err, time.Since(began))
		}
		wantSaid(t, e, "READY=1", "BEGIN=1", "STOPPING=1")
		if !strings.Contains(log.String(), "ignores its cancelled context") {
			t.Errorf("log: %s", log)
		}
		if got := strings.Join(w.calls, " "); got != "init run after" {
			t.Errorf("calls: %s", got)
		}
		close(release)
	})
}

// One of several hangs: the others may finish before the process leaves.
func TestTimeoutOfOneOfSeveral(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, e, _ := testLoop(t, environment{}, Func(func(ctx context.Context) (bool, error) {
			if ID(ctx) == "1" {
				<-ctx.Done()
				return false, ctx.Err()
			}
			time.Sleep(7 * time.Second)
			return true, ctx.Err()
		}), Parallel(2), Timeout(10*time.Second))
		if err := l.run(t.Context()); !errors.Is(err, ErrTimeout) {
			t.Errorf("error %v", err)
		}
		wantSaid(t, e, "READY=1", "BEGIN=1", "BEGIN=2", "END=2 RESULT=ok COUNT=1", "BEGIN=3",
			"END=1 RESULT=fail COUNT=2", "END=3 RESULT=ok COUNT=3", "STOPPING=1")
	})
}

func TestBeginLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := 0
		l, e, _ := testLoop(t, environment{worker: "q", maxRequests: 2, timeout: 10 * time.Second},
			Func(func(ctx context.Context) (bool, error) {
				time.Sleep(time.Minute) // waiting is not part of the timeout
				switch n++; n {
				case 1:
					return false, nil // not reported at all
				case 2:
					Begin(ctx, "order 17/ü")
					Begin(ctx, "again")
					if ID(ctx) != "1:order_17__" {
						t.Errorf("id %q", ID(ctx))
					}
				}
				return true, ctx.Err() // the third never said Begin: it counts all the same
			}), BeginLater())
		if err := l.run(t.Context()); err != nil {
			t.Fatal(err)
		}
		wantSaid(t, e, "READY=1", "BEGIN=1:order_17__", "END=1:order_17__ RESULT=ok COUNT=1",
			"BEGIN=2", "END=2 RESULT=ok COUNT=2", "STOPPING=1")
	})
}

// What fails before there was any work is no execution; it is logged, and not
// asked a thousand times a second.
func TestBeginLaterAnErrorBeforeTheBegin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := 0
		began := time.Now()
		l, e, log := testLoop(t, environment{worker: "q", maxRequests: 1}, Func(func(context.Context) (bool, error) {
			if n++; n <= 2 {
				return n == 2, errors.New("no connection")
			}
			return true, nil
		}), BeginLater())
		if err := l.run(t.Context()); err != nil {
			t.Fatal(err)
		}
		wantSaid(t, e, "READY=1", "BEGIN=1", "END=1 RESULT=ok COUNT=1", "STOPPING=1")
		if took := time.Since(began); n != 3 || took != 300*time.Millisecond {
			t.Errorf("%d calls in %v, want 3 with pauses of 100ms and 200ms", n, took)
		}
		if strings.Count(log.String(), "no connection") != 2 {
			t.Errorf("log: %s", log)
		}
	})
}

func TestStoppingWakesAWaitingRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		l, e, _ := testLoop(t, environment{}, Func(func(ctx context.Context) (bool, error) {
			select {
			case <-Stopping(ctx):
				return false, nil
			case <-ctx.Done():
				return true, nil
			}
		}), BeginLater())
		time.AfterFunc(time.Minute, cancel)
		if err := l.run(ctx); err != nil {
			t.Fatal(err)
		}
		wantSaid(t, e, "READY=1", "STOPPING=1")
	})
}

func TestSecondInterruptCancels(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		var cause error
		l, _, _ := testLoop(t, environment{}, Func(untilCancelled(&cause)))
		time.AfterFunc(time.Second, cancel)
		time.AfterFunc(2*time.Second, l.interrupt)
		if err := l.run(ctx); err != nil || cause != ErrInterrupted {
			t.Errorf("error %v, cause %v", err, cause)
		}
	})
}

func TestWatchdogIsTruthful(t *testing.T) {
	env := environment{worker: "q", watchdog: 10 * time.Second}
	hang := func(context.Context) (bool, error) { time.Sleep(time.Hour); return true, nil }
	for name, c := range map[string]struct {
		env      environment
		run      func(context.Context) (bool, error)
		opts     []Option
		min, max int // pings in an hour; 720 are due
	}{
		"work goes on": {env, func(context.Context) (bool, error) { time.Sleep(7 * time.Second); return true, nil },
			nil, 720, 730},
		"nothing to do": {env, always(false, nil), nil, 720, 730},
		"a long rest":   {env, always(true, nil), []Option{CheckPoint(20 * time.Minute)}, 720, 730},
		"Run hangs":     {env, hang, nil, 2, 2},
		"Run hangs, its timeout judges": {environment{worker: "q", watchdog: 10 * time.Second, timeout: 2 * time.Hour},
			hang, nil, 720, 730},
		"a long Run says that it moves": {env, func(ctx context.Context) (bool, error) {
			for range 900 {
				time.Sleep(4 * time.Second)
				Alive(ctx)
			}
			return true, nil
		}, nil, 720, 730},
		"one of three hangs": {env, func(ctx context.Context) (bool, error) {
			if ID(ctx) == "2" {
				return hang(ctx)
			}
			time.Sleep(time.Second)
			return true, nil
		}, []Option{Parallel(3)}, 2, 2},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				l, e, _ := testLoop(t, c.env, Func(c.run), c.opts...)
				time.AfterFunc(time.Hour, cancel)
				end := time.Now().Add(time.Hour)
				if err := l.run(ctx); err != nil {
					t.Fatal(err)
				}
				if got := e.count("WATCHDOG=1", end); got < c.min || got > c.max {
					t.Errorf("%d pings in an hour, want %d to %d", got, c.min, c.max)
				}
			})
		})
	}
}

// AfterRun is watched as well, and says that it moves on in the same way.
func TestWatchdogInAfterRun(t *testing.T) {
	for name, c := range map[string]struct {
		alive    bool
		min, max int // pings in the hour that AfterRun takes; 720 are due
	}{
		"hangs":                 {false, 1, 3},
		"says that it moves on": {true, 720, 725},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var from time.Time
				w := &lastWork{full: full{run: always(true, nil)}, after: func(ctx context.Context) {
					from = time.Now()
					for range 900 {
						time.Sleep(4 * time.Second)
						if c.alive {
							Alive(ctx)
						}
					}
				}}
				l, e, _ := testLoop(t, environment{worker: "q", watchdog: 10 * time.Second, maxRequests: 1}, w)
				if err := l.run(t.Context()); err != nil {
					t.Fatal(err)
				}
				end := time.Now()
				if got := e.count("WATCHDOG=1", end) - e.count("WATCHDOG=1", from); got < c.min || got > c.max {
					t.Errorf("%d pings in an hour, want %d to %d", got, c.min, c.max)
				}
			})
		})
	}
}

type lastWork struct {
	full
	after func(context.Context)
}

func (w *lastWork) AfterRun(ctx context.Context) error { w.after(ctx); return nil }

package worker

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// ear is a manager that only listens.
type ear struct {
	mu   sync.Mutex
	said []string // fields joined with a space, MONOTONIC_USEC left out
	at   []time.Time
}

func (e *ear) Send(m string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	var fields []string
	for f := range strings.SplitSeq(m, "\n") {
		if !strings.HasPrefix(f, "MONOTONIC_USEC=") {
			fields = append(fields, strings.TrimPrefix(f, "X_WORKERSD_"))
		}
	}
	e.said, e.at = append(e.said, strings.Join(fields, " ")), append(e.at, time.Now())
	return nil
}

func (e *ear) Barrier(context.Context) error { return nil }
func (e *ear) Close() error                  { return nil }

func (e *ear) heard() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.said)
}

// count is how many messages with the prefix came before the time.
func (e *ear) count(prefix string, before time.Time) (n int) {
	for i, m := range e.heard() {
		if strings.HasPrefix(m, prefix) && e.at[i].Before(before) {
			n++
		}
	}
	return n
}

// testLoop is a loop with an environment of its own and an ear.
func testLoop(t *testing.T, env environment, w Worker, opts ...Option) (*loop, *ear, *bytes.Buffer) {
	t.Helper()
	var log bytes.Buffer // written under the handler's lock, read after the loop ended
	opts = append([]Option{Log(slog.New(slog.NewTextHandler(&log, nil)))}, opts...)
	l, err := newLoop(w, opts)
	if err != nil {
		t.Fatal(err)
	}
	l.env = env
	l.config = newConfig(env, opts)
	e := &ear{}
	l.notify = e
	return l, e, &log
}

func wantSaid(t *testing.T, e *ear, want ...string) {
	t.Helper()
	if got := e.heard(); !slices.Equal(got, want) {
		t.Errorf("the manager heard\n  %s\nwant\n  %s", strings.Join(got, "\n  "), strings.Join(want, "\n  "))
	}
}

// full is a worker with all three methods.
type full struct {
	run      func(ctx context.Context) (bool, error)
	initErr  error
	afterErr error

	mu    sync.Mutex // an abandoned Run is still there when AfterRun is called
	calls []string
}

func (f *full) called(what string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls = append(f.calls, what)
}

func (f *full) Init(context.Context) error            { f.called("init"); return f.initErr }
func (f *full) Run(ctx context.Context) (bool, error) { f.called("run"); return f.run(ctx) }
func (f *full) AfterRun(context.Context) error        { f.called("after"); return f.afterErr }

func always(done bool, err error) func(context.Context) (bool, error) {
	return func(context.Context) (bool, error) { return done, err }
}

// The origin ran one execution more than asked.
func TestTwoMeansTwo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &full{run: always(true, nil)}
		l, e, _ := testLoop(t, environment{worker: "q", maxRequests: 2}, w)
		if err := l.run(t.Context()); err != nil {
			t.Fatal(err)
		}
		wantSaid(t, e, "READY=1",
			"BEGIN=1", "END=1 RESULT=ok COUNT=1",
			"BEGIN=2", "END=2 RESULT=ok COUNT=2",
			"STOPPING=1")
		if got := strings.Join(w.calls, " "); got != "init run run after" {
			t.Errorf("calls: %s", got)
		}
	})
}

func TestSkipIsNotCountedAndFailIs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := 0
		l, e, log := testLoop(t, environment{worker: "q", maxRequests: 2}, Func(func(context.Context) (bool, error) {
			switch n++; n {
			case 1:
				return false, nil
			case 2:
				return true, errors.New("disk is full")
			}
			return true, nil
		}))
		if err := l.run(t.Context()); err != nil {
			t.Fatal(err)
		}
		wantSaid(t, e, "READY=1",
			"BEGIN=1", "END=1 RESULT=skip COUNT=0",
			"BEGIN=2", "END=2 RESULT=fail COUNT=1",
			"BEGIN=3", "END=3 RESULT=ok COUNT=2",
			"STOPPING=1")
		if !strings.Contains(log.String(), `msg="execution failed" execution=2 error="disk is full"`) {
			t.Errorf("log: %s", log)
		}
	})
}

func TestPauses(t *testing.T) {
	for name, c := range map[string]struct {
		run  func(context.Context) (bool, error)
		opts []Option
		want []time.Duration
	}{
		"failures double up to the most": {
			run: always(false, errors.New("no")), want: ms(100, 200, 400, 800, 1600, 3200, 5000, 5000),
		},
		"skips at once double up to a second": {
			run: always(false, nil), want: ms(10, 20, 40, 80, 160, 320, 640, 1000, 1000),
		},
		"work has none":         {run: always(true, nil), want: ms(0, 0, 0)},
		"a check point is kept": {run: always(true, nil), opts: []Option{CheckPoint(time.Minute)}, want: ms(60000, 60000)},
		"also after skips":      {run: always(false, nil), opts: []Option{CheckPoint(3 * time.Second)}, want: ms(3000, 3000)},
		"no failure pause":      {run: always(true, errors.New("no")), opts: []Option{FailurePause(0, 0)}, want: ms(0, 0)},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				var last time.Time
				var got []time.Duration
				l, _, _ := testLoop(t, environment{}, Func(func(ctx context.Context) (bool, error) {
					if !last.IsZero() {
						got = append(got, time.Since(last))
					}
					if len(got) == len(c.want) {
						cancel()
					}
					last = time.Now()
					return c.run(ctx)
				}), c.opts...)
				if err := l.run(ctx); err != nil {
					t.Fatal(err)
				}
				if !slices.Equal(got, c.want) {
					t.Errorf("pauses %v, want %v", got, c.want)
				}
			})
		})
	}
}

func ms(n ...int) (d []time.Duration) {
	for _, n := range n {
		d = append(d, time.Duration(n)*time.Millisecond)
	}
	return d
}

// A skip that waited inside of Run costs no second wait.
func TestSkipThatWaitedIsNotPaused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		began, n := time.Now(), 0
		l, _, _ := testLoop(t, environment{}, Func(func(context.Context) (bool, error) {
			time.Sleep(time.Second)
			if n++; n == 10 {
				cancel()
			}
			return false, nil
		}))
		if err := l.run(ctx); err != nil || time.Since(began) != 10*time.Second {
			t.Errorf("10 waits of 1s took %v (%v)", time.Since(began), err)
		}
	})
}

func TestStopLetsTheRunningExecutionFinish(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		w := &full{run: func(ctx context.Context) (bool, error) {
			time.Sleep(time.Hour)
			return true, ctx.Err()
		}}
		l, e, _ := testLoop(t, environment{worker: "q"}, w)
		time.AfterFunc(time.Minute, cancel)
		if err := l.run(ctx); err != nil {
			t.Fatal(err)
		}
		wantSaid(t, e, "READY=1", "BEGIN=1", "END=1 RESULT=ok COUNT=1", "STOPPING=1")
		if w.calls[len(w.calls)-1] != "after" {
			t.Errorf("calls: %v", w.calls)
		}
	})
}

func TestStopEndsAPauseAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		began := time.Now()
		l, _, _ := testLoop(t, environment{}, Func(always(true, nil)), CheckPoint(time.Hour))
		time.AfterFunc(time.Minute, cancel)
		if err := l.run(ctx); err != nil || time.Since(began) != time.Minute {
			t.Errorf("left after %v (%v)", time.Since(began), err)
		}
	})
}

func TestParallelIsExactAndItsIDsAreDistinct(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		running, most, n := 0, 0, 0
		ids := map[string]bool{}
		l, e, _ := testLoop(t, environment{worker: "q", maxRequests: 10}, Func(func(ctx context.Context) (bool, error) {
			mu.Lock()
			running, n = running+1, n+1
			most, ids[ID(ctx)] = max(most, running), true
			skip := n%3 == 0
			mu.Unlock()
			time.Sleep(time.Second)
			mu.Lock()
			running--
			mu.Unlock()
			return !skip, nil
		}), Parallel(4))
		if err := l.run(t.Context()); err != nil {
			t.Fatal(err)
		}
		if most != 4 || len(ids) != n || ids[""] {
			t.Errorf("%d at once, %d ids for %d executions", most, len(ids), n)
		}
		if got := e.count("END", time.Now().Add(1)); got != n || l.counted != 10 {
			t.Errorf("%d of %d ends, %d counted", got, n, l.counted)
		}
		// Counts leave in the order they were made.
		last := 0
		for _, m := range e.heard() {
			var id, res string
			var c int
			if k, _ := fmt.Sscanf(m, "END=%s RESULT=%s COUNT=%d", &id, &res, &c); k == 3 {
				if c < last {
					t.Errorf("count went back from %d to %d", last, c)
				}
				last = c
			}
		}
		if last != 10 {
			t.Errorf("last count %d", last)
		}
	})
}

func TestInitThatFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &full{run: always(true, nil), initErr: errors.New("no database")}
		l, e, _ := testLoop(t, environment{worker: "q"}, w)
		err := l.run(t.Context())
		if err == nil || err.Error() != "init: no database" {
			t.Errorf("error %v", err)
		}
		wantSaid(t, e)
		if got := strings.Join(w.calls, " "); got != "init" {
			t.Errorf("calls: %s", got)
		}
	})
}

type slowInit struct{ full }

func (s *slowInit) Init(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }

func TestStopDuringInitIsNoFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		l, e, _ := testLoop(t, environment{worker: "q"}, &slowInit{})
		time.AfterFunc(time.Second, cancel)
		if err := l.run(ctx); err != nil {
			t.Fatal(err)
		}
		wantSaid(t, e)
	})
}

func TestPanicAndGoexit(t *testing.T) {
	for name, c := range map[string]struct {
		run func(context.Context) (bool, error)
		err string
	}{
		"panic": {func(context.Context) (bool, error) { panic("index 5 of 3") }, "Run panicked: index 5 of 3"},
		"goexit": {func(context.Context) (bool, error) { exitGoroutine(); return true, nil },
			"Run called runtime.Goexit"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := &full{run: c.run}
				l, e, log := testLoop(t, environment{worker: "q"}, w)
				err := l.run(t.Context())
				if err == nil || err.Error() != c.err {
					t.Errorf("error %v, want %s", err, c.err)
				}
				if !strings.Contains(log.String(), "loop_test.go") || !strings.Contains(log.String(), c.err) {
					t.Errorf("no stack of the worker in the log: %s", log)
				}
				wantSaid(t, e, "READY=1", "BEGIN=1", "END=1 RESULT=fail COUNT=1", "STOPPING=1")
				if got := strings.Join(w.calls, " "); got != "init run after" {
					t.Errorf("calls: %s", got)
				}
			})
		})
	}
}

// ends calls what a test wants in Init and AfterRun.
type ends struct {
	full
	init, after func()
}

func (e *ends) Init(context.Context) error     { e.called("init"); e.init(); return nil }
func (e *ends) AfterRun(context.Context) error { e.called("after"); e.after(); return nil }

// Goexit, which testing's FailNow calls as well, ends a goroutine without a panic.
func TestPanicAndGoexitOutsideOfRun(t *testing.T) {
	nothing := func() {}
	for name, c := range map[string]struct {
		init, after func()
		err, calls  string
		said        []string
	}{
		"panic in Init":  {func() { panic("no disk") }, nothing, "init: Init panicked: no disk", "init", nil},
		"goexit in Init": {exitGoroutine, nothing, "init: Init called runtime.Goexit", "init", nil},
		"panic in AfterRun": {nothing, func() { panic("no disk") }, "after_run: AfterRun panicked: no disk", "init run after",
			[]string{"READY=1", "BEGIN=1", "END=1 RESULT=ok COUNT=1", "STOPPING=1"}},
		"goexit in AfterRun": {nothing, exitGoroutine, "after_run: AfterRun called runtime.Goexit", "init run after",
			[]string{"READY=1", "BEGIN=1", "END=1 RESULT=ok COUNT=1", "STOPPING=1"}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := &ends{full{run: always(true, nil)}, c.init, c.after}
				l, e, log := testLoop(t, environment{worker: "q", maxRequests: 1}, w)
				ended := make(chan error, 1)
				gone := make(chan struct{})
				go func() {
					defer close(gone)
					ended <- l.run(t.Context())
				}()
				<-gone
				select {
				case err := <-ended:
					var p *PanicError
					if !errors.As(err, &p) || err.Error() != c.err {
						t.Errorf("error %v, want %s", err, c.err)
					}
				default:
					t.Fatal("run never returned: its goroutine is gone, and the process would stay")
				}
				if !strings.Contains(log.String(), "loop_test.go") {
					t.Errorf("no stack of the worker in the log: %s", log)
				}
				wantSaid(t, e, c.said...)
				if got := strings.Join(w.calls, " "); got != c.calls {
					t.Errorf("calls: %s, want %s", got, c.calls)
				}
			})
		})
	}
}

func TestAfterRunThatFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &full{run: always(true, nil), afterErr: errors.New("cannot close")}
		l, _, _ := testLoop(t, environment{maxRequests: 1}, w)
		if err := l.run(t.Context()); err == nil || err.Error() != "after_run: cannot close" {
			t.Errorf("error %v", err)
		}
	})
}

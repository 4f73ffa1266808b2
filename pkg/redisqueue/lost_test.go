package redisqueue

import (
	"context"
	"io"
	"log/slog"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/workersd/workersd/pkg/internal/redistest"
)

// loser loses answers, and stops who asks where a test wants it.
type loser struct {
	lose string // the command whose next answer is lost, after Redis did it

	at      string        // where the next one to come is stopped: a command, or "log"
	stopped chan struct{} // closed when it is there
	goOn    chan struct{} // closed by the test
}

func (l *loser) DialHook(next redis.DialHook) redis.DialHook { return next }

func (l *loser) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, c redis.Cmder) error {
		err := l.ask(c.Name(), func() error { return next(ctx, c) })
		if err != nil {
			c.SetErr(err)
		}
		return err
	}
}

func (l *loser) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cs []redis.Cmder) error {
		return l.ask("exec", func() error { return next(ctx, cs) })
	}
}

func (l *loser) ask(name string, do func() error) error {
	l.pass(name)
	err := do()
	if err == nil && l.lose == name {
		l.lose, err = "", io.ErrUnexpectedEOF
	}
	return err
}

func (l *loser) pass(at string) {
	if l.at == at {
		l.at = ""
		close(l.stopped)
		<-l.goOn
	}
}

// Write takes the log.
func (l *loser) Write(p []byte) (int, error) {
	l.pass("log")
	return len(p), nil
}

// Two slots lose an answer each: one that of a removal, which Redis made, the
// other that of an equal message, which Redis moved. Wherever the first one is
// with its removal when the second one reads the list, the message is found.
func TestAnEqualMessageIsNotTakenForOneWhoseRemovalIsUnsure(t *testing.T) {
	for name, c := range map[string]struct {
		at   string
		loss func(r *reliable, ctx context.Context) // by the first slot; it is stopped in it
	}{
		"before it is noted": {"log", func(r *reliable, ctx context.Context) {
			r.finish(ctx, &removal{message: "tick"})
		}},
		"while it is looked up": {"hget", func(r *reliable, ctx context.Context) {
			r.finish(ctx, &removal{message: "tick"})
			if err := r.settle(ctx); err != nil {
				panic(err)
			}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			s := redistest.Start(t)
			ctx := t.Context()
			l := &loser{at: c.at, stopped: make(chan struct{}), goOn: make(chan struct{})}
			r := Reliable(Options{URL: s.URL, Queue: "q", InFlight: "f", Log: slog.New(slog.NewTextHandler(l, nil)),
				Handle: func(context.Context, string) error { return nil }}).(*reliable)
			if err := r.Init(ctx); err != nil {
				t.Fatal(err)
			}
			defer r.close()
			r.rdb.AddHook(l)
			s.Push("q", "tick", "tick")
			if m, _, err := r.next(ctx); m != "tick" || err != nil {
				t.Fatalf("the first message is %q, %v", m, err)
			}

			l.lose = "exec"
			gone := make(chan struct{})
			go func() {
				defer close(gone)
				c.loss(r, ctx)
			}()
			<-l.stopped
			l.lose = "blmove"
			if m, _, err := r.next(ctx); err == nil {
				t.Fatalf("the second message is %q, its answer should be lost", m)
			}
			if err := r.reread(ctx); err != nil {
				t.Fatal(err)
			}
			close(l.goOn)
			<-gone

			m, isNew, err := r.next(ctx)
			if m != "tick" || isNew || err != nil {
				t.Errorf("the next message is %q, new %v, %v; want the one that is in flight: %q", m, isNew, err, s.List("f"))
			}
			if again, _, err := r.next(ctx); err != redis.Nil {
				t.Errorf("then comes %q, %v; want nothing", again, err)
			}
		})
	}
}

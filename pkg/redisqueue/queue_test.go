package redisqueue_test

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

	"github.com/workersd/workersd/pkg/internal/redistest"
	"github.com/workersd/workersd/pkg/redisqueue"
	"github.com/workersd/workersd/pkg/worker"
)

const inFlight = "q:inflight:me"

// done is what a Handle has done, in order.
type done struct {
	mu  sync.Mutex // guards all
	all []string
}

func (d *done) add(s string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.all = append(d.all, s)
}

func (d *done) list() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.all)
}

func (d *done) handle(_ context.Context, m string) error { d.add(m); return nil }

// logBuffer takes what is logged; safe while the worker runs.
type logBuffer struct {
	mu sync.Mutex // guards b
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func options(s *redistest.Server, h func(context.Context, string) error) (redisqueue.Options, *logBuffer) {
	log := &logBuffer{}
	return redisqueue.Options{
		URL: s.URL, Queue: "q", InFlight: inFlight, Handle: h, Log: slog.New(slog.NewTextHandler(log, nil)),
	}, log
}

// run is one process: it leaves after n executions that count.
func run(t *testing.T, w worker.Worker, n int) error {
	t.Helper()
	return worker.Run(t.Context(), w, worker.MaxRequests(n), worker.FailurePause(0, 0),
		worker.Log(slog.New(slog.DiscardHandler)))
}

func mustRun(t *testing.T, w worker.Worker, n int) {
	t.Helper()
	if err := run(t, w, n); err != nil {
		t.Fatal(err)
	}
}

func want(t *testing.T, what string, got, want []string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s: %.200q, want %.200q", what, got, want)
	}
}

var forms = map[string]func(redisqueue.Options) worker.Worker{
	"simple": redisqueue.Simple, "reliable": redisqueue.Reliable,
}

// Messages are any bytes, also the plain text that a person types into
// redis-cli; the one that waits longest is done first.
func TestMessagesAreDoneInOrderAsTheyAre(t *testing.T) {
	messages := []string{"hello", "", "two\nlines", "grüße", "\x00\xff\xfe", `{"json": true}`, strings.Repeat("x", 1<<20), "hello"}
	for name, form := range forms {
		t.Run(name, func(t *testing.T) {
			s := redistest.Start(t)
			s.Push("q", messages...)
			var d done
			o, _ := options(s, d.handle)
			mustRun(t, form(o), len(messages))
			want(t, "done", d.list(), messages)
			want(t, "left in the queue", s.List("q"), nil)
			want(t, "left in flight", s.List(inFlight), nil)
			want(t, "dead", s.List("q:dead"), nil)
		})
	}
}

// A number of a counted message, as redis-cli shows it: the wait for messages
// is no execution, so that "2 means two" holds for messages.
func TestWaitingIsNoExecution(t *testing.T) {
	for name, form := range forms {
		t.Run(name, func(t *testing.T) {
			s := redistest.Start(t)
			first := make(chan struct{}) // closed after the first message
			var d done
			o, _ := options(s, func(ctx context.Context, m string) error {
				d.add(worker.ID(ctx) + " " + m)
				if m == "a" {
					close(first)
				}
				return nil
			})
			ended := make(chan error, 1)
			go func() { ended <- run(t, form(o), 2) }()
			s.Push("q", "a")
			<-first
			awaitBlocked(t, s) // it waits for a second one
			s.Push("q", "b", "c")
			if err := <-ended; err != nil {
				t.Fatal(err)
			}
			want(t, "done", d.list(), []string{"1 a", "2 b"})
			want(t, "left in the queue", s.List("q"), []string{"c"})
		})
	}
}

// While it is done a message stands in the in-flight list, and only then.
func TestReliableHoldsAMessageInFlightUntilItIsDone(t *testing.T) {
	s := redistest.Start(t)
	s.Push("q", "same", "same", "other")
	var seen [][]string
	o, _ := options(s, func(context.Context, string) error {
		seen = append(seen, s.List(inFlight))
		return nil
	})
	mustRun(t, redisqueue.Reliable(o), 3)
	for i, m := range []string{"same", "same", "other"} {
		want(t, fmt.Sprintf("in flight during message %d", i+1), seen[i], []string{m})
	}
	want(t, "in flight afterwards", s.List(inFlight), nil)
}

// LREM takes one message, not all that are equal to it.
func TestReliableRemovesOneOfEqualMessages(t *testing.T) {
	s := redistest.Start(t)
	s.Push(inFlight, "same", "same", "same")
	var d done
	o, _ := options(s, d.handle)
	mustRun(t, redisqueue.Reliable(o), 2)
	want(t, "done", d.list(), []string{"same", "same"})
	want(t, "left in flight", s.List(inFlight), []string{"same"})
}

func TestReliableDoesFirstWhatWasInFlight(t *testing.T) {
	s := redistest.Start(t)
	s.Push("q", "new")
	s.Push(inFlight, "first", "second")
	var d done
	o, log := options(s, d.handle)
	mustRun(t, redisqueue.Reliable(o), 3)
	want(t, "done", d.list(), []string{"first", "second", "new"})
	if !strings.Contains(log.String(), "messages were in flight; they are done first") || !strings.Contains(log.String(), "messages=2") {
		t.Errorf("log: %s", log)
	}
}

// The list is named by the worker, so that workers never see each other's.
func TestReliableNamesItsListsByTheWorker(t *testing.T) {
	s := redistest.Start(t)
	t.Setenv("WORKERSD_WORKER", "queue@10.0.0.1,mail")
	s.Push("q", "a")
	var seen []string
	o, _ := options(s, func(context.Context, string) error {
		seen = s.List("q:inflight:queue@10.0.0.1,mail")
		return redisqueue.Never(errors.New("no such mailbox"))
	})
	o.InFlight = ""
	mustRun(t, redisqueue.Reliable(o), 1)
	want(t, "in flight", seen, []string{"a"})
	if dead := deadOnes(t, s); len(dead) != 1 || dead[0].Worker != "queue@10.0.0.1,mail" || dead[0].Time.IsZero() {
		t.Errorf("dead list: %+v", dead)
	}
}

func TestReliableSeveralAtOnce(t *testing.T) {
	s := redistest.Start(t)
	var all []string
	for i := range 200 {
		all = append(all, fmt.Sprint("m", i%50)) // each message four times
	}
	s.Push("q", all...)
	var d done
	o, _ := options(s, d.handle)
	if err := worker.Run(t.Context(), redisqueue.Reliable(o), worker.Parallel(8), worker.MaxRequests(len(all))); err != nil {
		t.Fatal(err)
	}
	got := d.list()
	slices.Sort(got)
	slices.Sort(all)
	want(t, "done", got, all)
	want(t, "left in flight", s.List(inFlight), nil)
}

func TestSimpleForgetsWhatFails(t *testing.T) {
	s := redistest.Start(t)
	s.Push("q", "bad", "good")
	var d done
	o, _ := options(s, func(_ context.Context, m string) error {
		d.add(m)
		if m == "bad" {
			return errors.New("no")
		}
		return nil
	})
	mustRun(t, redisqueue.Simple(o), 2)
	want(t, "done", d.list(), []string{"bad", "good"})
	want(t, "left in the queue", s.List("q"), nil)
}

func TestBadOptionsAreNamed(t *testing.T) {
	handle := func(context.Context, string) error { return nil }
	for _, c := range []struct {
		o        redisqueue.Options
		env, err string
	}{
		{redisqueue.Options{Handle: handle}, "", "init: redisqueue: Options.Queue is empty: name the list to take messages from"},
		{redisqueue.Options{Queue: "q"}, "", `init: redisqueue: queue "q": Options.Handle is nil: say what to do with a message`},
		{redisqueue.Options{Queue: "q", Handle: handle, URL: "http://user:secret@host"}, "",
			"init: redisqueue: Options.URL is no URL of a Redis server (expected redis://host:6379/0 or unix:///path): redis: invalid URL scheme: http"},
		{redisqueue.Options{Queue: "q", Handle: handle}, "redis://user:secret@host:port",
			"init: redisqueue: REDIS_URL is no URL of a Redis server (expected redis://host:6379/0 or unix:///path): it cannot be parsed"},
		{redisqueue.Options{Queue: "q", Handle: handle}, "redis://user:sec/secret@host", "init: redisqueue: REDIS_URL is no URL of a Redis server"},
	} {
		t.Setenv("REDIS_URL", c.env)
		for name, form := range forms {
			err := run(t, form(c.o), 1)
			if err == nil || !strings.HasPrefix(err.Error(), c.err) {
				t.Errorf("%s: error %v, want %s", name, err, c.err)
			} else if strings.Contains(err.Error(), "secret") {
				t.Errorf("%s: the error tells the password: %v", name, err)
			}
		}
	}
}

func deadOnes(t *testing.T, s *redistest.Server) (all []redisqueue.Dead) {
	t.Helper()
	for _, e := range s.List("q:dead") {
		d, err := redisqueue.ParseDead(e)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, d)
	}
	return all
}

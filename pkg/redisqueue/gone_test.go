package redisqueue_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/workersd/workersd/pkg/internal/redistest"
	"github.com/workersd/workersd/pkg/redisqueue"
	"github.com/workersd/workersd/pkg/worker"
)

const patience = 2 * time.Minute

func await(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("it never came that %s", what)
		}
	}
}

// awaitBlocked waits until a worker waits for a message.
func awaitBlocked(t *testing.T, s *redistest.Server) {
	t.Helper()
	await(t, "a worker waits for a message", func() bool {
		info, err := s.Client.Info(t.Context(), "clients").Result()
		return err == nil && strings.Contains(info, "blocked_clients:1")
	})
}

func TestWorkersWaitForAServerThatIsNotThereYet(t *testing.T) {
	for name, form := range forms {
		t.Run(name, func(t *testing.T) {
			s := redistest.New(t)
			var d done
			o, log := options(s, d.handle)
			ended := make(chan error, 1)
			go func() { ended <- run(t, form(o), 1) }()
			await(t, "the worker says what it waits for", func() bool {
				return strings.Contains(log.String(), "redis does not answer; waiting for it")
			})
			s.Start()
			s.Push("q", "hello")
			if err := <-ended; err != nil {
				t.Fatal(err)
			}
			want(t, "done", d.list(), []string{"hello"})
			if n := strings.Count(log.String(), "redis does not answer"); n != 1 || !strings.Contains(log.String(), "redis is back") {
				t.Errorf("it is said %d times, want once, and that it is back: %s", n, log)
			}
		})
	}
}

// The server is ended in the middle of a message and while a worker waits; what
// was done meanwhile is removed when it is back, and done only once.
func TestWorkersGoOnWhenTheServerIsBack(t *testing.T) {
	s := redistest.Start(t)
	s.Push("q", "a", "b")
	var d done
	began, finish := make(chan struct{}), make(chan struct{})
	o, log := options(s, func(_ context.Context, m string) error {
		if d.add(m); m == "a" {
			close(began)
			<-finish
		}
		return nil
	})
	ended := make(chan error, 1)
	go func() { ended <- run(t, redisqueue.Reliable(o), 3) }()
	<-began
	s.Stop()
	close(finish)
	await(t, "the removal failed", func() bool {
		return strings.Contains(log.String(), "a message is done but not yet removed")
	})
	s.Start()
	await(t, "b is done", func() bool { return len(d.list()) == 2 })
	awaitBlocked(t, s)
	s.Stop()
	s.Start()
	s.Push("q", "c")
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	want(t, "done", d.list(), []string{"a", "b", "c"})
	want(t, "left in flight", s.List(inFlight), nil)
	noTries(t, s)
}

// A server that refuses is not one that does not answer: what it says tells the
// person what to do.
func TestWorkersTellWhatTheServerAnswers(t *testing.T) {
	for name, form := range forms {
		for what, c := range map[string]struct{ set, reset []any }{
			"WRONGTYPE Operation against a key holding the wrong kind of value": {[]any{"set", "q", "text"}, []any{"del", "q"}},
			"NOAUTH": {[]any{"config", "set", "requirepass", "secret"}, []any{"config", "set", "requirepass", ""}},
		} {
			t.Run(name+" "+strings.Fields(what)[0], func(t *testing.T) {
				s := redistest.Start(t)
				conn := s.Client.Conn() // stays allowed to when a password is set
				defer conn.Close()
				if err := conn.Do(t.Context(), c.set...).Err(); err != nil {
					t.Fatal(err)
				}
				var d done
				o, log := options(s, d.handle)
				ended := make(chan error, 1)
				go func() { ended <- run(t, form(o), 1) }()
				await(t, "the worker says what it was answered", func() bool {
					return strings.Contains(log.String(), "redis answers with an error; asking it again") && strings.Contains(log.String(), what)
				})
				if err := conn.Do(t.Context(), c.reset...).Err(); err != nil {
					t.Fatal(err)
				}
				s.Push("q", "hello")
				if err := <-ended; err != nil {
					t.Fatal(err)
				}
				want(t, "done", d.list(), []string{"hello"})
				if text := log.String(); strings.Contains(text, "does not answer") || !strings.Contains(text, "redis does as it is asked again") {
					t.Errorf("log: %s", text)
				}
			})
		}
	}
}

// A server that comes, but refuses, is said to: it is not gone any more.
func TestWorkersTellThatTheServerAnswersAfterAll(t *testing.T) {
	s := redistest.Start(t)
	if err := s.Client.Set(t.Context(), "q", "text", 0).Err(); err != nil {
		t.Fatal(err)
	}
	s.Stop()
	var d done
	o, log := options(s, d.handle)
	ended := make(chan error, 1)
	go func() { ended <- run(t, redisqueue.Reliable(o), 1) }()
	await(t, "the worker waits", func() bool { return strings.Contains(log.String(), "redis does not answer; waiting for it") })
	s.Start()
	await(t, "the worker says what it was answered", func() bool { return strings.Contains(log.String(), "WRONGTYPE") })
	if err := s.Client.Del(t.Context(), "q").Err(); err != nil {
		t.Fatal(err)
	}
	s.Push("q", "hello")
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	want(t, "done", d.list(), []string{"hello"})
}

// A server that stands still answers nothing and refuses nothing.
func TestWorkersOutwaitAServerThatStandsStill(t *testing.T) {
	s := redistest.Start(t)
	var d done
	o, log := options(s, d.handle)
	ended := make(chan error, 1)
	go func() { ended <- run(t, redisqueue.Reliable(o), 2) }()
	awaitBlocked(t, s)
	syscall.Kill(s.PID(), syscall.SIGSTOP)
	await(t, "the worker gives the answer up", func() bool {
		return strings.Contains(log.String(), "redis does not answer; waiting for it")
	})
	syscall.Kill(s.PID(), syscall.SIGCONT)
	s.Push("q", "a", "b")
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	want(t, "done", d.list(), []string{"a", "b"})
	want(t, "left in flight", s.List(inFlight), nil)
}

// A worker that is to leave does not wait for the server.
func TestStopWhileTheServerIsGone(t *testing.T) {
	for name, form := range forms {
		t.Run(name, func(t *testing.T) {
			s := redistest.New(t)
			o, log := options(s, func(context.Context, string) error { return nil })
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			ended := make(chan error, 1)
			go func() { ended <- worker.Run(ctx, form(o)) }()
			await(t, "the worker waits", func() bool { return strings.Contains(log.String(), "waiting for it") })
			cancel()
			if err := <-ended; err != nil {
				t.Errorf("leaving: %v", err)
			}
		})
	}
}

// A worker that leaves with a removal still to be made waits for the server as
// long as its stop_timeout may let it: leaving at once would do the message twice.
func TestLeavingWaitsForTheServerToRemoveWhatIsDone(t *testing.T) {
	s := redistest.Start(t)
	s.Push("q", "a")
	began, finish := make(chan struct{}), make(chan struct{})
	o, log := options(s, func(context.Context, string) error {
		close(began)
		<-finish
		return nil
	})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- worker.Run(ctx, redisqueue.Reliable(o)) }()
	<-began
	s.Stop()
	cancel()
	close(finish)
	await(t, "the removal failed", func() bool {
		return strings.Contains(log.String(), "a message is done but not yet removed")
	})
	s.Start()
	if err := <-ended; err != nil {
		t.Errorf("leaving: %v", err)
	}
	want(t, "left in flight", s.List(inFlight), nil)
}

// Redis does what it is asked, and the answer is lost: of one in five commands
// of each kind. Nothing is lost, done twice, or given up for tries that never
// began, also with equal messages, several at once, and such as are put off.
func TestLostAnswers(t *testing.T) {
	for _, parallel := range []int{1, 4} {
		t.Run(fmt.Sprintf("%d at once", parallel), func(t *testing.T) {
			s := redistest.Start(t)
			p := newLossy(t, strings.TrimPrefix(s.URL, "unix://"), 5)
			n := 100
			if testing.Short() {
				n = 30
			}
			var all []string
			for i := range n {
				all = append(all, fmt.Sprint("m", i%(n/3)))
			}
			s.Push("q", all...)
			var d done
			var calls atomic.Int64
			putOff := n / 3
			o, _ := options(s, func(_ context.Context, m string) error {
				if i := int(calls.Add(1)); i%2 == 0 && i <= 2*putOff {
					return redisqueue.Later(errors.New("no database"))
				}
				d.add(m)
				return nil
			})
			o.URL, o.MaxTries = "unix://"+p.path, 1
			if err := worker.Run(t.Context(), redisqueue.Reliable(o), worker.MaxRequests(n+putOff), worker.Parallel(parallel),
				worker.FailurePause(0, 0), worker.Log(slog.New(slog.DiscardHandler))); err != nil {
				// Its last removal may have lost all its answers.
				t.Logf("leaving: %v", err)
				p.every.Store(0)
				o.URL = s.URL
			}
			got := d.list()
			slices.Sort(got)
			slices.Sort(all)
			want(t, "done", got, all)
			want(t, "left in the queue", s.List("q"), nil)
			want(t, "dead", s.List("q:dead"), nil)
			if p.lost.Load() < int64(n/5) {
				t.Errorf("only %d answers were lost: this shows nothing", p.lost.Load())
			}
			t.Logf("%d answers were lost", p.lost.Load())
		})
	}
}

// lossy stands between a client and the server and loses answers: it hangs up
// in place of the answer.
type lossy struct {
	path  string
	every atomic.Int64 // one in so many; 0: none
	lost  atomic.Int64

	mu  sync.Mutex // guards rng
	rng *rand.Rand
}

func newLossy(t *testing.T, server string, every int64) *lossy {
	t.Helper()
	dir, err := os.MkdirTemp("", "rp")
	if err != nil {
		t.Fatal(err)
	}
	p := &lossy{path: filepath.Join(dir, "s"), rng: rand.New(rand.NewPCG(1, 2))}
	p.every.Store(every)
	l, err := net.Listen("unix", p.path)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { p.serve(c, server) })
		}
	})
	t.Cleanup(func() { l.Close(); wg.Wait(); os.RemoveAll(dir) })
	return p
}

func (p *lossy) serve(client net.Conn, server string) {
	defer client.Close()
	up, err := net.Dial("unix", server)
	if err != nil {
		return
	}
	defer up.Close()
	go func() { io.Copy(up, client); up.(*net.UnixConn).CloseWrite() }()
	// A client asks once and waits, so what comes at once is one answer. The
	// first one is of HELLO: a connection that is not made asks for nothing.
	b := make([]byte, 64<<10)
	for i := 0; ; i++ {
		n, err := up.Read(b)
		if err != nil {
			return
		}
		if i > 0 && p.lose() {
			p.lost.Add(1)
			return
		}
		if _, err := client.Write(b[:n]); err != nil {
			return
		}
	}
}

func (p *lossy) lose() bool {
	every := p.every.Load()
	p.mu.Lock()
	defer p.mu.Unlock()
	return every > 0 && p.rng.Int64N(every) == 0
}

package control

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/workersd/workersd/pkg/client"
	"github.com/workersd/workersd/pkg/internal/history"
	"github.com/workersd/workersd/pkg/internal/hosttest"
	"github.com/workersd/workersd/pkg/internal/lifecycle"
	"github.com/workersd/workersd/pkg/internal/plan"
	"github.com/workersd/workersd/pkg/internal/supervisor"
	"github.com/workersd/workersd/pkg/spec"
)

// rig is a server on a real socket with a real supervisor, on a machine in
// memory.
type rig struct {
	testing.TB
	h      *hosttest.Host
	sup    *supervisor.Supervisor
	hist   *history.History
	s      *Server
	c      *client.Client
	socket string
	next   atomic.Pointer[spec.List] // what a reload finds; nil: it is refused
	worker atomic.Int64              // pid that belongs to a worker
}

const secret = "hunter2"

// shortDir is for sockets: t.TempDir may be too long for them.
func shortDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "w")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func start(t testing.TB, l spec.List, script hosttest.Script, set ...func(*Server)) *rig {
	t.Helper()
	r := &rig{TB: t, socket: filepath.Join(shortDir(t), "s")}
	hist, err := history.Open("", func(string) {})
	if err != nil {
		t.Fatal(err)
	}
	r.hist = hist
	r.h = hosttest.New(t, script)
	r.h.Quiet()
	r.sup = supervisor.New(supervisor.Options{Host: r.h, List: l, Record: hist.Add})
	ended := make(chan error, 1)
	go func() { ended <- r.sup.Run() }()
	load := func() (spec.List, error) {
		if l := r.next.Load(); l != nil {
			return *l, nil
		}
		return spec.List{}, errors.New("list.toml:3:1: worker \"q\": unknown key \"x\"")
	}
	r.s = New(Options{
		Supervisor: r.sup, History: hist, Version: "v1", PID: 4711, Enforcement: "sampled", Because: "this is a test",
		Memory:   func(lifecycle.ProcessID) (spec.Bytes, bool) { return 12 * spec.MiB, true },
		LoadList: load,
		Reload: func(ctx context.Context) (plan.Plan, error) {
			l, err := load()
			if err != nil {
				return plan.Plan{}, err
			}
			return r.sup.Reload(ctx, l)
		},
		IsWorker:  func(pid int) bool { return int64(pid) == r.worker.Load() },
		LogTarget: func(*spec.Worker) string { return "terminal" },
	})
	for _, f := range set {
		f(r.s)
	}
	lis, err := Listen(r.socket)
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- r.s.Serve(lis) }()
	r.c = client.New(r.socket)
	t.Cleanup(func() {
		r.sup.Shutdown()
		r.sup.Shutdown() // at once
		if err := <-ended; err != nil {
			t.Errorf("run: %v", err)
		}
		r.c.Close()
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		r.s.Shutdown(ctx)
		if err := <-served; err != nil {
			t.Errorf("serve: %v", err)
		}
		r.h.Close()
		hist.Close()
	})
	return r
}

// until waits for a condition; the machine may be slow.
func (r *rig) until(what string, ok func() bool) {
	r.Helper()
	for end := time.Now().Add(time.Minute); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			r.Fatalf("it never came to: %s", what)
		}
	}
}

func (r *rig) up(n int) {
	r.Helper()
	r.until("all are up", func() bool {
		s, err := r.c.Status(r.Context())
		if err != nil {
			r.Fatal(err)
		}
		return s.Manager.Up == n
	})
}

func (r *rig) state(name string) client.Worker {
	r.Helper()
	s, err := r.c.Status(r.Context(), name)
	if err != nil {
		r.Fatal(err)
	}
	return s.Workers[0]
}

// raw writes to the socket and reads until the other end closes.
func (r *rig) raw(data string) string {
	r.Helper()
	c := r.dial()
	defer c.Close()
	c.Write([]byte(data)) // an error is the server's, who had enough
	return readAll(r, c)
}

func (r *rig) dial() net.Conn {
	r.Helper()
	c, err := net.Dial("unix", r.socket)
	if err != nil {
		r.Fatal(err)
	}
	r.Cleanup(func() { c.Close() })
	return c
}

func readAll(t testing.TB, c net.Conn) string {
	t.Helper()
	c.SetReadDeadline(time.Now().Add(time.Minute))
	var b strings.Builder
	buf := make([]byte, 4096)
	for {
		n, err := c.Read(buf)
		b.Write(buf[:n])
		if errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("the server keeps the connection, after %q", b.String())
		}
		if err != nil {
			return b.String()
		}
	}
}

func worker(entry, name string, changes ...func(*spec.Worker)) spec.Worker {
	w := spec.Default(entry)
	w.Name, w.Command = name, []string{"/bin/true", "--of=" + entry}
	w.Environment = []spec.EnvVar{{Name: "PASSWORD", Value: secret}}
	for _, c := range changes {
		c(&w)
	}
	return w
}

func list(ws ...spec.Worker) spec.List {
	return spec.List{Manager: spec.DefaultManager(), Workers: ws, Files: []string{"list.toml"}}
}

func queues() spec.List {
	return list(
		worker("queue", "queue@10.0.0.1,mail", func(w *spec.Worker) { w.Params = []spec.Param{{Name: "ip", Value: "10.0.0.1"}} }),
		worker("queue", "queue@10.0.0.2,mail"),
		worker("report", "report#1", func(w *spec.Worker) { w.Replica = 1 }),
		worker("report", "report#2", func(w *spec.Worker) { w.Replica = 2 }),
	)
}

func behave(b hosttest.Behaviour) hosttest.Script {
	return func(supervisor.SpawnOrder) hosttest.Behaviour { return b }
}

func names(ws []client.Worker) string {
	out := make([]string, len(ws))
	for i, w := range ws {
		out[i] = w.Name
	}
	return strings.Join(out, " ")
}

// refusal is a refused call as a person reads it.
func refusal(err error) string {
	var e *client.Error
	if errors.As(err, &e) {
		return e.Text + " / " + e.Hint
	}
	if err == nil {
		return "accepted"
	}
	return "not refused, but " + err.Error()
}

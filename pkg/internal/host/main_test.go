package host

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/workersd/workersd/pkg/internal/host/logs"
	"github.com/workersd/workersd/pkg/internal/host/process"
	"github.com/workersd/workersd/pkg/internal/lifecycle"
	"github.com/workersd/workersd/pkg/internal/supervisor"
	"github.com/workersd/workersd/pkg/spec"
)

// The test program is its own worker where a shell is not enough.
func TestMain(m *testing.M) {
	process.TrampolineMain()
	switch os.Getenv("TEST_WORKER") {
	case "grow":
		grow()
	case "share":
		share()
	default:
		// The runtime's goroutine for signals stays once it is there.
		c := make(chan os.Signal, 1)
		signal.Notify(c, syscall.SIGCHLD)
		signal.Stop(c)
		os.Exit(m.Run())
	}
}

// grow takes one MiB more at a time until it has TEST_MIB, then waits for
// SIGTERM.
func grow() {
	term := make(chan os.Signal, 1)
	signal.Notify(term, syscall.SIGTERM)
	n, _ := strconv.Atoi(os.Getenv("TEST_MIB"))
	for range n {
		b, err := unix.Mmap(-1, 0, 1<<20, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
		if err != nil {
			os.Exit(1)
		}
		for i := 0; i < len(b); i += 4096 {
			b[i] = 1
		}
		time.Sleep(10 * time.Millisecond)
	}
	<-term
}

// share holds TEST_MIB of one file, together with as many others as it starts.
func share() {
	term := make(chan os.Signal, 1)
	signal.Notify(term, syscall.SIGTERM)
	n, _ := strconv.Atoi(os.Getenv("TEST_MIB"))
	fd, err := unix.Open(os.Getenv("TEST_FILE"), unix.O_RDWR, 0)
	if err != nil {
		os.Exit(1)
	}
	b, err := unix.Mmap(fd, 0, n<<20, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		os.Exit(1)
	}
	if os.Getenv("TEST_CHILD") == "" {
		for range 3 {
			syscall.ForkExec("/proc/self/exe", os.Args, &syscall.ProcAttr{Env: append(os.Environ(), "TEST_CHILD=1"), Files: []uintptr{0, 1, 2}})
		}
	}
	for i := 0; i < len(b); i += 4096 {
		b[i] = 1
	}
	os.WriteFile(os.Getenv("TEST_FILE")+"."+strconv.Itoa(os.Getpid()), nil, 0o600)
	<-term
}

// rig is a host and all that it has told.
type rig struct {
	*Host
	t      *testing.T
	dir    string // short enough for sockets
	mu     sync.Mutex
	events map[string][]lifecycle.Event
	lines  []string // of the workers' output
}

// newRig makes a host with sampled limits. At the end it is closed, and nothing
// of it may be left: no process, goroutine, descriptor or socket.
func newRig(t *testing.T, m spec.Manager) *rig {
	t.Helper()
	dir, err := os.MkdirTemp("", "w")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if m.CheckInterval == 0 {
		m.CheckInterval = 50 * time.Millisecond
	}
	r := &rig{t: t, dir: dir, events: map[string][]lifecycle.Event{}}
	fds, goroutines := openFiles(), runtime.NumGoroutine()
	r.Host, err = New(Options{
		NotifyDir: filepath.Join(dir, "n"), Log: slog.New(slog.DiscardHandler), Manager: m, SampledBecause: "it is a test",
		Logs: logs.Options{Auto: logs.Terminal, Lines: r.output},
	})
	if err != nil {
		t.Fatal(err)
	}
	quit, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case e := <-r.Events():
				r.mu.Lock()
				r.events[e.Worker] = append(r.events[e.Worker], e.Event)
				r.mu.Unlock()
			case <-quit:
				return
			}
		}
	}()
	t.Cleanup(func() {
		close(quit)
		<-done
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		r.Close(ctx)
		if pid, err := unix.Wait4(-1, nil, unix.WNOHANG, nil); err != unix.ECHILD {
			t.Errorf("a process is left: %d, %v", pid, err)
		}
		for _, e := range readDir(t, filepath.Join(dir, "n")) {
			t.Errorf("the socket %s is left", e.Name())
		}
		for deadline := time.Now().Add(20 * time.Second); openFiles() > fds || runtime.NumGoroutine() > goroutines; time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				b := make([]byte, 1<<16)
				t.Fatalf("%d descriptors before, %d after; %d goroutines before, %d after:\n%s", fds, openFiles(), goroutines, runtime.NumGoroutine(), b[:runtime.Stack(b, true)])
			}
		}
	})
	return r
}

func readDir(t *testing.T, dir string) []os.DirEntry {
	t.Helper()
	d, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// openFiles does not count what the runtime keeps for itself.
func openFiles() (n int) {
	entries, _ := os.ReadDir("/proc/self/fd")
	for _, e := range entries {
		if to, _ := os.Readlink("/proc/self/fd/" + e.Name()); !strings.HasPrefix(to, "anon_inode:") && !strings.HasPrefix(to, "/proc/") {
			n++
		}
	}
	return n
}

func (r *rig) output(worker string, line []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lines = append(r.lines, worker+": "+string(line))
}

// worker is one without limits.
func worker(name string, command ...string) *spec.Worker {
	return &spec.Worker{
		Name: name, Entry: name, Command: command, Enabled: true, Umask: -1, Log: spec.LogAuto,
		SoftMemory: spec.None, HardMemory: spec.None, SwapLimit: spec.None,
		StopSignal: spec.Signal(syscall.SIGTERM), StopTimeout: 10 * time.Second,
	}
}

func sh(name, script string) *spec.Worker { return worker(name, "/bin/sh", "-c", script) }

// own is a worker that is the test program.
func own(name, mode string, mib int) *spec.Worker {
	w := worker(name, "/proc/self/exe")
	w.Self = true
	w.Environment = []spec.EnvVar{{Name: "TEST_WORKER", Value: mode}, {Name: "TEST_MIB", Value: strconv.Itoa(mib)}}
	return w
}

func id(w *spec.Worker) lifecycle.ProcessID {
	return lifecycle.ProcessID{Worker: w.Name, Generation: 7}
}

func (r *rig) spawn(w *spec.Worker) {
	r.Spawn(supervisor.SpawnOrder{ID: id(w), Spec: w})
}

func (r *rig) of(w *spec.Worker) []lifecycle.Event {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]lifecycle.Event(nil), r.events[w.Name]...)
}

// names are the kinds of a worker's events, in their order.
func (r *rig) names(w *spec.Worker) string {
	var out []string
	for _, e := range r.of(w) {
		out = append(out, strings.TrimPrefix(fmt.Sprintf("%T", e), "lifecycle."))
	}
	return strings.Join(out, " ")
}

func (r *rig) until(what string, ok func() bool) {
	r.t.Helper()
	for deadline := time.Now().Add(time.Minute); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.t.Fatalf("does not become true: %s; events %v", what, r.events)
		}
	}
}

// await waits for an event of one kind.
func await[E lifecycle.Event](r *rig, w *spec.Worker) (e E) {
	r.t.Helper()
	r.until(fmt.Sprintf("%s: %T", w.Name, e), func() bool {
		for _, ev := range r.of(w) {
			if got, ok := ev.(E); ok {
				e = got
				return true
			}
		}
		return false
	})
	return e
}

// finish ends a worker as the supervisor does.
func (r *rig) finish(w *spec.Worker) {
	r.t.Helper()
	await[lifecycle.Exited](r, w)
	r.Kill(id(w))
	await[lifecycle.Emptied](r, w)
	r.Release(id(w))
	r.until(w.Name+" is released", func() bool { return r.find(id(w)) == nil })
}

// file waits for what a worker writes to a file, as a number.
func (r *rig) file(name string) (n int) {
	r.t.Helper()
	r.until(name+" is written", func() bool {
		b, err := os.ReadFile(filepath.Join(r.dir, name))
		if err == nil && strings.HasSuffix(string(b), "\n") {
			n, err = strconv.Atoi(strings.TrimSpace(string(b)))
		}
		return err == nil && n != 0
	})
	return n
}

func lives(pid int) bool { return unix.Kill(pid, 0) == nil }

package programtest

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/workersd/workersd/pkg/client"
)

// Patience bounds every wait for a condition: far more than any machine needs,
// so that only a condition that never comes true fails.
const Patience = 2 * time.Minute

// Manager is a running workersd, in terminal mode and with sampled limits, as
// every machine can have it.
type Manager struct {
	Client *client.Client

	t    testing.TB
	dir  string // holds the control socket; its path marks all processes
	cmd  *exec.Cmd
	out  *output
	gone chan struct{} // closed when it ended
	quit context.CancelFunc

	mu      sync.Mutex // guards records
	records []client.Record
}

// output is what the manager and its workers wrote.
type output struct {
	mu sync.Mutex // guards b
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

// Command is one of the programs that Main built.
func Command(name string, args ...string) *exec.Cmd {
	return exec.Command(filepath.Join(bin, name), args...)
}

// Write puts a worker list into a file of the test's.
func Write(t testing.TB, list string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "workers.toml")
	if err := os.WriteFile(path, []byte(list), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// Start starts the workersd that Main built with the list in a file, from the top
// of the project, and returns when it answers. What Main built comes first in
// PATH. All of it is gone when the test ends.
func Start(t testing.TB, list string, env ...string) *Manager {
	t.Helper()
	return start(t, top(t), []string{"workersd", "--config", list, "--no-cgroup"}, env)
}

// StartProgram starts a program that Main built, one with a manager in it, in a
// directory; for the rest it is Start.
func StartProgram(t testing.TB, dir, name string, args ...string) *Manager {
	t.Helper()
	return start(t, dir, append([]string{name}, args...), nil)
}

func start(t testing.TB, in string, argv, env []string) *Manager {
	t.Helper()
	dir, err := os.MkdirTemp("", "pt") // t.TempDir can be too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(dir, "s")
	ctx, quit := context.WithCancel(context.Background())
	m := &Manager{Client: client.New(socket), t: t, dir: dir, out: &output{}, gone: make(chan struct{}), quit: quit}
	m.cmd = Command(argv[0], argv[1:]...)
	m.cmd.Dir = in
	m.cmd.Env = append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"), "NO_COLOR=1", "PROGRAMTEST="+dir, "WORKERSD_SOCKET="+socket)
	m.cmd.Env = append(m.cmd.Env, env...)
	m.cmd.Stdout, m.cmd.Stderr = m.out, m.out
	if err := m.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { m.cmd.Wait(); close(m.gone) }()
	t.Cleanup(m.clean)
	Await(t, "the manager answers", func() bool {
		select {
		case <-m.gone:
			t.Fatalf("%s ended with %v:\n%s", argv[0], m.cmd.ProcessState, m.out)
		default:
		}
		_, err := m.Client.Status(ctx)
		return err == nil
	})
	go m.Client.Events(ctx, -1, true, nil, func(r client.Record) error {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.records = append(m.records, r)
		return nil
	})
	return m
}

// top is the directory of the module.
func top(t testing.TB) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for d := dir; d != "/"; d = filepath.Dir(d) {
		if _, err := os.Stat(filepath.Join(d, "go.mod")); err == nil {
			return d
		}
	}
	t.Fatalf("%s is in no module", dir)
	return ""
}

// Await waits until is says yes, and fails the test where it never does.
func Await(t testing.TB, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(Patience); !is(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("it never came that %s", what)
		}
	}
}

// Await waits as the function does, and shows the output where it was in vain.
func (m *Manager) Await(what string, is func() bool) {
	m.t.Helper()
	for end := time.Now().Add(Patience); !is(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			out := m.Output()
			m.t.Fatalf("it never came that %s; the last output:\n%s", what, out[max(0, len(out)-6000):])
		}
	}
}

// AwaitOutput waits until the output has a text.
func (m *Manager) AwaitOutput(text string) {
	m.t.Helper()
	m.Await("the output has "+strconv.Quote(text), func() bool { return strings.Contains(m.Output(), text) })
}

// AwaitRecord waits for a record that fits, and returns the first.
func (m *Manager) AwaitRecord(what string, fits func(client.Record) bool) client.Record {
	m.t.Helper()
	var r client.Record
	m.Await("there is a record of "+what, func() bool {
		rs := m.Records()
		i := slices.IndexFunc(rs, fits)
		if i >= 0 {
			r = rs[i]
		}
		return i >= 0
	})
	return r
}

// Output is what the manager and its workers have written so far.
func (m *Manager) Output() string { return m.out.String() }

// Environ is the environment that the manager was started with.
func (m *Manager) Environ() []string { return m.cmd.Env }

// PID of the manager itself, below its guard.
func (m *Manager) PID() int {
	m.t.Helper()
	st, err := m.Client.Status(context.Background())
	if err != nil {
		m.t.Fatal(err)
	}
	return st.Manager.PID
}

// Records are what happened so far.
func (m *Manager) Records() []client.Record {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.records)
}

// Worker is one worker as status shows it.
func (m *Manager) Worker(name string) client.Worker {
	m.t.Helper()
	st, err := m.Client.Status(context.Background(), name)
	if err != nil || len(st.Workers) != 1 {
		m.t.Fatalf("status of %s: %d workers, %v", name, len(st.Workers), err)
	}
	return st.Workers[0]
}

// Ctl runs workersctl against this manager and returns what it wrote.
func (m *Manager) Ctl(args ...string) string {
	m.t.Helper()
	cmd := Command("workersctl", args...)
	cmd.Env = append(os.Environ(), "WORKERSD_SOCKET="+filepath.Join(m.dir, "s"), "NO_COLOR=1")
	out, err := cmd.CombinedOutput()
	if err != nil {
		m.t.Fatalf("workersctl %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// Ours reports whether the process was started, by however many steps, by this
// manager. A pid that was used again is not.
func (m *Manager) Ours(pid int) bool {
	env, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
	return err == nil && bytes.Contains(env, []byte("PROGRAMTEST="+m.dir+"\x00"))
}

// Stop presses Ctrl-C and waits for the end: exit code 0, and nobody left.
func (m *Manager) Stop() {
	m.t.Helper()
	m.cmd.Process.Signal(syscall.SIGINT)
	select {
	case <-m.gone:
	case <-time.After(Patience):
		m.t.Fatalf("workersd did not end after Ctrl-C:\n%s", m.Output())
	}
	if !m.cmd.ProcessState.Success() {
		m.t.Errorf("workersd: %v:\n%s", m.cmd.ProcessState, m.Output())
	}
	m.Await("no process is left", func() bool { return len(m.family()) == 0 })
}

// family are the living processes that carry the mark.
func (m *Manager) family() (pids []int) {
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, d := range dirs {
		if pid, _ := strconv.Atoi(filepath.Base(d)); m.Ours(pid) {
			pids = append(pids, pid)
		}
	}
	return pids
}

// clean ends what a failed test left.
func (m *Manager) clean() {
	m.quit()
	m.Client.Close()
	for range 100 {
		pids := m.family()
		if len(pids) == 0 {
			break
		}
		for _, pid := range pids {
			syscall.Kill(pid, syscall.SIGKILL)
		}
		time.Sleep(20 * time.Millisecond)
	}
	<-m.gone
	os.RemoveAll(m.dir)
}

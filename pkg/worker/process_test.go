package worker_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/workersd/workersd/pkg/worker"
)

// The test program is also the worker program: real processes, real signals.
func TestMain(m *testing.M) {
	if mode := os.Getenv("WORKER_TEST_MODE"); mode != "" {
		worker.Main(&child{mode}, worker.AbandonAfter(100*time.Millisecond), worker.CheckPoint(checkPoint(mode)))
	}
	os.Exit(m.Run())
}

// checkPoint is the pause between two executions.
func checkPoint(mode string) time.Duration {
	if mode == "rest" {
		return time.Hour
	}
	return 0
}

type child struct{ mode string }

func (c *child) Init(context.Context) error {
	switch c.mode {
	case "bad init":
		return errors.New("no database")
	case "panic in init":
		panic("no luck")
	}
	return nil
}

func (c *child) Run(ctx context.Context) (bool, error) {
	fmt.Println("run", worker.Name(), worker.Generation(), worker.Param("queue"))
	switch c.mode {
	case "panic":
		panic("index 5 of 3")
	case "work": // until a line comes after the signal
		<-worker.Stopping(ctx)
		worker.Status(ctx, "one more line")
		var b [1]byte
		_, err := os.Stdin.Read(b[:])
		return true, err
	case "context":
		<-ctx.Done()
		fmt.Println("cancelled:", context.Cause(ctx))
	case "deaf":
		worker.Status(ctx, "in it")
		select {}
	case "hang":
		select {}
	case "stop twice":
		worker.Status(ctx, "waits")
		<-worker.Stopping(ctx)
		worker.Status(ctx, "heard one")
		<-ctx.Done()
		fmt.Println("cancelled:", context.Cause(ctx))
		return false, ctx.Err()
	}
	return true, nil
}

func (c *child) AfterRun(context.Context) error {
	fmt.Println("after")
	if c.mode == "panic in after" {
		panic("no luck")
	}
	return nil
}

// manager is a notify socket and one process.
type manager struct {
	t    *testing.T
	conn *net.UnixConn
	cmd  *exec.Cmd
	in   interface{ Write([]byte) (int, error) }
	out  bytes.Buffer
	err  bytes.Buffer
}

func start(t *testing.T, mode string, env ...string) *manager {
	t.Helper()
	dir, err := os.MkdirTemp("", "w") // t.TempDir can be too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	path := filepath.Join(dir, "n")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	m := &manager{t: t, conn: conn}
	m.cmd = exec.Command(os.Args[0])
	m.cmd.Env = append(os.Environ(), append([]string{"WORKER_TEST_MODE=" + mode, "NOTIFY_SOCKET=" + path}, env...)...)
	m.cmd.Stdout, m.cmd.Stderr = &m.out, &m.err
	if m.in, err = m.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := m.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.cmd.Process.Kill(); m.cmd.Wait() })
	return m
}

// hear waits for a message that contains the text.
func (m *manager) hear(text string) {
	m.t.Helper()
	m.conn.SetReadDeadline(time.Now().Add(time.Minute)) // never met unless it hangs
	var b [4096]byte
	var said []string
	for {
		n, err := m.conn.Read(b[:])
		if err != nil {
			m.t.Fatalf("no %q: %v; heard %q\nstdout: %s\nstderr: %s", text, err, said, &m.out, &m.err)
		}
		said = append(said, string(b[:n]))
		if strings.Contains(string(b[:n]), text) {
			return
		}
	}
}

func (m *manager) signal(s os.Signal) {
	m.t.Helper()
	if err := m.cmd.Process.Signal(s); err != nil {
		m.t.Fatal(err)
	}
}

// leave waits for the exit and compares code and output.
func (m *manager) leave(code int, out string) {
	m.t.Helper()
	done := make(chan struct{})
	// Messages are read on, as a manager does, so that a barrier is answered.
	go func() {
		defer close(done)
		drain(m.conn)
	}()
	err := m.cmd.Wait()
	m.conn.Close()
	<-done
	if got := m.cmd.ProcessState.ExitCode(); got != code {
		m.t.Errorf("exit code %d, want %d (%v)\n%s", got, code, err, &m.err)
	}
	if m.out.String() != out {
		m.t.Errorf("output %q, want %q", &m.out, out)
	}
}

// drain reads until the socket is closed and closes what comes along.
func drain(c *net.UnixConn) {
	c.SetReadDeadline(time.Time{})
	b, oob := make([]byte, 4096), make([]byte, 4096)
	for {
		_, n, _, _, err := c.ReadMsgUnix(b, oob)
		if err != nil {
			return
		}
		messages, _ := syscall.ParseSocketControlMessage(oob[:n])
		for _, m := range messages {
			fds, _ := syscall.ParseUnixRights(&m)
			for _, fd := range fds {
				syscall.Close(fd)
			}
		}
	}
}

func TestProcessLeavesAfterItsNumber(t *testing.T) {
	m := start(t, "ok", "WORKERSD_MAX_REQUESTS=2", "WORKERSD_WORKER=queue@mail", "WORKERSD_GENERATION=7", "WORKERSD_PARAM_QUEUE=mail")
	m.hear("READY=1")
	m.hear("X_WORKERSD_COUNT=2")
	m.hear("STOPPING=1")
	m.leave(0, "run queue@mail 7 mail\nrun queue@mail 7 mail\nafter\n")
}

func TestProcessFinishesItsWorkAtSIGTERM(t *testing.T) {
	for _, s := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		t.Run(s.String(), func(t *testing.T) {
			m := start(t, "work", "WORKERSD_WORKER=q")
			m.hear("X_WORKERSD_BEGIN=1")
			m.signal(s)
			m.hear("STATUS=one more line")
			m.in.Write([]byte("\n"))
			m.hear("X_WORKERSD_RESULT=ok")
			m.leave(0, "run q 0 \nafter\n")
		})
	}
}

func TestProcessAtItsTimeout(t *testing.T) {
	m := start(t, "context", "WORKERSD_WORKER=q", "WORKERSD_TIMEOUT_USEC=1000")
	m.hear("X_WORKERSD_BEGIN=1")
	m.signal(syscall.SIGTERM) // as the manager does at the timeout
	m.hear("X_WORKERSD_RESULT=fail")
	m.leave(1, "run q 0 \ncancelled: execution timed out: context deadline exceeded\nafter\n")
}

func TestProcessThatHangsInRunStillCleansUp(t *testing.T) {
	m := start(t, "hang", "WORKERSD_WORKER=q", "WORKERSD_TIMEOUT_USEC=1000")
	m.hear("X_WORKERSD_BEGIN=1")
	m.signal(syscall.SIGTERM)
	m.leave(1, "run q 0 \nafter\n")
}

func TestProcessThatPanics(t *testing.T) {
	m := start(t, "panic", "WORKERSD_WORKER=q")
	m.hear("X_WORKERSD_RESULT=fail")
	m.leave(2, "run q 0 \nafter\n")
	for _, want := range []string{"Run panicked: index 5 of 3", "process_test.go"} {
		if !strings.Contains(m.err.String(), want) {
			t.Errorf("stderr lacks %q: %s", want, &m.err)
		}
	}
}

func TestProcessWhoseInitFails(t *testing.T) {
	m := start(t, "bad init", "WORKERSD_WORKER=q")
	m.leave(1, "")
	if !strings.Contains(m.err.String(), "no database") {
		t.Errorf("stderr: %s", &m.err)
	}
}

func TestProcessIsKilledWithoutCleaningUp(t *testing.T) {
	m := start(t, "deaf", "WORKERSD_WORKER=q")
	m.hear("STATUS=in it")
	m.signal(syscall.SIGKILL)
	m.leave(-1, "run q 0 \n")
}

func TestProcessWithoutAManager(t *testing.T) {
	m := start(t, "context", "NOTIFY_SOCKET=", "WORKERSD_TIMEOUT_USEC=1000")
	m.leave(1, "run "+filepath.Base(os.Args[0])+" 0 \ncancelled: execution timed out: context deadline exceeded\nafter\n")
}

func TestProcessWhoseManagerIsGone(t *testing.T) {
	m := start(t, "ok", "NOTIFY_SOCKET=/nowhere/notify", "WORKERSD_MAX_REQUESTS=1", "WORKERSD_WORKER=q")
	m.leave(0, "run q 0 \nafter\n")
}

func TestBadEnvironmentIsNamed(t *testing.T) {
	m := start(t, "ok", "WORKERSD_MAX_REQUESTS=many")
	m.leave(1, "")
	if want := `WORKERSD_MAX_REQUESTS="many" in the environment is not a number`; !strings.Contains(m.err.String(), want) {
		t.Errorf("stderr %q, want %q", &m.err, want)
	}
}

func TestProcessLeavesBetweenExecutionsAtSIGTERM(t *testing.T) {
	m := start(t, "rest", "WORKERSD_WORKER=q")
	m.hear("X_WORKERSD_COUNT=1")
	m.signal(syscall.SIGTERM)
	m.hear("STOPPING=1")
	m.leave(0, "run q 0 \nafter\n")
}

func TestProcessIsInterruptedByASecondCtrlC(t *testing.T) {
	m := start(t, "stop twice", "WORKERSD_WORKER=q")
	m.hear("STATUS=waits")
	m.signal(syscall.SIGINT)
	m.hear("STATUS=heard one")
	m.signal(syscall.SIGINT)
	m.leave(0, "run q 0 \ncancelled: interrupted twice\nafter\n")
}

func TestProcessThatPanicsInInitOrAfterRun(t *testing.T) {
	m := start(t, "panic in init", "WORKERSD_WORKER=q")
	m.leave(2, "")
	if !strings.Contains(m.err.String(), "Init panicked: no luck") {
		t.Errorf("stderr: %s", &m.err)
	}
	m = start(t, "panic in after", "WORKERSD_WORKER=q", "WORKERSD_MAX_REQUESTS=1")
	m.leave(2, "run q 0 \nafter\n")
	if !strings.Contains(m.err.String(), "AfterRun panicked: no luck") {
		t.Errorf("stderr: %s", &m.err)
	}
}

// Without a socket the words go down the pipe.
func TestProcessOnAPipe(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "WORKER_TEST_MODE=ok", "NOTIFY_SOCKET=", "WORKERSD_NOTIFY_FD=3", "WORKERSD_MAX_REQUESTS=1", "WORKERSD_WORKER=q")
	cmd.ExtraFiles = []*os.File{w}
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	w.Close()
	said, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	var words []string
	for line := range strings.Lines(string(said)) {
		if !strings.HasPrefix(line, "MONOTONIC_USEC=") {
			words = append(words, strings.TrimSpace(line))
		}
	}
	if got, want := strings.Join(words, " "), "READY=1 X_WORKERSD_BEGIN=1 X_WORKERSD_END=1 X_WORKERSD_RESULT=ok X_WORKERSD_COUNT=1 STOPPING=1"; got != want {
		t.Errorf("the pipe carried %s, want %s", got, want)
	}
}

// A line to the manager that cannot be used is said, and work goes on.
func TestProcessWithABadLineToTheManager(t *testing.T) {
	m := start(t, "ok", "NOTIFY_SOCKET=", "WORKERSD_NOTIFY_FD=99", "WORKERSD_MAX_REQUESTS=1", "WORKERSD_WORKER=q")
	m.leave(0, "run q 0 \nafter\n")
	if !strings.Contains(m.err.String(), "WORKERSD_NOTIFY_FD=99 is not open") {
		t.Errorf("stderr: %s", &m.err)
	}
}

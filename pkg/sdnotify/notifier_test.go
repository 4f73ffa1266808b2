package sdnotify

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// manager is the other end of a notify socket.
type manager struct {
	t    *testing.T
	conn *net.UnixConn
}

func listen(t *testing.T, path string) *manager {
	t.Helper()
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return &manager{t, c}
}

// next reads one message and keeps the descriptors that came with it.
func (m *manager) next() (string, []int) {
	m.t.Helper()
	m.conn.SetReadDeadline(time.Now().Add(time.Minute))
	b, oob := make([]byte, 8192), make([]byte, 1024)
	n, oobn, _, _, err := m.conn.ReadMsgUnix(b, oob)
	if err != nil {
		m.t.Fatal(err)
	}
	var fds []int
	cs, _ := unix.ParseSocketControlMessage(oob[:oobn])
	for _, c := range cs {
		got, _ := unix.ParseUnixRights(&c)
		fds = append(fds, got...)
	}
	return string(b[:n]), fds
}

func dial(t *testing.T, path string) *Notifier {
	t.Helper()
	n, err := Dial(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.Close() })
	return n
}

func TestSendOverSockets(t *testing.T) {
	for _, path := range []string{filepath.Join(t.TempDir(), "s"), fmt.Sprintf("@workersd-sdnotify-test-%d", os.Getpid())} {
		m := listen(t, path)
		n := dial(t, path)
		if err := n.Send(Ready + "\n" + Status("up")); err != nil {
			t.Fatal(err)
		}
		if got, _ := m.next(); got != "READY=1\nSTATUS=up" {
			t.Errorf("over %s arrived %q", path, got)
		}
		msg := Message{Fields: []Field{{Key: KeyEnd, Text: []byte("7"), Result: Fail}, {Key: KeyCount, Number: 2}}}
		if err := n.SendMessage(&msg); err != nil {
			t.Fatal(err)
		}
		if got, _ := m.next(); got != "X_WORKERSD_END=7\nX_WORKERSD_RESULT=fail\nX_WORKERSD_COUNT=2" {
			t.Errorf("over %s arrived %q", path, got)
		}
	}
}

func TestSendRefusesWhatIsNoMessage(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	listen(t, path)
	n := dial(t, path)
	if err := n.Send(strings.Repeat("x", MaxMessage+1)); err == nil || err.Error() != "message is longer than 4096 bytes" {
		t.Errorf("a message that is too long: %v", err)
	}
	if err := n.Send(""); err == nil || err.Error() != "message is empty" {
		t.Errorf("an empty message: %v", err)
	}
	n.Close()
	if err := n.Send(Ready); !errors.Is(err, os.ErrClosed) {
		t.Errorf("Send after Close: %v, expected %v", err, os.ErrClosed)
	}
}

func TestNilNotifierSaysNothing(t *testing.T) {
	var n *Notifier
	if err := errors.Join(n.Send(Ready), n.SendMessage(&Message{}), n.Barrier(t.Context()), n.Close()); err != nil {
		t.Errorf("without a manager: %v", err)
	}
}

func TestFromEnvironment(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	for _, c := range []struct{ socket, pipe, want string }{
		{"relative", "", `NOTIFY_SOCKET="relative" is neither an absolute path nor an abstract socket (@name)`},
		{"vsock:2:1", "", `NOTIFY_SOCKET="vsock:2:1" is neither an absolute path nor an abstract socket (@name)`},
		{path, "", "notify socket " + path + ": no such file or directory"},
		{"", "x", `WORKERSD_NOTIFY_FD="x" is not a file descriptor`},
		{"", "4096", "WORKERSD_NOTIFY_FD=4096 is not open: bad file descriptor"},
	} {
		t.Setenv(SocketVariable, c.socket)
		t.Setenv(PipeVariable, c.pipe)
		if _, err := FromEnvironment(); err == nil || err.Error() != c.want {
			t.Errorf("with %q and %q: error %v, expected %q", c.socket, c.pipe, err, c.want)
		}
	}
	t.Setenv(SocketVariable, "")
	t.Setenv(PipeVariable, "")
	if n, err := FromEnvironment(); n != nil || err != nil {
		t.Errorf("without a manager: %v, %v, expected nil and no error", n, err)
	}
	listen(t, path)
	t.Setenv(SocketVariable, path)
	if n, err := FromEnvironment(); n == nil || err != nil {
		t.Errorf("with %s: %v, %v", path, n, err)
	} else {
		n.Close()
	}
}

func TestManagerThatBindsAnewIsFoundAgain(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	old := listen(t, path)
	n := dial(t, path)
	old.conn.Close()
	if err := n.Send(Ready); err == nil {
		t.Error("nobody listens, and Send succeeded")
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	m := listen(t, path)
	if err := n.Send(Ready); err != nil {
		t.Fatalf("after the manager came back: %v", err)
	}
	if got, _ := m.next(); got != Ready {
		t.Errorf("arrived %q", got)
	}
}

func TestSendWaitsForRoomAndNotForEver(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	m := listen(t, path)
	n := dial(t, path)
	n.patience = 100 * time.Millisecond
	sent := 0
	var err error
	for ; err == nil && sent < 100_000; sent++ {
		err = n.Send(Watchdog)
	}
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("a manager that does not read: %v after %d messages, expected %v", err, sent, os.ErrDeadlineExceeded)
	}
	// With a reader the same sender goes on, and nothing that was taken is lost.
	n.patience = time.Minute
	const more = 1000
	done := make(chan error, 1)
	go func() {
		for range more {
			if err := n.Send(Watchdog); err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	for range sent - 1 + more {
		m.next()
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

func TestBarrier(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	m := listen(t, path)
	n := dial(t, path)
	done := make(chan error, 1)
	go func() { done <- n.Barrier(t.Context()) }()
	text, fds := m.next()
	if text != "BARRIER=1" || len(fds) != 1 {
		t.Fatalf("arrived %q with %d descriptors, expected BARRIER=1 with one", text, len(fds))
	}
	select {
	case err := <-done:
		t.Fatalf("Barrier returned (%v) before the manager closed the descriptor", err)
	case <-time.After(20 * time.Millisecond):
	}
	unix.Close(fds[0])
	if err := <-done; err != nil {
		t.Fatal(err)
	}

	ctx, cancel := context.WithCancelCause(t.Context())
	go func() { done <- n.Barrier(ctx) }()
	_, fds = m.next()
	defer unix.Close(fds[0])
	cancel(errors.New("no time"))
	if err := <-done; err == nil || err.Error() != "barrier: the manager did not answer: no time" {
		t.Errorf("a manager that does not answer: %v", err)
	}
}

func TestPipe(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	n, err := OnPipe(int(w.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(n.Send(Ready), n.Send(End("7", OK)+"\n"), n.Barrier(t.Context())); err != nil {
		t.Fatal(err)
	}
	n.Close()
	w.Close()
	if b, _ := io.ReadAll(r); string(b) != "READY=1\nX_WORKERSD_END=7\nX_WORKERSD_RESULT=ok\n" {
		t.Errorf("the pipe carried %q", b)
	}
}

// A manager that died must not take the worker with it.
func TestPipeWithoutReaderRaisesNoSignal(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	n, err := OnPipe(int(w.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	r.Close()
	if err := n.Send(Ready); !errors.Is(err, unix.EPIPE) {
		t.Errorf("a pipe without a reader: %v, expected %v", err, unix.EPIPE)
	}
}

func TestPipeThatIsFullDoesNotHoldForEver(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	n, err := OnPipe(int(w.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	n.patience = 100 * time.Millisecond
	for err == nil {
		err = n.Send(Status(strings.Repeat("x", 1000)))
	}
	if !errors.Is(err, os.ErrDeadlineExceeded) || !strings.Contains(err.Error(), "the manager has not read for 100ms") {
		t.Errorf("a full pipe: %v", err)
	}
}

func TestOnPipeWantsAPipe(t *testing.T) {
	f, err := os.Open("/dev/null")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := OnPipe(int(f.Fd())); err == nil || !strings.HasSuffix(err.Error(), "is not a pipe") {
		t.Errorf("on /dev/null: %v", err)
	}
}

func TestSendersShareANotifier(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	m := listen(t, path)
	n := dial(t, path)
	const senders, each = 8, 200
	var wg sync.WaitGroup
	for i := range senders {
		wg.Go(func() {
			for range each {
				if err := n.Send(Begin(strings.Repeat(string(rune('a'+i)), 50))); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	count := map[string]int{}
	for range senders * each {
		s, _ := m.next()
		count[s]++
	}
	wg.Wait()
	for i := range senders {
		if s := Begin(strings.Repeat(string(rune('a'+i)), 50)); count[s] != each {
			t.Errorf("%q arrived %d times, expected %d: messages were mixed", s, count[s], each)
		}
	}
}

func BenchmarkSend(b *testing.B) {
	path := filepath.Join(b.TempDir(), "s")
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	go func() {
		buf := make([]byte, 4096)
		for {
			if _, err := c.Read(buf); err != nil {
				return
			}
		}
	}()
	n, err := Dial(path)
	if err != nil {
		b.Fatal(err)
	}
	defer n.Close()
	b.ReportAllocs()
	for b.Loop() {
		if err := n.Send(string(benchMessage)); err != nil {
			b.Fatal(err)
		}
	}
}

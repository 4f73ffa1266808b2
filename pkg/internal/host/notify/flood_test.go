package notify

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/workersd/workersd/pkg/internal/lifecycle"
	"github.com/workersd/workersd/pkg/sdnotify"
)

// What one worker says in masses is all read, and does not keep another's READY
// waiting for its end.
func TestFloodStarvesNobody(t *testing.T) {
	const flood = 100_000
	var noisy, atReady atomic.Int64
	ready := make(chan struct{})
	loud, quiet := process("loud"), process("quiet")
	h := start(t, Options{Deliver: func(id lifecycle.ProcessID, ev lifecycle.Event) {
		if id == loud {
			noisy.Add(1)
		} else {
			atReady.Store(noisy.Load())
			close(ready)
		}
	}})
	from, to := open(t, h, loud), open(t, h, quiet)
	half := make(chan struct{})
	done := make(chan error, 1)
	go func() {
		c, err := net.Dial("unixgram", from)
		for i := 0; i < flood && err == nil; i++ {
			if i == flood/2 {
				close(half)
			}
			_, err = c.Write([]byte("WATCHDOG=1"))
		}
		if c != nil {
			c.Close()
		}
		done <- err
	}()
	<-half
	send(t, to, "READY=1")
	<-ready
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	h.Drain(loud)
	if n := noisy.Load(); n != flood {
		t.Errorf("%d of %d messages arrived", n, flood)
	}
	if n := atReady.Load(); n >= flood {
		t.Errorf("READY came after all %d messages of the flood", n)
	}
}

func TestGarbageIsCountedAndDropped(t *testing.T) {
	c := newCollector()
	h := start(t, Options{Deliver: c.deliver})
	id := process("a")
	path := open(t, h, id)
	send(t, path,
		"READY", "\x00\x01\x02", "", "WATCHDOG=maybe",
		strings.Repeat("x", 100_000), "READY=1\n"+strings.Repeat("A=1\n", 2000),
		"READY=1")
	c.await(t, id, 1)
	if refused, garbage := h.Counters(id); refused != 0 || garbage != 6 {
		t.Errorf("refused %d, garbage %d, expected 0 and 6", refused, garbage)
	}
	if ev := c.of(id); len(ev) != 1 {
		t.Errorf("events %v, expected one READY", ev)
	}
}

// sendWith sends a message with descriptors.
func sendWith(t *testing.T, path, message string, fds ...int) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := unix.Sendmsg(fd, []byte(message), unix.UnixRights(fds...), &unix.SockaddrUnix{Name: path}, 0); err != nil {
		t.Fatal(err)
	}
}

func TestDescriptorsAreClosed(t *testing.T) {
	c := newCollector()
	h := start(t, Options{Deliver: c.deliver})
	id := process("a")
	path := open(t, h, id)
	null, err := os.Open("/dev/null")
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	before := openFiles(t)
	many := bytes.Repeat([]byte{0}, 200)
	fds := make([]int, len(many))
	for i := range fds {
		fds[i] = int(null.Fd())
	}
	const messages = 50
	for range messages {
		sendWith(t, path, "WATCHDOG=1", fds...)
	}
	c.await(t, id, messages)
	deadline := time.Now().Add(time.Minute)
	for openFiles(t) > before {
		if time.Now().After(deadline) {
			t.Fatalf("%d descriptors are open, %d were before", openFiles(t), before)
		}
		time.Sleep(time.Millisecond)
	}
	if _, garbage := h.Counters(id); garbage != 0 {
		t.Errorf("garbage %d, expected none", garbage)
	}
}

// A barrier's descriptor is closed only when all that was sent before has been
// delivered.
func TestBarrierWaitsForWhatWasSentBefore(t *testing.T) {
	release := make(chan struct{})
	var delivered atomic.Int32
	h := start(t, Options{Deliver: func(lifecycle.ProcessID, lifecycle.Event) {
		<-release
		delivered.Add(1)
	}})
	path := open(t, h, process("a"))
	n, err := sdnotify.Dial(path)
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	for range 5 {
		if err := n.Send(sdnotify.Watchdog); err != nil {
			t.Fatal(err)
		}
	}
	done := make(chan error, 1)
	go func() { done <- n.Barrier(t.Context()) }()
	for range 4 {
		release <- struct{}{}
	}
	select {
	case err := <-done:
		t.Fatalf("the barrier fell (%v) with one message still to be delivered", err)
	default:
	}
	release <- struct{}{}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if n := delivered.Load(); n != 5 {
		t.Errorf("the barrier fell after %d messages, expected 5", n)
	}
}

// A descriptor whose close waits must hold up its sender only.
func TestDescriptorWhoseCloseWaits(t *testing.T) {
	l, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	lingering, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	// The other end never reads, and close waits up to an hour for it.
	if err := unix.SetsockoptInt(lingering, unix.SOL_SOCKET, unix.SO_SNDBUF, 1<<20); err != nil {
		t.Fatal(err)
	}
	if err := unix.SetsockoptLinger(lingering, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1, Linger: 3600}); err != nil {
		t.Fatal(err)
	}
	if err := unix.Connect(lingering, &unix.SockaddrInet4{Port: l.Addr().(*net.TCPAddr).Port, Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	peer, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	unix.SetNonblock(lingering, true)
	for err == nil {
		_, err = unix.Write(lingering, make([]byte, 64<<10))
	}
	unix.SetNonblock(lingering, false)

	c := newCollector()
	entered, leave := make(chan struct{}), make(chan struct{})
	var once sync.Once
	h := start(t, Options{Deliver: func(id lifecycle.ProcessID, ev lifecycle.Event) {
		once.Do(func() { close(entered); <-leave })
		c.deliver(id, ev)
	}})
	bad, good := process("bad"), process("good")
	from, to := open(t, h, bad), open(t, h, good)
	// While the hub is held up the message has a copy, so ours is not the last
	// one and its close does not wait.
	send(t, from, "READY=1")
	<-entered
	sendWith(t, from, "WATCHDOG=1", lingering)
	unix.Close(lingering)
	close(leave)
	c.await(t, bad, 2)
	send(t, to, "READY=1")
	c.await(t, good, 1)
	send(t, from, "STOPPING=1")
	if n := len(c.of(bad)); n != 2 {
		t.Errorf("%d messages were heard, expected none while the close waits", n)
	}
	peer.Close() // now the close ends, and its sender is heard again
	c.await(t, bad, 3)
}

// A pipe whose lock somebody holds is no better: neither looking at it nor closing
// it may hold up others.
func TestDescriptorOfABusyPipe(t *testing.T) {
	c := newCollector()
	entered, leave := make(chan struct{}), make(chan struct{})
	var once sync.Once
	h := start(t, Options{Deliver: func(id lifecycle.ProcessID, ev lifecycle.Event) {
		once.Do(func() { close(entered); <-leave })
		c.deliver(id, ev)
	}})
	bad, good := process("bad"), process("good")
	from, to := open(t, h, bad), open(t, h, good)
	pipe, letGo := busyPipe(t)
	// While the hub is held up the message has a copy, so ours is not the last
	// one and its close does not wait.
	send(t, from, "READY=1")
	<-entered
	sendWith(t, from, "WATCHDOG=1", pipe)
	unix.Close(pipe)
	close(leave)
	c.await(t, bad, 2)
	send(t, to, "READY=1")
	c.await(t, good, 1)
	letGo()
	send(t, from, "STOPPING=1")
	c.await(t, bad, 3)
}

// busyPipe is the writing end of a pipe that is spliced into a socket which takes
// nothing more: the kernel holds the lock of the pipe meanwhile (splice_to_socket).
func busyPipe(t *testing.T) (to int, letGo func()) {
	t.Helper()
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	unix.SetNonblock(pair[0], true)
	for err == nil {
		_, err = unix.Write(pair[0], make([]byte, 4<<10))
	}
	unix.SetNonblock(pair[0], false)
	if _, err := unix.Write(pipe[1], make([]byte, 4<<10)); err != nil {
		t.Fatal(err)
	}
	thread, done := make(chan int, 1), make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		thread <- unix.Gettid()
		unix.Splice(pipe[0], nil, pair[0], nil, 4<<10, 0)
	}()
	letGo = sync.OnceFunc(func() {
		unix.Close(pair[1])
		<-done
		unix.Close(pair[0])
		unix.Close(pipe[0])
	})
	t.Cleanup(letGo)
	waiting := fmt.Sprintf("/proc/self/task/%d/syscall", <-thread)
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		b, err := os.ReadFile(waiting)
		if err != nil {
			t.Skipf("it takes a kernel that tells what a thread waits for: %v", err)
		}
		if strings.HasPrefix(string(b), strconv.Itoa(unix.SYS_SPLICE)+" ") {
			return pipe[1], letGo
		}
		if time.Now().After(deadline) {
			t.Fatalf("the splice does not wait, but %q", b)
		}
	}
}

// What stands behind a message with a descriptor was said before the end, too.
func TestDrainBehindDescriptors(t *testing.T) {
	c := newCollector()
	h := start(t, Options{Deliver: c.deliver})
	id := process("a")
	s, err := h.Open(id, os.Geteuid(), false) // and not Listen: all is left to Drain
	if err != nil {
		t.Fatal(err)
	}
	state, err := unix.MemfdCreate("state", unix.MFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(state)
	before := openFiles(t)
	send(t, s.Path, "X_WORKERSD_BEGIN=1")
	sendWith(t, s.Path, "FDSTORE=1\nFDNAME=state", state)
	sendWith(t, s.Path, "STATUS=stored", state)
	send(t, s.Path, "X_WORKERSD_END=1\nX_WORKERSD_COUNT=1")
	h.Drain(id)
	want := []lifecycle.Event{
		lifecycle.ExecutionBegan{Generation: 7, ID: "1"}, lifecycle.SaidStatus{Generation: 7, Text: "stored"},
		lifecycle.ExecutionEnded{Generation: 7, ID: "1"}, lifecycle.ExecutionsCounted{Generation: 7, N: 1},
	}
	if d := cmp.Diff(want, c.of(id)); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	for deadline := time.Now().Add(time.Minute); openFiles(t) > before; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d descriptors are open, %d were before", openFiles(t), before)
		}
	}
	if err := h.Listen(id); err != nil {
		t.Fatal(err)
	}
	send(t, s.Path, "READY=1")
	c.await(t, id, len(want)+1)
}

func BenchmarkDatagrams(b *testing.B) {
	var n atomic.Int64
	h, err := NewHub(Options{Dir: b.TempDir(), Deliver: func(lifecycle.ProcessID, lifecycle.Event) { n.Add(1) }})
	if err != nil {
		b.Fatal(err)
	}
	defer h.Shutdown()
	s, err := h.Open(process("a"), os.Geteuid(), false)
	if err == nil {
		err = h.Listen(process("a"))
	}
	if err != nil {
		b.Fatal(err)
	}
	c, err := sdnotify.Dial(s.Path)
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	b.ReportAllocs()
	for b.Loop() {
		if err := c.Send("X_WORKERSD_END=17\nX_WORKERSD_RESULT=ok\nX_WORKERSD_COUNT=12\nX_WORKERSD_BEGIN=18"); err != nil {
			b.Fatal(err)
		}
	}
	h.Drain(process("a"))
}

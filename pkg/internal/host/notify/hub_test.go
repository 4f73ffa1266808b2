package notify

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/workersd/workersd/pkg/internal/lifecycle"
)

// collector keeps what is delivered, for each process.
type collector struct {
	mu     sync.Mutex
	events map[lifecycle.ProcessID][]lifecycle.Event
	more   chan struct{}
}

func newCollector() *collector {
	return &collector{events: map[lifecycle.ProcessID][]lifecycle.Event{}, more: make(chan struct{}, 1)}
}

func (c *collector) deliver(id lifecycle.ProcessID, ev lifecycle.Event) {
	c.mu.Lock()
	c.events[id] = append(c.events[id], ev)
	c.mu.Unlock()
	select {
	case c.more <- struct{}{}:
	default:
	}
}

func (c *collector) of(id lifecycle.ProcessID) []lifecycle.Event {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]lifecycle.Event(nil), c.events[id]...)
}

// await waits until n events of id were delivered.
func (c *collector) await(t *testing.T, id lifecycle.ProcessID, n int) []lifecycle.Event {
	t.Helper()
	deadline := time.After(time.Minute)
	for {
		if ev := c.of(id); len(ev) >= n {
			return ev
		}
		select {
		case <-c.more:
		case <-time.After(100 * time.Millisecond): // another waiter took the wake-up
		case <-deadline:
			t.Fatalf("%v said %v, expected %d events", id, c.of(id), n)
		}
	}
}

func process(worker string) lifecycle.ProcessID {
	return lifecycle.ProcessID{Worker: worker, Generation: 7}
}

// shortDir is a directory whose path leaves room for a socket's name: that of
// t.TempDir holds the test's name, too. It is removed after what is registered
// later.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "w")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// start makes a hub and checks at the end that it has left nothing behind.
func start(t *testing.T, o Options) *Hub {
	t.Helper()
	if o.Dir == "" {
		o.Dir = filepath.Join(shortDir(t), "n")
	}
	before := openFiles(t)
	h, err := NewHub(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		h.Shutdown()
		left, err := os.ReadDir(o.Dir)
		if err != nil {
			t.Error(err)
		}
		for _, e := range left {
			t.Errorf("%s is left", e.Name())
		}
		if len(h.byToken) != 0 || len(h.byID) != 0 {
			t.Errorf("%d descriptors and %d sockets are left in the tables", len(h.byToken), len(h.byID))
		}
		if after := openFiles(t); after > before {
			t.Errorf("%d descriptors are open, %d were before", after, before)
		}
	})
	return h
}

func openFiles(t *testing.T) int {
	t.Helper()
	d, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(d)
}

func open(t *testing.T, h *Hub, id lifecycle.ProcessID) string {
	t.Helper()
	s, err := h.Open(id, os.Geteuid(), false)
	if err == nil {
		err = h.Listen(id)
	}
	if err != nil {
		t.Fatal(err)
	}
	return s.Path
}

func send(t *testing.T, path string, messages ...string) {
	t.Helper()
	c, err := net.Dial("unixgram", path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for _, m := range messages {
		if _, err := c.Write([]byte(m)); err != nil {
			t.Fatal(err)
		}
	}
}

func TestMessagesBecomeEventsInOrder(t *testing.T) {
	c := newCollector()
	id := process("queue@a")
	h := start(t, Options{Deliver: c.deliver, Member: func(_ lifecycle.ProcessID, pid int) Membership {
		if pid == 4711 || pid == os.Getpid() {
			return Member
		}
		return Unknown
	}})
	path := open(t, h, id)
	send(t, path,
		"READY=1\nSTATUS=up\x1b[0m\nMAINPID=4711",
		"STATUS=up\x1b[0m", // nothing new
		"X_WORKERSD_BEGIN=1\nX_OTHER=2",
		"WATCHDOG=1",
		"X_WORKERSD_END=1\nX_WORKERSD_RESULT=fail\nX_WORKERSD_COUNT=1\nX_WORKERSD_BEGIN=1",
		"X_WORKERSD_END=1\nX_WORKERSD_RESULT=skip\nMONOTONIC_USEC=12",
		"EXTEND_TIMEOUT_USEC=5000000\nWATCHDOG=trigger",
		"MAINPID=4712", // of nobody's tree
		"noise",
		"STOPPING=1",
	)
	const g = 7
	want := []lifecycle.Event{
		lifecycle.Ready{Generation: g},
		lifecycle.SaidStatus{Generation: g, Text: "up [0m"},
		lifecycle.MainPIDChanged{Generation: g, PID: 4711},
		lifecycle.ExecutionBegan{Generation: g, ID: "1"},
		lifecycle.WatchdogPinged{Generation: g},
		lifecycle.ExecutionEnded{Generation: g, ID: "1", Result: lifecycle.Fail},
		lifecycle.ExecutionsCounted{Generation: g, N: 1},
		lifecycle.ExecutionBegan{Generation: g, ID: "1"},
		lifecycle.ExecutionEnded{Generation: g, ID: "1", Result: lifecycle.Skip},
		lifecycle.Extended{Generation: g, By: 5 * time.Second},
		lifecycle.WatchdogTriggered{Generation: g},
		lifecycle.SaidStopping{Generation: g},
	}
	if d := cmp.Diff(want, c.await(t, id, len(want))); d != "" {
		t.Errorf("events (-want +got):\n%s", d)
	}
	if refused, garbage := h.Counters(id); refused != 1 || garbage != 1 {
		t.Errorf("refused %d, garbage %d, expected the MAINPID of nobody's and the noise", refused, garbage)
	}
}

func TestSocketIsItsUsersAlone(t *testing.T) {
	h := start(t, Options{Deliver: newCollector().deliver})
	path := open(t, h, process("a"))
	st, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	if st.Mode() != os.ModeSocket|0o600 {
		t.Errorf("the socket has mode %v, expected 0600", st.Mode())
	}
	if d, err := os.Stat(filepath.Dir(path)); err != nil || d.Mode().Perm() != 0o711 {
		t.Errorf("the directory has mode %v (%v), expected 0711", d.Mode(), err)
	}
}

func TestOldSocketsAreRemovedAndNothingElse(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"12", "name"} {
		l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(dir, name), Net: "unixgram"})
		if err != nil {
			t.Fatal(err)
		}
		l.Close()
	}
	for _, name := range []string{"13", "12.timeout", "14.timeout.new", "name.timeout"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	h, err := NewHub(Options{Dir: dir, Deliver: newCollector().deliver})
	if err != nil {
		t.Fatal(err)
	}
	defer h.Shutdown()
	var left []string
	d, _ := os.ReadDir(dir)
	for _, e := range d {
		left = append(left, e.Name())
	}
	if d := cmp.Diff([]string{"13", "name", "name.timeout"}, left); d != "" {
		t.Errorf("left (-want +got):\n%s", d)
	}
}

func TestDirectoryThatIsTooLong(t *testing.T) {
	dir := "/run/" + strings.Repeat("x", 100)
	want := "notify directory " + dir + ": paths of sockets in it would have 126 bytes, the system takes 107: choose a shorter one"
	if _, err := NewHub(Options{Dir: dir}); err == nil || err.Error() != want {
		t.Errorf("error %v, expected %q", err, want)
	}
}

func TestOpenTwiceAndAfterShutdown(t *testing.T) {
	h := start(t, Options{Deliver: newCollector().deliver})
	id := process("a")
	open(t, h, id)
	if _, err := h.Open(id, os.Geteuid(), false); err == nil || err.Error() != "worker a: generation 7 has a notify socket already" {
		t.Errorf("a second socket: %v", err)
	}
	h.Shutdown()
	if _, err := h.Open(process("b"), os.Geteuid(), false); err != os.ErrClosed {
		t.Errorf("Open after Shutdown: %v, expected %v", err, os.ErrClosed)
	}
}

func TestForeignSendersAreRefused(t *testing.T) {
	c := newCollector()
	a, b := process("a"), process("b")
	asked := 0
	h := start(t, Options{Deliver: c.deliver, Member: func(id lifecycle.ProcessID, pid int) Membership {
		if pid != os.Getpid() {
			t.Errorf("asked for pid %d, expected the sender's, %d", pid, os.Getpid())
		}
		if id == b {
			return Foreign
		}
		asked++
		return Member
	}})
	pa, pb := open(t, h, a), open(t, h, b)
	send(t, pb, "READY=1", "READY=1")
	send(t, pa, "READY=1", "READY=1", "STOPPING=1")
	c.await(t, a, 3)
	if ev := c.of(b); len(ev) != 0 {
		t.Errorf("another worker's process said %v", ev)
	}
	if refused, garbage := h.Counters(b); refused != 2 || garbage != 0 {
		t.Errorf("refused %d, garbage %d, expected 2 and 0", refused, garbage)
	}
	if asked != 1 {
		t.Errorf("one sender was looked up %d times, expected once", asked)
	}
}

// Each process's first piece of garbage and first stranger are told, not the rest.
func TestWhatIsDroppedIsToldOnce(t *testing.T) {
	var mu sync.Mutex // guards told
	var told []string
	c := newCollector()
	a, b := process("a"), process("b")
	h := start(t, Options{Deliver: c.deliver, Member: func(id lifecycle.ProcessID, pid int) Membership {
		if id == b {
			return Foreign
		}
		return Member
	}, Problem: func(id lifecycle.ProcessID, text string) {
		mu.Lock()
		defer mu.Unlock()
		told = append(told, id.Worker+": "+text)
	}})
	s, err := h.Open(a, os.Geteuid(), true)
	if err == nil {
		err = h.Listen(a)
	}
	if err != nil {
		t.Fatal(err)
	}
	send(t, s.Path, "ready", "READY", strings.Repeat("x", 5000))
	s.Pipe.WriteString("not a word\nREADY=1\n")
	s.Pipe.Close()
	send(t, open(t, h, b), "READY=1", "READY=1")
	c.await(t, a, 1)
	h.Drain(a)
	h.Drain(b)
	if refused, garbage := h.Counters(a); refused != 0 || garbage != 4 {
		t.Errorf("refused %d, garbage %d, expected 0 and 4", refused, garbage)
	}
	mu.Lock()
	defer mu.Unlock()
	slices.Sort(told)
	want := []string{
		"a: said what is no message: line is not KEY=VALUE",
		fmt.Sprintf("b: a message of process %d of uid %d, which is none of its own, was refused", os.Getpid(), os.Geteuid()),
	}
	if !slices.Equal(told, want) {
		t.Errorf("told %q, expected %q", told, want)
	}
}

func TestLastWordsComeBeforeDrainReturns(t *testing.T) {
	for round := range 50 {
		var order []string
		var mu sync.Mutex
		note := func(s string) { mu.Lock(); order = append(order, s); mu.Unlock() }
		h := start(t, Options{Deliver: func(_ lifecycle.ProcessID, ev lifecycle.Event) { note(fmt.Sprintf("%T", ev)) }})
		id := process(fmt.Sprint("a", round))
		s, err := h.Open(id, os.Geteuid(), true)
		if err == nil {
			err = h.Listen(id)
		}
		if err != nil {
			t.Fatal(err)
		}
		send(t, s.Path, "X_WORKERSD_BEGIN=1", "X_WORKERSD_END=1\nX_WORKERSD_COUNT=1")
		s.Pipe.WriteString("STOPPING=1\n")
		s.Pipe.Close()
		h.Drain(id)
		note("exited")
		h.Close(id)
		want := "lifecycle.ExecutionBegan lifecycle.ExecutionEnded lifecycle.ExecutionsCounted lifecycle.SaidStopping exited"
		mu.Lock()
		if got := strings.Join(order, " "); got != want {
			t.Fatalf("order %s, expected %s", got, want)
		}
		mu.Unlock()
	}
}

// The supervisor may close a socket in the very loop that Deliver waits for.
func TestCloseDoesNotWaitForDeliver(t *testing.T) {
	entered, leave := make(chan struct{}), make(chan struct{})
	var delivered int
	h := start(t, Options{Deliver: func(lifecycle.ProcessID, lifecycle.Event) {
		delivered++
		entered <- struct{}{}
		<-leave
	}})
	id := process("a")
	path := open(t, h, id)
	send(t, path, "READY=1", "READY=1", "READY=1")
	<-entered
	h.Close(id)
	if _, err := os.Lstat(path); !os.IsNotExist(err) {
		t.Errorf("the socket is still there: %v", err)
	}
	close(leave)
	h.Shutdown()
	if delivered != 1 {
		t.Errorf("%d events were delivered, expected none after Close", delivered)
	}
}

func TestManySocketsTakeNoThreads(t *testing.T) {
	c := newCollector()
	h := start(t, Options{Deliver: c.deliver})
	threads := func() int {
		d, err := os.ReadDir("/proc/self/task")
		if err != nil {
			t.Fatal(err)
		}
		return len(d)
	}
	talk := func(from, to int) {
		for i := from; i < to; i++ {
			id := process(fmt.Sprint("w", i))
			send(t, open(t, h, id), "READY=1")
			c.await(t, id, 1)
		}
	}
	talk(0, 10)
	before := threads()
	talk(10, 400)
	// System calls that take long are worth a thread, too: a few, on any machine.
	if after := threads(); after > before+390/2 {
		t.Errorf("%d threads with 400 sockets, %d with 10", after, before)
	}
}

// What is said before anybody listens waits, and then comes in order.
func TestNothingIsReadBeforeListen(t *testing.T) {
	c := newCollector()
	h := start(t, Options{Deliver: c.deliver})
	early, other := process("early"), process("other")
	s, err := h.Open(early, os.Geteuid(), true)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Pipe.Close()
	send(t, s.Path, "READY=1", "STOPPING=1")
	send(t, open(t, h, other), "READY=1")
	c.await(t, other, 1)
	if ev := c.of(early); len(ev) != 0 {
		t.Errorf("before Listen it said %v", ev)
	}
	if err := h.Listen(early); err != nil {
		t.Fatal(err)
	}
	want := []lifecycle.Event{lifecycle.Ready{Generation: 7}, lifecycle.SaidStopping{Generation: 7}}
	if d := cmp.Diff(want, c.await(t, early, 2)); d != "" {
		t.Errorf("events (-want +got):\n%s", d)
	}
	if err := h.Listen(process("nobody")); err != nil {
		t.Errorf("listening to a process that is gone: %v", err)
	}
}

func TestWrongUserIsRefused(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Log("NOT TESTED: that another user's datagram is refused. It takes root: run this test as root.")
		return
	}
	c := newCollector()
	dir := shortDir(t)
	os.Chmod(dir, 0o755)
	h := start(t, Options{Dir: filepath.Join(dir, "n"), Deliver: c.deliver})
	const nobody, other = 65534, 65533
	id := process("a")
	s, err := h.Open(id, nobody, false)
	if err == nil {
		err = h.Listen(id)
	}
	if err != nil {
		t.Fatal(err)
	}
	var st unix.Stat_t
	if err := unix.Lstat(s.Path, &st); err != nil || st.Uid != nobody || st.Mode&0o777 != 0o600 {
		t.Errorf("the socket is of uid %d with mode %o (%v), expected %d and 600", st.Uid, st.Mode&0o777, err, nobody)
	}
	if err := sendAs(t, other, s.Path, "READY=1"); err == nil {
		t.Error("another user could send")
	}
	// One whose descriptor was opened for it reaches the socket all the same.
	if err := os.Chmod(s.Path, 0o666); err != nil {
		t.Fatal(err)
	}
	if err := sendAs(t, other, s.Path, "READY=1"); err != nil {
		t.Fatal(err)
	}
	if err := sendAs(t, nobody, s.Path, "STOPPING=1"); err != nil {
		t.Fatal(err)
	}
	send(t, s.Path, "WATCHDOG=1") // root may
	want := []lifecycle.Event{lifecycle.SaidStopping{Generation: 7}, lifecycle.WatchdogPinged{Generation: 7}}
	if d := cmp.Diff(want, c.await(t, id, 2)); d != "" {
		t.Errorf("events (-want +got):\n%s", d)
	}
	if refused, _ := h.Counters(id); refused != 1 {
		t.Errorf("refused %d, expected 1", refused)
	}
}

package process

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/workersd/workersd/pkg/internal/lifecycle"
)

// children is the one table of the test program: it waits for all children, so
// no test uses os/exec.
var (
	children *Table
	spawner  *Spawner
)

func TestMain(m *testing.M) {
	TrampolineMain()
	if err := BecomeSubreaper(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	if err := KeepDescriptors(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	before := openFiles()
	children = NewTable()
	spawner = NewSpawner(children)
	code := m.Run()
	spawner.Close(context.Background())
	children.Close()
	if n := len(children.children) + len(children.early) + children.starting; n != 0 {
		fmt.Fprintf(os.Stderr, "the table still knows of %d children\n", n)
		code = 1
	}
	if _, err := unix.Wait4(-1, nil, unix.WNOHANG, nil); err != unix.ECHILD {
		fmt.Fprintln(os.Stderr, "a child is left:", err)
		code = 1
	}
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		after := openFiles()
		if after <= before {
			break
		}
		if time.Now().After(deadline) {
			fmt.Fprintf(os.Stderr, "%d files open before, %d after\n", before, after)
			code = 1
			break
		}
	}
	os.Exit(code)
}

// openFiles does not count what the runtime opens for itself: epoll and eventfd
// come with the first pipe and stay.
func openFiles() (n int) {
	entries, _ := os.ReadDir("/proc/self/fd")
	for _, e := range entries {
		if to, _ := os.Readlink("/proc/self/fd/" + e.Name()); !strings.HasPrefix(to, "anon_inode:") && !strings.HasPrefix(to, "/proc/") {
			n++
		}
	}
	return n
}

// child is one started process and what it wrote.
type child struct {
	t      *testing.T
	pid    int
	out    *os.File
	status chan lifecycle.Status
}

func sh(script string) Start {
	return Start{Path: "/bin/sh", Args: []string{"sh", "-c", script}, Env: []string{"PATH=/usr/bin:/bin"}, Umask: -1, CgroupFD: -1}
}

func start(t *testing.T, st Start) (*child, error) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	defer w.Close()
	st.Files = append([]*os.File{null, w, w}, st.Files...)
	c := &child{t: t, out: r, status: make(chan lifecycle.Status, 2)}
	t.Cleanup(func() { r.Close() })
	c.pid, err = spawner.Do(st, func(s lifecycle.Status) { c.status <- s })
	return c, err
}

func mustStart(t *testing.T, st Start) *child {
	t.Helper()
	c, err := start(t, st)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// ended waits for the end.
func (c *child) ended() lifecycle.Status {
	c.t.Helper()
	select {
	case s := <-c.status:
		return s
	case <-time.After(30 * time.Second):
		c.t.Fatalf("process %d has not ended", c.pid)
		return lifecycle.Status{}
	}
}

// output is all it wrote, until it and its children closed it.
func (c *child) output() string {
	c.t.Helper()
	b, err := io.ReadAll(c.out)
	if err != nil {
		c.t.Fatal(err)
	}
	return string(b)
}

// line reads the next line.
func (c *child) line() string {
	c.t.Helper()
	var line []byte
	for b := make([]byte, 1); ; {
		if n, err := c.out.Read(b); n == 0 || err != nil {
			c.t.Fatalf("process %d wrote %q and no line end: %v", c.pid, line, err)
		}
		if b[0] == '\n' {
			return string(line)
		}
		line = append(line, b[0])
	}
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("does not become true: %s", what)
		}
	}
}

func exists(pid int) bool { return unix.Kill(pid, 0) == nil }

func write(t *testing.T, name, text string, mode os.FileMode) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	// By a child-less write and close before any start: a fork in another test
	// must not inherit it open for writing (ETXTBSY).
	syscall.ForkLock.RLock()
	err := os.WriteFile(path, []byte(text), mode)
	syscall.ForkLock.RUnlock()
	if err == nil {
		err = os.Chmod(path, mode)
	}
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func number(t *testing.T, s string) int {
	t.Helper()
	n, err := strconv.Atoi(strings.TrimSpace(s))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

package guard

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/workersd/workersd/pkg/spec"
)

func sig(ws unix.WaitStatus) spec.Signal { return spec.Signal(ws.Signal()) }

// Link is the manager's end of the line to its guard. A nil Link says nothing.
type Link struct {
	mu sync.Mutex // keeps the order of lines
	fd int
}

// Attach finds the guard of this process; nil where there is none. The death of
// the guard is a SIGTERM for us (see Run).
func Attach() *Link {
	if !Guarded() {
		return nil
	}
	os.Unsetenv(envPID)
	unix.CloseOnExec(linkFD)
	unix.SetNonblock(linkFD, true)
	return &Link{fd: linkFD}
}

// Started tells how a worker's main process wants to be ended. The pipe holds
// thousands of lines, and the guard does nothing but read it. If it is stopped
// (Ctrl-Z) and the pipe full, a line is dropped: no start waits for it.
func (l *Link) Started(pid int, stop spec.Signal, grace time.Duration) {
	l.say(fmt.Sprintf("%d %d %d\n", pid, int(stop), grace))
}

// Gone takes it back.
func (l *Link) Gone(pid int) { l.say(fmt.Sprintf("%d 0 0\n", pid)) }

func (l *Link) say(line string) {
	if l == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	unix.Write(l.fd, []byte(line)) // a guard that is gone has sent SIGTERM
}

// how is what the manager told about a main process.
type how struct {
	sig   syscall.Signal
	grace time.Duration
}

// told is what the manager has told.
type told struct {
	mu    sync.Mutex // guards mains
	mains map[int]how
	end   chan struct{}
}

func newTold() *told { return &told{mains: map[int]how{}, end: make(chan struct{})} }

// gather is how long lines may collect before they are read: thousands of
// starts must not wake the guard thousands of times.
const gather = 20 * time.Millisecond

// read takes lines until the manager, and every process that could still hold
// the pipe, is gone; workers do not hold it.
func (t *told) read(r io.Reader) {
	defer close(t.end)
	buf := make([]byte, 16<<10)
	for have := 0; ; {
		n, err := r.Read(buf[have:])
		have += n
		rest := t.take(buf[:have])
		have = copy(buf, rest)
		if err != nil || have == len(buf) { // no line is that long
			return
		}
		time.Sleep(gather)
	}
}

// take reads whole lines, and returns the part of one that is left.
func (t *told) take(b []byte) (rest []byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for {
		line, rest, whole := bytes.Cut(b, []byte{'\n'})
		if !whole {
			return b
		}
		b = rest
		f := strings.Fields(string(line))
		if len(f) != 3 {
			continue
		}
		pid, e1 := strconv.Atoi(f[0])
		sig, e2 := strconv.Atoi(f[1])
		grace, e3 := strconv.ParseInt(f[2], 10, 64)
		switch {
		case e1 != nil || e2 != nil || e3 != nil:
		case sig == 0:
			delete(t.mains, pid)
		default:
			t.mains[pid] = how{syscall.Signal(sig), time.Duration(grace)}
		}
	}
}

func (t *told) wait() {
	select {
	case <-t.end:
	case <-time.After(time.Second): // a helper of the manager holds it; enough was said
	}
}

// main is how to end the main process pid, if it is one.
func (t *told) main(pid int) (how, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	h, ok := t.mains[pid]
	return h, ok
}

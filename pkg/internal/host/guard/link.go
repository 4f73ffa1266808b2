package guard

import (
	"bufio"
	"fmt"
	"os"
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

// Attach finds the guard of this process; nil where there is none. From then on
// the death of the guard is a SIGTERM for us.
func Attach() *Link {
	if !Guarded() {
		return nil
	}
	os.Unsetenv(envPID)
	unix.CloseOnExec(linkFD)
	unix.SetNonblock(linkFD, true)
	parent := os.Getppid()
	unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGTERM), 0, 0, 0)
	if os.Getppid() != parent { // it died before we asked
		unix.Kill(os.Getpid(), unix.SIGTERM)
	}
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

// read takes lines until the manager, and every process that could still hold
// the pipe, is gone; workers do not hold it.
func (t *told) read(r *os.File) {
	defer close(t.end)
	for s := bufio.NewScanner(r); s.Scan(); {
		var pid, sig int
		var grace time.Duration
		if n, _ := fmt.Sscan(strings.TrimSpace(s.Text()), &pid, &sig, (*int64)(&grace)); n != 3 {
			continue
		}
		t.mu.Lock()
		if sig == 0 {
			delete(t.mains, pid)
		} else {
			t.mains[pid] = how{syscall.Signal(sig), grace}
		}
		t.mu.Unlock()
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

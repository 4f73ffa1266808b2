package process

import (
	"os"
	"os/signal"
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/workersd/workersd/pkg/internal/lifecycle"
	"github.com/workersd/workersd/pkg/spec"
)

// Table is all our children. One goroutine reaps them: a goroutine in
// os.Process.Wait for each would cost a thread for each.
//
// A pid is ours until it is reaped, and reaping and signalling take the same
// lock, so a signal never reaches a stranger that got the pid of one that ended.
type Table struct {
	mu       sync.Mutex // guards all below
	children map[int]func(lifecycle.Status)
	starting int // starts that are not registered yet
	// early are ends of children that nobody has registered yet: they may be of
	// a start under way. Without one they are strangers: orphans that became
	// ours because we are a subreaper.
	early map[int]earlyEnd
	// order counts starts and early ends: an end from before a start began was
	// of another process with the same pid.
	order uint64

	sigs chan os.Signal // buffer of 1: one wake-up covers any number of ends
	quit chan struct{}
	done chan struct{}
}

type earlyEnd struct {
	status lifecycle.Status
	order  uint64
}

// NewTable starts reaping. A program has at most one Table, and waits for no
// child by other means (os/exec) while it runs.
func NewTable() *Table {
	t := &Table{
		children: map[int]func(lifecycle.Status){}, early: map[int]earlyEnd{},
		sigs: make(chan os.Signal, 1), quit: make(chan struct{}), done: make(chan struct{}),
	}
	signal.Notify(t.sigs, syscall.SIGCHLD)
	go t.reap()
	return t
}

// Close stops reaping, after it has taken what has ended by now.
func (t *Table) Close() {
	signal.Stop(t.sigs)
	close(t.quit)
	<-t.done
	for t.reapOne() {
	}
}

func (t *Table) reap() {
	defer close(t.done)
	for {
		for t.reapOne() {
		}
		select {
		case <-t.sigs:
		case <-t.quit:
			return
		}
	}
}

// siginfo is siginfo_t for SIGCHLD on 64-bit Linux (sigaction(2)).
type siginfo struct {
	Signo, Errno, Code, _ int32
	Pid                   int32
	Uid                   uint32
	Status                int32
	_                     [100]byte
}

// reapOne takes one end, if there is one.
func (t *Table) reapOne() bool {
	var si siginfo
	err := unix.Waitid(unix.P_ALL, 0, (*unix.Siginfo)(unsafe.Pointer(&si)), unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil)
	if err == unix.EINTR {
		return true
	}
	if err != nil || si.Pid == 0 {
		return false
	}
	if ended, st, ours := t.collect(int(si.Pid)); ours {
		ended(st)
	}
	return true
}

// collect reaps one pid. It never waits: who started a command that could not
// be executed reaps it himself (syscall.ForkExec), and by now the pid may be
// another child's.
func (t *Table) collect(pid int) (ended func(lifecycle.Status), st lifecycle.Status, ours bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	var ws unix.WaitStatus
	got, err := 0, error(unix.EINTR)
	for err == unix.EINTR {
		got, err = unix.Wait4(pid, &ws, unix.WNOHANG, nil)
	}
	if err == nil && got == 0 {
		return nil, st, false // it lives
	}
	st = lifecycle.Status{Unknown: true}
	if err == nil {
		st = statusOf(ws)
	}
	ended, ours = t.children[pid]
	delete(t.children, pid)
	if !ours && err == nil && t.starting > 0 {
		t.order++
		t.early[pid] = earlyEnd{st, t.order}
	}
	return ended, st, ours
}

func statusOf(ws unix.WaitStatus) lifecycle.Status {
	switch {
	case ws.Exited():
		return lifecycle.Status{Code: ws.ExitStatus()}
	case ws.Signaled():
		return lifecycle.Status{Signal: spec.Signal(ws.Signal()), Core: ws.CoreDump()}
	}
	return lifecycle.Status{Unknown: true}
}

// begin announces a start: ends of unknown children are kept until it is over.
func (t *Table) begin() (since uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.starting++
	t.order++
	return t.order
}

// end registers what was started; pid 0 is a start that failed. Ended is
// called once, from the reaper or, if it has ended already, from here.
func (t *Table) end(since uint64, pid int, ended func(lifecycle.Status)) {
	t.mu.Lock()
	t.starting--
	e, early := t.early[pid]
	early = early && e.order > since
	if early {
		delete(t.early, pid)
	} else if pid != 0 {
		t.children[pid] = ended
	}
	if t.starting == 0 {
		clear(t.early)
	}
	t.mu.Unlock()
	if early {
		ended(e.status)
	}
}

// Signal sends a signal to a child that has not been reaped; it reports whether
// it was there.
func (t *Table) Signal(pid int, sig syscall.Signal) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, ok := t.children[pid]; !ok {
		return false
	}
	return unix.Kill(pid, sig) == nil
}

// Is reports whether pid is a registered child.
func (t *Table) Is(pid int) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	_, ok := t.children[pid]
	return ok
}

// Orphans are those of our children that no start has registered: what became
// ours because its parents ended, and starts under way. While list reads the
// children nobody is reaped, because that would make it skip others
// (proc_tid_children(5)).
func (t *Table) Orphans(list func() (pids []int, ok bool)) (orphans []int, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	pids, ok := list()
	if !ok {
		return nil, false
	}
	for _, pid := range pids {
		if _, ours := t.children[pid]; !ours {
			orphans = append(orphans, pid)
		}
	}
	return orphans, true
}

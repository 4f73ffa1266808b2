package guard

import (
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/workersd/workersd/pkg/internal/host/procmem"
	"github.com/workersd/workersd/pkg/internal/lifecycle"
)

// The manager finds its guard by these: the guard's pid, and the descriptor on
// which it says how its processes want to be stopped.
const (
	envPID = "WORKERSD_GUARD_PID"
	linkFD = 3
)

// dieTime is what a process may take to die of SIGKILL. One that does not is
// uninterruptible, and must not keep the terminal.
const dieTime = 10 * time.Second

// Guarded reports whether this process is a manager below its guard.
func Guarded() bool { return os.Getenv(envPID) == strconv.Itoa(os.Getppid()) }

// Run starts argv again as the manager, and returns its exit code when it and
// everything it started has ended. Signals that end, reload or tell go to the
// manager. It is called by a program that has no children.
func Run(argv []string) (code int) {
	// The manager is told when its parent dies, and that means the thread that
	// started it (prctl(2), PR_SET_PDEATHSIG).
	runtime.LockOSThread()
	fail := func(what string, err error) int {
		fmt.Fprintf(os.Stderr, "workersd: %s: %v\n", what, err)
		return 1
	}
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return fail("cannot become a subreaper", err)
	}
	// Not os.Pipe: its descriptors are watched by the network poller, which every
	// line would wake (see gather).
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
		return fail("pipe", err)
	}
	r, w := os.NewFile(uintptr(pipe[0]), "link"), os.NewFile(uintptr(pipe[1]), "link")
	// Before the start, so that no signal falls between.
	sigs := make(chan os.Signal, 16)
	signal.Notify(sigs, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2)
	exe, err := os.Executable()
	if err != nil {
		return fail("our own program", err)
	}
	pid, err := syscall.ForkExec(exe, argv, &syscall.ProcAttr{
		Env:   append(os.Environ(), envPID+"="+strconv.Itoa(os.Getpid())),
		Files: []uintptr{0, 1, 2, w.Fd()},
		// A group of its own: Ctrl-C reaches it once, through us. A second one
		// means "at once". What is asked of the kernel here is asked by the manager's
		// first thread, which never ends and never takes the rights of a worker's
		// user: with either the kernel would forget it. ForkExec sends the signal
		// itself where we died before it had asked.
		Sys: &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM},
	})
	w.Close()
	if err != nil {
		return fail("the manager cannot be started", err)
	}
	told := newTold()
	go told.read(r)
	// We have read the whole worker list to see whether it is right, and need
	// none of it from here on.
	debug.FreeOSMemory()
	ws := attend(pid, sigs)
	if ws.Exited() {
		code = ws.ExitStatus()
	} else {
		code = 128 + int(ws.Signal())
		fmt.Fprintf(os.Stderr, "workersd: the manager was ended by %v; its workers are ended now\n", lifecycle.Status{Signal: sig(ws)})
	}
	told.wait()
	told.endAll(sigs)
	return code
}

// attend hands signals on to the manager until it has ended.
func attend(pid int, sigs <-chan os.Signal) (ws unix.WaitStatus) {
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case s := <-sigs:
				unix.Kill(pid, s.(syscall.Signal))
			case <-stop:
				return
			}
		}
	}()
	for {
		// First without reaping it: until nobody signals it any more its pid must
		// not become another's.
		var si unix.Siginfo
		err := unix.Waitid(unix.P_PID, pid, &si, unix.WEXITED|unix.WNOWAIT, nil)
		if err != unix.EINTR {
			break
		}
	}
	close(stop)
	<-stopped
	for {
		if _, err := unix.Wait4(pid, &ws, 0, nil); err != unix.EINTR {
			return ws
		}
	}
}

// endAll ends all our descendants: the stop signal of each main process, its
// grace, SIGKILL; then what the main processes left. A signal to us means at
// once.
func (t *told) endAll(sigs <-chan os.Signal) {
	var table procmem.Table
	asked := map[procmem.Proc]time.Time{} // to its last moment
	var killed map[procmem.Proc]time.Time // when it was killed first
	atOnce := false
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if table.Scan() != nil {
			return
		}
		reap() // after the look: what has ended by then has become ours by now
		left := descendants(&table, os.Getpid())
		due := t.due(&table, left, asked, atOnce)
		for _, p := range due {
			table.Signal(p, unix.SIGKILL)
		}
		if killed = since(killed, due); len(left) == 0 || len(killed) == len(left) && stuck(killed) {
			return
		}
		select {
		case <-tick.C:
		case s := <-sigs:
			atOnce = atOnce || s == syscall.SIGINT || s == syscall.SIGTERM || s == syscall.SIGQUIT
		}
	}
}

// reap takes what has ended.
func reap() {
	for {
		if pid, err := unix.Wait4(-1, nil, unix.WNOHANG, nil); err != unix.EINTR && (err != nil || pid <= 0) {
			return
		}
	}
}

// due asks the main processes that were not asked yet, and returns what is to
// be killed: main processes whose grace is over, and what stands without one.
func (t *told) due(table *procmem.Table, left []procmem.Proc, asked map[procmem.Proc]time.Time, atOnce bool) (due []procmem.Proc) {
	living := map[int]bool{}
	for _, p := range left {
		if _, ok := t.main(p.PID); ok {
			living[p.PID] = true
		}
	}
	for _, p := range left {
		how, main := t.main(p.PID)
		if !main {
			// It helps a main process to its end, perhaps one that cannot be told
			// because it made a session of its own.
			of := living[p.Session]
			if _, known := t.main(p.Session); !known {
				of = len(living) > 0
			}
			if !of || atOnce {
				due = append(due, p)
			}
			continue
		}
		key := procmem.Proc{PID: p.PID, Start: p.Start}
		last, ok := asked[key]
		switch {
		case atOnce || ok && time.Now().After(last):
			due = append(due, p)
		case !ok:
			asked[key] = time.Now().Add(how.grace)
			table.Signal(p, how.sig)
		}
	}
	return due
}

// since keeps when each process was killed first.
func since(before map[procmem.Proc]time.Time, due []procmem.Proc) map[procmem.Proc]time.Time {
	now := make(map[procmem.Proc]time.Time, len(due))
	for _, p := range due {
		key := procmem.Proc{PID: p.PID, Start: p.Start}
		now[key] = time.Now()
		if t, ok := before[key]; ok {
			now[key] = t
		}
	}
	return now
}

// stuck reports whether none of them will die, and says so.
func stuck(killed map[procmem.Proc]time.Time) bool {
	for _, t := range killed {
		if time.Since(t) < dieTime {
			return false
		}
	}
	for p := range killed {
		fmt.Fprintf(os.Stderr, "workersd: process %d does not die of SIGKILL (it waits for a disk or a device); it is left\n", p.PID)
	}
	return true
}

// descendants are all processes below root that live.
func descendants(table *procmem.Table, root int) (out []procmem.Proc) {
	for _, p := range table.Procs {
		if p.Zombie || p.PID == root {
			continue
		}
		for at, steps := p, 0; steps < 1000; steps++ {
			if at.PPID == root {
				out = append(out, p)
				break
			}
			var ok bool
			if at, ok = table.Find(at.PPID); !ok {
				break
			}
		}
	}
	return out
}

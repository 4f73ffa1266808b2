package guard

import (
	"fmt"
	"os"
	"os/signal"
	"runtime"
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

// defaultGrace is for processes that the manager could not tell us about.
const defaultGrace = 10 * time.Second

// Guarded reports whether this process is a manager below its guard.
func Guarded() bool { return os.Getenv(envPID) == strconv.Itoa(os.Getppid()) }

// Run starts argv again as the manager, and returns its exit code when it and
// everything it started has ended. Signals that end, reload or tell go to the
// manager. It is called by a program that has no children.
func Run(argv []string) (code int) {
	// The manager asks to be told when its parent dies, and that means the
	// thread that started it (prctl(2), PR_SET_PDEATHSIG).
	runtime.LockOSThread()
	fail := func(what string, err error) int {
		fmt.Fprintf(os.Stderr, "workersd: %s: %v\n", what, err)
		return 1
	}
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return fail("cannot become a subreaper", err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		return fail("pipe", err)
	}
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
		// means "at once".
		Sys: &syscall.SysProcAttr{Setpgid: true},
	})
	w.Close()
	if err != nil {
		return fail("the manager cannot be started", err)
	}
	told := newTold()
	go told.read(r)
	go func() {
		for s := range sigs {
			unix.Kill(pid, s.(syscall.Signal))
		}
	}()
	var ws unix.WaitStatus
	for {
		got, err := unix.Wait4(-1, &ws, 0, nil)
		if err == unix.EINTR {
			continue
		}
		if err != nil || got == pid {
			break
		}
	}
	if ws.Exited() {
		code = ws.ExitStatus()
	} else {
		code = 128 + int(ws.Signal())
		fmt.Fprintf(os.Stderr, "workersd: the manager was ended by %v; its workers are ended now\n", lifecycle.Status{Signal: sig(ws)})
	}
	told.wait()
	told.endAll()
	return code
}

// endAll ends all our descendants: the stop signal of each, its grace, SIGKILL.
func (t *told) endAll() {
	var table procmem.Table
	asked := map[procmem.Proc]time.Time{} // to its last moment
	for {
		for { // what has ended needs no more
			if pid, err := unix.Wait4(-1, nil, unix.WNOHANG, nil); err != nil || pid <= 0 {
				break
			}
		}
		if table.Scan() != nil {
			return
		}
		left := descendants(&table, os.Getpid())
		if len(left) == 0 {
			return
		}
		for _, p := range left {
			key := procmem.Proc{PID: p.PID, Start: p.Start}
			last, ok := asked[key]
			switch {
			case !ok:
				how := t.how(p)
				asked[key] = time.Now().Add(how.grace)
				// Only a main process is asked; the rest of its tree follows it.
				if how.main {
					unix.Kill(p.PID, how.sig)
				}
			case time.Now().After(last) || t.over(p, asked):
				unix.Kill(p.PID, unix.SIGKILL)
			}
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// over reports whether the main process that p belongs to is gone already.
func (t *told) over(p procmem.Proc, asked map[procmem.Proc]time.Time) bool {
	how := t.how(p)
	if how.main {
		return false
	}
	main, known := t.mainOf(p)
	if !known {
		return true // nobody's grace
	}
	return unix.Kill(main, 0) != nil
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

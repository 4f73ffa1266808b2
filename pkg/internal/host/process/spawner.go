package process

import (
	"errors"
	"os"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/workersd/workersd/pkg/internal/lifecycle"
)

// Start says what to start.
type Start struct {
	Path  string // of the program, absolute or relative to Dir
	Args  []string
	Env   []string
	Dir   string // "": ours
	Files []*os.File
	User  *User // nil: ours
	Umask int   // -1: ours

	Nice        int
	OOMScoreAdj int
	LimitNoFile int // 0: as we were started

	CgroupFD   int    // -1: none
	CgroupPath string // of the same, for where clone3 is refused
}

// How many starts work at a time, and how long one may prepare before it is
// taken for hung and another may go on in its place.
const (
	startsAtATime = 4
	hungAfter     = 3 * time.Second
)

// Spawner starts processes from threads of its own. Working directory and
// umask belong to a thread there (unshare(2), CLONE_FS): so neither needs a
// helper process between us and the worker, and a directory on a dead network
// file system hangs one thread, not the fork lock of the whole program.
type Spawner struct {
	table *Table
	room  chan struct{}   // a token for each start at a time
	idle  chan *spawnLine // threads that wait; buffered: never more than startsAtATime
}

// spawnLine is one thread.
type spawnLine struct {
	work chan func()
	home int // our working directory, as a descriptor
}

// NewSpawner makes no thread yet.
func NewSpawner(t *Table) *Spawner {
	s := &Spawner{table: t, room: make(chan struct{}, startsAtATime), idle: make(chan *spawnLine, startsAtATime)}
	for range startsAtATime {
		s.room <- struct{}{}
	}
	return s
}

// Close ends the threads that wait. No Start may be under way.
func (s *Spawner) Close() {
	for {
		select {
		case l := <-s.idle:
			close(l.work)
		default:
			return
		}
	}
}

// Do starts a process. Ended is called once, with its status, from any
// goroutine; it may come before Do returns. The error is for a person: it names
// the path or user and says what to do.
func (s *Spawner) Do(st Start, ended func(lifecycle.Status)) (pid int, err error) {
	<-s.room
	line, err := s.line()
	if err != nil {
		s.room <- struct{}{}
		return 0, err
	}
	result := make(chan struct{})
	line.work <- func() {
		pid, err = s.run(line, st, ended)
		close(result)
	}
	hung := time.NewTimer(hungAfter)
	defer hung.Stop()
	select {
	case <-result:
		s.room <- struct{}{}
	case <-hung.C:
		// It keeps its thread; its token goes to another.
		s.room <- struct{}{}
		<-result
	}
	select {
	case s.idle <- line:
	default:
		close(line.work) // one too many, after something had hung
	}
	return pid, err
}

func (s *Spawner) line() (*spawnLine, error) {
	select {
	case l := <-s.idle:
		return l, nil
	default:
	}
	l := &spawnLine{work: make(chan func())}
	ready := make(chan error)
	go func() {
		// Never unlocked: the thread ends with the goroutine, and nobody else
		// gets a thread with a working directory of its own.
		runtime.LockOSThread()
		err := unix.Unshare(unix.CLONE_FS)
		if err == nil {
			l.home, err = unix.Open(".", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		}
		ready <- err
		if err != nil {
			return
		}
		defer unix.Close(l.home)
		for fn := range l.work {
			fn()
		}
	}()
	if err := <-ready; err != nil {
		return nil, errors.New("a thread to start it from cannot be made: " + err.Error())
	}
	return l, nil
}

// run is on a thread of its own.
func (s *Spawner) run(l *spawnLine, st Start, ended func(lifecycle.Status)) (int, error) {
	if err := l.enter(st); err != nil {
		return 0, err
	}
	if err := checkProgram(st); err != nil {
		return 0, err
	}
	attr := &syscall.ProcAttr{Env: st.Env, Sys: &syscall.SysProcAttr{Setsid: true}}
	for _, f := range st.Files {
		attr.Files = append(attr.Files, f.Fd())
	}
	if st.User != nil {
		attr.Sys.Credential = st.User.credential()
	}
	s.table.begin()
	pid, err := s.fork(st, attr)
	if err != nil {
		s.table.end(0, nil)
		return 0, explain(st, err)
	}
	applyOutside(pid, st)
	s.table.end(pid, ended)
	return pid, nil
}

func (s *Spawner) fork(st Start, attr *syscall.ProcAttr) (int, error) {
	if st.CgroupFD < 0 {
		return syscall.ForkExec(st.Path, st.Args, attr)
	}
	if !clone3Refused.Load() {
		attr.Sys.UseCgroupFD, attr.Sys.CgroupFD = true, st.CgroupFD
		pid, err := syscall.ForkExec(st.Path, st.Args, attr)
		if !errors.Is(err, syscall.ENOSYS) {
			return pid, err
		}
		// seccomp hides clone3 (RestrictNamespaces=, container runtimes).
		clone3Refused.Store(true)
	}
	return forkByTrampoline(st, attr)
}

// enter gives the thread the directory and umask that the child will inherit.
func (l *spawnLine) enter(st Start) error {
	if err := unix.Fchdir(l.home); err != nil {
		return errors.New("our own working directory is gone: " + err.Error())
	}
	if st.Dir != "" {
		if err := unix.Chdir(st.Dir); err != nil {
			switch err {
			case unix.ENOENT:
				return errors.New("directory " + st.Dir + " does not exist (make it, or correct directory)")
			case unix.ENOTDIR:
				return errors.New("directory " + st.Dir + " is no directory")
			}
			return errors.New("directory " + st.Dir + ": " + err.Error())
		}
	}
	umask := st.Umask
	if umask < 0 {
		umask = ourUmask
	}
	unix.Umask(umask)
	return nil
}

// ourUmask is what the program was started with. It can only be read by
// setting it, which init does before there is a second thread.
var ourUmask = func() int {
	old := unix.Umask(0o022)
	unix.Umask(old)
	return old
}()

// applyOutside sets what can be set from outside, right after the start.
func applyOutside(pid int, st Start) {
	if st.Nice != 0 {
		unix.Setpriority(unix.PRIO_PROCESS, pid, st.Nice)
	}
	if st.LimitNoFile > 0 {
		lim := unix.Rlimit{Cur: uint64(st.LimitNoFile), Max: uint64(st.LimitNoFile)}
		unix.Prlimit(pid, unix.RLIMIT_NOFILE, &lim, nil)
	}
	// A worker inherits the manager's protection from the OOM killer; then no
	// limit kills it (FACTS §11, E5). So it is set always, also to 0.
	setOOMScoreAdj(pid, st.OOMScoreAdj)
}

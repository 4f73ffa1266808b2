package process

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/workersd/workersd/pkg/internal/host/room"
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

	// Problem is told, before Do returns, what was refused to a process that
	// runs all the same; nil: nobody is.
	Problem func(text string)
}

// program is the path as seen from our own directory.
func (st *Start) program() string {
	if st.Dir != "" && !filepath.IsAbs(st.Path) {
		return filepath.Join(st.Dir, st.Path)
	}
	return st.Path
}

// startsAtATime is how many starts work at a time, but for those that hang.
const startsAtATime = 4

// Spawner starts processes from threads of its own. Working directory and
// umask belong to a thread there (unshare(2), CLONE_FS): so neither needs a
// helper process between us and the worker, and a directory on a dead network
// file system hangs one thread, not the fork lock of the whole program. So does
// the descriptor table: see gate.
type Spawner struct {
	table *Table
	keep  []int // descriptors that each thread needs; nil: they are not known
	room  *room.Room
	idle  chan *spawnLine // threads that wait; buffered: never more than startsAtATime

	mu      sync.Mutex // guards what follows
	closed  bool
	forking int
	quiet   chan struct{} // closed when closed and no fork is under way
}

// spawnLine is one thread.
type spawnLine struct {
	work chan func()
	home int // our working directory, as a descriptor
	// own says that directory and umask are the thread's own. Containers without
	// CAP_SYS_ADMIN refuse unshare(2) altogether; there the child changes its
	// directory and a trampoline its umask.
	own    bool
	gate   *gate // nil: its descriptors are the program's
	broken bool  // it could not be made ours again
}

// end lets the thread end, which has nothing to do.
func (l *spawnLine) end() {
	close(l.work)
	if l.gate != nil {
		unix.Close(l.gate.outside)
	}
}

// unshare is another function in tests.
var unshare = unix.Unshare

// NewSpawner makes no thread yet.
func NewSpawner(t *Table) *Spawner {
	return &Spawner{table: t, keep: ofRuntime(), room: room.New(startsAtATime), idle: make(chan *spawnLine, startsAtATime), quiet: make(chan struct{})}
}

// Close ends the threads that wait. No start comes after it; it waits for forks
// under way as long as ctx lets it. A start that hangs before its fork fails
// when it goes on.
func (s *Spawner) Close(ctx context.Context) {
	s.mu.Lock()
	if !s.closed {
		s.closed = true
		if s.forking == 0 {
			close(s.quiet)
		}
	}
	s.mu.Unlock()
	select {
	case <-s.quiet:
	case <-ctx.Done():
	}
	s.endIdle()
}

// endIdle ends the threads that wait.
func (s *Spawner) endIdle() {
	for {
		select {
		case l := <-s.idle:
			l.end()
		default:
			return
		}
	}
}

// errClosed: the program ends.
var errClosed = errors.New("nothing is started any more: the manager ends")

// mayFork counts a fork under way, which forked takes back.
func (s *Spawner) mayFork() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.forking++
	return true
}

func (s *Spawner) forked() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.forking--
	if s.closed && s.forking == 0 {
		close(s.quiet)
	}
}

// Do starts a process. Ended is called once, with its status, from any
// goroutine; it may come before Do returns. The error is for a person: it names
// the path or user and says what to do.
func (s *Spawner) Do(st Start, ended func(lifecycle.Status)) (pid int, err error) {
	defer s.room.Enter()()
	line, err := s.line()
	if err != nil {
		return 0, err
	}
	fds := st.descriptors()
	if line.gate != nil {
		if err := line.gate.hand(fds); err != nil {
			s.put(line)
			return 0, fmt.Errorf("descriptors for a start: %w", err)
		}
	}
	var problems []string
	s.await(line, func() { pid, problems, err = s.run(line, st, fds, ended) })
	for _, p := range problems {
		if st.Problem != nil {
			st.Problem(p)
		}
	}
	return pid, err
}

// descriptors are those of the files, then that of the cgroup, if there is one.
func (st *Start) descriptors() (fds []int) {
	for _, f := range st.Files {
		fds = append(fds, int(f.Fd()))
	}
	if st.CgroupFD >= 0 {
		fds = append(fds, st.CgroupFD)
	}
	return fds
}

// await lets fn run on a thread.
func (s *Spawner) await(line *spawnLine, fn func()) {
	result := make(chan struct{})
	line.work <- func() {
		fn()
		close(result)
	}
	<-result
	s.put(line)
}

func (s *Spawner) put(line *spawnLine) {
	if line.broken {
		line.end()
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		line.end()
		return
	}
	select {
	case s.idle <- line:
	default:
		line.end() // one too many, after something had hung
	}
}

func (s *Spawner) line() (*spawnLine, error) {
	select {
	case l := <-s.idle:
		return l, nil
	default:
	}
	l := &spawnLine{work: make(chan func())}
	ready := make(chan error)
	go l.serve(ready, s.keep)
	err := <-ready
	if l.gate != nil {
		unix.Close(l.gate.inside) // the program's copy
	}
	if err != nil {
		l.end()
		return nil, fmt.Errorf("our own working directory cannot be opened: %w", err)
	}
	return l, nil
}

// serve is the thread. It is never unlocked: the thread ends with the
// goroutine, and nobody else gets one with a working directory of its own.
func (l *spawnLine) serve(ready chan<- error, keep []int) {
	runtime.LockOSThread()
	if unix.Gettid() == os.Getpid() {
		// The first thread keeps the program's working directory and rights, with
		// which the signal at its parent's death would go (asUser), and its children are
		// orphans only (procmem.Adopted). It is held until the line has another.
		begun := make(chan error)
		go l.serve(begun, keep)
		ready <- <-begun
		runtime.UnlockOSThread()
		return
	}
	l.own = unshare(unix.CLONE_FS) == nil
	l.gate = openGate(keep)
	var err error
	l.home, err = unix.Open(".", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	ready <- err
	if err != nil {
		return
	}
	defer unix.Close(l.home)
	for fn := range l.work {
		fn()
	}
}

// run is on a thread of its own. Problems are what was refused to the process.
func (s *Spawner) run(l *spawnLine, st Start, fds []int, ended func(lifecycle.Status)) (pid int, problems []string, err error) {
	if l.gate != nil {
		if fds, err = l.gate.take(len(fds)); err != nil {
			return 0, nil, err
		}
		defer closeFDs(fds)
	}
	if err := l.enter(st); err != nil {
		return 0, nil, err
	}
	attr := &syscall.ProcAttr{Env: st.Env, Sys: &syscall.SysProcAttr{Setsid: true}}
	if !l.own {
		attr.Dir = st.Dir
	}
	for _, fd := range fds[:len(st.Files)] {
		attr.Files = append(attr.Files, uintptr(fd))
	}
	if st.CgroupFD >= 0 {
		st.CgroupFD = fds[len(st.Files)]
	}
	if st.User != nil {
		attr.Sys.Credential = st.User.credential()
	}
	if !s.mayFork() {
		return 0, nil, errClosed
	}
	defer s.forked()
	since := s.table.begin()
	var refused refusals
	refused.add("nice", st.Nice, l.takeNice(st.Nice), "below the manager's own it takes CAP_SYS_NICE")
	pid, err = l.fork(st, attr)
	l.giveNice(st.Nice)
	if err != nil {
		s.table.end(since, 0, nil)
		return 0, nil, explain(st, err)
	}
	refused.add("oom_score_adj", st.OOMScoreAdj, setOOMScoreAdj(pid, st.OOMScoreAdj), "below the manager's own it takes CAP_SYS_RESOURCE")
	s.table.end(since, pid, ended)
	return pid, refused, nil
}

func (l *spawnLine) fork(st Start, attr *syscall.ProcAttr) (int, error) {
	// A limit set from outside comes after the program has looked at it, and for
	// another user it takes CAP_SYS_RESOURCE (prlimit(2)), which containers lack.
	if st.LimitNoFile > 0 || !l.own && st.Umask >= 0 && st.Umask != ourUmask {
		return forkByTrampoline(st, attr)
	}
	if st.CgroupFD < 0 {
		return syscall.ForkExec(st.Path, st.Args, attr)
	}
	if clone3Refused.Load() {
		return forkByTrampoline(st, attr)
	}
	attr.Sys.UseCgroupFD, attr.Sys.CgroupFD = true, st.CgroupFD
	pid, err := syscall.ForkExec(st.Path, st.Args, attr)
	// seccomp hides clone3 (RestrictNamespaces=, container runtimes): as one
	// that does not exist or, in older ones, that is not permitted.
	switch {
	case errors.Is(err, syscall.ENOSYS):
		clone3Refused.Store(true)
		return forkByTrampoline(st, attr)
	case errors.Is(err, syscall.EPERM):
		if pid, err := forkByTrampoline(st, attr); err == nil {
			clone3Refused.Store(true)
			return pid, nil
		}
	}
	return pid, err
}

// enter looks at directory and program with the rights of the worker's user,
// so that an error names the one that is wrong, and gives the thread the
// directory and umask that the child will inherit. A path that hangs hangs here
// only.
func (l *spawnLine) enter(st Start) error {
	if l.own {
		if err := unix.Fchdir(l.home); err != nil {
			return fmt.Errorf("our own working directory is gone: %w", err)
		}
		umask := st.Umask
		if umask < 0 {
			umask = ourUmask
		}
		unix.Umask(umask)
	}
	err, back := asUser(st.User, func() error {
		if err := l.checkDirectory(st); err != nil {
			return err
		}
		return checkProgram(st)
	})
	if back != nil {
		l.broken = true
		return back
	}
	return err
}

func (l *spawnLine) checkDirectory(st Start) error {
	if st.Dir == "" {
		return nil
	}
	fd, err := unix.Open(st.Dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err == nil {
		defer unix.Close(fd)
		if l.own {
			err = unix.Fchdir(fd)
		} else {
			err = unix.Faccessat(unix.AT_FDCWD, st.Dir, unix.X_OK, unix.AT_EACCESS)
		}
	}
	switch err {
	case nil:
		return nil
	case unix.ENOENT:
		return fmt.Errorf("directory %s does not exist (make it, or correct directory)", st.Dir)
	case unix.ENOTDIR:
		return fmt.Errorf("directory %s is no directory (correct directory)", st.Dir)
	case unix.EACCES:
		return fmt.Errorf("directory %s may not be entered%s (look at the modes of it and those above it)", st.Dir, st.who())
	}
	return fmt.Errorf("directory %s: %w", st.Dir, err)
}

// ourUmask is what the program was started with. It can only be read by
// setting it, which init does before there is a second thread.
var ourUmask = func() int {
	old := unix.Umask(0o022)
	unix.Umask(old)
	return old
}()

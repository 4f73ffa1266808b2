package process

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// inherited is our own oom_score_adj, which children get.
var inherited = func() int {
	n, _ := oomScoreAdj(os.Getpid())
	return n
}()

func oomScoreAdj(pid int) (int, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/oom_score_adj", pid))
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(string(b)))
}

// refusals gathers what was refused to a process that runs all the same: a limit
// is never dropped in silence.
type refusals []string

func (r *refusals) add(key string, value int, err error, hint string) {
	// A process that has ended needs none.
	if err != nil && err != unix.ESRCH && err != unix.ENOENT {
		*r = append(*r, fmt.Sprintf("%s = %d cannot be set: %v (%s)", key, value, err, hint))
	}
}

// takeNice gives the thread the niceness that the child inherits: set from
// outside it would miss the threads and children that the child has by then. It
// is as it is, not relative to ours; a manager that was itself started with nice
// keeps it for workers that say nothing.
func (l *spawnLine) takeNice(nice int) error {
	if nice == ourNice {
		return nil
	}
	err := unix.Setpriority(unix.PRIO_PROCESS, 0, nice)
	if nice == 0 && (err == unix.EACCES || err == unix.EPERM) {
		return nil
	}
	return err
}

// giveNice takes it back. Who may not (it takes CAP_SYS_NICE, or RLIMIT_NICE)
// starts the next process on another thread.
func (l *spawnLine) giveNice(nice int) {
	if nice != ourNice && unix.Setpriority(unix.PRIO_PROCESS, 0, ourNice) != nil {
		l.broken = true
	}
}

// ourNice is what children get; the system call counts from 20 down.
var ourNice = func() int {
	n, err := unix.Getpriority(unix.PRIO_PROCESS, 0)
	if err != nil {
		return 0
	}
	return 20 - n
}()

// protectAfter is when what a process has started in its first moment gets its
// oom_score_adj: later than any fork that was under way when it got its own.
const protectAfter = 100 * time.Millisecond

// protectTree sets oom_score_adj for what a process started before it had its own,
// and that still has the manager's: its protection from the OOM killer would be
// a stranger's for good. What a worker has set itself stays.
func (s *Spawner) protectTree(pid int, st Start) {
	done := map[int]bool{pid: true}
	for fresh, rounds := true, 0; fresh && rounds < 100; rounds++ {
		fresh = false
		for _, p := range s.members(pid, st) {
			if !done[p] { // forked by one that had not been reached
				done[p], fresh = true, true
				if is, err := oomScoreAdj(p); err == nil && is == inherited {
					setOOMScoreAdj(p, st.OOMScoreAdj)
				}
			}
		}
	}
}

// members are the processes in the cgroup of the start or, without one, the
// children of pid and theirs.
func (s *Spawner) members(pid int, st Start) []int {
	if st.CgroupPath != "" {
		return readPIDs(st.CgroupPath + "/cgroup.procs")
	}
	if !s.table.Is(pid) {
		return nil // another's by now
	}
	return childrenOf(pid)
}

func childrenOf(pid int) (pids []int) {
	tasks, _ := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	for _, task := range tasks {
		// Where the kernel does not tell (CONFIG_PROC_CHILDREN) there are none.
		for _, child := range readPIDs(fmt.Sprintf("/proc/%d/task/%s/children", pid, task.Name())) {
			pids = append(append(pids, child), childrenOf(child)...)
		}
	}
	return pids
}

func readPIDs(path string) (pids []int) {
	b, _ := os.ReadFile(path)
	for _, field := range strings.Fields(string(b)) {
		if pid, err := strconv.Atoi(field); err == nil && pid > 0 {
			pids = append(pids, pid)
		}
	}
	return pids
}

// setOOMScoreAdj writes /proc/PID/oom_score_adj unless it is so already. A
// worker inherits the manager's protection from the OOM killer otherwise, and
// then no limit kills it (at -1000 memory.max hangs the process instead). Raising
// is always allowed (proc_pid_oom_score_adj(5)); a desktop session that starts us
// with more than the default keeps it. By system calls alone: it runs on a thread
// with descriptors of its own, too, and what package os does besides (it logs for
// go test) belongs to those of the program.
func setOOMScoreAdj(pid, adj int) error {
	if adj == inherited {
		return nil
	}
	fd, err := unix.Open(fmt.Sprintf("/proc/%d/oom_score_adj", pid), unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	_, err = unix.Write(fd, []byte(strconv.Itoa(adj)))
	if adj == 0 && (err == unix.EACCES || err == unix.EPERM) {
		return nil
	}
	return err
}

// BecomeSubreaper makes orphans of our descendants our children, also those
// that made a session of their own (prctl(2), PR_SET_CHILD_SUBREAPER).
func BecomeSubreaper() error {
	return unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
}

// KeepDescriptors makes all descriptors that we were started with ours alone: a
// shell, an editor or a harness often leaves some open, and no worker is to
// hold them.
func KeepDescriptors() error {
	if unix.CloseRange(3, ^uint(0), unix.CLOSE_RANGE_CLOEXEC) == nil {
		return nil
	}
	entries, err := os.ReadDir("/proc/self/fd") // Linux before 5.11
	if err != nil {
		return err
	}
	for _, e := range entries {
		if fd, err := strconv.Atoi(e.Name()); err == nil && fd > 2 {
			unix.CloseOnExec(fd)
		}
	}
	return nil
}

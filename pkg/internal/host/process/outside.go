package process

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// inherited is our own oom_score_adj, which children get.
var inherited = func() int {
	b, err := os.ReadFile("/proc/self/oom_score_adj")
	if err != nil {
		return 0
	}
	n, _ := strconv.Atoi(strings.TrimSpace(string(b)))
	return n
}()

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

// protect sets oom_score_adj, from outside, right after the start: that of the
// process, and of what it has started by then, which has ours. A worker inherits
// the manager's protection from the OOM killer otherwise, and then no limit kills
// it (at -1000 memory.max hangs the process instead). Raising is always allowed
// (proc_pid_oom_score_adj(5)); a desktop session that starts us with more than the
// default keeps it.
func (st *Start) protect(pid int) error {
	adj := st.OOMScoreAdj
	if adj == inherited {
		return nil
	}
	if err := setOOMScoreAdj(pid, adj); err != nil {
		return err
	}
	done := map[int]bool{pid: true}
	for fresh, rounds := true, 0; fresh && rounds < 100; rounds++ {
		fresh = false
		for _, p := range st.members(pid) {
			if !done[p] { // forked by one that had not been reached
				done[p], fresh = true, true
				setOOMScoreAdj(p, adj)
			}
		}
	}
	return nil
}

// members are the processes in the cgroup of the start or, without one, the
// children of pid's first thread and theirs.
func (st *Start) members(pid int) (pids []int) {
	if st.CgroupFD >= 0 {
		return readPIDs(st.CgroupFD, "cgroup.procs")
	}
	// Where the kernel does not tell (CONFIG_PROC_CHILDREN) there are none.
	for _, child := range readPIDs(unix.AT_FDCWD, fmt.Sprintf("/proc/%d/task/%d/children", pid, pid)) {
		pids = append(append(pids, child), st.members(child)...)
	}
	return pids
}

// readPIDs is by system calls alone: it runs on a thread with descriptors of its
// own, and what package os does besides (it logs for go test) belongs to those of
// the program.
func readPIDs(dir int, name string) (pids []int) {
	fd, err := unix.Openat(dir, name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	defer unix.Close(fd)
	var text []byte
	for buf := make([]byte, 4096); ; {
		n, err := unix.Read(fd, buf)
		if err == unix.EINTR {
			continue
		}
		if n <= 0 {
			break
		}
		text = append(text, buf[:n]...)
	}
	for _, field := range strings.Fields(string(text)) {
		if pid, err := strconv.Atoi(field); err == nil && pid > 0 {
			pids = append(pids, pid)
		}
	}
	return pids
}

func setOOMScoreAdj(pid, adj int) error {
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

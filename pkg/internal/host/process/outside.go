package process

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

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
	if err != nil && !gone(err) { // who has ended needs none
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

// Inherits reports whether adj is our own oom_score_adj, which children get anyway.
func Inherits(adj int) bool { return adj == inherited }

// GiveOOMScoreAdj sets oom_score_adj for those of pids that still have the
// manager's: its protection from the OOM killer would be a stranger's for good.
// What a worker has set itself stays. Again says that one had the manager's, or
// is gone and may have had it: what it has forked before is to be given it, too.
func GiveOOMScoreAdj(pids []int, adj int) (again bool) {
	for _, pid := range pids {
		is, err := oomScoreAdj(pid)
		if err == nil && is != inherited {
			continue
		}
		if err == nil {
			err = writeOOMScoreAdj(pid, adj)
		}
		again = again || err == nil || gone(err)
	}
	return again
}

// gone says that the process that a file of /proc was about has ended.
func gone(err error) bool { return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ESRCH) }

// setOOMScoreAdj writes /proc/PID/oom_score_adj unless it is so already. A
// worker inherits the manager's protection from the OOM killer otherwise, and
// then no limit kills it (at -1000 memory.max hangs the process instead). Raising
// is always allowed (proc_pid_oom_score_adj(5)); a desktop session that starts us
// with more than the default keeps it.
func setOOMScoreAdj(pid, adj int) error {
	if adj == inherited {
		return nil
	}
	err := writeOOMScoreAdj(pid, adj)
	if adj == 0 && (err == unix.EACCES || err == unix.EPERM) {
		return nil
	}
	return err
}

// writeOOMScoreAdj does it by system calls alone: it runs on a thread with
// descriptors of its own, too, and what package os does besides (it logs for go
// test) belongs to those of the program.
func writeOOMScoreAdj(pid, adj int) error {
	fd, err := unix.Open(fmt.Sprintf("/proc/%d/oom_score_adj", pid), unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	_, err = unix.Write(fd, []byte(strconv.Itoa(adj)))
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

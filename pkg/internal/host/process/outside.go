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

// applyOutside sets what can be set from outside, right after the start. What
// is refused is told: a limit is never dropped in silence.
func applyOutside(pid int, st Start) (problems []string) {
	tell := func(key string, err error, hint string) {
		// A process that has ended needs none.
		if err != nil && err != unix.ESRCH && err != unix.ENOENT {
			problems = append(problems, fmt.Sprintf("%s cannot be set: %v (%s)", key, err, hint))
		}
	}
	if err := setNice(pid, st.Nice); err != nil {
		tell(fmt.Sprintf("nice = %d", st.Nice), err, "below the manager's own it takes CAP_SYS_NICE")
	}
	err := setOOMScoreAdj(pid, st.OOMScoreAdj)
	tell(fmt.Sprintf("oom_score_adj = %d", st.OOMScoreAdj), err, "below the manager's own it takes CAP_SYS_RESOURCE")
	return problems
}

// setNice sets it as it is, not relative to ours. A manager that was itself
// started with nice keeps it for workers that say nothing.
func setNice(pid, nice int) error {
	if nice == ourNice {
		return nil
	}
	err := unix.Setpriority(unix.PRIO_PROCESS, pid, nice)
	if nice == 0 && (err == unix.EACCES || err == unix.EPERM) {
		return nil
	}
	return err
}

// ourNice is what children get; the system call counts from 20 down.
var ourNice = func() int {
	n, err := unix.Getpriority(unix.PRIO_PROCESS, 0)
	if err != nil {
		return 0
	}
	return 20 - n
}()

// setOOMScoreAdj writes /proc/PID/oom_score_adj unless it is so already. A
// worker inherits the manager's protection from the OOM killer otherwise, and
// then no limit kills it (at -1000 memory.max hangs the process instead). Raising
// is always allowed (proc_pid_oom_score_adj(5)); a desktop session that starts us
// with more than the default keeps it.
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

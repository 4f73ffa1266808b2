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

// setOOMScoreAdj writes /proc/PID/oom_score_adj unless it is so already.
// Without CAP_SYS_RESOURCE it may only be raised (proc(5)): lowering is tried
// and, where it is refused, left.
func setOOMScoreAdj(pid, adj int) {
	if adj == inherited {
		return
	}
	fd, err := unix.Open(fmt.Sprintf("/proc/%d/oom_score_adj", pid), unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return
	}
	defer unix.Close(fd)
	unix.Write(fd, []byte(strconv.Itoa(adj)))
}

// BecomeSubreaper makes orphans of our descendants our children, also those
// that made a session of their own (prctl(2), PR_SET_CHILD_SUBREAPER).
func BecomeSubreaper() error {
	return unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
}

package process

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// A fork copies the whole descriptor table and the exec closes it again: with a
// few descriptors for each of thousands of workers both take longer than all
// the rest of a start. So a thread that forks has a table of its own (unshare(2),
// CLONE_FILES), in which there is nothing but what its next child is to have.
// Descriptors come to it through a gate, as between two programs (unix(7),
// SCM_RIGHTS).
type gate struct {
	outside int // in the table of the program
	inside  int // in that of the thread
}

// openGate gives the calling thread, which must be locked and never unlocked, a
// table of its own. Once it has begun, the program's copy of inside must be
// closed, by another thread. Nil: the thread shares the program's table, because
// nobody knows what to keep or the kernel refuses.
func openGate(keep []int) *gate {
	if keep == nil {
		return nil
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	if unshare(unix.CLONE_FILES) != nil {
		unix.Close(pair[0])
		unix.Close(pair[1])
		return nil
	}
	closeOthers(append([]int{pair[1]}, keep...))
	return &gate{outside: pair[0], inside: pair[1]}
}

// ofRuntime are the descriptors of Go's network poller, and others like them: a
// thread that wakes the poller writes to one. They are there since the first
// file was opened, and stay. Where they cannot be told it is nil.
func ofRuntime() (fds []int) {
	f, err := os.Open(os.DevNull) // from here on they are there
	if err != nil {
		return nil
	}
	defer f.Close()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return nil
	}
	polled := false
	for _, e := range entries {
		fd, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		to, _ := os.Readlink("/proc/self/fd/" + e.Name())
		polled = polled || to == "anon_inode:[eventpoll]"
		if strings.HasPrefix(to, "anon_inode:[event") {
			fds = append(fds, fd)
		}
	}
	if !polled {
		return nil
	}
	return fds
}

// closeOthers closes all descriptors of the calling thread but the standard
// three and those to keep.
func closeOthers(keep []int) {
	keep = slices.Sorted(slices.Values(keep))
	from := 3
	for _, fd := range append(keep, int(^uint32(0)>>1)) {
		if fd > from && closeRange(uint(from), uint(fd-1), 0) != nil {
			closeEach(keep) // Linux before 5.9
			return
		}
		from = max(from, fd+1)
	}
}

// closeRange is another function in tests.
var closeRange = unix.CloseRange

func closeEach(keep []int) {
	entries, _ := os.ReadDir("/proc/thread-self/fd")
	for _, e := range entries {
		if fd, err := strconv.Atoi(e.Name()); err == nil && fd > 2 && !slices.Contains(keep, fd) {
			unix.Close(fd)
		}
	}
}

// hand gives descriptors to the thread; any other thread calls it, before the
// thread takes them.
func (g *gate) hand(fds []int) error {
	if len(fds) == 0 {
		return nil
	}
	for {
		err := unix.Sendmsg(g.outside, []byte{0}, unix.UnixRights(fds...), nil, 0)
		if err != unix.EINTR {
			return err
		}
	}
}

// take is the other end: what was handed, as the thread knows it.
func (g *gate) take(n int) ([]int, error) {
	if n == 0 {
		return nil, nil
	}
	var data [1]byte
	oob := make([]byte, unix.CmsgSpace(4*n))
	var got int
	err := error(unix.EINTR)
	for err == unix.EINTR {
		_, got, _, _, err = unix.Recvmsg(g.inside, data[:], oob, unix.MSG_CMSG_CLOEXEC)
	}
	if err != nil {
		return nil, fmt.Errorf("descriptors for a start: %w", err)
	}
	messages, err := unix.ParseSocketControlMessage(oob[:got])
	if err != nil || len(messages) != 1 {
		return nil, errors.New("descriptors for a start have not come")
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err == nil && len(fds) != n {
		err = fmt.Errorf("only %d of %d descriptors for a start have come (RLIMIT_NOFILE?)", len(fds), n)
	}
	if err != nil {
		closeFDs(fds)
		return nil, err
	}
	return fds, nil
}

func closeFDs(fds []int) {
	for _, fd := range fds {
		unix.Close(fd)
	}
}

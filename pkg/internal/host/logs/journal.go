package logs

import (
	"fmt"
	"os"
	"strconv"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/workersd/workersd/pkg/spec"
)

const (
	defaultJournalSocket = "/run/systemd/journal/stdout"
	// journald takes 4096 streams of the whole host (STDOUT_STREAMS_MAX of its
	// source); the rest is for others.
	maxStreams = 3000
	// streamBuffer is what sd_journal_stream_fd(3) asks for, so that a worker
	// seldom waits for journald.
	streamBuffer = 8 << 20
)

// journal hands out streams of journald.
type journal struct {
	socket string
	unit   string
	most   int

	mu      sync.Mutex     // guards what follows
	own     map[string]int // processes by worker, of those that have streams of their own
	shared  map[string]int // by entry: a stream that is kept open
	failing bool
	told    bool // that streams are shared
}

func newJournal(socket, unit string) journal {
	if socket == "" {
		socket = defaultJournalSocket
	}
	return journal{socket: socket, unit: unit, most: maxStreams, own: map[string]int{}, shared: map[string]int{}}
}

func (j *journal) forget(worker string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.own[worker]--; j.own[worker] <= 0 { // below nothing: it shared one
		delete(j.own, worker)
	}
}

func (j *journal) close() {
	j.mu.Lock()
	defer j.mu.Unlock()
	for entry, fd := range j.shared {
		unix.Close(fd)
		delete(j.shared, entry)
	}
}

// openJournal makes a journal stream for one process of w. Its error has been
// told as a Problem.
func (h *Hub) openJournal(w *spec.Worker) (Output, error) {
	j := &h.journal
	j.mu.Lock()
	defer j.mu.Unlock()
	name := w.Name
	var fd int
	var err error
	if share := j.own[w.Name] == 0 && len(j.own) >= j.most; share {
		name = w.Entry
		fd, err = j.sharedStream(w.Entry)
		if err == nil && !j.told {
			j.told = true
			h.options.Problem(w.Name, fmt.Errorf("journal: %d workers have a stream of their own, and journald takes 4096 from the whole machine: from here on the workers of an entry share one (journalctl -t %s)", j.most, w.Entry))
		}
	} else if fd, err = j.connect(w.Name); err == nil {
		j.own[w.Name]++
	}
	if err != nil {
		if !j.failing {
			j.failing = true
			h.options.Problem(w.Name, fmt.Errorf("%w: workers write to the manager's own output instead", err))
		}
		return Output{}, err
	}
	if j.failing {
		j.failing = false
		h.options.Problem(w.Name, fmt.Errorf("journal: %s takes streams again", j.socket))
	}
	f := os.NewFile(uintptr(fd), "journal stream of "+name)
	return Output{Stdout: f, Stderr: f, Env: streamVariable(f), Target: Journal, Identifier: name}, nil
}

// sharedStream is a copy of the entry's stream, which is made anew when
// journald has let go of it.
func (j *journal) sharedStream(entry string) (int, error) {
	fd, ok := j.shared[entry]
	if ok && hungUp(fd) {
		unix.Close(fd)
		delete(j.shared, entry)
		ok = false
	}
	if !ok {
		var err error
		if fd, err = j.connect(entry); err != nil {
			return -1, err
		}
		j.shared[entry] = fd
	}
	c, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return -1, fmt.Errorf("journal: %w", err)
	}
	return c, nil
}

func hungUp(fd int) bool {
	p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}
	_, err := unix.Poll(p, 0)
	return err == nil && p[0].Revents&(unix.POLLHUP|unix.POLLERR) != 0
}

// connect opens one stream, as sd_journal_stream_fd(3) does. It does not wait
// for a journald that does not accept.
func (j *journal) connect(identifier string) (int, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return -1, fmt.Errorf("journal: %w", err)
	}
	if err := j.begin(fd, identifier); err != nil {
		unix.Close(fd)
		return -1, fmt.Errorf("journal: %s: %w", j.socket, err)
	}
	return fd, nil
}

func (j *journal) begin(fd int, identifier string) error {
	if err := unix.Connect(fd, &unix.SockaddrUnix{Name: j.socket}); err != nil {
		return err
	}
	if err := unix.Shutdown(fd, unix.SHUT_RD); err != nil {
		return err
	}
	// The first one needs a privilege; without it the system's maximum must do.
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, streamBuffer) != nil {
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, streamBuffer)
	}
	// Identifier, unit, priority "info", honour <N> prefixes, and no copies to
	// syslog, kmsg and console. journald takes the unit only from root, for lines
	// of processes that have ended before it looked (journald-context.c).
	header := identifier + "\n" + j.unit + "\n6\n1\n0\n0\n0\n"
	if n, err := unix.Write(fd, []byte(header)); err != nil {
		return err
	} else if n < len(header) {
		return fmt.Errorf("took %d of %d bytes of the header", n, len(header))
	}
	// The flag is shared with the worker, whose writes must wait.
	return unix.SetNonblock(fd, false)
}

// streamVariable is JOURNAL_STREAM of a process that is given f, by which
// libraries see that what they print goes to the journal.
func streamVariable(f *os.File) []string {
	var st unix.Stat_t
	raw, err := f.SyscallConn()
	if err != nil {
		return nil
	}
	if e := raw.Control(func(fd uintptr) { err = unix.Fstat(int(fd), &st) }); e != nil || err != nil {
		return nil
	}
	return []string{"JOURNAL_STREAM=" + strconv.FormatUint(uint64(st.Dev), 10) + ":" + strconv.FormatUint(st.Ino, 10)}
}

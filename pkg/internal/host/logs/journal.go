package logs

import (
	"fmt"
	"os"
	"strconv"
	"sync"
	"time"

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

	mu      sync.Mutex            // guards what follows
	own     map[string]*ownStream // by worker
	shared  map[string]int        // by entry: a stream that is kept open
	sweep   *time.Timer           // closes the streams of workers that do not come again; nil: none is idle
	failing bool
	told    bool // that streams are shared
}

// ownStream is the stream of one worker. It is kept from one process to the
// next: journald gives each of its streams to systemd to hold (FDSTORE), and
// systemd forks a process to close one (its async.c), which costs the machine
// more than the worker's own end and start.
type ownStream struct {
	fd   int
	idle time.Time // since when no process has it; zero: one has
}

func newJournal(socket, unit string) journal {
	if socket == "" {
		socket = defaultJournalSocket
	}
	return journal{socket: socket, unit: unit, most: maxStreams, own: map[string]*ownStream{}, shared: map[string]int{}}
}

// keepIdle is how long the stream of a worker without a process is kept: past
// most back-offs.
const keepIdle = time.Minute

// giveBack takes the stream of a process that is gone, if it is still the
// worker's. What it wrote last may have no line end, and journald holds it back
// until there is one, or until somebody else writes (LINE_BREAK_PID_CHANGE in
// journald-stream.c). An empty line is not stored.
func (j *journal) giveBack(worker string, o *ownStream) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.own[worker] != o {
		return // there is another one by now
	}
	if unix.Sendto(o.fd, []byte("\n"), unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, nil) != nil {
		j.drop(worker)
		return
	}
	o.idle = time.Now()
	if j.sweep == nil {
		j.sweep = time.AfterFunc(keepIdle, j.closeIdle)
	}
}

// drop closes the worker's stream; a process that has it keeps its copy.
func (j *journal) drop(worker string) {
	unix.Close(j.own[worker].fd)
	delete(j.own, worker)
}

// closeIdle closes what nobody has come back for.
func (j *journal) closeIdle() {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.sweep == nil {
		return // closed
	}
	j.sweep = nil
	var next time.Duration
	for worker, o := range j.own {
		if o.idle.IsZero() {
			continue
		}
		if left := keepIdle - time.Since(o.idle); left <= 0 {
			j.drop(worker)
		} else if next == 0 || left < next {
			next = left
		}
	}
	if next > 0 {
		j.sweep = time.AfterFunc(next, j.closeIdle)
	}
}

// makeRoom closes the stream that has been idle longest, if there is one.
func (j *journal) makeRoom() {
	if j.sweep == nil {
		return
	}
	oldest := ""
	for worker, o := range j.own {
		if !o.idle.IsZero() && (oldest == "" || o.idle.Before(j.own[oldest].idle)) {
			oldest = worker
		}
	}
	if oldest != "" {
		j.drop(oldest)
	}
}

func (j *journal) close() {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.sweep != nil {
		j.sweep.Stop()
		j.sweep = nil
	}
	for worker := range j.own {
		j.drop(worker)
	}
	j.own = nil // closed
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
	fd, own, err := j.stream(w)
	if err != nil {
		if !j.failing {
			j.failing = true
			h.options.Problem(w.Name, fmt.Errorf("%w: workers write to the manager's own output instead", err))
		}
		return Output{}, err
	}
	var gone func()
	if own != nil {
		gone = func() { j.giveBack(w.Name, own) }
	} else {
		name = w.Entry
		if !j.told {
			j.told = true
			h.options.Problem(w.Name, fmt.Errorf("journal: %d workers have a stream of their own, and journald takes 4096 from the whole machine: from here on the workers of an entry share one (journalctl -t %s)", j.most, w.Entry))
		}
	}
	if j.failing {
		j.failing = false
		h.options.Problem(w.Name, fmt.Errorf("journal: %s takes streams again", j.socket))
	}
	f := os.NewFile(uintptr(fd), "journal stream of "+name)
	return Output{Stdout: f, Stderr: f, Env: streamVariable(f), Target: Journal, Identifier: name, Gone: gone}, nil
}

// stream is a descriptor of a stream for a process of w, for the caller to
// close, and the worker's own stream, nil where it shares one.
func (j *journal) stream(w *spec.Worker) (fd int, own *ownStream, err error) {
	if j.own == nil {
		return -1, nil, os.ErrClosed
	}
	if j.own[w.Name] == nil && len(j.own) >= j.most {
		j.makeRoom()
	}
	if j.own[w.Name] == nil && len(j.own) >= j.most {
		fd, err = j.sharedStream(w.Entry)
		return fd, nil, err
	}
	if own, err = j.ownStream(w.Name); err != nil {
		return -1, nil, err
	}
	if fd, err = duplicateFD(own.fd); err != nil {
		j.drop(w.Name)
		return -1, nil, err
	}
	return fd, own, nil
}

// ownStream is the worker's stream, if no process has it and journald still does.
// Else there is a new one: two processes that write by turns, under overlap, would
// break each other's lines.
func (j *journal) ownStream(worker string) (*ownStream, error) {
	o := j.own[worker]
	if o != nil && !o.idle.IsZero() && !hungUp(o.fd) && unix.SetNonblock(o.fd, false) == nil {
		o.idle = time.Time{}
		return o, nil
	}
	fd, err := j.connect(worker)
	if err != nil {
		return nil, err
	}
	if o != nil {
		j.drop(worker)
	}
	o = &ownStream{fd: fd}
	j.own[worker] = o
	return o, nil
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
	return duplicateFD(fd)
}

func hungUp(fd int) bool {
	p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}
	_, err := unix.Poll(p, 0)
	return err == nil && p[0].Revents&(unix.POLLHUP|unix.POLLERR) != 0
}

func duplicateFD(fd int) (int, error) {
	c, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return -1, fmt.Errorf("journal: %w", err)
	}
	return c, nil
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

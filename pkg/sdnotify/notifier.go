package sdnotify

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Variables of the environment that say where the manager listens.
const (
	SocketVariable = "NOTIFY_SOCKET"
	PipeVariable   = "WORKERSD_NOTIFY_FD"
)

// SendTimeout is how long Send waits for a manager that does not read. A full
// queue is the manager's back-pressure, so a moment of waiting is normal.
const SendTimeout = 5 * time.Second

// Notifier is a worker's line to its manager. A nil *Notifier says nothing and
// succeeds: the worker runs without a manager. It may be used by several
// goroutines.
type Notifier struct {
	path     string // of the socket; "" where lines go to a pipe
	patience time.Duration

	mu     sync.Mutex // guards what follows
	fd     int
	closed bool
	buf    []byte // one message, for the pipe's line ends
}

// FromEnvironment is the Notifier for what the environment says: the socket in
// $NOTIFY_SOCKET, else the pipe in $WORKERSD_NOTIFY_FD, else nil without an
// error. The environment is left as it is, for the worker's children.
func FromEnvironment() (*Notifier, error) {
	if path := os.Getenv(SocketVariable); path != "" {
		return Dial(path)
	}
	s := os.Getenv(PipeVariable)
	if s == "" {
		return nil, nil
	}
	fd, err := strconv.Atoi(s)
	if err != nil || fd < 0 {
		return nil, fmt.Errorf("%s=%q is not a file descriptor", PipeVariable, s)
	}
	return OnPipe(fd)
}

// Dial connects to the datagram socket at path; a leading '@' is Linux's
// abstract namespace.
func Dial(path string) (*Notifier, error) {
	if !strings.HasPrefix(path, "/") && !strings.HasPrefix(path, "@") || len(path) < 2 {
		return nil, fmt.Errorf("%s=%q is neither an absolute path nor an abstract socket (@name)", SocketVariable, path)
	}
	fd, err := connect(path)
	if err != nil {
		return nil, err
	}
	return &Notifier{path: path, patience: SendTimeout, fd: fd}, nil
}

// OnPipe writes messages as lines to an inherited pipe. Close leaves fd open.
func OnPipe(fd int) (*Notifier, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, fmt.Errorf("%s=%d is not open: %w", PipeVariable, fd, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFIFO {
		return nil, fmt.Errorf("%s=%d is not a pipe", PipeVariable, fd)
	}
	unix.CloseOnExec(fd)
	return &Notifier{patience: SendTimeout, fd: fd}, nil
}

func connect(path string) (int, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return -1, fmt.Errorf("notify socket: %w", err)
	}
	// x/sys writes a leading '@' as the NUL of the abstract namespace.
	if err := unix.Connect(fd, &unix.SockaddrUnix{Name: path}); err != nil {
		unix.Close(fd)
		return -1, fmt.Errorf("notify socket %s: %w", path, err)
	}
	return fd, nil
}

// Send says message, one or more assignments on lines of their own. It waits
// at most SendTimeout, and it never raises SIGPIPE.
func (n *Notifier) Send(message string) error {
	if n == nil {
		return nil
	}
	if len(message) > MaxMessage {
		return errTooLong
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.buf = append(n.buf[:0], message...)
	return n.send(nil)
}

// SendMessage is Send without a string to build.
func (n *Notifier) SendMessage(m *Message) error {
	if n == nil {
		return nil
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.buf = m.Append(n.buf[:0])
	if len(n.buf) > MaxMessage {
		return errTooLong
	}
	return n.send(nil)
}

// Barrier returns once the manager has handled all that was sent before. On a
// pipe there is nothing to wait for: what was written stays, whoever exits.
func (n *Notifier) Barrier(ctx context.Context) error {
	if n == nil || n.path == "" {
		return nil
	}
	r, w, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("barrier: %w", err)
	}
	defer r.Close()
	n.mu.Lock()
	n.buf = append(n.buf[:0], "BARRIER=1"...)
	err = n.send(unix.UnixRights(int(w.Fd())))
	n.mu.Unlock()
	w.Close()
	if err != nil {
		return fmt.Errorf("barrier: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { r.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	if _, err := r.Read(make([]byte, 1)); errors.Is(err, os.ErrDeadlineExceeded) {
		return fmt.Errorf("barrier: the manager did not answer: %w", context.Cause(ctx))
	}
	return nil
}

// Close gives the socket back. Sending afterwards is an error.
func (n *Notifier) Close() error {
	if n == nil {
		return nil
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed || n.path == "" {
		n.closed = true
		return nil
	}
	n.closed = true
	return unix.Close(n.fd)
}

// send sends n.buf.
func (n *Notifier) send(rights []byte) error {
	if n.closed {
		return os.ErrClosed
	}
	if len(n.buf) == 0 {
		return errEmpty
	}
	if n.path == "" {
		return n.writeLines()
	}
	var deadline time.Time
	again := true
	for {
		err := unix.Sendmsg(n.fd, n.buf, rights, nil, unix.MSG_NOSIGNAL|unix.MSG_DONTWAIT)
		switch {
		case err == nil:
			return nil
		case err == unix.EINTR:
		case err == unix.EAGAIN:
			if deadline.IsZero() {
				deadline = time.Now().Add(n.patience)
			}
			if err := n.await(deadline); err != nil {
				return fmt.Errorf("notify socket %s: %w", n.path, err)
			}
		case again && (err == unix.ECONNREFUSED || err == unix.ECONNRESET || err == unix.ENOTCONN):
			// The manager bound the path anew.
			fd, err := connect(n.path)
			if err != nil {
				return err
			}
			unix.Close(n.fd)
			n.fd, again = fd, false
		default:
			return fmt.Errorf("notify socket %s: %w", n.path, err)
		}
	}
}

// writeLines writes the message in one piece: up to PIPE_BUF bytes are never
// mixed with what others write (pipe(7)).
func (n *Notifier) writeLines() error {
	if n.buf[len(n.buf)-1] != '\n' {
		n.buf = append(n.buf, '\n')
	}
	if len(n.buf) > MaxMessage {
		return errTooLong
	}
	// The pipe itself may be blocking, and its flags are shared with the
	// worker's children. Once there is room for a page, a write does not wait.
	if err := n.await(time.Now().Add(n.patience)); err != nil {
		return fmt.Errorf("notify pipe %d: %w", n.fd, err)
	}
	for {
		_, err := unix.Write(n.fd, n.buf)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return fmt.Errorf("notify pipe %d: %w", n.fd, err)
		}
		return nil
	}
}

// await waits until something can be sent.
func (n *Notifier) await(deadline time.Time) error {
	p := []unix.PollFd{{Fd: int32(n.fd), Events: unix.POLLOUT}}
	for {
		left := time.Until(deadline)
		if left <= 0 {
			return fmt.Errorf("the manager has not read for %v: %w", n.patience, os.ErrDeadlineExceeded)
		}
		k, err := unix.Poll(p, int(left.Milliseconds())+1)
		if err == unix.EINTR {
			continue
		}
		if err != nil || k > 0 {
			return err
		}
	}
}

package notify

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/workersd/workersd/pkg/internal/host/epoll"
	"github.com/workersd/workersd/pkg/internal/lifecycle"
)

// Membership is what can be told of a process that sent a message.
type Membership uint8

const (
	Unknown Membership = iota // it is gone already, or this machine cannot tell
	Member                    // it belongs to the process the socket was made for
	Foreign                   // it belongs to another worker
)

// Options are what a Hub is made of.
type Options struct {
	// Dir holds the sockets; it is made where it is missing, and sockets that an
	// earlier manager left there are removed.
	Dir string
	// Deliver takes what was said, in order for each process. It may block for
	// as long as the supervisor is busy: then nothing is read, and the workers
	// that talk too much wait.
	Deliver func(lifecycle.ProcessID, lifecycle.Event)
	// Problem takes what is wrong with what a process says: of each kind the first
	// time only, for a flood of it must cost little. It may be nil.
	Problem func(id lifecycle.ProcessID, text string)
	// Member looks a sender up; nil says Unknown of all.
	Member func(id lifecycle.ProcessID, pid int) Membership
}

// Socket is where one process can talk to the manager.
type Socket struct {
	Path string   // for NOTIFY_SOCKET
	Pipe *os.File // for WORKERSD_NOTIFY_FD, to be closed after the spawn; nil if not asked for
}

// Hub is all the notify sockets and pipes, read by one goroutine.
//
// The socket is the identity: whatever arrives there is about the process it
// was made for. Members of one process are told apart from strangers by uid,
// and from other workers by Options.Member.
type Hub struct {
	options Options
	uid     uint32 // the manager's own
	poller  *epoll.Poller
	readers sync.Pool     // of *reader, for Drain
	done    chan struct{} // closed by the loop when it ended

	mu      sync.Mutex // guards what follows
	next    uint64     // the number of the next socket, and the next token
	byID    map[lifecycle.ProcessID]*endpoint
	byToken map[uint64]*source
	closed  bool
}

// maxPath is what fits in sockaddr_un beside the ending NUL (unix(7)).
const maxPath = 107

// NewHub makes the directory ready and starts reading.
func NewHub(o Options) (*Hub, error) {
	if n := len(filepath.Join(o.Dir, "18446744073709551615")); n > maxPath {
		return nil, fmt.Errorf("notify directory %s: paths of sockets in it would have %d bytes, the system takes %d: choose a shorter one", o.Dir, n, maxPath)
	}
	if err := makeDir(o.Dir); err != nil {
		return nil, err
	}
	p, err := epoll.New()
	if err != nil {
		return nil, err
	}
	h := &Hub{
		options: o,
		uid:     uint32(os.Geteuid()),
		poller:  p,
		readers: sync.Pool{New: func() any { return newReader() }},
		done:    make(chan struct{}),
		byID:    map[lifecycle.ProcessID]*endpoint{},
		byToken: map[uint64]*source{},
	}
	go h.loop()
	return h, nil
}

// makeDir makes dir passable for all users, because each worker's user must
// reach its own socket, and readable for none of them.
func makeDir(dir string) error {
	if err := os.MkdirAll(dir, 0o711); err != nil {
		return fmt.Errorf("notify directory: %w", err)
	}
	if err := os.Chmod(dir, 0o711); err != nil {
		return fmt.Errorf("notify directory: %w", err)
	}
	old, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("notify directory: %w", err)
	}
	for _, e := range old {
		name, isTimeout := strings.CutSuffix(strings.TrimSuffix(e.Name(), ".new"), timeoutSuffix)
		if _, err := strconv.ParseUint(name, 10, 64); err == nil && (e.Type() == os.ModeSocket || isTimeout) {
			if err := os.Remove(filepath.Join(dir, e.Name())); err != nil {
				return fmt.Errorf("notify directory: old socket: %w", err)
			}
		}
	}
	return nil
}

// Open makes the socket of one process, which runs as uid, and with pipe its
// pipe too. What is said waits there until Listen. Close gives them back.
func (h *Hub) Open(id lifecycle.ProcessID, uid int, pipe bool) (Socket, error) {
	ep := &endpoint{id: id, uid: uint32(uid)}
	h.mu.Lock()
	if h.closed {
		h.mu.Unlock()
		return Socket{}, os.ErrClosed
	}
	if h.byID[id] != nil {
		h.mu.Unlock()
		return Socket{}, fmt.Errorf("worker %s: generation %d has a notify socket already", id.Worker, id.Generation)
	}
	h.byID[id] = ep
	ep.path = filepath.Join(h.options.Dir, strconv.FormatUint(h.next, 10))
	h.next++
	h.mu.Unlock()

	out, err := h.open(ep, pipe)
	if err != nil {
		h.Close(id)
		return Socket{}, fmt.Errorf("worker %s: %w", id.Worker, err)
	}
	return out, nil
}

func (h *Hub) open(ep *endpoint, pipe bool) (Socket, error) {
	out := Socket{Path: ep.path}
	fd, err := bind(ep.path, int(ep.uid))
	if err != nil {
		return Socket{}, err
	}
	h.add(ep, &source{ep: ep, fd: fd})
	if !pipe {
		return out, nil
	}
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
		return Socket{}, fmt.Errorf("notify pipe: %w", err)
	}
	// Only our end: the worker writes with ordinary, waiting calls.
	unix.SetNonblock(p[0], true)
	out.Pipe = os.NewFile(uintptr(p[1]), "notify pipe")
	h.add(ep, &source{ep: ep, fd: p[0], pipe: true})
	return out, nil
}

// bind makes the socket at path so that only uid can reach it, from the first
// moment: Linux gives the file the mode of the socket's own inode.
func bind(path string, uid int) (int, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return -1, fmt.Errorf("notify socket: %w", err)
	}
	fail := func(err error) (int, error) {
		unix.Close(fd)
		return -1, fmt.Errorf("notify socket %s: %w", path, err)
	}
	if err := unix.Fchmod(fd, 0o600); err != nil {
		return fail(err)
	}
	// Before bind, so that no message comes without its sender.
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PASSCRED, 1); err != nil {
		return fail(err)
	}
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: path}); err != nil {
		return fail(err)
	}
	if uid == os.Geteuid() {
		return fd, nil
	}
	if err := unix.Lchown(path, uid, -1); err != nil {
		unix.Unlink(path)
		return fail(fmt.Errorf("cannot give it to uid %d: %w", uid, err))
	}
	return fd, nil
}

// add makes src one of ep's. It owns src.fd from the call on.
func (h *Hub) add(ep *endpoint, src *source) {
	h.mu.Lock()
	h.next++
	src.token = h.next
	h.byToken[src.token] = src
	h.mu.Unlock()
	ep.mu.Lock()
	defer ep.unlock(h)
	ep.sources = append(ep.sources, src)
}

// Listen begins to read what the process says. The host calls it once the
// process is known to the supervisor: before that nobody could take a message,
// and the one goroutine that reads for all must not wait for one start.
func (h *Hub) Listen(id lifecycle.ProcessID) error {
	h.mu.Lock()
	ep := h.byID[id]
	h.mu.Unlock()
	if ep == nil {
		return nil
	}
	ep.mu.Lock()
	defer ep.unlock(h)
	for _, src := range ep.sources {
		if src.fd < 0 {
			continue
		}
		if err := h.poller.Add(src.fd, src.token); err != nil {
			return fmt.Errorf("worker %s: %w", id.Worker, err)
		}
		if src.aside > 0 { // Drain came before
			h.poller.Pause(src.fd, src.token)
		}
	}
	return nil
}

// Close unlinks the socket and stops reading; nothing is delivered after what
// is being delivered now. It never waits for Deliver.
func (h *Hub) Close(id lifecycle.ProcessID) {
	h.mu.Lock()
	ep := h.byID[id]
	delete(h.byID, id)
	h.mu.Unlock()
	if ep != nil {
		os.Remove(ep.path)
		if ep.timeout.Load() {
			os.Remove(ep.path + timeoutSuffix)
		}
		ep.closing.Store(true)
		ep.finish(h)
	}
}

// Drain delivers what was said before the call and is still queued. The host
// calls it when a main process has exited, so that its last words come before
// its end. What others of the tree go on saying does not hold it up, nor do
// descriptors whose close waits.
func (h *Hub) Drain(id lifecycle.ProcessID) {
	h.mu.Lock()
	ep := h.byID[id]
	h.mu.Unlock()
	if ep == nil {
		return
	}
	r := h.readers.Get().(*reader)
	defer h.readers.Put(r)
	ep.mu.Lock()
	defer ep.unlock(h)
	for _, src := range ep.sources {
		for range drainRounds {
			if more := h.read(r, src, roundMessages, maxAside); !more {
				break
			}
		}
	}
}

// Counters says how many messages were refused because of their sender, and
// how many were no messages at all.
func (h *Hub) Counters(id lifecycle.ProcessID) (refused, garbage uint64) {
	h.mu.Lock()
	ep := h.byID[id]
	h.mu.Unlock()
	if ep == nil {
		return 0, 0
	}
	return ep.refused.Load(), ep.garbage.Load()
}

// Shutdown closes everything and returns when nothing is delivered any more.
// Deliver must not wait for its caller.
func (h *Hub) Shutdown() {
	h.mu.Lock()
	h.closed = true
	ids := make([]lifecycle.ProcessID, 0, len(h.byID))
	for id := range h.byID {
		ids = append(ids, id)
	}
	h.mu.Unlock()
	for _, id := range ids {
		h.Close(id)
	}
	h.poller.Close()
	<-h.done
}

// loop reads all sockets and pipes in turn, a few messages of each at a time,
// so that a flood slows its sender only.
func (h *Hub) loop() {
	defer close(h.done)
	r := newReader()
	for {
		err := h.poller.Wait(func(token uint64) {
			h.mu.Lock()
			src := h.byToken[token]
			h.mu.Unlock()
			if src == nil {
				return
			}
			src.ep.mu.Lock()
			h.read(r, src, roundMessages, 0)
			src.ep.unlock(h)
		})
		if err != nil {
			return // closed
		}
	}
}

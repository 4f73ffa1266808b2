package epoll

import (
	"fmt"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// Poller is one level-triggered epoll instance (epoll(7)).
//
// Go's own netpoller is edge-triggered and wants a goroutine per descriptor.
// Here the epoll instance itself is the one descriptor that Go's netpoller
// watches: however many workers there are, it costs one goroutine and no
// thread.
type Poller struct {
	file *os.File
	raw  syscall.RawConn

	// Owned by the goroutine in Wait.
	events []unix.EpollEvent
	n      int
	err    error
	fill   func(fd uintptr) bool

	mu     sync.RWMutex // guards closed, and fd against being reused after Close
	closed bool
	fd     int
}

// New makes a Poller that watches nothing yet.
func New() (*Poller, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("epoll_create1: %w", err)
	}
	// Without this os.NewFile takes the descriptor for a blocking one.
	if err := unix.SetNonblock(fd, true); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("epoll: %w", err)
	}
	p := &Poller{fd: fd, file: os.NewFile(uintptr(fd), "epoll"), events: make([]unix.EpollEvent, 128)}
	if p.raw, err = p.file.SyscallConn(); err != nil {
		p.file.Close()
		return nil, fmt.Errorf("epoll: %w", err)
	}
	p.fill = func(fd uintptr) bool {
		for {
			p.n, p.err = unix.EpollWait(int(fd), p.events, 0)
			if p.err != unix.EINTR {
				// Nothing ready: let the netpoller wait for the next edge.
				return p.err != nil || p.n > 0
			}
		}
	}
	return p, nil
}

// Add watches fd. Tokens are never used twice, so that what Wait tells of a
// descriptor that is gone cannot be taken for its successor.
func (p *Poller) Add(fd int, token uint64) error {
	p.mu.RLock()
	defer p.mu.RUnlock()
	if p.closed {
		return os.ErrClosed
	}
	if err := unix.EpollCtl(p.fd, unix.EPOLL_CTL_ADD, fd, event(token, unix.EPOLLIN)); err != nil {
		return fmt.Errorf("epoll_ctl: %w", err)
	}
	return nil
}

// Remove ends the watch of fd, which must still be open: a copy of it in
// another process would keep the watch alive.
func (p *Poller) Remove(fd int) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	if !p.closed {
		unix.EpollCtl(p.fd, unix.EPOLL_CTL_DEL, fd, nil)
	}
}

// Pause keeps the watch of fd but tells nothing of it, save once more that it has
// ended or failed: the kernel does not let that be turned off, and edge-triggered
// it comes only when it happens. Removing it and adding it again would need memory
// and room (fs.epoll.max_user_watches) that may be gone by then.
func (p *Poller) Pause(fd int, token uint64) { p.modify(fd, token, unix.EPOLLET) }

// Resume takes Pause back. What there is to read by then is told.
func (p *Poller) Resume(fd int, token uint64) { p.modify(fd, token, unix.EPOLLIN) }

// modify cannot fail for a descriptor that was added (ep_modify of the kernel's
// fs/eventpoll.c); for another it does nothing.
func (p *Poller) modify(fd int, token uint64, events uint32) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	if !p.closed {
		unix.EpollCtl(p.fd, unix.EPOLL_CTL_MOD, fd, event(token, events))
	}
}

func event(token uint64, events uint32) *unix.EpollEvent {
	return &unix.EpollEvent{Events: events, Fd: int32(token), Pad: int32(token >> 32)}
}

// Wait waits until something can be read, or has ended, and calls ready with
// the token of each. Only one goroutine may wait.
func (p *Poller) Wait(ready func(token uint64)) error {
	err := p.raw.Read(p.fill)
	if err == nil {
		err = p.err
	}
	if err != nil {
		return fmt.Errorf("epoll_wait: %w", err)
	}
	for _, ev := range p.events[:p.n] {
		ready(uint64(uint32(ev.Fd)) | uint64(uint32(ev.Pad))<<32)
	}
	return nil
}

// Close ends Wait with an error.
func (p *Poller) Close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.closed {
		p.closed = true
		p.file.Close()
	}
}

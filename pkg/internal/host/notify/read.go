package notify

import (
	"slices"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/workersd/workersd/pkg/sdnotify"
)

const (
	// roundMessages of one socket are read before the next socket's turn.
	roundMessages = 32
	// roundBlocks of 4 KiB of one pipe are read before the next one's turn.
	roundBlocks = 4
	// drainRounds bound Drain: 64 rounds are four times the longest queue that
	// systemd allows (net.unix.max_dgram_qlen = 512) and all that a pipe holds.
	drainRounds = 64
	// maxAside descriptors that Drain has read may wait for their close: one with
	// each message of the longest queue.
	maxAside = 512
	// maxDescriptors can come with one message (SCM_MAX_FD of the kernel).
	maxDescriptors = 253
)

// reader is the memory for reading messages, used again for each.
type reader struct {
	data    [sdnotify.MaxMessage + 1]byte
	control []byte
	iov     unix.Iovec
	header  unix.Msghdr
	message sdnotify.Message
}

func newReader() *reader {
	r := &reader{control: make([]byte, unix.CmsgSpace(unix.SizeofUcred)+unix.CmsgSpace(4*maxDescriptors))}
	r.iov.Base = &r.data[0]
	r.header.Iov = &r.iov
	r.header.Iovlen = 1
	r.header.Control = &r.control[0]
	return r
}

// datagram is one message as it came.
type datagram struct {
	data        []byte
	truncated   bool
	pid         int32 // 0: unknown
	uid         uint32
	hasSender   bool
	descriptors []int32 // point into the reader's memory
}

// receive reads one datagram. It is a raw recvmsg(2), because the wrappers
// allocate an address and the control messages for each.
func (r *reader) receive(fd int) (datagram, unix.Errno) {
	r.iov.SetLen(len(r.data))
	r.header.SetControllen(len(r.control))
	r.header.Flags = 0
	for {
		n, _, errno := unix.Syscall(unix.SYS_RECVMSG, uintptr(fd), uintptr(unsafe.Pointer(&r.header)), unix.MSG_CMSG_CLOEXEC|unix.MSG_DONTWAIT)
		if errno == unix.EINTR {
			continue
		}
		if errno != 0 {
			return datagram{}, errno
		}
		d := datagram{data: r.data[:n], truncated: r.header.Flags&unix.MSG_TRUNC != 0}
		d.readControl(r.control[:r.header.Controllen])
		return d, 0
	}
}

// readControl walks the control messages (cmsg(3)).
func (d *datagram) readControl(b []byte) {
	for len(b) >= unix.SizeofCmsghdr {
		h := (*unix.Cmsghdr)(unsafe.Pointer(&b[0]))
		n := int(h.Len)
		if n < unix.SizeofCmsghdr || n > len(b) {
			return
		}
		body := b[unix.CmsgLen(0):n]
		if h.Level == unix.SOL_SOCKET {
			switch h.Type {
			case unix.SCM_CREDENTIALS:
				if len(body) >= unix.SizeofUcred {
					c := (*unix.Ucred)(unsafe.Pointer(&body[0]))
					d.pid, d.uid, d.hasSender = c.Pid, c.Uid, true
				}
			case unix.SCM_RIGHTS:
				if k := len(body) / 4; k > 0 {
					d.descriptors = unsafe.Slice((*int32)(unsafe.Pointer(&body[0])), k)
				}
			}
		}
		b = b[min(unix.CmsgSpace(n-unix.CmsgLen(0)), len(b)):]
	}
}

// read delivers up to most messages of src, whose endpoint is locked, as long as
// no more than aside descriptors of it wait for their close. It reports whether
// there may be more.
func (h *Hub) read(r *reader, src *source, most, aside int) bool {
	if src.fd < 0 || src.ep.closing.Load() || src.aside > aside {
		return false
	}
	if src.pipe {
		for i := 0; i < roundBlocks || src.lines.held() && i < 2*roundBlocks; i++ {
			if !h.readPipe(r, src) {
				return false
			}
		}
		return true
	}
	for range most {
		if src.ep.closing.Load() {
			return false
		}
		d, errno := r.receive(src.fd)
		if errno != 0 {
			return false // nothing more; a datagram socket of ours has no other end
		}
		h.take(r, src.ep, d)
		if len(d.descriptors) > 0 {
			h.closeDescriptors(src, d.descriptors)
			if src.aside > aside {
				return false
			}
		}
	}
	return true
}

// closeDescriptors closes what came along with a message. BARRIER waits for
// that, so it is done after the message was handled.
//
// Closing may wait: for a socket with SO_LINGER, a file on a dead server, a pipe
// whose lock is held by who splices it into something full. To ask what it is may
// wait as well (fstat(2), F_GETPIPE_SZ). That must hold up its sender only, so it
// is done aside, and until then the loop does not read src.
func (h *Hub) closeDescriptors(src *source, fds []int32) {
	fds = slices.Clone(fds)
	if src.aside == 0 {
		h.poller.Pause(src.fd, src.token)
	}
	src.aside += len(fds)
	go func() {
		for _, fd := range fds {
			unix.Close(int(fd))
		}
		src.ep.mu.Lock()
		defer src.ep.unlock(h)
		if src.aside -= len(fds); src.aside == 0 && src.fd >= 0 {
			h.poller.Resume(src.fd, src.token)
		}
	}()
}

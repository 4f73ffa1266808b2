package control

import (
	"context"
	"net"
	"net/http"
	"os"
	"os/user"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/workersd/workersd/pkg/client"
)

// Group may look at everything and change nothing.
const Group = "workersd"

// peer is who is at the other end, as the kernel knows (unix(7), SO_PEERCRED).
type peer struct {
	pid    int
	uid    int
	groups []int
	known  bool
	conn   *conn
}

type peerKey struct{}

func withPeer(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, peerKey{}, newPeer(c))
}

func peerOf(ctx context.Context) *peer { return ctx.Value(peerKey{}).(*peer) }

func newPeer(c net.Conn) *peer {
	p := &peer{conn: &conn{}}
	lc, ok := c.(*conn)
	if !ok {
		return p
	}
	p.conn = lc
	uc, ok := lc.Conn.(*net.UnixConn)
	if !ok {
		return p
	}
	raw, err := uc.SyscallConn()
	if err != nil {
		return p
	}
	raw.Control(func(fd uintptr) {
		cred, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
		if err != nil {
			return
		}
		p.pid, p.uid, p.known = int(cred.Pid), int(cred.Uid), true
		p.groups = append(peerGroups(int(fd)), int(cred.Gid))
	})
	return p
}

// peerGroups are the supplementary groups, which SO_PEERCRED does not carry.
func peerGroups(fd int) []int {
	buf := make([]uint32, 64)
	for {
		size := uint32(len(buf) * 4)
		_, _, no := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_PEERGROUPS,
			uintptr(unsafe.Pointer(&buf[0])), uintptr(unsafe.Pointer(&size)), 0)
		switch {
		case no == unix.ERANGE && int(size/4) > len(buf): // it says how many there are
			buf = make([]uint32, size/4)
		case no != 0:
			return nil
		default:
			groups := make([]int, 0, size/4)
			for _, g := range buf[:size/4] {
				groups = append(groups, int(g))
			}
			return groups
		}
	}
}

// may decides who may do what: root and the service's own user act,
// save from inside a worker; the group looks.
func (s *Server) may(p *peer, n need) error {
	refuse := func(text, hint string) error {
		return &client.Error{Status: http.StatusForbidden, Text: text, Hint: hint}
	}
	switch own := p.known && (p.uid == 0 || p.uid == os.Geteuid()); {
	case own && n == act && s.o.IsWorker != nil && s.o.IsWorker(p.pid):
		return refuse("a worker may not act on workers", "do it from outside, as root or the service's user")
	case own, n == look && p.known && s.inGroup(p.groups):
		return nil
	case n == look:
		return refuse("permission denied", "root, the service's user and members of group "+s.group+" may look")
	}
	return refuse("permission denied", "only root and the service's user may do this")
}

func (s *Server) inGroup(groups []int) bool {
	g, err := user.LookupGroup(s.group)
	if err != nil {
		return false
	}
	gid, err := strconv.Atoi(g.Gid)
	return err == nil && slices.Contains(groups, gid)
}

// conn is a connection of which we know whether anything sensible came in.
type conn struct {
	net.Conn
	active   atomic.Bool
	answered atomic.Bool
	release  func()
	once     sync.Once
}

func (c *conn) Close() error {
	err := c.Conn.Close()
	c.once.Do(c.release)
	return err
}

// limited accepts so many connections at a time; more wait in the kernel.
type limited struct {
	net.Listener
	room chan struct{} // a token for each connection that may be open
	done chan struct{}
	once sync.Once
}

func newLimited(l net.Listener, n int) *limited {
	room := make(chan struct{}, n)
	for range n {
		room <- struct{}{}
	}
	return &limited{Listener: l, room: room, done: make(chan struct{})}
}

func (l *limited) Accept() (net.Conn, error) {
	select {
	case <-l.room:
	case <-l.done:
		return nil, net.ErrClosed
	}
	c, err := l.Listener.Accept()
	if err != nil {
		l.room <- struct{}{}
		return nil, err
	}
	return &conn{Conn: c, release: func() { l.room <- struct{}{} }}, nil
}

func (l *limited) Close() error {
	l.once.Do(func() { close(l.done) })
	return l.Listener.Close()
}

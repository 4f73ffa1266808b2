package main

import (
	"fmt"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// sockets are a notify socket for each process, which tells who sends, and a
// pipe for those who have no sockets; both are watched.
type sockets struct {
	dir   string
	epoll int
	made  int
	of    map[int]socket // by process
}

type socket struct {
	path     string
	fd, read int
}

func newSockets(dir string) (*sockets, error) {
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	return &sockets{dir: dir, epoll: epoll, of: map[int]socket{}}, err
}

func (s *sockets) begin(attr *syscall.ProcAttr) (started func(pid int), err error) {
	s.made++
	path := filepath.Join(s.dir, fmt.Sprint("notify", s.made))
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err == nil {
		err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PASSCRED, 1)
	}
	if err == nil {
		err = unix.Bind(fd, &unix.SockaddrUnix{Name: path})
	}
	var pipe [2]int
	if err == nil {
		err = unix.Pipe2(pipe[:], unix.O_CLOEXEC)
	}
	for _, fd := range []int{fd, pipe[0]} {
		if err == nil {
			err = unix.EpollCtl(s.epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)})
		}
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	attr.Env = append(attr.Env[:len(attr.Env):len(attr.Env)], "NOTIFY_SOCKET="+path)
	attr.Files = append(attr.Files, uintptr(pipe[1]))
	return func(pid int) {
		unix.Close(pipe[1])
		s.of[pid] = socket{path, fd, pipe[0]}
	}, nil
}

func (s *sockets) ended(pid int) {
	is := s.of[pid]
	delete(s.of, pid)
	unix.Close(is.fd)
	unix.Close(is.read)
	unix.Unlink(is.path)
}

func (s *sockets) close() {}

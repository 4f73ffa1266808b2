package main

import (
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// streams are a journal stream for the output of each process, and a record in
// the journal at its start and at its end.
type streams struct{ records int }

const journalDir = "/run/systemd/journal/"

func newStreams() (*streams, error) {
	fd, err := connect(unix.SOCK_DGRAM, journalDir+"socket")
	return &streams{fd}, err
}

func connect(kind int, path string) (int, error) {
	fd, err := unix.Socket(unix.AF_UNIX, kind|unix.SOCK_CLOEXEC, 0)
	if err == nil {
		err = unix.Connect(fd, &unix.SockaddrUnix{Name: path})
	}
	if err != nil {
		return fd, &os.PathError{Op: "connect", Path: path, Err: err}
	}
	return fd, nil
}

func (s *streams) begin(attr *syscall.ProcAttr) (started func(pid int), err error) {
	fd, err := connect(unix.SOCK_STREAM, journalDir+"stdout")
	if err != nil {
		return nil, err
	}
	// Identifier, unit, priority, prefixes, and three forwards: sd_journal_stream_fd(3).
	if _, err := unix.Write(fd, []byte("w\n\n6\n1\n0\n0\n0\n")); err != nil {
		return nil, err
	}
	attr.Files[1], attr.Files[2] = uintptr(fd), uintptr(fd)
	return func(pid int) {
		unix.Close(fd)
		s.record(pid, "created")
	}, nil
}

func (s *streams) ended(pid int) { s.record(pid, "gone") }

func (s *streams) record(pid int, what string) {
	unix.Write(s.records, fmt.Appendf(nil, "MESSAGE=w %d %s\nPRIORITY=6\nSYSLOG_IDENTIFIER=floor\nWORKERSD_WORKER=w\n", pid, what))
}

func (s *streams) close() {}

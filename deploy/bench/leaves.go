package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// leaves are a cgroup for each process: it is made, has its limits and a watch,
// is read at its end and removed.
type leaves struct {
	root    string
	inotify int
	made    int
	of      map[int]string // by the process that is in it
}

const cgroups = "/sys/fs/cgroup"

// leavesOf is where those of one floor are.
func leavesOf(floor int) string { return fmt.Sprintf("%s/workersd-bench.%d", cgroups, floor) }

func newLeaves() (*leaves, error) {
	l := &leaves{root: leavesOf(os.Getpid()), of: map[int]string{}}
	err := os.Mkdir(l.root, 0o755)
	for _, dir := range []string{cgroups, l.root} {
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, "cgroup.subtree_control"), []byte("+cpu +io +memory +pids"), 0)
		}
	}
	if err != nil {
		return nil, err
	}
	l.inotify, err = unix.InotifyInit1(unix.IN_CLOEXEC)
	return l, err
}

func (l *leaves) begin(attr *syscall.ProcAttr) (started func(pid int), err error) {
	l.made++
	dir := fmt.Sprintf("%s/%d", l.root, l.made)
	fd := -1
	if err = unix.Mkdir(dir, 0o755); err == nil {
		fd, err = unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		attr.Sys.UseCgroupFD, attr.Sys.CgroupFD = true, fd
	}
	for _, s := range []string{"memory.max 314572800", "memory.high 209715200", "memory.oom.group 1", "memory.swap.max 0"} {
		file, value, _ := strings.Cut(s, " ")
		err = errors.Join(err, control(fd, file, unix.O_WRONLY, func(fd int) error {
			_, err := unix.Write(fd, []byte(value))
			return err
		}))
	}
	if err == nil {
		_, err = unix.InotifyAddWatch(l.inotify, dir+"/memory.events", unix.IN_MODIFY)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", dir, err)
	}
	return func(pid int) {
		unix.Close(fd)
		l.of[pid] = dir
	}, nil
}

func (l *leaves) ended(pid int) {
	dir := l.of[pid]
	delete(l.of, pid)
	var buf [4096]byte
	for _, file := range []string{"cgroup.events", "memory.events", "memory.peak"} {
		control(unix.AT_FDCWD, dir+"/"+file, unix.O_RDONLY, func(fd int) error {
			_, err := unix.Read(fd, buf[:])
			return err
		})
	}
	removeLeaf(dir)
}

func removeLeaf(dir string) {
	for range 1000 {
		if unix.Rmdir(dir) != unix.EBUSY {
			return
		}
		time.Sleep(time.Millisecond) // dead, and not yet unhashed
	}
}

func (l *leaves) close() { unix.Rmdir(l.root) }

// removeLeaves takes away what a floor has left that was killed: thousands of
// empty cgroups would slow down who is measured next.
func removeLeaves(floor int) {
	root := leavesOf(floor)
	left, _ := filepath.Glob(root + "/[0-9]*")
	for _, dir := range append(left, root) {
		removeLeaf(dir)
	}
}

// control does something with a small file in a directory.
func control(dir int, name string, mode int, do func(fd int) error) error {
	fd, err := unix.Openat(dir, name, mode|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return do(fd)
}

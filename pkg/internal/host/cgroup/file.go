package cgroup

import (
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Control files are read and written with raw system calls on purpose. kernfs
// files can be polled, so package os hands them to the netpoller, and a write
// that the kernel answers with EAGAIN then parks the goroutine for ever.

// readMax is more than any control file of a leaf holds; memory.stat, the
// longest, has about 2 KiB, io.stat a line for each disk.
const readMax = 16 << 10

func retry(f func() (int, error)) (int, error) {
	for {
		n, err := f()
		if !errors.Is(err, unix.EINTR) {
			return n, err
		}
	}
}

// readAt reads the file name in the directory dir.
func readAt(dir int, name string) (string, error) {
	fd, err := retry(func() (int, error) { return unix.Openat(dir, name, unix.O_RDONLY|unix.O_CLOEXEC, 0) })
	if err != nil {
		return "", fmt.Errorf("open %s: %w", name, err)
	}
	defer unix.Close(fd)
	read := readFD
	if strings.HasSuffix(name, "cgroup.procs") {
		read = readList
	}
	s, err := read(fd)
	if err != nil {
		return "", fmt.Errorf("read %s: %w", name, err)
	}
	return s, nil
}

// readFD reads a control file from its beginning; the descriptor may be kept.
// The kernel makes the text at once, so that a read which leaves room was the
// last.
func readFD(fd int) (string, error) { return readUntil(fd, func(n, room int) bool { return n < room }) }

// readList is for what the kernel makes line by line, and gives a page at a time
// (seq_read_iter of its fs/seq_file.c): what leaves room in a page was the last.
func readList(fd int) (string, error) {
	const longest = 32 // more than a line of cgroup.procs has
	return readUntil(fd, func(n, room int) bool { return n == 0 || n < min(room, int(pageSize))-longest })
}

func readUntil(fd int, last func(n, room int) bool) (string, error) {
	buf := make([]byte, 4096)
	have := 0
	for {
		room := len(buf) - have
		n, err := retry(func() (int, error) { return unix.Pread(fd, buf[have:], int64(have)) })
		if err != nil {
			return "", err
		}
		have += n
		if last(n, room) || have >= readMax {
			return string(buf[:have]), nil
		}
		if have == len(buf) {
			buf = append(buf, make([]byte, len(buf))...)
		}
	}
}

// readInt reads a file that holds one number. "max" is -1.
func readInt(dir int, name string) (int64, error) {
	s, err := readAt(dir, name)
	if err != nil {
		return 0, err
	}
	return parseInt(s)
}

// writeAt writes value to the control file name in the directory dir.
func writeAt(dir int, name, value string) error {
	fd, err := retry(func() (int, error) { return unix.Openat(dir, name, unix.O_WRONLY|unix.O_TRUNC|unix.O_CLOEXEC, 0) })
	if err != nil {
		return fmt.Errorf("open %s: %w", name, err)
	}
	defer unix.Close(fd)
	n, err := retry(func() (int, error) { return unix.Write(fd, []byte(value)) })
	if err == nil && n < len(value) {
		err = io.ErrShortWrite
	}
	if err != nil {
		return fmt.Errorf("write %q to %s: %w", value, name, err)
	}
	return nil
}

func parseInt(s string) (int64, error) {
	s = strings.TrimSpace(s)
	if s == "max" {
		return -1, nil
	}
	return strconv.ParseInt(s, 10, 64)
}

// parseFlat reads lines of "key number", as in memory.events and memory.stat.
// Lines of another shape belong to a newer kernel and are left out.
func parseFlat(s string) map[string]int64 {
	m := make(map[string]int64, strings.Count(s, "\n"))
	for line := range strings.Lines(s) {
		key, value, ok := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		if !ok {
			continue
		}
		if n, err := strconv.ParseInt(value, 10, 64); err == nil {
			m[key] = n
		}
	}
	return m
}

// parseFull10 is avg10 of the "full" line of a pressure file: the percentage of
// the last ten seconds in which nothing in the cgroup could run.
func parseFull10(s string) (float64, bool) {
	for line := range strings.Lines(s) {
		f := strings.Fields(line)
		if len(f) < 2 || f[0] != "full" {
			continue
		}
		v, ok := strings.CutPrefix(f[1], "avg10=")
		if !ok {
			return 0, false
		}
		n, err := strconv.ParseFloat(v, 64)
		return n, err == nil
	}
	return 0, false
}

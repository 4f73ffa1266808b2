package procmem

import (
	"bytes"
	"os"
	"slices"
	"strconv"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/workersd/workersd/pkg/spec"
)

// Proc is one line of the process table.
type Proc struct {
	PID, PPID, Group, Session int
	Start                     uint64 // clock ticks since boot: with PID it names a process
	RSS                       spec.Bytes
	Zombie                    bool
	Watched                   bool // set by who reads the table, and kept by Refresh
}

// Table reads /proc, again and again into the same memory.
type Table struct {
	Root  string // "/proc"
	Procs []Proc // sorted by PID, of the last Scan or Refresh

	spare []Proc // of the Scan before
	buf   []byte
	path  []byte
	dir   []byte
	pids  []int
}

var pageSize = spec.Bytes(os.Getpagesize())

// Scan reads the whole table in one pass.
func (t *Table) Scan() error {
	pids, err := t.list()
	if err != nil {
		return err
	}
	t.Procs = t.Procs[:0]
	for _, pid := range pids {
		if p, ok := t.Read(pid); ok {
			t.Procs = append(t.Procs, p)
		}
	}
	return nil
}

// Refresh is a Scan at half the cost: only what is new is read whole. What was
// there before keeps what is known of it, save that RSS is read anew where it is
// Watched. A pid that became another process's meanwhile is not noticed, nor is
// another parent: Scan now and then.
func (t *Table) Refresh() error {
	pids, err := t.list()
	if err != nil {
		return err
	}
	before := t.Procs
	t.Procs, t.spare = t.spare[:0], before
	for _, pid := range pids {
		for len(before) > 0 && before[0].PID < pid {
			before = before[1:]
		}
		if len(before) == 0 || before[0].PID != pid {
			if p, ok := t.Read(pid); ok {
				t.Procs = append(t.Procs, p)
			}
			continue
		}
		p := before[0]
		if p.Watched {
			n, ok := t.Resident(pid)
			if !ok {
				continue
			}
			p.RSS = n
		}
		t.Procs = append(t.Procs, p)
	}
	return nil
}

// Resident is the resident set size of a process, at half the cost of Read; ok
// is false when it is gone.
func (t *Table) Resident(pid int) (n spec.Bytes, ok bool) {
	b, ok := t.file(pid, "/statm\x00")
	_, rest, _ := bytes.Cut(b, []byte{' '}) // the second figure (proc_pid_statm(5))
	field, _, _ := bytes.Cut(rest, []byte{' '})
	pages, _ := number(field)
	return spec.Bytes(pages) * pageSize, ok
}

func (t *Table) root() string {
	if t.Root == "" {
		return "/proc"
	}
	return t.Root
}

// list is the numbers in /proc, in order.
func (t *Table) list() ([]int, error) {
	t.path = append(append(t.path[:0], t.root()...), 0)
	fd, e := t.open(unix.O_DIRECTORY)
	if e != 0 {
		return nil, &os.PathError{Op: "open", Path: t.root(), Err: e}
	}
	defer unix.Close(fd)
	if t.dir == nil {
		t.dir = make([]byte, 64<<10)
	}
	t.pids = t.pids[:0]
	for {
		n, err := unix.ReadDirent(fd, t.dir)
		if err != nil {
			return nil, &os.PathError{Op: "readdir", Path: t.root(), Err: err}
		}
		if n <= 0 {
			break
		}
		t.pids = numbers(t.dir[:n], t.pids)
	}
	slices.Sort(t.pids)
	return t.pids, nil
}

// numbers takes the names that are numbers out of dirents (getdents64(2)).
func numbers(b []byte, pids []int) []int {
	const reclen, name = 16, 19 // offsets in struct linux_dirent64
	for len(b) > name {
		n := int(b[reclen]) | int(b[reclen+1])<<8
		if n <= name || n > len(b) {
			break
		}
		s := b[name:n]
		if i := bytes.IndexByte(s, 0); i >= 0 {
			s = s[:i]
		}
		if pid, ok := number(s); ok {
			pids = append(pids, pid)
		}
		b = b[n:]
	}
	return pids
}

func number(s []byte) (n int, ok bool) {
	for _, c := range s {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + int(c-'0')
	}
	return n, len(s) > 0 && len(s) < 19
}

// Read reads one process; ok is false when it is gone.
func (t *Table) Read(pid int) (p Proc, ok bool) {
	b, ok := t.file(pid, "/stat\x00")
	if !ok {
		return p, false
	}
	return ParseStat(b)
}

// file is what a small file of a process holds, until the next one is read; its
// name ends in NUL.
func (t *Table) file(pid int, name string) ([]byte, bool) {
	t.path = append(t.path[:0], t.root()...)
	t.path = append(t.path, '/')
	t.path = strconv.AppendInt(t.path, int64(pid), 10)
	t.path = append(t.path, name...)
	if t.buf == nil {
		t.buf = make([]byte, 4096)
	}
	fd, e := t.open(0)
	if e != 0 {
		return nil, false
	}
	n, err := unix.Read(fd, t.buf)
	unix.Close(fd)
	return t.buf[:max(n, 0)], err == nil && n > 0
}

// open opens t.path for reading. By hand: unix.Open copies the path, twice for
// each process of each pass.
func (t *Table) open(flags int) (fd int, e syscall.Errno) {
	cwd := unix.AT_FDCWD
	n, _, e := unix.Syscall6(unix.SYS_OPENAT, uintptr(cwd), uintptr(unsafe.Pointer(&t.path[0])), uintptr(unix.O_RDONLY|unix.O_CLOEXEC|flags), 0, 0, 0)
	return int(n), e
}

// ParseStat reads /proc/PID/stat (proc_pid_stat(5)). The name in it may hold
// blanks and parentheses: what counts is behind the last one.
func ParseStat(b []byte) (p Proc, ok bool) {
	open, end := bytes.IndexByte(b, ' '), bytes.LastIndexByte(b, ')')
	if open < 0 || end < 0 || end+2 > len(b) {
		return p, false
	}
	if p.PID, ok = number(b[:open]); !ok {
		return p, false
	}
	rest := b[end+2:]
	for i := 3; len(rest) > 0 && i <= 24; i++ { // fields are counted from 1, this is the third
		field := rest
		if j := bytes.IndexByte(rest, ' '); j >= 0 {
			field, rest = rest[:j], rest[j+1:]
		} else {
			rest = nil
		}
		switch i {
		case 3:
			p.Zombie = len(field) == 1 && (field[0] == 'Z' || field[0] == 'X')
		case 4:
			p.PPID, _ = number(field)
		case 5:
			p.Group, _ = number(field)
		case 6:
			p.Session, _ = number(field)
		case 20:
			// The main thread may end before the others: the process holds all it
			// had, and cannot be reaped.
			n, _ := number(field)
			p.Zombie = p.Zombie && n <= 1
		case 22:
			n, _ := number(field)
			p.Start = uint64(n)
		case 24:
			n, _ := number(bytes.TrimRight(field, "\n"))
			p.RSS = spec.Bytes(n) * pageSize
			return p, true
		}
	}
	return p, false
}

// Find is one process of the last Scan.
func (t *Table) Find(pid int) (Proc, bool) {
	i, ok := slices.BinarySearchFunc(t.Procs, pid, func(p Proc, pid int) int { return p.PID - pid })
	if !ok {
		return Proc{}, false
	}
	return t.Procs[i], true
}

// Adopted are the children of the first thread of this process. Where a process
// ends, the kernel gives its children to the first thread that lives of the
// subreaper above it (find_new_reaper of the kernel's exit.c), and the first
// thread of a Go program lives as long as the program does. So all orphans that
// became ours are there, and of what we started ourselves only what the first
// thread forked: thousands of workers need not be read to see that nothing is
// left of one. ok is false where the kernel does not tell (CONFIG_PROC_CHILDREN).
func (t *Table) Adopted() (pids []int, ok bool) {
	return t.children("self", strconv.Itoa(os.Getpid()))
}

// Below are the children of a process and theirs; none where the kernel does not
// tell. Children that come or go meanwhile may be missed.
func (t *Table) Below(pid int) (pids []int) {
	self := strconv.Itoa(pid)
	tasks, _ := os.ReadDir(t.root() + "/" + self + "/task")
	for _, task := range tasks {
		children, _ := t.children(self, task.Name())
		for _, child := range children {
			pids = append(append(pids, child), t.Below(child)...)
		}
	}
	return pids
}

// children are those of one thread of a process (proc_tid_children(5)).
func (t *Table) children(process, thread string) (pids []int, ok bool) {
	fd, err := unix.Open(t.root()+"/"+process+"/task/"+thread+"/children", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, false
	}
	defer unix.Close(fd)
	var text []byte
	var block [4096]byte
	for {
		n, err := unix.Read(fd, block[:])
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return nil, false
		}
		if n == 0 {
			break
		}
		text = append(text, block[:n]...)
	}
	for _, f := range bytes.Fields(text) {
		if pid, ok := number(f); ok {
			pids = append(pids, pid)
		}
	}
	return pids, true
}

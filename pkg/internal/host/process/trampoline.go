package process

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strconv"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"
)

// clone3Refused is set once clone3 was seen to be hidden from us: then every
// process that belongs in a leaf goes through the trampoline.
var clone3Refused atomic.Bool

// trampolineName is argv[0] of our own program as a trampoline.
const trampolineName = "workersd-exec"

// errTrampoline marks what went wrong before the command came into play.
var errTrampoline = errors.New("it cannot be started by way of our own program")

// order is what a trampoline does, in a memfd: no argument list shows it. Text
// is bytes, because JSON knows only UTF-8 and arguments need not be.
type order struct {
	Cgroup string // "": none
	Dir    string // "": stays
	Umask  int    // -1: stays
	NoFile int    // RLIMIT_NOFILE, soft and hard; 0: as we were started
	Path   []byte
	Args   [][]byte
	Env    [][]byte
	Cred   bool
	UID    int
	GID    int
	Groups []int
}

// forkByTrampoline starts our own program, which joins the leaf, sets what
// cannot be set from outside and then becomes the command: the first page the
// command touches is charged to the leaf.
func forkByTrampoline(st Start, attr *syscall.ProcAttr) (int, error) {
	o := order{Umask: st.Umask, NoFile: st.LimitNoFile, Dir: attr.Dir, Path: []byte(st.Path), Args: toBytes(st.Args), Env: toBytes(st.Env)}
	if st.CgroupFD >= 0 {
		o.Cgroup = st.CgroupPath
	}
	if st.User != nil {
		o.Cred, o.UID, o.GID, o.Groups = true, st.User.UID, st.User.GID, st.User.Groups
	}
	text, err := json.Marshal(o)
	if err != nil {
		return 0, err
	}
	fd, err := unix.MemfdCreate("workersd-exec", unix.MFD_CLOEXEC)
	if err != nil {
		return 0, fmt.Errorf("%w: memfd_create: %w", errTrampoline, err)
	}
	mem := os.NewFile(uintptr(fd), "order")
	defer mem.Close()
	if _, err := mem.WriteAt(text, 0); err != nil {
		return 0, err
	}
	// The pipe ends with the exec: nothing in it means that there was one.
	r, w, err := os.Pipe()
	if err != nil {
		return 0, err
	}
	defer r.Close()
	n := len(attr.Files)
	pid, err := syscall.ForkExec("/proc/self/exe", []string{trampolineName, strconv.Itoa(n), strconv.Itoa(n + 1)}, &syscall.ProcAttr{
		Env: []string{}, Files: append(attr.Files[:n:n], mem.Fd(), w.Fd()), Sys: &syscall.SysProcAttr{Setsid: true},
	})
	w.Close()
	if err != nil {
		return 0, fmt.Errorf("%w: %w", errTrampoline, err)
	}
	answer, err := io.ReadAll(io.LimitReader(r, 4096))
	if len(answer) == 0 && err == nil {
		return pid, nil
	}
	// The reaper takes what is left of it, as a stranger.
	if no, err := strconv.Atoi(string(answer)); err == nil {
		return 0, syscall.Errno(no)
	}
	return 0, fmt.Errorf("%w: %s", errTrampoline, answer)
}

func toBytes(texts []string) (out [][]byte) {
	for _, s := range texts {
		out = append(out, []byte(s))
	}
	return out
}

func toStrings(texts [][]byte) []string {
	out := []string{} // never nil: an empty environment is one
	for _, b := range texts {
		out = append(out, string(b))
	}
	return out
}

// TrampolineMain is called first in main. In a trampoline it does not return.
func TrampolineMain() {
	if len(os.Args) != 3 || os.Args[0] != trampolineName {
		return
	}
	runtime.LockOSThread()
	in, err1 := strconv.Atoi(os.Args[1])
	out, err2 := strconv.Atoi(os.Args[2])
	if err1 != nil || err2 != nil {
		os.Exit(2)
	}
	unix.CloseOnExec(in)
	unix.CloseOnExec(out)
	err := trampoline(in)
	text := err.Error()
	var no syscall.Errno
	if errors.As(err, &no) {
		text = strconv.Itoa(int(no))
	}
	unix.Write(out, []byte(text))
	os.Exit(126)
}

func trampoline(fd int) error {
	f := os.NewFile(uintptr(fd), "order")
	text, err := io.ReadAll(io.NewSectionReader(f, 0, 64<<20))
	if err != nil {
		return err
	}
	var o order
	if err := json.Unmarshal(text, &o); err != nil {
		return err
	}
	if err := joinCgroup(o.Cgroup); err != nil {
		return err
	}
	if o.Umask >= 0 {
		unix.Umask(o.Umask)
	}
	if o.NoFile > 0 {
		// By package syscall, which otherwise gives the command back the limit
		// that we were started with.
		lim := syscall.Rlimit{Cur: uint64(o.NoFile), Max: uint64(o.NoFile)}
		if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &lim); err != nil {
			return fmt.Errorf("limit_nofile = %d cannot be set: %s (above the manager's own hard limit it takes CAP_SYS_RESOURCE, and fs.nr_open bounds it)", o.NoFile, err.Error())
		}
	}
	if o.Cred {
		if os.Geteuid() == 0 {
			if err := syscall.Setgroups(o.Groups); err != nil {
				return err
			}
		}
		if err := syscall.Setgid(o.GID); err != nil {
			return err
		}
		if err := syscall.Setuid(o.UID); err != nil {
			return err
		}
	}
	if o.Dir != "" {
		if err := syscall.Chdir(o.Dir); err != nil {
			return err
		}
	}
	return syscall.Exec(string(o.Path), toStrings(o.Args), toStrings(o.Env))
}

func joinCgroup(dir string) error {
	if dir == "" {
		return nil
	}
	procs, err := unix.Open(dir+"/cgroup.procs", unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("%s/cgroup.procs: %s", dir, err.Error())
	}
	defer unix.Close(procs)
	if _, err := unix.Write(procs, []byte("0")); err != nil {
		return fmt.Errorf("%s cannot be joined: %s", dir, err.Error())
	}
	return nil
}

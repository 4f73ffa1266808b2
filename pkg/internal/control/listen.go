package control

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/workersd/workersd/pkg/client"
)

// maxPath is the longest path of a unix socket, in bytes (unix(7)).
const maxPath = 107

// Lock is the right to serve one control socket, for as long as it is held.
type Lock struct{ f *os.File }

// Acquire takes the lock beside a control socket: there is one manager for a
// socket, and what hangs on its path belongs to who holds the lock.
func Acquire(path string) (*Lock, error) {
	if len(path) > maxPath-len(".d/n/000000") {
		return nil, fmt.Errorf("control socket %s: the path has %d bytes, and a socket's has at most 107, less 11 for those of the workers beside it (choose a shorter --socket)", path, len(path))
	}
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("control socket %s: its directory cannot be made: %w", path, err)
	}
	if path == client.UserSocket() {
		if err := private(dir); err != nil {
			return nil, err
		}
	}
	f, err := os.OpenFile(path+".lock", os.O_CREATE|os.O_RDWR|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, fmt.Errorf("control socket %s: %w", path, err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		defer f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			who, _ := io.ReadAll(io.LimitReader(f, 32))
			return nil, fmt.Errorf("another manager (pid %s) serves %s already (stop it, or choose another --socket)", strings.TrimSpace(string(who)), path)
		}
		return nil, fmt.Errorf("control socket %s: lock: %w", path, err)
	}
	f.Truncate(0)
	fmt.Fprintf(f, "%d\n", os.Getpid())
	return &Lock{f}, nil
}

// private refuses a directory in /tmp that somebody else made before us: what
// hangs on the socket's path would be theirs.
func private(dir string) error {
	st, err := os.Stat(dir)
	if err != nil {
		return fmt.Errorf("control socket: %w", err)
	}
	uid, perm := int(st.Sys().(*syscall.Stat_t).Uid), st.Mode().Perm()
	if uid != os.Geteuid() || perm&0o022 != 0 {
		return fmt.Errorf("control socket: %s belongs to user %d, mode %04o, and others could put their own socket there (remove it, or choose another --socket)", dir, uid, perm)
	}
	return nil
}

// Release gives the lock back. The file stays: removing it would let two hold it.
func (l *Lock) Release() { l.f.Close() }

// Listen binds the socket; the lock is held. One that systemd hands over under
// the name "control" is taken instead (sd_listen_fds(3)).
func Listen(path string) (net.Listener, error) {
	if l, err := inherited(); l != nil || err != nil {
		return l, err
	}
	if st, err := os.Lstat(path); err == nil && st.Mode()&os.ModeSocket == 0 {
		return nil, fmt.Errorf("control socket %s: there is something else than a socket (choose another --socket, or remove it)", path)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("control socket %s: what an earlier manager left cannot be removed: %w", path, err)
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("control socket %s: %w", path, err)
	}
	// The group may connect; who may do what is asked of the kernel then.
	if g, err := user.LookupGroup(Group); err == nil {
		if gid, err := strconv.Atoi(g.Gid); err == nil && os.Geteuid() == 0 {
			os.Chown(path, -1, gid)
		}
	}
	if err := os.Chmod(path, 0o660); err != nil {
		l.Close()
		return nil, fmt.Errorf("control socket %s: %w", path, err)
	}
	return l, nil
}

func inherited() (net.Listener, error) {
	if os.Getenv("LISTEN_PID") != strconv.Itoa(os.Getpid()) {
		return nil, nil
	}
	n, _ := strconv.Atoi(os.Getenv("LISTEN_FDS"))
	names := strings.Split(os.Getenv("LISTEN_FDNAMES"), ":")
	for i := range n {
		fd := 3 + i
		unix.CloseOnExec(fd)
		if i < len(names) && names[i] == "control" {
			f := os.NewFile(uintptr(fd), "control")
			defer f.Close()
			l, err := net.FileListener(f)
			if err != nil {
				return nil, fmt.Errorf("inherited socket %q: %w", names[i], err)
			}
			return l, nil
		}
	}
	return nil, nil
}

package process

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// who says for whom something failed, where it is not our own user.
func (st *Start) who() string {
	if st.User == nil {
		return ""
	}
	return " by user " + st.User.Name
}

// checkProgram looks at the program before the fork, with the rights of the
// worker's user.
func checkProgram(st Start) error {
	path := st.program()
	var s unix.Stat_t
	switch err := unix.Stat(path, &s); err {
	case nil:
	case unix.ENOENT, unix.ENOTDIR:
		return fmt.Errorf("command %s does not exist (correct command, or install the program)", path)
	case unix.EACCES:
		return fmt.Errorf("command %s may not be reached%s (look at the modes of the directories above it)", path, st.who())
	default:
		return fmt.Errorf("command %s: %w", path, err)
	}
	switch {
	case s.Mode&unix.S_IFMT == unix.S_IFDIR:
		return fmt.Errorf("command %s is a directory", path)
	case s.Mode&unix.S_IFMT != unix.S_IFREG:
		return fmt.Errorf("command %s is no program", path)
	case s.Mode&0o111 == 0:
		return fmt.Errorf("command %s is not executable (chmod +x)", path)
	}
	if unix.Faccessat(unix.AT_FDCWD, path, unix.X_OK, unix.AT_EACCESS) == unix.EACCES {
		return fmt.Errorf("command %s may not be executed%s (look at its mode, and for noexec among the mount options)", path, st.who())
	}
	return nil
}

// explain says what an error of fork or exec means.
func explain(st Start, err error) error {
	path := st.program()
	switch {
	case errors.Is(err, errTrampoline):
		return fmt.Errorf("command %s: %w", path, err)
	case errors.Is(err, syscall.ENOENT):
		if interp := shebang(path); interp != "" {
			return fmt.Errorf("command %s: its interpreter %s does not exist (correct its first line, or install it)", path, interp)
		}
		return fmt.Errorf("command %s: its loader does not exist (is it built for this system?)", path)
	case errors.Is(err, syscall.EACCES):
		if interp := shebang(path); interp != "" {
			return fmt.Errorf("command %s: its interpreter %s may not be executed%s (permission denied)", path, interp, st.who())
		}
		return fmt.Errorf("command %s may not be executed%s (permission denied: look at its mode, its directories and the mount options)", path, st.who())
	case errors.Is(err, syscall.ENOEXEC):
		return fmt.Errorf("command %s is no program: neither a binary for this machine nor a script with #! in its first line", path)
	case errors.Is(err, syscall.ENOTDIR), errors.Is(err, syscall.ELOOP):
		return fmt.Errorf("command %s: the path of its interpreter is wrong: %w", path, err)
	case errors.Is(err, syscall.EPERM) && st.User != nil:
		return fmt.Errorf("cannot become user %s: operation not permitted (only root may set user and group)", st.User.Name)
	case errors.Is(err, syscall.EINVAL) && st.User != nil:
		return fmt.Errorf("cannot become user %s: uid %d or gid %d has no place in this user namespace", st.User.Name, st.User.UID, st.User.GID)
	case errors.Is(err, syscall.EAGAIN):
		return fmt.Errorf("command %s: no more processes are allowed (pids.max, RLIMIT_NPROC or TasksMax=)", path)
	case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE):
		return fmt.Errorf("command %s: the manager has no more file descriptors (RLIMIT_NOFILE, fs.file-max)", path)
	case errors.Is(err, syscall.E2BIG):
		return fmt.Errorf("command %s: arguments and environment are too long together", path)
	case errors.Is(err, syscall.ENOMEM):
		return fmt.Errorf("command %s: not enough memory to start it", path)
	case errors.Is(err, syscall.ETXTBSY):
		return fmt.Errorf("command %s is being written to (install it by renaming a new file into its place)", path)
	}
	return fmt.Errorf("command %s: %w", path, err)
}

// shebang is the interpreter of a script, "" if it is none. Like
// writeOOMScoreAdj it is by system calls alone.
func shebang(path string) string {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return ""
	}
	defer unix.Close(fd)
	buf := make([]byte, 256)
	n, _ := unix.Read(fd, buf)
	line, _, _ := bytes.Cut(buf[:max(n, 0)], []byte("\n"))
	rest, ok := bytes.CutPrefix(line, []byte("#!"))
	if !ok {
		return ""
	}
	if fields := strings.Fields(string(rest)); len(fields) > 0 {
		return fields[0]
	}
	return ""
}

// Look finds a command as a shell would, in the PATH of the worker; a name with
// a slash in it is a path, relative to the worker's directory.
//
// Behind PATH comes the directory of our own program: what was installed or
// built together is found together, also by "bin/workersd --config …".
func Look(name, path string) (string, error) {
	if strings.Contains(name, "/") {
		return name, nil
	}
	if path == "" {
		path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
	}
	var denied string
	for _, dir := range append(filepath.SplitList(path), besideUs) {
		if !filepath.IsAbs(dir) {
			continue // what runs must not depend on a directory
		}
		full := filepath.Join(dir, name)
		st, err := os.Stat(full)
		switch {
		case err != nil || st.IsDir():
		case st.Mode().Perm()&0o111 == 0:
			denied = full
		default:
			return full, nil
		}
	}
	if denied != "" {
		return "", fmt.Errorf("command %s is not executable (chmod +x)", denied)
	}
	return "", fmt.Errorf("command %s does not exist in PATH %s (write its full path, or set PATH in environment)", name, path)
}

// besideUs is where our own program is; empty where that cannot be told.
var besideUs = func() string {
	exe, err := os.Executable()
	if err != nil {
		return ""
	}
	return filepath.Dir(exe)
}()

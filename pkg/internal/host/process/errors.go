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

// checkProgram looks at the program before the fork. It runs on a thread of
// its own with the worker's directory: a path that hangs hangs only there.
func checkProgram(st Start) error {
	var s unix.Stat_t
	switch err := unix.Stat(st.Path, &s); err {
	case nil:
	case unix.ENOENT, unix.ENOTDIR:
		return fmt.Errorf("command %s does not exist (correct command, or install the program)", st.Path)
	default:
		return fmt.Errorf("command %s: %v", st.Path, err)
	}
	switch {
	case s.Mode&unix.S_IFMT == unix.S_IFDIR:
		return fmt.Errorf("command %s is a directory", st.Path)
	case s.Mode&unix.S_IFMT != unix.S_IFREG:
		return fmt.Errorf("command %s is no program", st.Path)
	case s.Mode&0o111 == 0:
		return fmt.Errorf("command %s is not executable (chmod +x)", st.Path)
	}
	return nil
}

// explain says what an error of fork or exec means.
func explain(st Start, err error) error {
	who := ""
	if st.User != nil {
		who = " for user " + st.User.Name
	}
	switch {
	case errors.Is(err, syscall.ENOENT):
		if interp := shebang(st); interp != "" {
			return fmt.Errorf("command %s: its interpreter %s does not exist (correct its first line, or install it)", st.Path, interp)
		}
		return fmt.Errorf("command %s: its loader does not exist (is it built for this system?)", st.Path)
	case errors.Is(err, syscall.EACCES):
		if interp := shebang(st); interp != "" {
			return fmt.Errorf("command %s: it or its interpreter %s is not executable%s", st.Path, interp, who)
		}
		return fmt.Errorf("command %s is not executable%s (permission denied: look at the modes of it and its directories)", st.Path, who)
	case errors.Is(err, syscall.ENOEXEC):
		return fmt.Errorf("command %s is no program: neither a binary nor a script with #! in its first line", st.Path)
	case errors.Is(err, syscall.EPERM) && st.User != nil:
		return fmt.Errorf("cannot become user %s: operation not permitted (only root may set user and group)", st.User.Name)
	case errors.Is(err, syscall.EAGAIN):
		return fmt.Errorf("command %s: no more processes are allowed (pids.max, RLIMIT_NPROC or TasksMax=)", st.Path)
	case errors.Is(err, syscall.E2BIG):
		return fmt.Errorf("command %s: arguments and environment are too long together", st.Path)
	case errors.Is(err, syscall.ENOMEM):
		return fmt.Errorf("command %s: not enough memory to start it", st.Path)
	}
	return fmt.Errorf("command %s: %v", st.Path, err)
}

// shebang is the interpreter of a script, "" if it is none.
func shebang(st Start) string {
	path := st.Path
	if !filepath.IsAbs(path) && st.Dir != "" {
		path = filepath.Join(st.Dir, path)
	}
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return ""
	}
	defer f.Close()
	buf := make([]byte, 256)
	n, _ := f.Read(buf)
	line, _, _ := bytes.Cut(buf[:n], []byte("\n"))
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
func Look(name, path string) (string, error) {
	if strings.Contains(name, "/") {
		return name, nil
	}
	if path == "" {
		path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
	}
	var denied string
	for _, dir := range filepath.SplitList(path) {
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

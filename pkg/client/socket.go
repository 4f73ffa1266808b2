package client

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
)

// Sockets are where a manager may be, in the order in which they are tried:
// what WORKERSD_SOCKET says and nothing else, or the service's, then the user's.
func Sockets() []string {
	if s := os.Getenv("WORKERSD_SOCKET"); s != "" {
		return []string{s}
	}
	return []string{"/run/workersd/control.sock", UserSocket()}
}

// UserSocket is that of a manager which an unprivileged user runs.
func UserSocket() string {
	if dir := os.Getenv("XDG_RUNTIME_DIR"); dir != "" {
		return filepath.Join(dir, "workersd", "control.sock")
	}
	return filepath.Join(os.TempDir(), fmt.Sprintf("workersd-%d", os.Geteuid()), "control.sock")
}

// Find is the first of Sockets where somebody listens, else the first that is
// there, else the first of all.
func Find() string {
	all := Sockets()
	there := all[0]
	for i := len(all) - 1; i >= 0; i-- {
		if _, err := os.Stat(all[i]); err == nil {
			there = all[i]
		}
	}
	if len(all) == 1 {
		return there
	}
	for _, s := range all {
		if c, err := net.Dial("unix", s); err == nil {
			c.Close()
			return s
		}
	}
	return there
}

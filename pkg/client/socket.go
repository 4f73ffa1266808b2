package client

import (
	"cmp"
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
func Find() string { return find(Sockets()) }

func find(all []string) string {
	if len(all) == 1 {
		return all[0]
	}
	there := ""
	for _, s := range all {
		if _, err := os.Stat(s); err != nil {
			continue
		}
		if c, err := net.Dial("unix", s); err == nil {
			c.Close()
			return s
		}
		there = cmp.Or(there, s)
	}
	return cmp.Or(there, all[0])
}

package client

import (
	"cmp"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
)

// serviceSocket is that of the manager of the machine.
const serviceSocket = "/run/workersd/control.sock"

// Sockets are where a manager may be, in the order in which they are tried:
// what WORKERSD_SOCKET says and nothing else, or the service's, then the user's.
func Sockets() []string {
	if s := os.Getenv("WORKERSD_SOCKET"); s != "" {
		return []string{s}
	}
	return []string{serviceSocket, UserSocket()}
}

// DefaultSocket is where a manager listens that was not told where: what
// WORKERSD_SOCKET says, else the directory that systemd gives a service
// (systemd.exec(5)), else the service's as root and the user's otherwise.
func DefaultSocket() string {
	if s := os.Getenv("WORKERSD_SOCKET"); s != "" {
		return s
	}
	if dir, _, _ := strings.Cut(os.Getenv("RUNTIME_DIRECTORY"), ":"); dir != "" {
		return filepath.Join(dir, "control.sock")
	}
	if os.Geteuid() == 0 {
		return serviceSocket
	}
	return UserSocket()
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

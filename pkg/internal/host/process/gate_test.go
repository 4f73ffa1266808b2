package process

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// A child has what it was given and nothing else, also of what the program did
// not mark to be closed, and the threads that fork hold nothing of the program.
func TestOwnDescriptors(t *testing.T) {
	for name, refuse := range map[string]func(){
		"close_range": func() {},
		"without":     func() { closeRange = func(uint, uint, uint) error { return unix.ENOSYS } },
	} {
		t.Run(name, func(t *testing.T) {
			refuse()
			defer func() { closeRange = unix.CloseRange }()
			path := filepath.Join(t.TempDir(), "lock")
			lock, err := os.Create(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
				t.Fatal(err)
			}
			withUnshare(t, true) // so that the thread is made now
			for range 2 {
				c := mustStart(t, sh("ls /proc/self/fd | tr '\\n' ' '"))
				if got := c.output(); got != "0 1 2 3 " { // the last is its own, of the directory
					t.Errorf("the child has %q", got)
				}
				c.ended()
				// What comes later does not reach the thread at all.
				fd, err := unix.Open("/", unix.O_PATH, 0)
				if err != nil {
					t.Fatal(err)
				}
				defer unix.Close(fd)
			}
			lock.Close()
			again, err := os.Open(path)
			if err != nil {
				t.Fatal(err)
			}
			defer again.Close()
			if err := unix.Flock(int(again.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
				t.Errorf("somebody holds what the program has closed: %v", err)
			}
		})
	}
}

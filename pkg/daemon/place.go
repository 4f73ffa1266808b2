package daemon

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// place is where a manager keeps what lives as long as it does. All of it
// hangs on the control socket: who holds its lock owns the directory beside it.
type place struct {
	socket  string
	runtime string // SOCKET.d: notify sockets, the accepted list, operator's stops
}

func newPlace(socket string) (place, error) {
	abs, err := filepath.Abs(socket)
	if err != nil {
		return place{}, fmt.Errorf("control socket %s: %w", socket, err)
	}
	return place{socket: abs, runtime: abs + ".d"}, nil
}

// prepare makes the runtime directory. Workers of other users must reach their
// own notify socket in it, and see no more than that: 0711.
func (p place) prepare() error {
	if err := p.own(); err != nil {
		return err
	}
	if err := os.Chmod(p.runtime, 0o711); err != nil {
		return fmt.Errorf("runtime directory: %w", err)
	}
	// Notify sockets of a manager that was killed.
	if err := os.RemoveAll(p.notify()); err != nil {
		return fmt.Errorf("runtime directory: %w", err)
	}
	if err := os.Mkdir(p.notify(), 0o711); err != nil {
		return fmt.Errorf("runtime directory: %w", err)
	}
	return nil
}

// own makes the runtime directory, or finds the one of a manager before. In a
// directory of everybody's, such as /tmp, somebody else may have made it: what it
// leads to would be changed and removed by us.
func (p place) own() error {
	err := os.Mkdir(p.runtime, 0o711)
	if err == nil {
		return nil
	}
	if !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("runtime directory: %w", err)
	}
	st, err := os.Lstat(p.runtime)
	if err != nil {
		return fmt.Errorf("runtime directory: %w", err)
	}
	switch uid := int(st.Sys().(*syscall.Stat_t).Uid); {
	case !st.IsDir():
		return fmt.Errorf("runtime directory %s: is no directory of its own (remove it, or choose another --socket)", p.runtime)
	case uid != os.Geteuid() && uid != 0:
		return fmt.Errorf("runtime directory %s: belongs to user %d (remove it, or choose another --socket)", p.runtime, uid)
	}
	return nil
}

func (p place) notify() string   { return filepath.Join(p.runtime, "n") }
func (p place) accepted() string { return filepath.Join(p.runtime, "accepted") }

// remove ends the place. In a terminal nothing of it is worth keeping; under
// systemd an operator's stops outlive the manager.
func (p place) remove(keepStops bool) error {
	if keepStops {
		if err := os.RemoveAll(p.accepted()); err != nil {
			return err
		}
		return os.RemoveAll(p.notify())
	}
	return os.RemoveAll(p.runtime)
}

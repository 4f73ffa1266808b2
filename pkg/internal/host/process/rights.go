package process

import (
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// asUser calls fn with the file rights of a user: what root may enter, the
// worker may not. It changes the calling thread only, which must be locked
// (setfsuid(2); system calls are made raw, because those of package syscall
// change all threads). Back is not nil if the thread could not be made ours
// again: then it must end.
func asUser(u *User, fn func() error) (err, back error) {
	if u == nil || u.UID == 0 || os.Geteuid() != 0 {
		return fn(), nil
	}
	before, err := unix.Getgroups()
	if err != nil {
		return fn(), nil
	}
	if setThreadGroups(u.Groups) != nil {
		return fn(), nil // a root without CAP_SETGID: the kernel will say at the exec
	}
	unix.SetfsgidRetGid(u.GID)
	unix.SetfsuidRetUid(u.UID)
	err = fn()
	unix.SetfsuidRetUid(os.Geteuid())
	unix.SetfsgidRetGid(os.Getegid())
	if e := setThreadGroups(before); e != nil {
		return err, fmt.Errorf("our own groups cannot be set again: %w", e)
	}
	// An id that is refused reads the one in force.
	if uid, _ := unix.SetfsuidRetUid(-1); uid != os.Geteuid() {
		return err, fmt.Errorf("our own file rights cannot be set again")
	}
	return err, nil
}

// setThreadGroups is setgroups(2) for the calling thread alone.
func setThreadGroups(groups []int) error {
	ids := make([]uint32, len(groups)+1) // one more: never an empty slice to point at
	for i, g := range groups {
		ids[i] = uint32(g)
	}
	if _, _, e := unix.RawSyscall(unix.SYS_SETGROUPS, uintptr(len(groups)), uintptr(unsafe.Pointer(&ids[0])), 0); e != 0 {
		return e
	}
	return nil
}

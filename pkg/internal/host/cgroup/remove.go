package cgroup

import (
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// removeTree removes an empty cgroup and those below it, bottom-up. Never
// RemoveAll: it tries to unlink the kernel's own files.
func removeTree(dir int, name string) error {
	for _, sub := range subdirs(dir, name) {
		if err := removeTree(dir, name+"/"+sub); err != nil {
			return err
		}
	}
	var err error
	for pause := time.Millisecond; pause < time.Second; pause *= 2 {
		err = unix.Unlinkat(dir, name, unix.AT_REMOVEDIR)
		if err == nil || errors.Is(err, unix.ENOENT) {
			return nil
		}
		// EBUSY for a moment: the last process is dead and not yet unhashed.
		if !errors.Is(err, unix.EBUSY) {
			break
		}
		time.Sleep(pause)
	}
	return fmt.Errorf("rmdir %s: %w", name, err)
}

// subdirs are the cgroups directly below; none when it cannot be read. Mostly
// there are none, which the number of links tells: two, and one for each
// (kernfs_init_inode of the kernel's fs/kernfs/inode.c).
func subdirs(dir int, name string) []string {
	var st unix.Stat_t
	if unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW) == nil && st.Nlink == 2 {
		return nil
	}
	fd, err := unix.Openat(dir, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	f := os.NewFile(uintptr(fd), name)
	defer f.Close()
	entries, err := f.ReadDir(-1)
	if err != nil {
		return nil
	}
	var names []string
	for _, e := range entries {
		if e.IsDir() {
			names = append(names, e.Name())
		}
	}
	return names
}

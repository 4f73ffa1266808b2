package config

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/workersd/workersd/pkg/spec"
)

// maxFile bounds what is read of one file: ten thousand workers, each with a
// table of its own, are a tenth of it.
const maxFile = 16 << 20

// Options are what a list means on this machine.
type Options struct {
	// MemoryTotal is what percentages are of: the least of the machine's memory
	// and every limit above us. 0: unknown, percentages are errors.
	MemoryTotal spec.Bytes
	// Percentage is called for each percentage of it; nil: nobody asks.
	Percentage func()
	// Owners may write the list besides root and the process's user.
	Owners []int
	// AnyOwner leaves the check out: for a reader that acts on nothing.
	AnyOwner bool
	// Forbidden are keys that cannot work in this mode, with the reason.
	Forbidden map[string]string
}

// File is one file of a list.
type File struct {
	Name string `json:"name"`
	Data []byte `json:"data"`
}

// Load reads the list at path and its drop-ins, PATH.d/*.toml in name order.
// The error is Errors.
func Load(path string, o Options) (spec.List, error) {
	files, errs := Read(path, o)
	if len(errs) > 0 {
		return spec.List{}, errs
	}
	return Parse(files, o)
}

// Read gets the files of a list without looking into them.
func Read(path string, o Options) (files []File, errs Errors) {
	errs = o.replaceable(path)
	names := []string{path}
	dir := path + ".d"
	switch entries, err := os.ReadDir(dir); {
	case err == nil:
		if st, err := os.Stat(dir); err == nil {
			if why := o.writable(st); why != "" {
				errs = append(errs, Error{File: dir, Text: why})
			}
		}
		for _, e := range entries {
			if strings.HasSuffix(e.Name(), ".toml") && !strings.HasPrefix(e.Name(), ".") {
				names = append(names, filepath.Join(dir, e.Name()))
			}
		}
	case !errors.Is(err, fs.ErrNotExist):
		errs = append(errs, Error{File: dir, Text: "cannot be read: " + reason(err)})
	}
	slices.Sort(names[1:])
	for _, name := range names {
		data, err := o.read(name)
		if err != nil {
			errs = append(errs, Error{File: name, Text: err.Error()})
			continue
		}
		files = append(files, File{name, data})
	}
	return files, errs
}

// read opens without blocking: a list that is a FIFO must not hang a reload.
func (o Options) read(name string) ([]byte, error) {
	f, err := os.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("does not exist (expected a worker list; see reference.toml)")
		}
		return nil, fmt.Errorf("cannot be read: %s", reason(err))
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("cannot be read: %s", reason(err))
	}
	if !st.Mode().IsRegular() {
		return nil, fmt.Errorf("is no regular file")
	}
	if why := o.writable(st); why != "" {
		return nil, errors.New(why)
	}
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("cannot be read: %s", reason(err))
	}
	if len(data) > maxFile {
		return nil, fmt.Errorf("is larger than %v", spec.Bytes(maxFile))
	}
	return data, nil
}

// replaceable looks at the directory of a list, and at that of what a symbolic
// link leads to: who may rename there may put another list in its place. In a
// sticky directory, such as /tmp, only the owner of a file may (unlink(2)).
func (o Options) replaceable(path string) (errs Errors) {
	dirs := []string{filepath.Dir(path)}
	if real, err := filepath.EvalSymlinks(path); err == nil && filepath.Dir(real) != dirs[0] {
		dirs = append(dirs, filepath.Dir(real))
	}
	for _, dir := range dirs {
		st, err := os.Stat(dir)
		if err != nil {
			continue // reading the file says it better
		}
		why := o.owned(st)
		if why == "" && st.Mode()&fs.ModeSticky == 0 {
			why = o.writable(st)
		}
		if why != "" {
			errs = append(errs, Error{File: dir, Text: "the directory of the list: " + why})
		}
	}
	return errs
}

// owned says which other user a file belongs to.
func (o Options) owned(st fs.FileInfo) string {
	sys, ok := st.Sys().(*syscall.Stat_t)
	if o.AnyOwner || !ok {
		return ""
	}
	uid := int(sys.Uid)
	if uid != 0 && uid != os.Geteuid() && !slices.Contains(o.Owners, uid) {
		return fmt.Sprintf("belongs to user %d, who could write it (expected root or user %d)", uid, os.Geteuid())
	}
	return ""
}

// writable says who else may write a file. Who writes the list decides what
// runs, and as whom. A group that is root's, or the owner's own (its number is
// the user's, as Debian makes them), has nobody else in it.
func (o Options) writable(st fs.FileInfo) string {
	sys, ok := st.Sys().(*syscall.Stat_t)
	if o.AnyOwner || !ok {
		return ""
	}
	if why := o.owned(st); why != "" {
		return why
	}
	perm := st.Mode().Perm()
	switch {
	case perm&0o002 != 0:
		return fmt.Sprintf("anyone may write it, mode %04o (expected chmod o-w)", perm)
	case perm&0o020 != 0 && sys.Gid != 0 && sys.Gid != sys.Uid:
		return fmt.Sprintf("group %d may write it, mode %04o (expected chmod g-w)", sys.Gid, perm)
	}
	return ""
}

func reason(err error) string {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return pe.Err.Error()
	}
	return err.Error()
}

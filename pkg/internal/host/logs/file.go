package logs

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/workersd/workersd/pkg/spec"
)

const (
	// checkEvery is how often a file in use is compared with what stands at its
	// path, and how long a trouble must be over before that is said.
	checkEvery = time.Second
	// maxOverrun is how far a line that is being written may pass log_max_size
	// before it is torn.
	maxOverrun = 1 << 20
)

// handle is an open log file.
type handle interface {
	Write([]byte) (int, error)
	Stat() (fs.FileInfo, error)
	Truncate(size int64) error
	Close() error
}

// file is a log file that is rotated by size. Save for the atomic fields it
// belongs to the one goroutine that writes its sink.
type file struct {
	path    string
	worker  string // the one that is named when there is a trouble
	open    func(path string) (handle, error)
	problem func(worker string, err error)
	now     func() time.Time

	max     atomic.Int64 // of spec.Bytes; None: never rotated
	backups atomic.Int32
	moved   atomic.Bool // compare with the path before the next write

	h       handle
	size    int64
	midLine bool      // the last byte is not a line end
	checked time.Time // when it was last compared with its path
	stay    time.Time // no rotation before: the last one failed
	stays   bool      // and that was said

	failing  bool
	lost     int64
	failedAt time.Time
}

func newFile(w *spec.Worker, open func(string) (handle, error), problem func(string, error)) *file {
	f := &file{path: w.Log, worker: w.Name, open: open, problem: problem, now: time.Now}
	f.limit(w)
	return f
}

func (f *file) limit(w *spec.Worker) {
	f.max.Store(int64(w.LogMaxSize))
	f.backups.Store(int32(w.LogBackups))
}

// openFile opens a log file for appending. It follows no link in the last
// component and takes nothing but a regular file: whoever may write to the
// directory must not choose what the manager writes to.
func openFile(path string) (handle, error) {
	var st unix.Stat_t
	// Opening a device has effects of its own, so look first.
	if err := unix.Lstat(path, &st); err == nil {
		if err := checkKind(path, &st); err != nil {
			return nil, err
		}
	}
	fd, err := unix.Open(path, unix.O_WRONLY|unix.O_APPEND|unix.O_CREAT|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, 0o640)
	switch {
	case err == unix.ELOOP:
		return nil, fmt.Errorf("log file %s: %w", path, errLink)
	case err == unix.ENOENT:
		return nil, fmt.Errorf("log file %s: directory %s does not exist: make it, or choose another log", path, filepath.Dir(path))
	case err != nil:
		return nil, fmt.Errorf("log file %s: %w", path, err)
	}
	if err := unix.Fstat(fd, &st); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("log file %s: %w", path, err)
	}
	if err := checkKind(path, &st); err != nil {
		unix.Close(fd)
		return nil, err
	}
	return os.NewFile(uintptr(fd), path), nil
}

var errLink = errors.New("is a symbolic link, and links are not followed: name the file itself")

func checkKind(path string, st *unix.Stat_t) error {
	switch {
	case st.Mode&unix.S_IFMT == unix.S_IFLNK:
		return fmt.Errorf("log file %s: %w", path, errLink)
	case st.Mode&unix.S_IFMT != unix.S_IFREG:
		return fmt.Errorf("log file %s: is not a regular file", path)
	case st.Nlink > 1:
		return fmt.Errorf("log file %s: has %d hard links, and could be a file of somebody else's: remove it", path, st.Nlink)
	}
	return nil
}

// first opens the file for the first time. A trouble that may pass, such as a
// full disk, is no error: the worker runs, and the file is tried again.
func (f *file) first() error {
	err := f.reopen()
	if passing(err) {
		f.lose(0, err)
		return nil
	}
	return err
}

func passing(err error) bool {
	for _, e := range []error{unix.ENOSPC, unix.EDQUOT, unix.EIO, unix.EMFILE, unix.ENFILE, unix.ENOMEM, unix.ESTALE} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

func (f *file) reopen() error {
	f.close()
	h, err := f.open(f.path)
	if err != nil {
		return err
	}
	st, err := h.Stat()
	if err != nil {
		h.Close()
		return fmt.Errorf("log file %s: %w", f.path, err)
	}
	f.h, f.size, f.midLine, f.checked = h, st.Size(), false, f.now()
	return nil
}

func (f *file) close() {
	if f.h != nil {
		f.h.Close()
		f.h = nil
	}
}

// write writes b, which is made of whole lines, or of a piece of a long one.
func (f *file) write(b []byte) {
	for len(b) > 0 {
		if err := f.follow(); err != nil {
			f.lose(len(b), err)
			return
		}
		n := f.room(b)
		if n == 0 {
			f.rotated(f.rotate())
			continue
		}
		k, err := f.h.Write(b[:n])
		f.size += int64(k)
		if err != nil {
			f.lose(len(b)-f.whole(b[:k]), fmt.Errorf("log file %s: %w", f.path, unwrapPath(err)))
			return
		}
		f.midLine = b[n-1] != '\n'
		b = b[n:]
		f.recovered()
	}
}

// unwrapPath is the error without the path that os.File puts before it.
func unwrapPath(err error) error {
	if p := (*fs.PathError)(nil); errors.As(err, &p) {
		return p.Err
	}
	return err
}

// follow opens the file anew if it is not open, or if another stands at its
// path: somebody else has rotated it.
func (f *file) follow() error {
	if f.h == nil {
		return f.reopen()
	}
	if !f.moved.Swap(false) && f.now().Sub(f.checked) < checkEvery {
		return nil
	}
	f.checked = f.now()
	ours, err := f.h.Stat()
	if err != nil {
		return f.reopen()
	}
	there, err := os.Lstat(f.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return f.reopen()
	case err != nil:
		return nil // go on with what is open
	case !os.SameFile(ours, there):
		return f.reopen()
	}
	f.size = ours.Size() // somebody may have truncated it (copytruncate)
	return nil
}

// room is how much of b goes into the file before it is rotated: up to the last
// line end that fits. 0 means rotate now.
func (f *file) room(b []byte) int {
	limit := f.max.Load()
	if limit < 0 || f.size+int64(len(b)) <= limit || f.now().Before(f.stay) {
		return len(b)
	}
	fits := max(limit-f.size, 0)
	if n := bytes.LastIndexByte(b[:fits], '\n') + 1; n > 0 {
		return n
	}
	if f.size > 0 && !f.midLine {
		return 0
	}
	// A line that is longer than what is left, in a file of its own or begun
	// already: it may pass the limit, but not for ever.
	if n := bytes.IndexByte(b, '\n') + 1; n > 0 {
		return n
	}
	if f.size < limit+maxOverrun {
		return len(b)
	}
	return 0
}

// rotated says once that the file cannot be rotated, until it can be again.
func (f *file) rotated(err error) {
	if err != nil {
		f.stay = f.now().Add(10 * checkEvery)
		if !f.stays {
			f.problem(f.worker, fmt.Errorf("%w: it is not rotated and grows", err))
		}
	}
	f.stays = err != nil
}

// rotate moves path to path.1, path.1 to path.2 and so on, and begins anew.
func (f *file) rotate() error {
	f.close()
	err := shift(f.path, int(f.backups.Load()))
	if e := f.reopen(); e != nil {
		f.close() // the next write tries it again, and says what is wrong
	}
	if err != nil {
		return fmt.Errorf("log file %s: %w", f.path, err)
	}
	return nil
}

// shift moves the backups on by one; the oldest is overwritten.
func shift(path string, backups int) error {
	if backups <= 0 {
		return unwrapPath(os.Remove(path))
	}
	name := func(i int) string {
		if i == 0 {
			return path
		}
		return path + "." + strconv.Itoa(i)
	}
	for i := backups; i > 0; i-- {
		if err := unix.Rename(name(i-1), name(i)); err != nil && err != unix.ENOENT {
			return fmt.Errorf("cannot be moved to %s: %w", name(i), err)
		}
	}
	return nil
}

// whole is how many of the bytes that were written before an error are whole
// lines. A torn line at the end is taken back, or ended.
func (f *file) whole(b []byte) int {
	n := bytes.LastIndexByte(b, '\n') + 1
	torn := int64(len(b) - n)
	if torn == 0 {
		return n
	}
	if st, err := f.h.Stat(); err == nil && st.Size() == f.size && f.h.Truncate(f.size-torn) == nil {
		f.size -= torn
		return n
	}
	f.midLine = true
	return len(b)
}

// lose counts what could not be written, and says so at the beginning.
func (f *file) lose(n int, err error) {
	f.lost += int64(n)
	f.failedAt = f.now()
	if !f.failing {
		f.failing = true
		f.problem(f.worker, fmt.Errorf("%w: what is written is lost until this is better", err))
	}
}

// recovered says that a trouble is over, once it has been for a moment: a disk
// that is almost full takes a line now and then.
func (f *file) recovered() {
	if f.failing && f.now().Sub(f.failedAt) >= checkEvery {
		f.problem(f.worker, fmt.Errorf("log file %s: is written again; %d bytes were lost", f.path, f.lost))
		f.failing, f.lost = false, 0
	}
}

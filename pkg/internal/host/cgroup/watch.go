package cgroup

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// watch is what one inotify watch is about: a leaf, or without one an ancestor.
type watch struct {
	leaf *Leaf
	kind watchKind
}

type watchKind uint8

const (
	memoryEvents    watchKind = iota // memory.events of a leaf; fires once
	populatedEvents                  // cgroup.events of a leaf
	ancestorEvents                   // memory.events.local of the pool, the root and above
)

// openInotify makes the one instance for all leaves: the kernel allows 128 of
// them to a user.
func (t *Tree) openInotify() error {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return fmt.Errorf("inotify: %w", err)
	}
	t.inotify = os.NewFile(uintptr(fd), "inotify")
	for _, a := range t.ancestors {
		if _, err := t.watch(a.path, watch{kind: ancestorEvents}); err != nil {
			t.inotify.Close()
			return err
		}
	}
	return nil
}

// watch begins to listen to a file.
func (t *Tree) watch(path string, w watch) (wd int32, err error) {
	mask := uint32(unix.IN_MODIFY)
	if w.kind == memoryEvents {
		mask |= unix.IN_ONESHOT
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	err = t.control(func(fd int) error {
		n, err := unix.InotifyAddWatch(fd, path, mask)
		wd = int32(n)
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("watch %s (is fs.inotify.max_user_watches reached?): %w", path, err)
	}
	t.watched[wd] = w
	return wd, nil
}

func (t *Tree) control(fn func(fd int) error) error {
	conn, err := t.inotify.SyscallConn()
	if err != nil {
		return err
	}
	if cerr := conn.Control(func(fd uintptr) { err = fn(int(fd)) }); cerr != nil {
		return cerr
	}
	return err
}

// listen arms the watch for what happens to the memory of the leaf. It fires
// once: page cache at a limit would fire it a hundred times a second, so each
// look decides when it is armed again. A leaf that cannot be watched is read
// often instead: that must not keep a worker from running.
func (l *Leaf) listen() {
	if l.armed {
		return
	}
	wd, err := l.tree.watch(filepath.Join(l.Path(), "memory.events"), watch{l, memoryEvents})
	switch {
	case err == nil:
		l.armed, l.memoryWatch = true, wd
	case !errors.Is(err, unix.ENOENT): // else it vanished, which is said elsewhere
		l.unwatched(err)
	}
}

// unwatched says once that the leaf is read again and again in place of being
// watched.
func (l *Leaf) unwatched(err error) {
	if !l.deaf {
		l.deaf = true
		l.tree.options.Problem(err.Error())
	}
}

// emptyEvery is how often a leaf is looked at whose end cannot be watched or read.
const emptyEvery = 100 * time.Millisecond

// remember begins to look after a leaf.
func (t *Tree) remember(l *Leaf) {
	t.mu.Lock()
	t.leaves[l] = true
	t.mu.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.listen()
}

// forget ends looking after a leaf, whose lock is held. A watch holds on to its
// file, and with it to the whole removed cgroup, so it is taken away before.
func (t *Tree) forget(l *Leaf) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.leaves, l)
	for _, wd := range []int32{l.memoryWatch, l.emptyWatch} {
		if t.watched[wd].leaf == l {
			delete(t.watched, wd)
			t.control(func(fd int) error { _, err := unix.InotifyRmWatch(fd, uint32(wd)); return err })
		}
	}
}

// parseInotify takes the watches that have fired, or are gone, out of what inotify
// wrote. One that fires once is gone right after it. The kernel writes its event
// before it takes it away, and gives it back to whoever asks for another between
// the two: that it is gone comes then when it is listened to again, and counts as
// if it had fired. Watches that we took away ourselves are known no more; their
// numbers are not used again before all others were (idr_alloc_cyclic).
func parseInotify(b []byte) (watches []int32, overflow bool) {
	for len(b) >= unix.SizeofInotifyEvent {
		wd := int32(binary.NativeEndian.Uint32(b))
		mask := binary.NativeEndian.Uint32(b[4:])
		size := binary.NativeEndian.Uint32(b[12:])
		switch {
		case mask&unix.IN_Q_OVERFLOW != 0:
			overflow = true
		case mask&(unix.IN_MODIFY|unix.IN_IGNORED) != 0:
			watches = append(watches, wd)
		}
		b = b[min(uint64(len(b)), unix.SizeofInotifyEvent+uint64(size)):]
	}
	return watches, overflow
}

// kick makes the loop see what changed.
func (t *Tree) kick() {
	t.kicked.Store(true)
	t.inotify.SetReadDeadline(time.Unix(1, 0))
}

// loop looks at leaves when the kernel says so and when it is time. It ends
// when Close closes the descriptor.
func (t *Tree) loop() {
	buf := make([]byte, 64<<10)
	for {
		t.inotify.SetReadDeadline(time.Now().Add(t.lookDue()))
		if t.kicked.Swap(false) {
			continue // it may have come before the deadline was set
		}
		n, err := t.inotify.Read(buf)
		switch {
		case err == nil:
			t.fired(parseInotify(buf[:n]))
		case !errors.Is(err, os.ErrDeadlineExceeded):
			return
		}
	}
}

// fired takes in the watches of one batch. After an overflow it is unknown which
// ones were lost, and all are read again.
func (t *Tree) fired(batch []int32, overflow bool) {
	if overflow {
		for _, l := range t.all() {
			l.checkEmpty()
			l.mark(t.clock())
		}
		t.dueBy(t.clock())
		t.ancestorFired()
		return
	}
	ancestor := false
	for _, wd := range batch {
		t.mu.Lock()
		w, ok := t.watched[wd]
		if ok && w.kind == memoryEvents {
			delete(t.watched, wd)
		}
		t.mu.Unlock()
		switch {
		case !ok:
		case w.kind == ancestorEvents:
			ancestor = true
		case w.kind == memoryEvents:
			w.leaf.mark(t.clock())
			t.dueBy(w.leaf.look(t.clock()))
		default:
			w.leaf.checkEmpty()
		}
	}
	if ancestor {
		t.ancestorFired()
	}
}

// lookDue looks at each leaf that is due, and says when the next one is.
func (t *Tree) lookDue() time.Duration {
	wait := min(t.lowerPool(false), t.settleOOMs())
	now := t.clock()
	t.mu.Lock()
	next := t.nextLook
	if !next.After(now) {
		t.nextLook = now.Add(rare) // what comes meanwhile makes it earlier again
	}
	t.mu.Unlock()
	if !next.After(now) {
		next = now.Add(rare)
		for _, l := range t.all() {
			due, early, ok := l.dueAt(now)
			if !ok {
				continue
			}
			if early || !due.After(now) {
				due = l.look(now)
				now = t.clock()
			}
			if due.Before(next) {
				next = due
			}
		}
		t.dueBy(next)
	}
	return max(min(wait, next.Sub(now)), time.Millisecond)
}

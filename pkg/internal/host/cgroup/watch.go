package cgroup

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/workersd/workersd/pkg/spec"
)

// watch is what one inotify watch is about. A watch without a leaf is the pool's.
type watch struct {
	leaf   *Leaf
	memory bool // memory.events.local, else cgroup.events
}

// openInotify makes the one instance for all leaves: the kernel allows 128 of
// them to a user, and one goroutine reads them all.
func (t *Tree) openInotify() error {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return fmt.Errorf("inotify: %w", err)
	}
	t.inotify = os.NewFile(uintptr(fd), "inotify")
	if err := t.watch(filepath.Join(t.workers, "memory.events.local"), watch{memory: true}); err != nil {
		t.inotify.Close()
		return err
	}
	return nil
}

func (t *Tree) watch(path string, w watch) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	var wd int
	conn, err := t.inotify.SyscallConn()
	if err == nil {
		cerr := conn.Control(func(fd uintptr) { wd, err = unix.InotifyAddWatch(int(fd), path, unix.IN_MODIFY) })
		if cerr != nil {
			err = cerr
		}
	}
	if err != nil {
		return fmt.Errorf("watch %s (is fs.inotify.max_user_watches reached?): %w", path, err)
	}
	t.watched[int32(wd)] = w
	if w.leaf != nil {
		w.leaf.watches = append(w.leaf.watches, int32(wd))
	}
	return nil
}

// remember begins to look after a leaf. A leaf that cannot be watched is read
// often instead: that must not keep a worker from running.
func (t *Tree) remember(l *Leaf) {
	t.mu.Lock()
	t.leaves[l] = true
	t.mu.Unlock()
	for file, memory := range map[string]bool{"memory.events.local": true, "cgroup.events": false} {
		if err := t.watch(filepath.Join(l.Path(), file), watch{l, memory}); err != nil {
			t.options.Problem(err.Error())
		}
	}
}

// forget ends looking after a leaf. Its watches go with its files.
func (t *Tree) forget(l *Leaf) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.leaves, l)
	for _, wd := range l.watches {
		delete(t.watched, wd)
	}
}

// readInotify turns the kernel's queue into batches of watches. It ends when
// Close closes the descriptor.
func (t *Tree) readInotify() {
	buf := make([]byte, 64<<10)
	for {
		n, err := t.inotify.Read(buf)
		if err != nil {
			return
		}
		batch, overflow := parseInotify(buf[:n])
		if overflow {
			batch = nil // which ones were lost is unknown: all are read again
		} else if len(batch) == 0 {
			continue
		}
		select {
		case t.batches <- batch:
		case <-t.done:
			return
		}
	}
}

// parseInotify takes the watches out of what inotify wrote.
func parseInotify(b []byte) (watches []int32, overflow bool) {
	for len(b) >= unix.SizeofInotifyEvent {
		wd := int32(binary.NativeEndian.Uint32(b))
		mask := binary.NativeEndian.Uint32(b[4:])
		size := binary.NativeEndian.Uint32(b[12:])
		switch {
		case mask&unix.IN_Q_OVERFLOW != 0:
			overflow = true
		case mask&unix.IN_MODIFY != 0:
			watches = append(watches, wd)
		}
		b = b[min(len(b), unix.SizeofInotifyEvent+int(size)):]
	}
	return watches, overflow
}

func (t *Tree) kick() {
	select {
	case t.wake <- struct{}{}:
	default: // one is waiting already
	}
}

// loop looks at leaves when the kernel says so and when it is time.
func (t *Tree) loop() {
	timer := time.NewTimer(rare)
	defer timer.Stop()
	for {
		timer.Reset(t.lookDue())
		select {
		case <-t.done:
			return
		case <-timer.C:
		case <-t.wake:
		case batch := <-t.batches:
			t.fired(batch)
		}
	}
}

// fired handles the watches of one batch, each once.
func (t *Tree) fired(batch []int32) {
	if batch == nil {
		for _, l := range t.all() {
			l.checkEmpty()
			l.look(t.clock(), true)
		}
		return
	}
	seen := make(map[int32]bool, len(batch))
	for _, wd := range batch {
		t.mu.Lock()
		w, ok := t.watched[wd]
		t.mu.Unlock()
		switch {
		case !ok || seen[wd]:
		case w.leaf == nil:
			t.poolFired()
		case w.memory:
			w.leaf.look(t.clock(), true)
		default:
			w.leaf.checkEmpty()
		}
		seen[wd] = true
	}
}

// poolTables bounds how many leaves are looked into when the pool is full.
const poolTables = 16

// poolFired: the workers together are at their limit, and one of the largest
// will be killed. What it holds is written down while it can be seen.
func (t *Tree) poolFired() {
	type sized struct {
		l *Leaf
		n spec.Bytes
	}
	var largest []sized
	for _, l := range t.all() {
		n, ok := l.Memory()
		if !ok {
			continue
		}
		largest = append(largest, sized{l, n})
		for i := len(largest) - 1; i > 0 && largest[i].n > largest[i-1].n; i-- {
			largest[i], largest[i-1] = largest[i-1], largest[i]
		}
		largest = largest[:min(len(largest), poolTables)]
	}
	for _, s := range largest {
		s.l.writeDown(t.clock())
	}
}

// lookDue looks at each leaf that is due, and says when the next one is.
func (t *Tree) lookDue() time.Duration {
	t.lowerPool(false)
	next := rare
	if t.interval() < next {
		t.mu.Lock()
		if t.poolWait {
			next = t.check
		}
		t.mu.Unlock()
	}
	for _, l := range t.all() {
		now := t.clock()
		due, ok := l.dueAt()
		if !ok {
			continue
		}
		if !due.After(now) {
			due = l.look(now, false)
		}
		next = min(next, due.Sub(now))
	}
	return max(next, time.Millisecond)
}

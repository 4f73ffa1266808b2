package cgroup

import (
	"cmp"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/workersd/workersd/pkg/internal/event"
	"github.com/workersd/workersd/pkg/internal/lifecycle"
	"github.com/workersd/workersd/pkg/spec"
)

// The kernel raises a victim's oom_kill in every kind of out-of-memory; only
// the "oom" of the cgroup whose limit was hit says whose it was.

// ancestor is a cgroup above the leaves.
type ancestor struct {
	path string // of its memory.events.local
	fd   int
}

// openAncestors keeps the counters of the pool, of the root and of what is
// above: a limit may stand on the unit or on its slice. They are only read.
func (t *Tree) openAncestors() {
	for dir := t.workers; ; dir = filepath.Dir(dir) {
		path := filepath.Join(dir, "memory.events.local")
		fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			break // the top of the hierarchy has none
		}
		t.ancestors = append(t.ancestors, ancestor{path, fd})
	}
	t.settled(t.ancestorOOMs())
}

// settled keeps what an unharmed leaf has for its base.
func (t *Tree) settled(ooms []int64) {
	t.mu.Lock()
	t.ooms = ooms
	t.mu.Unlock()
}

// unharmedOOMs is the base of a leaf in which nothing has been killed.
func (t *Tree) unharmedOOMs() []int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.ooms
}

// ancestorOOMs is the local "oom" of the pool, the root and those above.
func (t *Tree) ancestorOOMs() []int64 {
	out := make([]int64, len(t.ancestors))
	for i, a := range t.ancestors {
		if s, err := readFD(a.fd); err == nil {
			out[i] = parseFlat(s)["oom"]
		}
	}
	return out
}

const (
	// oomSettles is how long after an ancestor's counter has risen a leaf without
	// a victim is taken to be unharmed. The kernel raises the victim's own
	// counter after it has chosen it, which takes a moment.
	oomSettles = time.Second
	// poolEvery bounds how often the leaves are looked into while the pool is at
	// its limit, where page cache alone may hold it.
	poolEvery = 500 * time.Millisecond
	// poolTables is how many leaves, the largest, are looked into then.
	poolTables = 16
)

// ancestorFired: something above the leaves is at its limit, and one of the
// largest will be killed. What it holds is written down while it can be seen.
func (t *Tree) ancestorFired() {
	now := t.clock()
	if ooms := t.ancestorOOMs(); !slices.Equal(ooms, t.unharmedOOMs()) && t.oomsAt.IsZero() {
		t.oomsAt = now
	}
	if now.Sub(t.pooledAt) < poolEvery {
		return
	}
	t.pooledAt = now
	type sized struct {
		l *Leaf
		n spec.Bytes
	}
	var all []sized
	for _, l := range t.all() {
		if n, ok := l.Memory(); ok {
			all = append(all, sized{l, n})
		}
	}
	slices.SortFunc(all, func(a, b sized) int { return cmp.Compare(b.n, a.n) })
	for _, s := range all[:min(len(all), poolTables)] {
		s.l.writeDown(now)
	}
}

// settleOOMs moves the base of the comparison forward for the leaves that an
// ancestor's limit has left unharmed: another worker that ran into the pool's
// limit an hour ago must not explain this one's death. It returns how long until
// it has something to do.
func (t *Tree) settleOOMs() time.Duration {
	if t.oomsAt.IsZero() {
		return rare
	}
	if left := oomSettles - t.clock().Sub(t.oomsAt); left > 0 {
		return left
	}
	t.oomsAt = time.Time{}
	ooms := t.ancestorOOMs()
	t.settled(ooms)
	for _, l := range t.all() {
		l.unharmed(ooms)
	}
	return rare
}

// unharmed takes a new base, unless the leaf has a victim.
func (l *Leaf) unharmed(ooms []int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return
	}
	if s, err := readAt(l.dir, "memory.events"); err == nil && parseFlat(s)["oom_kill"] == 0 {
		l.base = ooms
	}
}

// verdict compares the counters of a leaf, which began at zero, and those of
// its ancestors, which began at base. Those of the leaf include cgroups that
// the worker made below it: a limit in there is the worker's own.
func verdict(events map[string]int64, base, ooms []int64) lifecycle.OOM {
	if events["oom_kill"] == 0 {
		return lifecycle.NoOOM
	}
	if events["oom"] > 0 {
		return lifecycle.OOMLeaf
	}
	for i, n := range ooms {
		switch {
		case i >= len(base) || n <= base[i]:
		case i == 0:
			return lifecycle.OOMPool
		default:
			return lifecycle.OOMUnit
		}
	}
	return lifecycle.OOMHost
}

// statKept are the lines of memory.stat that tell an administrator something.
var statKept = []string{
	"anon", "file", "shmem", "file_mapped", "kernel", "kernel_stack", "pagetables", "percpu", "sock",
	"slab", "slab_reclaimable", "slab_unreclaimable", "active_file", "inactive_file", "swapcached",
}

// Evidence is what can be read of a process of which nothing lives any more.
// It must be asked for before Remove.
func (l *Leaf) Evidence() lifecycle.Evidence {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return lifecycle.Evidence{}
	}
	now := l.tree.clock()
	if s, err := readAt(l.dir, "memory.events"); err == nil {
		l.events = parseFlat(s)
	}
	pm := &event.PostMortem{Events: l.events, Procs: l.table, Swap: l.swapPeak, Stat: map[string]int64{}}
	// Read what is still there; a file that an older kernel lacks is no loss.
	pm.Peak, _ = readInt(l.dir, "memory.peak")
	pm.PidsPeak, _ = readInt(l.dir, "pids.peak")
	if l.limits.Swap != 0 || l.swapPeak > 0 { // else none can have been used
		if n, err := readInt(l.dir, "memory.swap.peak"); err == nil {
			pm.Swap = max(pm.Swap, n)
		}
	}
	stat := l.stat
	if l.bitten() { // else memory is not what it died of, and its own is gone by now
		pm.Pressure = l.pressureText()
		if stat == nil {
			stat = l.readStat()
		}
	}
	for _, key := range statKept {
		if n, ok := stat[key]; ok {
			pm.Stat[key] = n
		}
	}
	if len(l.table) > 0 {
		pm.Note = fmt.Sprintf("processes as seen %s before", now.Sub(l.tableAt).Round(time.Millisecond))
	}
	ev := lifecycle.Evidence{PostMortem: pm}
	if l.events["oom_kill"] > 0 {
		ev.OOM = verdict(l.events, l.base, l.tree.ancestorOOMs())
	}
	return ev
}

// bitten reports whether a limit on memory was ever reached in the leaf, or the
// kernel has killed in it.
func (l *Leaf) bitten() bool {
	for _, n := range l.events {
		if n > 0 {
			return true
		}
	}
	return false
}

// pressureText is memory.pressure on one line.
func (l *Leaf) pressureText() string {
	s, err := readAt(l.dir, "memory.pressure")
	if err != nil {
		return ""
	}
	return strings.ReplaceAll(strings.TrimSpace(s), "\n", "; ")
}

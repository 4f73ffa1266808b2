package cgroup

import (
	"fmt"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/workersd/workersd/pkg/internal/event"
	"github.com/workersd/workersd/pkg/internal/lifecycle"
)

// The kernel raises a victim's oom_kill in every kind of out-of-memory; only
// the local "oom" of the cgroup whose limit was hit says whose it was.

// openAncestors keeps the counters of the pool, of the root and of what is
// above: a limit may stand on the unit or on its slice. They are only read.
func (t *Tree) openAncestors(root string) {
	for dir := t.workers; ; dir = filepath.Dir(dir) {
		fd, err := unix.Open(filepath.Join(dir, "memory.events.local"), unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return // the top of the hierarchy has none
		}
		t.ancestors = append(t.ancestors, fd)
	}
}

// ancestorOOMs is the local "oom" of the pool, the root and those above.
func (t *Tree) ancestorOOMs() []int64 {
	out := make([]int64, len(t.ancestors))
	for i, fd := range t.ancestors {
		if s, err := readFD(fd); err == nil {
			out[i] = parseFlat(s)["oom"]
		}
	}
	return out
}

// refreshAncestors moves the base of the comparison forward while the leaf is
// unharmed: another worker that ran into the pool's limit an hour ago must not
// explain this one's death. The base lags one look behind, because the kernel
// raises the ancestor's counter a moment before the victim's.
func (l *Leaf) refreshAncestors(now time.Time) {
	if now.Sub(l.seenAt) < time.Second {
		return
	}
	ooms := l.tree.ancestorOOMs()
	s, err := readAt(l.dir, "memory.events.local")
	if err != nil || parseFlat(s)["oom_kill"] != 0 {
		return
	}
	l.base, l.seen, l.seenAt = l.seen, ooms, now
}

// verdict compares the counters. Each is new in a leaf, so its start is zero.
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
	if s, err := readAt(l.dir, "memory.events.local"); err == nil {
		l.events = parseFlat(s)
	}
	pm := &event.PostMortem{
		Events: l.events, Procs: l.table, Pressure: l.pressureText(),
		Swap: l.swapPeak, Stat: map[string]int64{},
	}
	// Read what is still there; a file that an older kernel lacks is no loss.
	pm.Peak, _ = readInt(l.dir, "memory.peak")
	pm.PidsPeak, _ = readInt(l.dir, "pids.peak")
	if n, err := readInt(l.dir, "memory.swap.peak"); err == nil {
		pm.Swap = max(pm.Swap, n)
	}
	stat := l.stat
	if stat == nil {
		stat = l.readStat()
	}
	for _, key := range statKept {
		if n, ok := stat[key]; ok {
			pm.Stat[key] = n
		}
	}
	if len(l.table) > 0 {
		pm.Note = fmt.Sprintf("processes as seen %s before", now.Sub(l.tableAt).Round(time.Millisecond))
	}
	return lifecycle.Evidence{OOM: verdict(l.events, l.base, l.tree.ancestorOOMs()), PostMortem: pm}
}

package cgroup

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/containerd/cgroups/v3/cgroup2"
	"golang.org/x/sys/unix"

	"github.com/workersd/workersd/pkg/internal/lifecycle"
	"github.com/workersd/workersd/pkg/spec"
)

// Options are what a tree is made of. The functions are called from the tree's
// own goroutines; they may wait, and then all looking waits with them.
type Options struct {
	Root          Root
	Proc          string // "/proc"
	CheckInterval time.Duration
	Pool          spec.Bytes // [manager] memory_limit
	// SoftPassed: what the worker holds is above its soft limit. The tripwire is
	// lifted by Signalled, or by itself in half a second.
	SoftPassed func(l *Leaf, usage, limit spec.Bytes)
	// Emptied: nothing lives in the leaf; told once after each TellEmpty.
	Emptied func(l *Leaf)
	// Problem is something an administrator should read.
	Problem func(text string)
}

// Tree is the delegated subtree with the leaves of all workers.
type Tree struct {
	options  Options
	proc     string
	relative string // of the root, as /proc/PID/cgroup writes it
	workers  string // ROOT/workers
	dir      int    // of workers; its lock says that we are the only manager here
	has      map[string]bool
	pool     *cgroup2.Manager
	clock    func() time.Time

	ancestors []ancestor // workers/, the root and above
	inotify   *os.File
	kicked    atomic.Bool
	done      chan struct{} // closed by the loop at its end

	// Of the loop alone.
	oomsAt   time.Time // when the ancestors' counters were seen to have risen; zero: they have not
	pooledAt time.Time // when leaves were last looked into for an ancestor

	mu         sync.Mutex // guards what follows
	check      time.Duration
	poolNext   spec.Bytes // a pool limit that is to be written
	poolWait   bool       // until less is in use, or until it can be written
	poolFailed bool       // it could not be written, and that was said
	ooms       []int64    // of the ancestors, as every unharmed leaf has them
	leaves     map[*Leaf]bool
	watched    map[int32]watch
	nextLook   time.Time // no leaf is due before; there are too many to ask them all each time
}

// controllers are those that the layout hands down, where they were given to
// us. Without memory there is nothing to enforce.
var controllers = []string{"cpu", "io", "memory", "pids"}

// Open arranges the subtree: the manager into its own leaf, the controllers
// down to the leaves, the pool's limit. What an earlier manager left is killed.
func Open(o Options) (*Tree, error) {
	if o.Proc == "" {
		o.Proc = "/proc"
	}
	t := &Tree{
		options: o, proc: o.Proc, relative: o.Root.Rel,
		workers: filepath.Join(o.Root.Path, "workers"), dir: -1,
		has: map[string]bool{}, clock: time.Now,
		done: make(chan struct{}), check: o.CheckInterval, poolNext: spec.None,
		leaves: map[*Leaf]bool{}, watched: map[int32]watch{},
	}
	if err := t.arrange(); err != nil {
		t.closeFiles()
		return nil, err
	}
	go func() {
		defer close(t.done)
		t.loop()
	}()
	return t, nil
}

func (t *Tree) arrange() error {
	root := t.options.Root
	b, err := os.ReadFile(filepath.Join(root.Path, "cgroup.controllers"))
	if err != nil {
		return err
	}
	var have []string
	for _, c := range strings.Fields(string(b)) {
		if slices.Contains(controllers, c) {
			have = append(have, c)
			t.has[c] = true
		}
	}
	if !t.has["memory"] {
		return fmt.Errorf("the memory controller is not delegated to %s (it has: %s)", root.Path, strings.TrimSpace(string(b)))
	}
	if root.Own == root.Path {
		if err := moveSelf(root.Path); err != nil {
			return err
		}
	}
	if err := t.openWorkers(have); err != nil {
		return err
	}
	if err := t.sweep(); err != nil {
		return err
	}
	t.openAncestors()
	return t.openInotify()
}

// moveSelf takes the manager out of the root: a cgroup with processes cannot
// hand controllers down. DelegateSubgroup= would do it, but only from systemd
// 254 on.
func moveSelf(root string) error {
	dir := filepath.Join(root, managerLeaf)
	if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open %s: %w", dir, err)
	}
	defer unix.Close(fd)
	if err := writeAt(fd, "cgroup.procs", "0"); err != nil {
		return fmt.Errorf("move to %s: %w", dir, err)
	}
	return nil
}

// openWorkers makes workers/ and enables the controllers. The root is given to
// containerd as its mount point, so that it does not write above it.
func (t *Tree) openWorkers(have []string) (err error) {
	root := t.options.Root.Path
	if err := os.Mkdir(t.workers, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	t.dir, err = unix.Open(t.workers, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open %s: %w", t.workers, err)
	}
	if err := unix.Flock(t.dir, unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return fmt.Errorf("%s is in use by another manager: %w", t.workers, err)
	}
	leaf, err := cgroup2.Load("/workers/leaf", cgroup2.WithMountpoint(root))
	if err != nil {
		return err
	}
	if err := leaf.ToggleControllers(have, cgroup2.Enable); err != nil {
		return fmt.Errorf("hand controllers down from %s (no process may live in it): %w", root, err)
	}
	t.pool, err = cgroup2.Load("/workers", cgroup2.WithMountpoint(root))
	if err != nil {
		return err
	}
	return t.writePool(t.options.Pool)
}

func (t *Tree) writePool(limit spec.Bytes) error {
	n := int64(math.MaxInt64) // reads back as "max"; -1 would be refused
	if limit.Set() {
		n = int64(limit)
	}
	if err := t.pool.Update(&cgroup2.Resources{Memory: &cgroup2.Memory{Max: &n}}); err != nil {
		return fmt.Errorf("memory_limit: %w", err)
	}
	return nil
}

// sweepWait bounds the wait for what an earlier manager left.
const sweepWait = 10 * time.Second

// sweep ends what lives in workers/: nobody knows it any more, and each worker
// would run twice. Under systemd there is never any; with --cgroup-root there
// may be.
func (t *Tree) sweep() error {
	names := subdirs(t.dir, ".")
	if len(names) == 0 {
		return nil
	}
	if !t.emptyPool() {
		t.options.Problem(fmt.Sprintf("%s holds processes of an earlier manager: they are killed", t.workers))
		if err := writeAt(t.dir, "cgroup.kill", "1"); err != nil {
			return err
		}
	}
	for end := time.Now().Add(sweepWait); !t.emptyPool() && time.Now().Before(end); {
		time.Sleep(10 * time.Millisecond)
	}
	for _, name := range names {
		if err := removeTree(t.dir, name); err != nil {
			t.options.Problem(fmt.Sprintf("left by an earlier manager: %v", err))
		}
	}
	return nil
}

func (t *Tree) emptyPool() bool {
	s, err := readAt(t.dir, "cgroup.events")
	return err == nil && parseFlat(s)["populated"] == 0
}

// New makes the leaf of one process with its limits.
func (t *Tree) New(id lifecycle.ProcessID, lim Limits) (*Leaf, error) {
	l, err := t.newLeaf(id, lim)
	if err != nil {
		return nil, err
	}
	t.remember(l)
	return l, nil
}

// Enforced reports whether the kernel enforces a key of the worker list here;
// because says why not.
func (t *Tree) Enforced(key string) (ok bool, because string) {
	need := map[string]string{
		"cpu_max": "cpu", "cpu_weight": "cpu", "io_weight": "io", "pids_max": "pids",
		"soft_memory_limit": "memory", "hard_memory_limit": "memory", "swap_limit": "memory", "memory_limit": "memory",
	}[key]
	if need == "" || t.has[need] {
		return true, ""
	}
	return false, fmt.Sprintf("the %s controller is not delegated to %s", need, t.options.Root.Path)
}

// Root is the subtree that the tree is in.
func (t *Tree) Root() Root { return t.options.Root }

// Configure applies the [manager] table. It may wait for the kernel to reclaim.
func (t *Tree) Configure(check time.Duration, pool spec.Bytes) {
	t.mu.Lock()
	t.check = check
	t.poolNext, t.poolWait, t.poolFailed = pool, true, false
	t.mu.Unlock()
	t.lowerPool(true)
	t.kick()
}

// lowerPool writes a new pool limit, unless more is in use: then the kernel
// would kill at once, and the limit waits until less is. One that cannot be
// written waits, too. It returns how long until it is to be tried again.
func (t *Tree) lowerPool(say bool) time.Duration {
	t.mu.Lock()
	limit, wait, check := t.poolNext, t.poolWait, t.check
	t.mu.Unlock()
	if !wait {
		return rare
	}
	if limit.Set() {
		used, err := t.poolUsage()
		if err == nil && used.held() >= limit {
			if say {
				t.options.Problem(fmt.Sprintf("memory_limit = %s is less than the workers hold (%s): it waits until they hold less", limit, used.held()))
			}
			return check
		}
	}
	err := t.writePool(limit)
	t.mu.Lock()
	another := t.poolNext != limit // has come meanwhile
	t.poolWait = another || err != nil
	tell := err != nil && !t.poolFailed
	t.poolFailed = err != nil
	t.mu.Unlock()
	if tell {
		t.options.Problem(err.Error() + " (it is tried again)")
	}
	switch {
	case another:
		return 0
	case err != nil:
		return check
	}
	return rare
}

func (t *Tree) poolUsage() (u usage, err error) {
	if u.current, err = readInt(t.dir, "memory.current"); err != nil {
		return u, err
	}
	s, err := readAt(t.dir, "memory.stat")
	u.reclaimable = reclaimable(parseFlat(s))
	return u, err
}

func (t *Tree) interval() time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.check
}

// dueBy says that a leaf is due at a time. It reports whether that is earlier
// than the loop knows.
func (t *Tree) dueBy(at time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	earlier := at.Before(t.nextLook)
	if earlier {
		t.nextLook = at
	}
	return earlier
}

// all is the leaves of this moment.
func (t *Tree) all() []*Leaf {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Collect(maps.Keys(t.leaves))
}

// Close stops looking and gives everything back. Leaves must be gone.
func (t *Tree) Close() error {
	t.inotify.Close()
	<-t.done
	t.closeFiles()
	// Under a unit systemd removes it; under --cgroup-root nobody else would.
	if err := unix.Rmdir(t.workers); err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("rmdir %s: %w", t.workers, err)
	}
	return nil
}

func (t *Tree) closeFiles() {
	for _, a := range t.ancestors {
		unix.Close(a.fd)
	}
	if t.dir >= 0 {
		unix.Close(t.dir)
	}
	t.ancestors, t.dir = nil, -1
}

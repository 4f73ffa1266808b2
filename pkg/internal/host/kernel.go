package host

import (
	"errors"

	"github.com/workersd/workersd/pkg/internal/event"
	"github.com/workersd/workersd/pkg/internal/host/cgroup"
	"github.com/workersd/workersd/pkg/internal/lifecycle"
	"github.com/workersd/workersd/pkg/spec"
)

// Cgroups says where to look for the delegated root.
type Cgroups = cgroup.Search

// ErrNotDelegated: a transient scope may be asked for.
var ErrNotDelegated = cgroup.ErrNotDelegated

// FindRoot looks for the delegated root without touching anything.
func FindRoot(c Cgroups) (string, error) {
	root, err := c.Find()
	return root.Path, err
}

// kernel holds trees in leaves of cgroup v2.
type kernel struct {
	tree    *cgroup.Tree
	problem func(text string)
}

func newKernel(c Cgroups, m spec.Manager, r reports) (*kernel, string, error) {
	root, err := c.Find()
	if err != nil {
		return nil, "", err
	}
	t, err := cgroup.Open(cgroup.Options{
		Root: root, Proc: c.Proc, CheckInterval: m.CheckInterval, Pool: m.MemoryLimit,
		SoftPassed: func(l *cgroup.Leaf, usage, limit spec.Bytes) { r.soft(l.ID, usage, limit) },
		Emptied:    func(l *cgroup.Leaf) { r.gone(l.ID, l.Evidence()) },
		Problem:    r.problem,
	})
	if err != nil {
		return nil, "", err
	}
	if ok, because := t.Enforced("hard_memory_limit"); !ok {
		return nil, "", errors.Join(errors.New(because), t.Close())
	}
	return &kernel{t, r.problem}, root.Path + ", " + root.How, nil
}

func (k *kernel) prepare(id lifecycle.ProcessID, w *spec.Worker) (holder, error) {
	l, err := k.tree.New(id, cgroup.LimitsOf(w))
	if err != nil {
		return nil, err
	}
	return &leaf{l, k}, nil
}

func (k *kernel) configure(m spec.Manager) { k.tree.Configure(m.CheckInterval, m.MemoryLimit) }

func (k *kernel) enforced(key string) (bool, string) { return k.tree.Enforced(key) }

func (k *kernel) owner(pid int) (worker string, ok bool) {
	id, ok := k.tree.Owner(pid)
	return id.Worker, ok
}

func (k *kernel) close() { k.tree.Close() }

// leaf is a holder.
type leaf struct {
	*cgroup.Leaf
	k *kernel
}

func (l *leaf) place() (int, string)              { return l.FD(), l.Path() }
func (l *leaf) started(int)                       { l.complain(l.Started()) }
func (l *leaf) signalled()                        { l.Signalled() }
func (l *leaf) kill()                             { l.complain(l.Kill()) }
func (l *leaf) tellIfEmpty() bool                 { return l.TellIfEmpty() }
func (l *leaf) tellEmpty()                        { l.TellEmpty() }
func (l *leaf) update(w *spec.Worker)             { l.complain(l.Update(cgroup.LimitsOf(w))) }
func (l *leaf) release() error                    { return l.Remove() }
func (l *leaf) memory() (spec.Bytes, bool)        { return l.Memory() }
func (l *leaf) contains(pid int) (in, known bool) { return l.Contains(pid) }
func (l *leaf) pids() []int {
	pids, _ := l.Procs() // it cannot be read: it is going
	return pids
}
func (l *leaf) statistics() *event.Statistics {
	s, err := l.k.tree.Statistics(l.ID)
	if err != nil {
		return nil // it ended meanwhile
	}
	return s
}
func (l *leaf) complain(err error) {
	if err != nil {
		l.k.problem(l.ID.Worker + ": " + err.Error())
	}
}

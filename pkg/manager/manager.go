package manager

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/workersd/workersd/pkg/daemon"
	"github.com/workersd/workersd/pkg/spec"
	"github.com/workersd/workersd/pkg/worker"
)

// Manager keeps workers alive. A field that is zero has the default.
type Manager struct {
	Workers []Worker

	Title         string        // in the banner; "": "Workers Daemon"
	CheckInterval time.Duration // how often memory is looked at where the kernel does not tell by itself; 0: 1s
	WaitTime      time.Duration // for a worker to leave after SIGTERM, then SIGKILL; 0: 10s

	// Log takes what the manager has to say; nil is journald under systemd and
	// stderr elsewhere.
	Log *slog.Logger

	// Socket is where workersctl finds the manager; "" is $WORKERSD_SOCKET, or
	// where workersctl looks by itself. Two managers need two sockets.
	Socket string
	// StateDir keeps history and generations over a restart; "" is what systemd
	// gives (StateDirectory=), or memory.
	StateDir string
}

// New is a manager of workers, all else by default.
func New(workers ...Worker) *Manager { return &Manager{Workers: workers} }

// Start runs the manager until it is told to end, by Ctrl-C, SIGTERM or
// systemd; in the process of a worker it runs that worker. It never returns. The
// exit code is 0 after an orderly end, 1 after a failure, 78 where the workers
// are refused, which is said on stderr, all mistakes at once.
//
// Since the program is executed again for each worker, and in a terminal once
// more for the manager, main runs up to here in all of these processes.
func (m *Manager) Start() {
	if born.self != "" {
		m.work()
	}
	os.Exit(m.manage())
}

// work is the process of one worker.
func (m *Manager) work() {
	o, err := decodeOrder(born.self)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(daemon.ExitBadList)
	}
	w, err := m.find(o)
	if err != nil {
		fmt.Fprintf(os.Stderr, "worker %q: %v\n", o.Name, err)
		os.Exit(daemon.ExitBadList)
	}
	var opts []worker.Option
	if o.CheckPoint > 0 {
		opts = append(opts, worker.CheckPoint(o.CheckPoint))
	}
	worker.Main(w, opts...)
}

// find is the worker that an order is about: the one of that name or, where
// main makes others by now, one that does the same with other arguments. The
// arguments are the order's either way.
func (m *Manager) find(o order) (worker.Worker, error) {
	workers, _ := m.named()
	var names []string
	var alike *made
	several := false // types of that kind, of which one is meant
	for i := range workers {
		w := &workers[i]
		if w.kind != o.Kind {
			names = append(names, w.name)
			continue
		}
		if w.name == o.Name {
			return decode(w.Work, o.Args)
		}
		if alike == nil {
			alike = w
		}
		several = several || alike.id.typ != w.id.typ
		names = append(names, w.name)
	}
	if alike != nil && !several && o.Args != nil {
		return decode(alike.Work, o.Args)
	}
	return nil, fmt.Errorf("is not among those that main hands to the manager in this process (%s): it must make the same each time it runs", strings.Join(names, ", "))
}

// manage is the guard or the manager.
func (m *Manager) manage() int {
	list, err := m.list()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return daemon.ExitBadList
	}
	o := daemon.FromEnvironment()
	o.List, o.Log, o.Args, o.Dir = &list, m.Log, born.args, born.dir
	if m.Socket != "" {
		o.Socket = m.Socket
	}
	if m.StateDir != "" {
		o.StateDir = m.StateDir
	}
	return daemon.Run(o)
}

// mistake is what is wrong with one worker, or with the manager.
type mistake struct {
	worker int // from 1; 0: the manager
	base   string
	err    error
}

// place orders them: as the workers stand, the manager's own behind them.
func (e mistake) place() int {
	if e.worker == 0 {
		return math.MaxInt
	}
	return e.worker
}

func (e mistake) String() string {
	if e.worker == 0 {
		return e.err.Error()
	}
	if e.base == "" {
		return fmt.Sprintf("worker %d: %v", e.worker, e.err)
	}
	return fmt.Sprintf("worker %d (%s): %v", e.worker, e.base, e.err)
}

// list is the manager and its workers as the supervisor knows them.
func (m *Manager) list() (spec.List, error) {
	l := spec.List{Manager: spec.DefaultManager()}
	l.Manager.Title = m.Title
	if m.CheckInterval != 0 {
		l.Manager.CheckInterval = m.CheckInterval
	}
	l.Manager.DrainMax = max(l.Manager.DrainMax, m.WaitTime)
	workers, mistakes := m.named()
	if m.CheckInterval < 0 {
		mistakes = append(mistakes, mistake{err: in("CheckInterval", belowZero(m.CheckInterval))})
	}
	if m.WaitTime < 0 {
		mistakes = append(mistakes, mistake{err: in("WaitTime", belowZero(m.WaitTime))})
	}
	if n := len(m.Workers); n == 0 || n > l.Manager.MaxWorkers {
		mistakes = append(mistakes, mistake{err: in("Workers", fmt.Errorf("there are %d (expected 1 to %d)", n, l.Manager.MaxWorkers))})
	}
	for i := range workers {
		if workers[i].name == "" {
			continue // it has its mistake
		}
		s, errs := workers[i].spec(max(m.WaitTime, 0))
		for _, err := range errs {
			mistakes = append(mistakes, mistake{i + 1, workers[i].base, err})
		}
		l.Workers = append(l.Workers, s)
	}
	if len(mistakes) == 0 {
		return l, nil
	}
	slices.SortStableFunc(mistakes, func(a, b mistake) int { return cmp.Compare(a.place(), b.place()) })
	lines := []string{"the workers are refused:"}
	for _, e := range mistakes {
		lines = append(lines, e.String())
	}
	return l, errors.New(strings.Join(lines, "\n  "))
}

// named gives each worker its name: numbers count workers that are the same in
// all but their number, so that none moves when others come and go.
func (m *Manager) named() (workers []made, mistakes []mistake) {
	workers = make([]made, len(m.Workers))
	first := map[string]int{} // of a name without number
	count := map[string]int{}
	for i, w := range m.Workers {
		mk, err := w.prepare()
		if err != nil {
			mk.name = ""
			workers[i] = mk
			mistakes = append(mistakes, mistake{i + 1, mk.base, err})
			continue
		}
		name := mk.name
		if f, again := first[name]; !again {
			first[name] = i
		} else if a := &workers[f]; a.id != mk.id || !bytes.Equal(a.args, mk.args) {
			mistakes = append(mistakes, mistake{i + 1, mk.base, in("Name", fmt.Errorf("it is called %q as worker %d is, which %s: a number would change when the list does (give it another Name)", strings.TrimSuffix(name, "-"), f+1, differ(a, &mk)))})
		}
		count[name]++
		mk.number(count[name])
		workers[i] = mk
	}
	seen := map[string]int{}
	for i := range workers {
		name := workers[i].name
		if f, again := seen[name]; again && name != "" {
			mistakes = append(mistakes, mistake{i + 1, workers[i].base, in("Name", fmt.Errorf("it would be called %q as worker %d is", name, f+1))})
		}
		seen[name] = i
	}
	return workers, mistakes
}

// differ says in what two workers of one name do.
func differ(a, b *made) string {
	switch {
	case a.kind != b.kind:
		return "does something else"
	case a.id.typ != b.id.typ:
		return "is of another type with that name"
	case a.id != b.id:
		return "is the same function, but not the same value, and may have captured something else"
	}
	return "has other arguments"
}

package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/workersd/workersd/pkg/internal/control"
	"github.com/workersd/workersd/pkg/internal/event"
	"github.com/workersd/workersd/pkg/internal/history"
	"github.com/workersd/workersd/pkg/internal/host"
	"github.com/workersd/workersd/pkg/internal/host/guard"
	"github.com/workersd/workersd/pkg/internal/host/logs"
	"github.com/workersd/workersd/pkg/internal/host/systemd"
	"github.com/workersd/workersd/pkg/internal/plan"
	"github.com/workersd/workersd/pkg/internal/supervisor"
	"github.com/workersd/workersd/pkg/spec"
)

// daemon is one manager.
type daemon struct {
	o       Options
	service bool // under systemd, Type=notify
	place   place

	term    *terminal
	journal *systemd.Journal // nil in a terminal
	log     *slog.Logger
	flush   func(context.Context) // writes what waits of the log
	systemd *systemd.Notifier
	history *history.History
	host    *host.Host
	sup     *supervisor.Supervisor

	happened  chan struct{} // buffer of 1: there is something new to tell systemd
	reloading sync.Mutex    // one reload at a time
	ending    atomic.Bool   // a signal to end has come
}

// drainPatience is how long the end waits for output and records that are
// already made.
const drainPatience = 5 * time.Second

// run is one manager under its log, which tells also why it ended.
func (d *daemon) run() int {
	d.setupLog()
	code, err := d.serve()
	if err != nil && d.journal != nil {
		d.log.Error(err.Error())
	}
	d.closeLog()
	if err != nil && d.journal == nil {
		fmt.Fprintf(d.o.Stderr, "workersd: %v\n", err)
	}
	return code
}

// serve is the manager from its list to its end.
func (d *daemon) serve() (code int, err error) {
	if d.place, err = newPlace(d.o.Socket); err != nil {
		return ExitFailed, err
	}
	lock, err := control.Acquire(d.place.socket)
	if err != nil {
		return ExitFailed, err
	}
	defer lock.Release()
	list, files, instead, err := d.first()
	if err != nil {
		return ExitBadList, fmt.Errorf("the worker list is refused:\n%w", err)
	}
	if instead != nil {
		d.log.Error(fmt.Sprintf("the worker list is refused, the last accepted one is used instead:\n%v", instead))
	}
	if err := d.place.prepare(); err != nil {
		return ExitFailed, err
	}
	if files != nil {
		if err := saveAccepted(d.place.accepted(), files); err != nil {
			d.log.Error(fmt.Sprintf("the accepted list cannot be kept: %v", err))
		}
	}
	code, err = d.manage(list)
	if rerr := d.place.remove(d.service); rerr != nil && err == nil {
		d.log.Warn(rerr.Error())
	}
	return code, err
}

// manage runs the workers of a list until the end.
func (d *daemon) manage(list spec.List) (code int, err error) {
	problem := func(text string) { d.log.Error(text) }
	unlock, err := history.Lock(d.o.StateDir)
	if err != nil {
		return ExitFailed, err
	}
	defer unlock()
	if d.history, err = history.Open(d.o.StateDir, problem); err != nil {
		return ExitFailed, err
	}
	defer d.history.Close()
	generations, err := history.OpenGenerations(d.o.StateDir, d.history.Generation(), problem)
	if err != nil {
		return ExitFailed, err
	}
	defer generations.Close()
	l, err := control.Listen(d.place.socket)
	if err != nil {
		return ExitFailed, err
	}
	defer os.Remove(d.place.socket)
	defer l.Close()
	if d.host, err = d.newHost(list.Manager); err != nil {
		return ExitFailed, err
	}
	if !d.service {
		banner(d.log, list.Manager, os.Getpid())
	}
	d.sayEnforcement(list)

	sigs := listen()
	stops := history.Stops{Path: filepath.Join(d.place.runtime, "stopped")}
	keeper := d.keepStops(stops)
	d.sup = supervisor.New(supervisor.Options{
		Host: d.host, List: list, Record: d.record,
		Floor: generations.Floor(), Reserve: generations.Reserve,
		StoppedByOperator: stops.Load(), OperatorStops: keeper.tell,
	})
	server := d.newServer()
	go func() {
		if err := server.Serve(l); err != nil {
			d.log.Error(fmt.Sprintf("control socket: %v", err))
		}
	}()
	ctx, cancel := context.WithCancel(context.Background())
	var readers sync.WaitGroup
	readers.Go(func() { d.signals(ctx, sigs) })
	readers.Go(func() { d.tellSystemd(ctx) })
	readers.Go(func() { d.slimDown(ctx) })
	err = d.sup.Run()
	cancel()
	readers.Wait()
	end, stop := context.WithTimeout(context.Background(), drainPatience)
	defer stop()
	keeper.close(end)
	server.Shutdown(end)
	d.host.Close(end)
	if err != nil {
		return ExitFailed, err
	}
	return ExitOK, nil
}

// slimDown gives back what the first starts took and nobody needs any more:
// with thousands of workers that is more than what stays.
func (d *daemon) slimDown(ctx context.Context) {
	select {
	case <-d.sup.FirstRound():
		debug.FreeOSMemory()
	case <-ctx.Done():
	}
}

func (d *daemon) newHost(m spec.Manager) (*host.Host, error) {
	o := host.Options{
		NotifyDir: d.place.notify(), Log: d.log, Manager: m, Guard: guard.Attach(),
		Logs: logs.Options{
			Auto: logs.Terminal, Unit: systemd.OwnUnit(), Stdout: d.o.Stdout, Stderr: d.o.Stderr,
			Problem: func(worker string, err error) { d.log.Error(fmt.Sprintf("%s: %v", worker, err)) },
		},
	}
	if d.service {
		o.Logs.Auto = logs.Journal
	} else {
		d.term = newTerminal(d.o.Stdout)
		o.Logs.Lines = d.term.line
	}
	search := host.Cgroups{Override: d.o.CgroupRoot}
	switch {
	case d.o.NoCgroup:
		o.SampledBecause = "--no-cgroup was given"
		return host.New(o)
	case d.o.CgroupRoot == "":
		if _, err := host.FindRoot(search); errors.Is(err, host.ErrNotDelegated) {
			search.Given = d.askSystemd()
		}
	}
	o.Cgroups = &search
	return host.New(o)
}

// askSystemd asks systemd which cgroup is ours, where none is marked: a user's
// manager marks none, and a terminal has none to give, so that a scope is made
// for us. It is "" where there is none.
func (d *daemon) askSystemd() string {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	bus := systemd.SystemBus
	if os.Geteuid() != 0 {
		bus = systemd.UserBus
	}
	var path string
	var err error
	switch {
	case d.service:
		path, err = systemd.Delegated(ctx, bus)
	case d.o.NoScope:
		return ""
	default:
		path, err = systemd.StartScope(ctx, fmt.Sprintf("workersd-%d.scope", os.Getpid()), bus)
	}
	switch {
	case errors.Is(err, systemd.ErrNoSystemd):
		d.log.Debug(fmt.Sprintf("no cgroup from systemd: %v", err))
	case err != nil:
		d.log.Warn(fmt.Sprintf("no cgroup from systemd: %v", err))
	default:
		d.log.Info("systemd gives us the cgroup " + path)
	}
	return path
}

func (d *daemon) sayEnforcement(l spec.List) {
	e := d.host.Enforcement()
	if e.Kernel {
		d.log.Info("enforcement: kernel, in " + e.Because)
	} else {
		d.log.Warn("enforcement: sampled, because " + e.Because)
	}
	d.warnUnenforced(l)
}

func (d *daemon) newServer() *control.Server {
	e := d.host.Enforcement()
	return control.New(control.Options{
		Supervisor: d.sup, History: d.history, Version: Version, PID: os.Getpid(),
		Memory: d.host.Memory, Statistics: d.host.Statistics, Unheard: d.host.Unheard, Enforcement: e.Word(), Because: e.Because,
		LoadList: func() (spec.List, error) { l, _, err := d.load(); return l, err },
		Reload:   d.reload,
		IsWorker: func(pid int) bool { _, is := d.host.Owner(pid); return is },
		LogTarget: func(w *spec.Worker) string {
			switch {
			case w.Log != spec.LogAuto:
				return w.Log
			case d.service:
				return spec.LogJournal
			}
			return "terminal"
		},
	})
}

// reload reads the list again and puts it in force, or says why not.
func (d *daemon) reload(ctx context.Context) (plan.Plan, error) {
	d.reloading.Lock()
	defer d.reloading.Unlock()
	// Not before the first READY=1, and not after STOPPING=1: the READY=1 at the
	// end of a reload would be taken for what it is not.
	if d.serving() {
		d.systemd.Reloading()
		defer func() {
			if !d.ending.Load() { // meanwhile
				d.systemd.Ready()
			}
		}()
	}
	l, files, err := d.load()
	if err != nil {
		d.sup.Refused(ctx, err)
		return plan.Plan{}, err
	}
	p, err := d.sup.Reload(ctx, l)
	if err != nil {
		return p, err
	}
	d.host.Reopen()
	d.warnUnenforced(l)
	if files != nil {
		if err := saveAccepted(d.place.accepted(), files); err != nil {
			d.log.Error(fmt.Sprintf("the accepted list cannot be kept: %v", err))
		}
	}
	return p, nil
}

// record is the reader that hands each record to the others. It is called on
// the loop: nothing here waits for a disk, a socket or journald.
func (d *daemon) record(r event.Record) {
	mayHang()
	d.history.Add(r)
	select {
	case d.happened <- struct{}{}:
	default:
	}
	if d.journal != nil {
		d.journal.Record(levelOf(r), r)
		return
	}
	r.Message = strings.TrimRight(r.Message, "\n")
	logRecord(d.log, r)
}

func (d *daemon) setupLog() {
	level := slog.LevelInfo
	if d.o.Verbose {
		level = slog.LevelDebug
	}
	if d.o.Log == nil && d.service && systemd.StderrIsJournal() {
		d.journal = systemd.NewJournal(d.o.Stderr)
		d.log = slog.New(d.journal.Handler(level))
		d.flush = d.journal.Close
	} else {
		to := d.o.Log
		if to == nil {
			to = newTerminalLogger(d.o.Stderr, level)
		}
		h := newQueued(to.Handler())
		d.log, d.flush = slog.New(h), h.q.Close
	}
	d.systemd = systemd.NewNotifier(d.log)
}

func (d *daemon) closeLog() {
	ctx, cancel := context.WithTimeout(context.Background(), drainPatience)
	defer cancel()
	d.systemd.Flush(ctx)
	d.flush(ctx)
}

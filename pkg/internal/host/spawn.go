package host

import (
	"errors"
	"os"
	"slices"
	"time"

	"github.com/workersd/workersd/pkg/internal/host/process"
	"github.com/workersd/workersd/pkg/internal/lifecycle"
	"github.com/workersd/workersd/pkg/internal/supervisor"
)

// Spawn starts a process.
func (h *Host) Spawn(order supervisor.SpawnOrder) {
	p := &proc{id: order.ID, worker: order.Spec, told: make(chan struct{}), begun: make(chan struct{}), timeout: order.Spec.Timeout}
	h.mu.Lock()
	h.procs[p.id] = p
	h.mu.Unlock()
	h.queues.add(order.ID.Worker, queued{do: func() {
		defer close(p.begun)
		pid, err := h.spawn(p, order)
		if err != nil {
			h.mu.Lock()
			delete(h.procs, p.id)
			h.mu.Unlock()
			h.report(p.id, lifecycle.SpawnFailed{Generation: p.id.Generation, Text: err.Error()})
			return
		}
		h.o.Guard.Started(pid, p.worker.StopSignal, p.worker.StopTimeout)
		h.report(p.id, lifecycle.Spawned{Generation: p.id.Generation, PID: pid})
		close(p.told)
		if err := h.notify.Listen(p.id); err != nil {
			h.o.Log.Warn(err.Error() + ": what it says is not heard")
		}
	}})
}

// spawn follows one worker from its spec to its process. Whatever was taken is
// given back where it fails.
func (h *Host) spawn(p *proc, order supervisor.SpawnOrder) (pid int, err error) {
	w := order.Spec
	user, err := h.users.Lookup(w.User, w.Group)
	if err != nil {
		return 0, err
	}
	uid, gid := os.Geteuid(), os.Getegid()
	if user != nil {
		uid, gid = user.UID, user.GID
	}
	fromFile, err := readEnvironmentFile(w.EnvironmentFile)
	if err != nil {
		return 0, err
	}
	sock, err := h.notify.Open(p.id, uid, true)
	if err != nil {
		return 0, errors.New("notify socket: " + err.Error())
	}
	defer closeFiles(sock.Pipe)
	defer func() {
		if err != nil {
			h.notify.Close(p.id)
		}
	}()
	out, err := h.logs.Open(w, uid, gid)
	if err != nil {
		return 0, err
	}
	defer out.Close()
	defer func() {
		if err != nil && out.Gone != nil {
			out.Gone()
		}
	}()
	hold, err := h.hold.prepare(p.id, w)
	if err != nil {
		return 0, err
	}
	defer func() {
		if err != nil {
			hold.release()
		}
	}()
	env := environment{
		inherited: h.inherited, worker: w, id: p.id, user: user, maxRequests: order.MaxRequests,
		notify: sock.Path, file: fromFile, output: out.Env, mark: mark(p.id),
	}.build()
	var path string
	if w.Self {
		path = process.Self()
	} else if path, err = process.Look(w.Command[0], value(env, "PATH")); err != nil {
		return 0, err
	}
	fd, dir := hold.place()
	// From here on the process is findable: its end may come at once.
	p.setHolder(hold)
	pid, err = h.spawner.Do(process.Start{
		Path: path, Args: w.Command, Env: env, Dir: w.Directory, User: user, Umask: w.Umask,
		Files: []*os.File{h.null, out.Stdout, out.Stderr, sock.Pipe},
		Nice:  w.Nice, OOMScoreAdj: w.OOMScoreAdj, LimitNoFile: w.LimitNoFile,
		CgroupFD: fd, CgroupPath: dir,
		Problem: func(text string) { h.o.Log.Warn(w.Name + ": " + text) },
	}, func(st lifecycle.Status) { h.exited(p, st) })
	if err != nil {
		p.setHolder(nil)
		return 0, err
	}
	p.mu.Lock()
	p.first, p.outputGone = pid, out.Gone
	if p.end == living {
		p.pid = pid
	}
	p.mu.Unlock()
	hold.started(pid)
	if !process.Inherits(w.OOMScoreAdj) {
		time.AfterFunc(earlyChildren, func() { adjustChildren(hold, pid, w.OOMScoreAdj) })
	}
	return pid, nil
}

// earlyChildren is when what a process has started in its first moment gets its
// oom_score_adj: later than any fork that was under way when it got its own.
const earlyChildren = 100 * time.Millisecond

// adjustChildren gives its oom_score_adj to what the main process started before
// it had it itself, and again to what those have forked meanwhile. The rounds are
// bounded: nobody forks for ever and escapes.
func adjustChildren(hold holder, main, adj int) {
	for range 100 {
		children := slices.DeleteFunc(hold.pids(), func(pid int) bool { return pid == main })
		if !process.GiveOOMScoreAdj(children, adj) {
			return
		}
	}
}

func (p *proc) hold() holder {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.holder
}

func (p *proc) setHolder(hold holder) {
	p.mu.Lock()
	p.holder = hold
	p.mu.Unlock()
}

// exited is called once by the reaper. What the process said last comes before
// its end; that may have to wait for the loop, so it is done in its queue. Mostly
// nothing is left of the tree then, and no order is needed to know.
func (h *Host) exited(p *proc, st lifecycle.Status) {
	p.mu.Lock()
	p.end, p.pid = exited, 0
	p.mu.Unlock()
	h.then(p.id, func() {
		h.notify.Drain(p.id)
		p.reached(ended)
		h.report(p.id, lifecycle.Exited{Generation: p.id.Generation, Status: st})
		if p.hold().tellIfEmpty() {
			p.reached(empty)
		}
		p.mu.Lock()
		pid := p.first
		p.mu.Unlock()
		h.o.Guard.Gone(pid)
	})
}

// notifyFD is where a worker finds its notify pipe: behind the standard three.
const notifyFD = 3

// value is the last value of a variable.
func value(env []string, name string) string {
	for i := len(env) - 1; i >= 0; i-- {
		if v, ok := cutName(env[i], name); ok {
			return v
		}
	}
	return ""
}

func cutName(assignment, name string) (string, bool) {
	if len(assignment) > len(name) && assignment[len(name)] == '=' && assignment[:len(name)] == name {
		return assignment[len(name)+1:], true
	}
	return "", false
}

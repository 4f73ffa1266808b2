package host

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/workersd/workersd/pkg/internal/lifecycle"
	"github.com/workersd/workersd/pkg/spec"
)

// What a process says comes after its start and before its end, its emptiness
// after that.
func TestOrderOfALife(t *testing.T) {
	r := newRig(t, spec.Manager{})
	w := sh("a", `trap 'echo STOPPING=1 >&3; exit 3' TERM; echo hello; echo "READY=1" >&3; while :; do sleep 0.01; done`)
	r.spawn(w)
	await[lifecycle.Ready](r, w)
	r.Signal(id(w), spec.Signal(syscall.SIGTERM))
	r.finish(w)
	if got, want := r.names(w), "Spawned Ready SaidStopping Exited Emptied"; got != want {
		t.Errorf("events %s, want %s", got, want)
	}
	if st := await[lifecycle.Exited](r, w).Status; st.Code != 3 {
		t.Errorf("ended with %v", st)
	}
	r.until("its output", func() bool { r.mu.Lock(); defer r.mu.Unlock(); return slices.Contains(r.lines, "a: hello") })
}

// However early they end, nobody's end comes before its start, and none is lost.
func TestManyThatEndAtOnce(t *testing.T) {
	r := newRig(t, spec.Manager{})
	var all []*spec.Worker
	for i := range 100 {
		w := sh(fmt.Sprint("w", i), "echo READY=1 >&3; exit 7")
		all = append(all, w)
		r.spawn(w)
	}
	for _, w := range all {
		r.finish(w)
		if got, want := r.names(w), "Spawned Ready Exited Emptied"; got != want {
			t.Errorf("%s: %s, want %s", w.Name, got, want)
		}
	}
}

// What a main process leaves is found and ended, also what has left session,
// parents and environment behind.
func TestTreeIsCleared(t *testing.T) {
	r := newRig(t, spec.Manager{})
	stay := "while :; do sleep 0.05; done"
	w := sh("a", fmt.Sprintf(`cd %s
		(trap '' TERM; %s) & echo $! > member
		setsid sh -c 'trap "" TERM; echo $$ > session; %s' &
		(setsid sh -c '(env -i PATH="$PATH" sh -c "echo \$\$ > daemon; %s" &); sleep 10' &)
		trap 'exit 0' TERM; %s`, r.dir, stay, stay, stay, stay))
	w.SoftMemory = spec.GiB
	r.spawn(w)
	pids := []int{r.file("member"), r.file("session"), r.file("daemon")}
	for _, pid := range pids {
		r.until(fmt.Sprintf("%d is known to be its", pid), func() bool { who, ok := r.Owner(pid); return ok && who == "a" })
	}
	r.until("it was seen in a pass", func() bool {
		s := r.hold.(*sampled)
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.owned[pids[2]].by != nil
	})
	if _, ok := r.Owner(os.Getpid()); ok {
		t.Error("we ourselves belong to a worker")
	}
	r.Signal(id(w), spec.Signal(syscall.SIGTERM))
	await[lifecycle.Exited](r, w)
	if got := r.names(w); strings.Contains(got, "Emptied") {
		t.Errorf("empty while %v live: %s", pids, got)
	}
	r.Kill(id(w))
	r.Kill(id(w))
	await[lifecycle.Emptied](r, w)
	for _, pid := range pids {
		r.until(fmt.Sprintf("%d is gone", pid), func() bool { return !lives(pid) })
	}
	r.Release(id(w))
	r.until("released", func() bool { return r.find(id(w)) == nil })
	if n := strings.Count(r.names(w), "Emptied"); n != 1 {
		t.Errorf("told %d times that it is empty, want once", n)
	}
}

// Hundreds that are killed at once share what a pass over /proc has found, and
// the last of them gives it back.
func TestKillsGiveTheirPassBack(t *testing.T) {
	r := newRig(t, spec.Manager{})
	var all []*spec.Worker
	for i := range 20 {
		w := sh(fmt.Sprint("w", i), "trap '' TERM; while :; do sleep 1; done")
		all = append(all, w)
		r.spawn(w)
	}
	for _, w := range all {
		await[lifecycle.Spawned](r, w)
	}
	for _, w := range all {
		r.Kill(id(w))
	}
	for _, w := range all {
		r.finish(w)
	}
	s := r.hold.(*sampled)
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := s.kills.Load(); n != 0 || s.trees != nil {
		t.Errorf("%d kills are under way, and the processes of %d trees are kept", n, len(s.trees))
	}
}

// The variables that a process can guess put nothing into the tree of another
// worker: whoever could do that would have it charged for memory, and keep it from
// ever being empty.
func TestForgedMark(t *testing.T) {
	r := newRig(t, spec.Manager{})
	victim := sh("victim", "while :; do sleep 0.05; done")
	r.spawn(victim)
	await[lifecycle.Spawned](r, victim)
	forge := fmt.Sprintf("WORKERSD_WORKER=%s WORKERSD_GENERATION=%d", victim.Name, id(victim).Generation)
	other := sh("other", fmt.Sprintf(`cd %s
		(%s setsid sh -c 'echo $$ > forged; while :; do sleep 0.05; done' &)
		while :; do sleep 0.05; done`, r.dir, forge))
	r.spawn(other)
	pid := r.file("forged")
	r.until("its parents have left it to us", func() bool { who, ok := r.Owner(pid); return ok && who != "" })
	if who, _ := r.Owner(pid); who != "other" {
		t.Errorf("it belongs to %q, want other", who)
	}
	r.Kill(id(victim))
	r.finish(victim)
	if !lives(pid) {
		t.Error("it was ended with the victim")
	}
	r.Kill(id(other))
	r.finish(other)
	r.until("it is gone with the worker that it belongs to", func() bool { return !lives(pid) })
}

// Each process has a mark of its own, which is the same whenever it is asked for.
func TestMark(t *testing.T) {
	seen := map[string]lifecycle.ProcessID{}
	for _, p := range []lifecycle.ProcessID{{Worker: "a", Generation: 1}, {Worker: "a", Generation: 11}, {Worker: "1 a", Generation: 1}, {Worker: "b", Generation: 1}} {
		m := mark(p)
		if len(m) != 32 || m != mark(p) {
			t.Errorf("%v has the marks %s and %s", p, m, mark(p))
		}
		if other, ok := seen[m]; ok {
			t.Errorf("%v and %v have the mark %s", p, other, m)
		}
		seen[m] = p
	}
}

// A start that fails names what is wrong and leaves nothing.
func TestSpawnFailed(t *testing.T) {
	r := newRig(t, spec.Manager{})
	dir := r.dir
	fifo := filepath.Join(dir, "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	bad := filepath.Join(dir, "bad.env")
	if err := os.WriteFile(bad, []byte("A=1\nnonsense\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	first := sh("first", "exit 0") // makes the thread that starts go on from
	r.spawn(first)
	r.finish(first)
	fds := openFiles()
	for want, change := range map[string]func(*spec.Worker){
		"command /nowhere/x does not exist":              func(w *spec.Worker) { w.Command = []string{"/nowhere/x"} },
		"command nosuchcommand does not exist in PATH":   func(w *spec.Worker) { w.Command = []string{"nosuchcommand"} },
		"directory /nowhere does not exist":              func(w *spec.Worker) { w.Directory = "/nowhere" },
		"directory " + fifo + " is no directory":         func(w *spec.Worker) { w.Directory = fifo },
		"command " + fifo + " is no program":             func(w *spec.Worker) { w.Command = []string{fifo} },
		`user "nosuchuser" does not exist`:               func(w *spec.Worker) { w.User = "nosuchuser" },
		"environment_file " + fifo + " is no regular":    func(w *spec.Worker) { w.EnvironmentFile = fifo },
		"environment_file /nowhere/e: no such file":      func(w *spec.Worker) { w.EnvironmentFile = "/nowhere/e" },
		"environment_file " + bad + ":2: expected NAME=": func(w *spec.Worker) { w.EnvironmentFile = bad },
		"directory /nowhere does not exist: make it":     func(w *spec.Worker) { w.Log = "/nowhere/log" },
		"a symbolic link, and links are not followed":    func(w *spec.Worker) { w.Log = filepath.Join(dir, "link") },
	} {
		os.Symlink("/etc/passwd", filepath.Join(dir, "link"))
		w := sh("bad", "exit 0")
		change(w)
		r.spawn(w)
		if ev := await[lifecycle.SpawnFailed](r, w); !strings.Contains(ev.Text, want) {
			t.Errorf("got  %s\nwant %s", ev.Text, want)
		}
		r.Release(id(w))
		r.mu.Lock()
		delete(r.events, w.Name)
		r.mu.Unlock()
	}
	good := sh("good", "exit 0")
	r.spawn(good)
	r.finish(good)
	r.until("descriptors are given back", func() bool { return openFiles() <= fds })
	r.Host.mu.RLock()
	defer r.Host.mu.RUnlock()
	if len(r.procs) != 0 {
		t.Errorf("%d processes are still known", len(r.procs))
	}
}

// Close leaves no process, whatever it does to stay.
func TestCloseLeavesNoProcess(t *testing.T) {
	var pids []int
	t.Run("rig", func(t *testing.T) {
		r := newRig(t, spec.Manager{})
		for i := range 10 {
			r.spawn(sh(fmt.Sprint("w", i), fmt.Sprintf(`cd %s; trap '' TERM; setsid env -i sh -c 'echo $$ > s%d; sleep 1000' & echo $$ > p%d; while :; do sleep 1; done`, r.dir, i, i)))
		}
		for i := range 10 {
			pids = append(pids, r.file(fmt.Sprint("p", i)), r.file(fmt.Sprint("s", i)))
		}
	})
	for _, pid := range pids {
		if lives(pid) {
			t.Errorf("process %d is left", pid)
		}
	}
}

// MAINPID moves the stop signal to another process of the tree, and to none
// outside of it.
func TestMainPID(t *testing.T) {
	r := newRig(t, spec.Manager{})
	w := sh("a", fmt.Sprintf(`cd %s; echo MAINPID=1 >&3; sh -c 'trap "echo 1 > asked; exit 0" TERM; echo MAINPID=$$ >&3; while :; do sleep 0.01; done' & wait; exit 5`, r.dir))
	r.spawn(w)
	await[lifecycle.MainPIDChanged](r, w)
	r.Signal(id(w), spec.Signal(syscall.SIGTERM))
	r.file("asked")
	r.finish(w)
	if got, want := r.names(w), "Spawned MainPIDChanged Exited Emptied"; got != want {
		t.Errorf("events %s, want %s: process 1 is not the worker's", got, want)
	}
	if st := await[lifecycle.Exited](r, w).Status; st.Code != 5 {
		t.Errorf("the first process ended with %v: it was to wait for the other one", st)
	}
}

// Orders for one that is gone, or was never there, change nothing.
func TestLateOrders(t *testing.T) {
	r := newRig(t, spec.Manager{})
	w := sh("a", "exit 0")
	r.spawn(w)
	r.finish(w)
	for _, w := range []*spec.Worker{w, sh("never", "exit 0")} {
		before := r.names(w)
		r.Signal(id(w), spec.Signal(syscall.SIGTERM))
		r.Kill(id(w))
		r.Update(id(w), w)
		r.Release(id(w))
		if _, ok := r.Memory(id(w)); ok {
			t.Errorf("%s has memory", w.Name)
		}
		r.Reopen()
		carried := make(chan struct{})
		r.queues.add(w.Name, queued{do: func() { close(carried) }})
		<-carried
		if got := r.names(w); got != before {
			t.Errorf("events %s, want %s", got, before)
		}
	}
}

// A process is told of its timeout where a reload has changed it, and only then.
func TestUpdateTellsTheTimeout(t *testing.T) {
	r := newRig(t, spec.Manager{})
	w := sh("a", `echo READY=1 >&3; printf %s "$NOTIFY_SOCKET" > `+r.dir+`/socket; while :; do sleep 0.01; done`)
	w.Timeout = time.Second
	r.spawn(w)
	var socket string
	r.until("it runs", func() bool {
		b, _ := os.ReadFile(filepath.Join(r.dir, "socket"))
		socket = string(b)
		return socket != ""
	})
	told := func() string { b, _ := os.ReadFile(socket + ".timeout"); return string(b) }
	other, longer := *w, *w
	other.HardMemory = spec.GiB
	r.Update(id(w), &other)
	longer.Timeout = 2 * time.Second
	r.Update(id(w), &longer)
	r.until("it is told", func() bool { return told() == "2000000" })
	r.Update(id(w), w)
	r.until("it is told again", func() bool { return told() == "1000000" })
}

// Who has left session, parents and environment behind before it was seen is
// some worker's all the same: it may not give the manager orders.
func TestANamelessDescendantIsAWorkers(t *testing.T) {
	r := newRig(t, spec.Manager{})
	w := sh("a", fmt.Sprintf(`cd %s; setsid -f env -i PATH="$PATH" sh -c 'echo $$ > nameless; while :; do sleep 0.05; done'; while :; do sleep 1; done`, r.dir))
	r.spawn(w)
	pid := r.file("nameless")
	r.until("it is our child", func() bool {
		_, ok := r.Owner(pid)
		return ok
	})
	syscall.Kill(pid, syscall.SIGKILL)
}

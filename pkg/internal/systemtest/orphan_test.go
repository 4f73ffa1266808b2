package systemtest

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"syscall"
	"testing"
	"time"
)

// generations are those that live of each worker.
func generations(all []member) map[string][]uint64 {
	g := map[string][]uint64{}
	for _, m := range all {
		if !slices.Contains(g[m.worker], m.generation) {
			g[m.worker] = append(g[m.worker], m.generation)
		}
	}
	return g
}

// Whatever ends the manager: nothing of a worker is left of before, and each
// runs once again; also one whose grandchildren have left its session.
func TestOrphans(t *testing.T) {
	const workers, processes = 4, 6
	s := newService(t, sleepers(3, "")+fmt.Sprintf("[worker.forks]\ncommand = [%q, \"-n=2\", \"daemonize\"]\nstop_timeout = \"1s\"\n", program(t, "hog")), quickly)
	running := func() []member {
		t.Helper()
		var all []member
		s.up(workers)
		eventually(t, "all processes of all workers", func() bool {
			all = members()
			return len(all) == processes
		})
		for worker, g := range generations(all) {
			if len(g) != 1 {
				t.Errorf("%s lives in generations %v", worker, g)
			}
		}
		return all
	}
	signal := func(sig syscall.Signal) func(int) {
		return func(manager int) {
			if err := syscall.Kill(manager, sig); err != nil {
				t.Fatal(err)
			}
		}
	}
	call := func(args ...string) func(int) {
		return func(int) { run(t, "systemctl", append(args, unit)...) }
	}
	for _, c := range []struct {
		name  string
		act   func(manager int)
		comes bool // back by itself
	}{
		{"SIGKILL", signal(syscall.SIGKILL), true},
		{"SIGABRT", signal(syscall.SIGABRT), true},
		// No more than what it has: the kernel kills before the write returns. A
		// limit of some size may be reached by reclaim alone.
		{"OOM", func(int) { write(t, unitDir+"/manager/memory.max", "0") }, true},
		{"SIGKILL to all", call("kill", "-s", "KILL"), true},
		{"restart", call("restart"), true},
		{"SIGTERM to all", call("kill"), false},
		{"stop", call("stop"), false},
	} {
		t.Run(c.name, func(t *testing.T) {
			if s.show("ActiveState") != "active" {
				s.start()
			}
			manager, before := s.pid(), running()
			c.act(manager)
			if !c.comes {
				eventually(t, "the unit is down", func() bool { return s.show("ActiveState") == "inactive" })
				nothingLeft(t)
				return
			}
			eventually(t, "another manager", func() bool { p := s.pid(); return p != 0 && p != manager })
			after := running()
			for _, m := range after {
				for _, old := range before {
					if m.pid == old.pid || m.worker == old.worker && m.generation <= old.generation {
						t.Errorf("%+v after %+v", m, old)
					}
				}
			}
		})
	}
}

// The manager is killed at random moments, also while it starts.
func TestSoakKill(t *testing.T) {
	rounds := 15
	if os.Getenv("WORKERSD_SOAK") != "" {
		rounds = 100
	}
	const workers = 8
	s := newService(t, sleepers(workers, ""), quickly)
	s.start()
	s.up(workers)
	// The watch: who lives at any time, in which generation.
	stop, watched := make(chan struct{}), make(chan struct{})
	highest := map[string]uint64{}
	pids := map[string]int{} // by worker and generation
	looks := 0
	go func() {
		defer close(watched)
		for {
			select {
			case <-stop:
				return
			case <-time.After(20 * time.Millisecond):
			}
			all := members()
			looks++
			for worker, g := range generations(all) {
				if len(g) > 1 && bothLive(all, worker) {
					t.Errorf("%s lives in generations %v", worker, g)
				}
			}
			for _, m := range all {
				if m.generation < highest[m.worker] {
					t.Errorf("%+v comes after generation %d", m, highest[m.worker])
				}
				highest[m.worker] = m.generation
				key := fmt.Sprint(m.worker, ":", m.generation)
				if old := pids[key]; old != 0 && old != m.pid {
					t.Errorf("%s was pid %d and is %d", key, old, m.pid)
				}
				pids[key] = m.pid
			}
		}
	}()
	manager := s.pid()
	for range rounds {
		time.Sleep(rand.N(2500 * time.Millisecond))
		if err := syscall.Kill(manager, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		killed := manager
		eventually(t, "another manager", func() bool { manager = s.pid(); return manager != 0 && manager != killed })
	}
	s.up(workers)
	s.onceEach(workers)
	close(stop)
	<-watched
	t.Logf("%d rounds, %d looks, %d processes seen", rounds, looks, len(pids))
	if got := s.show("NRestarts"); got != fmt.Sprint(rounds) {
		t.Errorf("NRestarts=%s, want %d", got, rounds)
	}
	if out, err := exec.Command("systemctl", "is-active", unit).Output(); err != nil {
		t.Errorf("%s %v", out, err)
	}
}

// bothLive looks again at two generations that were seen in one walk of /proc,
// which is no moment: one may have ended before the other began.
func bothLive(all []member, worker string) bool {
	n := 0
	for _, m := range all {
		if m.worker == worker && syscall.Kill(m.pid, 0) == nil {
			n++
		}
	}
	return n > 1
}

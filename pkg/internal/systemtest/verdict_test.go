package systemtest

import (
	"syscall"
	"testing"
	"time"

	"github.com/workersd/workersd/pkg/internal/event"
)

// The pool is full while each worker is below its own limit: one goes, and the
// reason is nobody's own. The victim lives long enough to be seen before.
func TestPoolLimit(t *testing.T) {
	m := manage(t, `
[manager]
memory_limit = "120M"
[defaults]
soft_memory_limit = "none"
hard_memory_limit = "100M"
[worker.small]
command = ["HOG", "-report=DIR/small", "-to=20", "grow"]
[worker.other]
command = ["HOG", "-report=DIR/other", "-to=30", "grow"]
[worker.victim]
command = ["HOG", "-report=DIR/victim", "-to=90", "-step=1", "grow"]
enabled = false
`)
	m.said("small", 1, "full")
	m.said("other", 1, "full")
	m.ctl("start", "victim")
	r := m.gone("victim", 1, event.PoolMemory)
	if procs := r.PostMortem.Procs; r.Status != "signal SIGKILL" || len(procs) != 1 || procs[0].RSS < 20*mib {
		t.Errorf("%s", asJSON(r))
	}
	m.ctl("stop", "victim")
	for _, w := range []string{"small", "other"} {
		if st := m.worker(w); st.Generation != 1 || st.PID == 0 {
			t.Errorf("it should live: %s", asJSON(st))
		}
	}
	// The pool's counters moved in their lives too; their ends have nothing to
	// do with it.
	if err := syscall.Kill(m.worker("small").PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	m.gone("small", 1, event.Killed)
	m.ctl("restart", "other")
	m.gone("other", 1, event.Restarted)
	m.alone("small", "other", "victim")
}

// The limit stands on the unit. The manager lives in it, protected.
func TestUnitLimit(t *testing.T) {
	m := manage(t, `
[worker.hog]
command = ["HOG", "-report=DIR/hog", "-to=300", "-step=2", "-every=0", "grow"]
soft_memory_limit = "none"
hard_memory_limit = "400M"
`, "MemoryMax=150M", "MemorySwapMax=0")
	for g := range uint64(2) {
		m.gone("hog", g+1, event.UnitMemory)
	}
	m.alone("hog")
}

// Without any limit the machine itself runs out.
func TestMachineOutOfMemory(t *testing.T) {
	m := manage(t, `
[worker.hog]
command = ["HOG", "-report=DIR/hog", "-to=8000", "-step=16", "-every=0", "grow"]
soft_memory_limit = "none"
hard_memory_limit = "none"
restart = "never"
`)
	m.patience = 10 * time.Minute // the guest thrashes before it gives up
	m.gone("hog", 1, event.HostMemory)
}

func TestOtherEnds(t *testing.T) {
	m := manage(t, `
[worker.killed]
command = ["HOG", "-report=DIR/killed", "idle"]
[worker.crashed]
command = ["HOG", "-report=DIR/crashed", "-n=3", "exit"]
restart_delay = "1m"
[worker.stopped]
command = ["HOG", "-report=DIR/stopped", "idle"]
`)
	m.said("killed", 1, "start")
	if err := syscall.Kill(m.worker("killed").PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	m.gone("killed", 1, event.Killed)
	if r := m.gone("crashed", 1, event.Crashed); r.Status != "exit 3" {
		t.Errorf("%s", asJSON(r))
	}
	m.said("stopped", 1, "start")
	m.ctl("stop", "stopped")
	m.gone("stopped", 1, event.Stopped)
	m.said("killed", 2, "start")
}

package systemtest

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/workersd/workersd/pkg/internal/event"
	"github.com/workersd/workersd/pkg/spec"
)

const mib = int64(spec.MiB)

// The worker that the whole is about: it grows, is asked to leave near its soft
// limit, finishes its work without being braked, and is replaced.
func TestSoftLimit(t *testing.T) {
	m := manage(t, `
[worker.steps]
command = ["HOG", "-report=DIR/steps", "-step=10", "-every=50ms", "grow"]
[worker.steady]
command = ["HOG", "-report=DIR/steady", "-step=1", "-every=5ms", "grow"]
[defaults]
stop_timeout = "5m"
`)
	for _, w := range []string{"steps", "steady"} {
		for g := range uint64(3) {
			at := m.said(w, g+1, "sigterm")
			within(t, w+": memory.current at SIGTERM", at["current"], 200*mib, 208*mib)
			after := m.said(w, g+1, "finished")
			within(t, w+": high events at the end", after["high"], 1, 100)
			// Each turn of the kernel's brake counts seventeen.
			within(t, w+": high events while it finished its work", after["high"]-at["high"], 0, 16)
			r := m.gone(w, g+1, event.SoftMemory)
			if r.Status != "exit 0" || r.MemoryLimit != 200*mib || r.Memory <= r.MemoryLimit || r.PostMortem.Peak < after["current"] {
				t.Errorf("%s: %s", w, asJSON(r))
			}
			t.Logf("%s:%d told at %.1f MiB, %.1f at SIGTERM with %d high events, %.1f at the end with %d", w, g+1,
				float64(r.Memory)/float64(mib), float64(at["current"])/float64(mib), at["high"], float64(after["current"])/float64(mib), after["high"])
		}
		m.said(w, 4, "start")
		if n := len(m.records(event.BackingOff, w)); n != 0 {
			t.Errorf("%s: a recycle backed off %d times", w, n)
		}
	}
	m.alone("steps", "steady")
}

// One that does not listen is killed by the kernel, at its hard limit, and by
// nobody else. What is left of it is told by the journal and by workersctl why.
func TestHardLimit(t *testing.T) {
	m := manage(t, `
[worker.deaf]
command = ["HOG", "-report=DIR/deaf", "-ignore-term", "grow"]
stop_timeout = "5m"
`)
	for g := range uint64(2) {
		r := m.gone("deaf", g+1, event.HardMemory)
		pm := r.PostMortem
		within(t, "memory.peak", pm.Peak, 299*mib, 301*mib)
		within(t, "anon", pm.Stat["anon"], 190*mib, 300*mib)
		if r.Status != "signal SIGKILL" || len(pm.Procs) != 1 || pm.Procs[0].Command != "hog" || pm.Procs[0].RSS < 190*mib {
			t.Errorf("%s", asJSON(r))
		}
		if pm.Events["oom"] == 0 || pm.Events["high"] > 100 || pm.PidsPeak < 1 || !strings.Contains(pm.Pressure, "full avg10=") {
			t.Errorf("%s", asJSON(pm))
		}
	}
	m.said("deaf", 3, "start")
	m.alone("deaf")

	js := m.journalOf("deaf", 1)
	if len(js) != 1 {
		t.Fatalf("%d records about one end: %s", len(js), asJSON(js))
	}
	j := js[0]
	if j["MESSAGE_ID"] != "7248479e7bf04e33a81e317a868e3084" || j["WORKERSD_REASON"] != "hard_memory" || j["WORKERSD_PIDS_PEAK"] == nil {
		t.Errorf("%s", asJSON(j))
	}
	text := fmt.Sprint(j["WORKERSD_POST_MORTEM"])
	for _, want := range []string{"memory peak: 300", "memory.stat:", "anon", "memory.pressure:", "pids peak:", "hog"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in the journal's post-mortem:\n%s", want, text)
		}
	}
	why := m.ctl("why", "deaf")
	for _, want := range []string{"hard_memory", "generation 1", "generation 2", "at most 300", "anon", "pressure: some avg10=", "pids: at most", "hog"} {
		if !strings.Contains(why, want) {
			t.Errorf("no %q in what workersctl why prints:\n%s", want, why)
		}
	}
	t.Logf("%s", why)
}

// Page cache is no reason to recycle. Each life reads a file that nobody has
// read before.
func TestPageCacheIsNotRecycled(t *testing.T) {
	m := manage(t, `
[worker.reader]
command = ["HOG", "-report=DIR/${worker}", "-dir=/var/tmp", "-to=48", "-n=10", "cache"]
params = [{n = "1"}, {n = "2"}, {n = "3"}, {n = "4"}, {n = "5"}]
soft_memory_limit = "16M"
hard_memory_limit = "32M"
`)
	m.patience = 10 * time.Minute // fifty readings of 48 MiB
	seen := 0
	for n := range 5 {
		w := fmt.Sprintf("reader@%d", n+1)
		m.said(w, 11, "start")
		for _, r := range lines(filepath.Join(m.dir, w), "read") {
			seen++
			if r["bytes"] != 48*mib || r["file"] <= 16*mib || r["high"] == 0 {
				t.Errorf("%s:%d: read %d, %.1f MiB in memory, %d high events: the limit was never reached", w, r["gen"], r["bytes"], float64(r["file"])/float64(mib), r["high"])
			}
			t.Logf("%s:%d file %.1f MiB, high %d", w, r["gen"], float64(r["file"])/float64(mib), r["high"])
		}
		m.alone(w)
	}
	if seen != 50 {
		t.Errorf("%d runs", seen)
	}
	for _, r := range m.records(event.Gone) {
		if r.Reason != event.Finished || r.Status != "exit 0" {
			t.Errorf("%s", asJSON(r))
		}
	}
	if rs := m.records(event.Recycling); len(rs) != 0 {
		t.Errorf("recycled: %s", asJSON(rs))
	}
}

func TestSharedMemoryIsNotCache(t *testing.T) {
	m := manage(t, `
[worker.shm]
command = ["HOG", "-report=DIR/shm", "shm"]
`)
	at := m.said("shm", 1, "sigterm")
	within(t, "memory.current at SIGTERM", at["current"], 200*mib, 211*mib)
	m.said("shm", 1, "finished")
	r := m.gone("shm", 1, event.SoftMemory)
	within(t, "shmem", r.PostMortem.Stat["shmem"], 180*mib, 240*mib)
	m.said("shm", 2, "start")
}

// The main process stays small: what eats is its child. The whole worker goes,
// and the post-mortem is not about the parent.
func TestChildEats(t *testing.T) {
	m := manage(t, `
[defaults]
hard_memory_limit = "150M"
stop_timeout = "5m"
[worker.slow]
command = ["HOG", "-report=DIR/slow", "-dir=DIR", "-as=eater1", "parent", "-every=20ms", "-ignore-term", "grow"]
soft_memory_limit = "100M"
stop_signal = "SIGWINCH"
[worker.fast]
command = ["HOG", "-report=DIR/fast", "-dir=DIR", "-as=eater2", "parent", "-step=1", "-every=2ms", "-ignore-term", "grow"]
soft_memory_limit = "none"
`)
	for w, child := range map[string]string{"slow": "eater1", "fast": "eater2"} {
		r := m.gone(w, 1, event.HardMemory)
		procs := r.PostMortem.Procs
		if r.Status != "signal SIGKILL" || len(procs) != 2 || procs[0].Command != child || procs[1].Command != "hog" || procs[0].PPID != procs[1].PID {
			t.Fatalf("%s: the child should come first: %s", w, asJSON(r))
		}
		if procs[0].RSS < 4*procs[1].RSS || procs[1].PID != r.PID {
			t.Errorf("%s: %s", w, asJSON(procs))
		}
		if why := m.ctl("why", w); !strings.Contains(why, child) {
			t.Errorf("workersctl why does not name the child:\n%s", why)
		}
		m.alone(w)
		t.Logf("%s: %s", w, r.PostMortem.Note)
	}
}

// A worker with cgroups of its own is held, killed and judged as a whole.
func TestWorkerWithCgroups(t *testing.T) {
	m := manage(t, `
[defaults]
soft_memory_limit = "50M"
hard_memory_limit = "100M"
[worker.soft]
command = ["HOG", "-report=DIR/soft", "nest", "-report=DIR/soft-inner", "-ignore-term", "-to=60", "grow"]
[worker.hard]
command = ["HOG", "-report=DIR/hard", "nest", "-report=DIR/hard-inner", "-ignore-term", "-step=1", "-every=10ms", "grow"]
soft_memory_limit = "none"
`)
	m.gone("soft", 1, event.SoftMemory)
	m.said("soft", 2, "start")
	r := m.gone("hard", 1, event.HardMemory)
	// Without a soft limit the last look may be a while ago; the eater leads even so.
	if procs := r.PostMortem.Procs; len(procs) != 2 || procs[0].PPID != procs[1].PID || procs[0].RSS < 2*procs[1].RSS {
		t.Errorf("%s", asJSON(r))
	}
	for _, w := range []string{"soft", "hard"} {
		eventually(t, "its leaf is gone with all that was in it", func() bool {
			_, err := os.Stat(m.leaf(w, 1))
			return os.IsNotExist(err)
		})
		m.alone(w)
	}
	if n := len(m.records(event.Stuck)); n != 0 {
		t.Errorf("%d were stuck", n)
	}
}

// Three grandchildren that left session and parent go with their worker.
func TestDaemonizedGrandchildren(t *testing.T) {
	m := manage(t, `
[worker.forks]
command = ["HOG", "-report=DIR/forks", "-n=3", "daemonize"]
`)
	m.said("forks", 1, "daemonized")
	procs := filepath.Join(m.leaf("forks", 1), "cgroup.procs")
	eventually(t, "three grandchildren and their parent in the leaf", func() bool {
		return len(strings.Fields(read(t, procs))) == 4
	})
	pids := strings.Fields(read(t, procs))
	m.ctl("restart", "forks")
	m.said("forks", 2, "start")
	for _, pid := range pids {
		if _, err := os.Stat("/proc/" + pid); err == nil {
			t.Errorf("process %s of generation 1 lives", pid)
		}
	}
	m.alone("forks")
	stays(t, "the new one runs", 200*time.Millisecond, func() bool { return m.worker("forks").Generation == 2 })
}

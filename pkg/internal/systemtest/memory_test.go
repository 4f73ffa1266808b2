package systemtest

import (
	"strings"
	"syscall"
	"testing"

	"github.com/workersd/workersd/pkg/internal/lifecycle"
	"github.com/workersd/workersd/pkg/spec"
)

// protected is how the shipped unit protects the manager. A worker must die at
// its limit all the same.
const protected = "OOMScoreAdjust=-900"

func TestTripwire(t *testing.T) {
	if !inUnit(t, protected) {
		return
	}
	x := openTree(t, spec.None)
	p := x.hog(memory(200*spec.MiB, 300*spec.MiB), "-to=400", "-step=1", "-every=5ms", "grow")
	told := x.told()
	p.signal(syscall.SIGTERM)
	p.Signalled()
	if told.leaf != p.Leaf || told.limit != 200*spec.MiB || told.usage <= told.limit {
		t.Errorf("told %v: %v of %v", told.leaf.ID, told.usage, told.limit)
	}
	at := reported(t, p.report, "sigterm")
	if at["current"] > int64(208*spec.MiB) {
		t.Errorf("at SIGTERM memory.current = %d, more than 8 MiB above the soft limit", at["current"])
	}
	eventually(t, "the tripwire is lifted", func() bool { return read(t, p.Path(), "memory.high") == "max" })
	after := reported(t, p.report, "finished")
	if after["high"] > 100 {
		t.Errorf("high events: %d at SIGTERM, %d at the end: the worker was braked", at["high"], after["high"])
	}
	status, found := p.gone()
	if !status.Exited() || status.ExitStatus() != 0 || found.OOM != lifecycle.NoOOM {
		t.Errorf("status %v, OOM %v: it should have finished its work", status, found.OOM)
	}
	x.notTold()
	t.Logf("told at %v, SIGTERM at %d, %d high events, peak %d", told.usage, at["current"], at["high"], found.PostMortem.Peak)
}

func TestHardLimit(t *testing.T) {
	if !inUnit(t, protected) {
		return
	}
	x := openTree(t, spec.None)
	p := x.hog(memory(200*spec.MiB, 300*spec.MiB), "-to=400", "-step=1", "-every=5ms", "-ignore-term", "grow")
	x.told()
	p.signal(syscall.SIGTERM)
	status, found := p.gone()
	if !killedBy(status, syscall.SIGKILL) || found.OOM != lifecycle.OOMLeaf {
		t.Fatalf("status %v, OOM %v", status, found.OOM)
	}
	pm := found.PostMortem
	if pm.Peak < int64(299*spec.MiB) || pm.Peak > int64(301*spec.MiB) {
		t.Errorf("peak %d", pm.Peak)
	}
	if len(pm.Procs) != 1 || pm.Procs[0].Command != "hog" || pm.Procs[0].RSS < int64(200*spec.MiB) {
		t.Errorf("processes %+v", pm.Procs)
	}
	if pm.Stat["anon"] < int64(190*spec.MiB) || pm.Events["oom"] == 0 || pm.PidsPeak == 0 || !strings.Contains(pm.Pressure, "full avg10=") {
		t.Errorf("post-mortem %+v", pm)
	}
	t.Logf("%+v", pm)
}

// Cache at the tripwire is no reason to recycle. Each reader goes on until more
// than its soft limit was in the page cache, which is when the tripwire has
// made room for it.
func TestPageCacheIsNotRecycled(t *testing.T) {
	if !inUnit(t) {
		return
	}
	x := openTree(t, spec.None)
	for range 10 {
		var readers []*process
		for range 5 {
			readers = append(readers, x.hog(memory(16*spec.MiB, 32*spec.MiB), "-to=48", "-then=16", "-dir=/var/tmp", "cache"))
		}
		for _, p := range readers {
			r := reported(t, p.report, "read")
			status, found := p.gone()
			if !status.Exited() || status.ExitStatus() != 0 || found.OOM != lifecycle.NoOOM {
				t.Fatalf("status %v, OOM %v, %+v", status, found.OOM, found.PostMortem)
			}
			if r["high"] == 0 || r["file"] <= int64(16*spec.MiB) {
				t.Errorf("%d high events, %d of page cache: the limit was never reached", r["high"], r["file"])
			}
			t.Logf("read %d, file %d, peak %d, high %d", r["bytes"], r["file"], found.PostMortem.Peak, r["high"])
		}
		x.notTold()
	}
}

func TestSharedMemoryIsNotCache(t *testing.T) {
	if !inUnit(t, protected) {
		return
	}
	x := openTree(t, spec.None)
	p := x.hog(memory(100*spec.MiB, 300*spec.MiB), "-to=400", "shm")
	told := x.told()
	p.signal(syscall.SIGTERM)
	reported(t, p.report, "finished")
	_, found := p.gone()
	if shmem := found.PostMortem.Stat["shmem"]; shmem < int64(90*spec.MiB) || told.usage <= 100*spec.MiB {
		t.Errorf("told at %v, shmem %d", told.usage, shmem)
	}
}

// The main process stays small: what eats is its child, and the verdict and the
// post-mortem must not be about the parent.
func TestChildEats(t *testing.T) {
	if !inUnit(t, protected) {
		return
	}
	x := openTree(t, spec.None)
	for _, c := range []struct {
		name string
		soft spec.Bytes
		args []string
	}{
		{"slowly", 100 * spec.MiB, []string{"-to=400", "-every=20ms", "-ignore-term", "grow"}},
		{"fast, without a soft limit", spec.None, []string{"-to=400", "-step=1", "-every=0", "-ignore-term", "grow"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := x.hog(memory(c.soft, 150*spec.MiB), append([]string{"-dir=" + t.TempDir(), "parent"}, c.args...)...)
			status, found := p.gone()
			if !killedBy(status, syscall.SIGKILL) || found.OOM != lifecycle.OOMLeaf {
				t.Fatalf("status %v, OOM %v: the whole worker should have been killed", status, found.OOM)
			}
			procs := found.PostMortem.Procs
			if len(procs) != 2 || procs[0].Command != "eater" || procs[1].Command != "hog" || procs[0].PPID != procs[1].PID {
				t.Fatalf("processes %+v: the child should come first", procs)
			}
			if procs[0].RSS < 4*procs[1].RSS {
				t.Errorf("processes %+v", procs)
			}
			t.Logf("%+v (%s)", procs, found.PostMortem.Note)
		})
	}
}

func TestPoolLimit(t *testing.T) {
	if !inUnit(t, protected) {
		return
	}
	x := openTree(t, 120*spec.MiB)
	lim := memory(spec.None, 100*spec.MiB)
	small := x.hog(lim, "-to=20", "grow")
	other := x.hog(lim, "-to=30", "grow")
	reported(t, small.report, "full")
	reported(t, other.report, "full")
	victim := x.hog(lim, "-to=90", "-step=2", "-every=0", "grow")
	status, found := victim.gone()
	if !killedBy(status, syscall.SIGKILL) || found.OOM != lifecycle.OOMPool {
		t.Fatalf("status %v, OOM %v, %+v", status, found.OOM, found.PostMortem)
	}
	if procs := found.PostMortem.Procs; len(procs) != 1 || procs[0].RSS < int64(20*spec.MiB) {
		t.Errorf("processes %+v", procs)
	}
	for _, p := range []*process{small, other} {
		if pids, err := p.Procs(); err != nil || len(pids) != 1 {
			t.Errorf("%v: pids %v (%v): it should live", p.ID, pids, err)
		}
	}
	// The pool's counter has moved in their lives too; their ends have nothing
	// to do with it.
	small.signal(syscall.SIGKILL)
	if status, found := small.gone(); !killedBy(status, syscall.SIGKILL) || found.OOM != lifecycle.NoOOM {
		t.Errorf("status %v, OOM %v after kill -9", status, found.OOM)
	}
	other.signal(syscall.SIGTERM)
	if status, found := other.gone(); !status.Exited() || found.OOM != lifecycle.NoOOM {
		t.Errorf("status %v, OOM %v after SIGTERM", status, found.OOM)
	}
}

func TestUnitLimit(t *testing.T) {
	if !inUnit(t, protected, "MemoryMax=150M", "MemorySwapMax=0") {
		return
	}
	x := openTree(t, spec.None)
	p := x.hog(memory(spec.None, 400*spec.MiB), "-to=300", "-step=2", "-every=0", "grow")
	status, found := p.gone()
	if !killedBy(status, syscall.SIGKILL) || found.OOM != lifecycle.OOMUnit {
		t.Fatalf("status %v, OOM %v, %+v", status, found.OOM, found.PostMortem)
	}
}

func TestMachineOutOfMemory(t *testing.T) {
	if !inUnit(t, protected) {
		return
	}
	x := openTree(t, spec.None)
	p := x.hog(memory(spec.None, spec.None), "-to=8000", "-step=16", "-every=0", "grow")
	status, found := p.gone()
	if !killedBy(status, syscall.SIGKILL) || found.OOM != lifecycle.OOMHost {
		t.Fatalf("status %v, OOM %v, %+v", status, found.OOM, found.PostMortem)
	}
}

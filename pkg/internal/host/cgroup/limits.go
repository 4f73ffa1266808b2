package cgroup

import (
	"fmt"
	"math"
	"strconv"

	"github.com/workersd/workersd/pkg/spec"
)

// Limits are the keys of a worker that its leaf carries.
type Limits struct {
	Soft, Hard, Swap spec.Bytes
	CPUMax           float64 // CPUs; 0: no limit
	CPUWeight        int     // 0: the kernel's default
	IOWeight         int     // 0: the kernel's default
	PidsMax          int     // 0: no limit
}

// LimitsOf takes a worker's limits from its spec.
func LimitsOf(w *spec.Worker) Limits {
	return Limits{
		Soft: w.SoftMemory, Hard: w.HardMemory, Swap: w.SwapLimit,
		CPUMax: w.CPUMax, CPUWeight: w.CPUWeight, IOWeight: w.IOWeight, PidsMax: w.PidsMax,
	}
}

// setting is one control file and what belongs in it.
type setting struct {
	controller, key string // of cgroup.controllers; of the worker list
	file, value     string
	optional        bool // the kernel may be built without it, and nothing is lost
}

// memory are memory.high and memory.max of a new leaf, where they are not what
// the kernel gives it.
func (l Limits) memory() []setting {
	// A half-dead tree of processes is worse than a dead one.
	out := []setting{{"memory", "hard_memory_limit", "memory.oom.group", "1", false}}
	if l.Hard.Set() {
		out = append(out, setting{"memory", "hard_memory_limit", "memory.max", bytesMax(l.Hard), false})
	}
	if l.Soft.Set() {
		out = append(out, setting{"memory", "soft_memory_limit", "memory.high", bytesMax(l.Soft), false})
	}
	return out
}

// others are the limits besides memory.high and memory.max, which have rules of
// their own. pids.max is apart too: the start may need a helper process that
// must not be counted.
func (l Limits) others() []setting {
	return []setting{
		// Without swap accounting there is no file, and no swap to limit.
		{"memory", "swap_limit", "memory.swap.max", bytesMax(l.Swap), true},
		{"cpu", "cpu_max", "cpu.max", cpuMax(l.CPUMax), l.CPUMax == 0},
		{"cpu", "cpu_weight", "cpu.weight", weight(l.CPUWeight), l.CPUWeight == 0},
		{"io", "io_weight", "io.weight", "default " + weight(l.IOWeight), l.IOWeight == 0},
	}
}

// changes are the settings that differ from those of old.
func (l Limits) changes(old Limits) []setting {
	was := old.others()
	var out []setting
	for i, s := range l.others() {
		if s.value != was[i].value {
			out = append(out, s)
		}
	}
	return out
}

// keep takes the limit of a key back from old. Those of memory.high and memory.max
// have rules of their own.
func (l *Limits) keep(key string, old Limits) {
	switch key {
	case "swap_limit":
		l.Swap = old.Swap
	case "cpu_max":
		l.CPUMax = old.CPUMax
	case "cpu_weight":
		l.CPUWeight = old.CPUWeight
	case "io_weight":
		l.IOWeight = old.IOWeight
	case "pids_max":
		l.PidsMax = old.PidsMax
	}
}

// fresh is what the kernel gives a new cgroup.
var fresh = Limits{Soft: spec.None, Hard: spec.None, Swap: spec.None}

func (l Limits) pids() setting {
	v := "max"
	if l.PidsMax > 0 {
		v = strconv.Itoa(l.PidsMax)
	}
	return setting{"pids", "pids_max", "pids.max", v, l.PidsMax == 0}
}

func bytesMax(b spec.Bytes) string {
	if !b.Set() {
		return "max"
	}
	return strconv.FormatInt(int64(b), 10)
}

// cpuPeriod is the kernel's own default, in microseconds.
const cpuPeriod = 100_000

func cpuMax(cpus float64) string {
	if cpus == 0 {
		return "max " + strconv.Itoa(cpuPeriod)
	}
	// The kernel refuses less than a millisecond in each period.
	return fmt.Sprintf("%d %d", max(int64(math.Round(cpus*cpuPeriod)), 1000), cpuPeriod)
}

func weight(n int) string {
	if n == 0 {
		n = 100
	}
	return strconv.Itoa(n)
}

package cgroup

import (
	"slices"
	"testing"

	"github.com/workersd/workersd/pkg/spec"
)

func TestLimitsText(t *testing.T) {
	l := Limits{Soft: 1, Hard: 2, Swap: 10 * spec.MiB, CPUMax: 1.5, CPUWeight: 50, IOWeight: 200, PidsMax: 64}
	want := []setting{
		{"memory", "swap_limit", "memory.swap.max", "10485760", true},
		{"cpu", "cpu_max", "cpu.max", "150000 100000", false},
		{"cpu", "cpu_weight", "cpu.weight", "50", false},
		{"io", "io_weight", "io.weight", "default 200", false},
	}
	if got := l.changes(fresh); !slices.Equal(got, want) {
		t.Errorf("%v", got)
	}
	// Back to what the kernel gives: nothing is lost where there is no file.
	want = []setting{
		{"memory", "swap_limit", "memory.swap.max", "max", true},
		{"cpu", "cpu_max", "cpu.max", "max 100000", true},
		{"cpu", "cpu_weight", "cpu.weight", "100", true},
		{"io", "io_weight", "io.weight", "default 100", true},
	}
	if got := fresh.changes(l); !slices.Equal(got, want) {
		t.Errorf("%v", got)
	}
	if got := l.changes(l); got != nil {
		t.Errorf("%v", got)
	}
	// An untouched worker costs one write: swap is 0 unless set.
	def := spec.Default("w")
	if got := LimitsOf(&def).changes(fresh); len(got) != 1 || got[0].value != "0" {
		t.Errorf("%v", got)
	}
	if got := l.pids(); got != (setting{"pids", "pids_max", "pids.max", "64", false}) {
		t.Errorf("%v", got)
	}
	if got := fresh.pids(); got != (setting{"pids", "pids_max", "pids.max", "max", true}) {
		t.Errorf("%v", got)
	}
	for cpus, want := range map[float64]string{0: "max 100000", 0.001: "1000 100000", 0.5: "50000 100000", 0.29: "29000 100000", 64: "6400000 100000"} {
		if got := cpuMax(cpus); got != want {
			t.Errorf("cpuMax(%v) = %q, want %q", cpus, got, want)
		}
	}
	for b, want := range map[spec.Bytes]string{spec.None: "max", 0: "0", spec.MiB: "1048576"} {
		if got := bytesMax(b); got != want {
			t.Errorf("bytesMax(%v) = %q", b, got)
		}
	}
}

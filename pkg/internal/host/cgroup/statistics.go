package cgroup

import (
	"math"
	"time"

	"github.com/containerd/cgroups/v3/cgroup2"
	"github.com/containerd/cgroups/v3/cgroup2/stats"

	"github.com/workersd/workersd/pkg/internal/event"
	"github.com/workersd/workersd/pkg/internal/lifecycle"
)

// Statistics are the figures of one leaf, for a person who asks: they take some
// twenty files and have no place in sampling.
func (t *Tree) Statistics(id lifecycle.ProcessID) (*event.Statistics, error) {
	m, err := cgroup2.Load("/workers/"+LeafName(id), cgroup2.WithMountpoint(t.options.Root.Path))
	if err != nil {
		return nil, err
	}
	got, err := m.StatFiltered(cgroup2.StatMemory | cgroup2.StatMemoryEvents | cgroup2.StatCPU | cgroup2.StatPids | cgroup2.StatIO)
	if err != nil {
		return nil, err
	}
	return statistics(got), nil
}

func statistics(m *stats.Metrics) *event.Statistics {
	mem, ev, cpu := m.GetMemory(), m.GetMemoryEvents(), m.GetCPU()
	s := &event.Statistics{
		MemoryPeak: count(mem.GetMaxUsage()),
		MemoryStat: map[string]int64{
			"anon": count(mem.GetAnon()), "file": count(mem.GetFile()), "shmem": count(mem.GetShmem()),
			"slab": count(mem.GetSlab()), "slab_reclaimable": count(mem.GetSlabReclaimable()), "kernel_stack": count(mem.GetKernelStack()),
			"sock": count(mem.GetSock()), "active_file": count(mem.GetActiveFile()), "inactive_file": count(mem.GetInactiveFile()),
		},
		MemoryEvents: map[string]int64{
			"low": count(ev.GetLow()), "high": count(ev.GetHigh()), "max": count(ev.GetMax()), "oom": count(ev.GetOom()), "oom_kill": count(ev.GetOomKill()),
		},
		Swap: count(mem.GetSwapUsage()), SwapLimit: limit(mem.GetSwapLimit()),
		CPU:       time.Duration(cpu.GetUsageUsec()) * time.Microsecond,
		Throttled: time.Duration(cpu.GetThrottledUsec()) * time.Microsecond,
		Pids:      count(m.GetPids().GetCurrent()), PidsLimit: limit(m.GetPids().GetLimit()),
		MemoryPressure: mem.GetPSI().GetFull().GetAvg10(), IOPressure: m.GetIo().GetPSI().GetFull().GetAvg10(),
	}
	for _, e := range m.GetIo().GetUsage() {
		s.IORead += count(e.GetRbytes())
		s.IOWritten += count(e.GetWbytes())
	}
	return s
}

func count(n uint64) int64 { return int64(min(n, math.MaxInt64)) }

// limit: containerd reads "max" as the largest number.
func limit(n uint64) int64 {
	if n == math.MaxUint64 {
		return -1
	}
	return count(n)
}

package event

import "time"

// Statistics are the kernel's figures about the cgroup of a living process, as
// cgroup-v2.rst explains them. A limit of -1 is none; a zero may also mean that
// the kernel or the delegation lacks the figure.
type Statistics struct {
	MemoryPeak   int64            `json:"memory_peak_bytes"`
	MemoryStat   map[string]int64 `json:"memory_stat"` // bytes, by the kernel's names
	MemoryEvents map[string]int64 `json:"memory_events"`
	Swap         int64            `json:"swap_bytes"`
	SwapLimit    int64            `json:"swap_limit_bytes"`

	CPU       time.Duration `json:"cpu_ns"` // used by all processes since the start
	Throttled time.Duration `json:"cpu_throttled_ns"`
	Pids      int64         `json:"pids"` // processes and threads
	PidsLimit int64         `json:"pids_limit"`
	IORead    int64         `json:"io_read_bytes"`
	IOWritten int64         `json:"io_written_bytes"`

	// Percentage of the last ten seconds in which everything in the cgroup
	// waited for it.
	MemoryPressure float64 `json:"memory_pressure_percent"`
	IOPressure     float64 `json:"io_pressure_percent"`
}

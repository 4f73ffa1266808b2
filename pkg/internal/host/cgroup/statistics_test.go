package cgroup

import (
	"testing"
	"time"
)

// Through containerd, from files as the kernel writes them.
func TestStatistics(t *testing.T) {
	f := newFake(t, allControllers)
	l := f.leaf(limits)
	put(t, l.Path(), map[string]string{
		"memory.stat": "anon 1000\nfile 200\nshmem 30\nslab 4\nactive_file 5\ninactive_file 6\n", "memory.events": "low 0\nhigh 7\nmax 8\noom 0\noom_kill 0\n",
		"memory.swap.current": "9\n", "memory.swap.max": "max\n", "cpu.stat": "usage_usec 1500000\nthrottled_usec 20\n", "pids.current": "3\n", "pids.max": "64\n",
		"io.stat":         "8:0 rbytes=1 wbytes=2 rios=1 wios=1 dbytes=0 dios=0\n8:16 rbytes=10 wbytes=20 rios=1 wios=1 dbytes=0 dios=0\n",
		"memory.pressure": "some avg10=1.00 avg60=0.00 avg300=0.00 total=5\nfull avg10=2.50 avg60=0.00 avg300=0.00 total=5\n",
	})
	s, err := f.Statistics(l.ID)
	if err != nil {
		t.Fatal(err)
	}
	if s.MemoryPeak != 77 || s.MemoryStat["anon"] != 1000 || s.MemoryStat["file"] != 200 || s.MemoryEvents["high"] != 7 || s.Swap != 9 || s.SwapLimit != -1 {
		t.Errorf("%+v", s)
	}
	if s.CPU != 1500*time.Millisecond || s.Throttled != 20*time.Microsecond || s.Pids != 3 || s.PidsLimit != 64 || s.IORead != 11 || s.IOWritten != 22 || s.MemoryPressure != 2.5 {
		t.Errorf("%+v", s)
	}
}

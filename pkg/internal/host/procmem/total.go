package procmem

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/shirou/gopsutil/v3/mem"

	"github.com/workersd/workersd/pkg/spec"
)

// Total is what percentages in the worker list are of: the least of the
// machine's memory and the limit of every cgroup above us.
func Total() spec.Bytes {
	total := spec.Bytes(0)
	if vm, err := mem.VirtualMemory(); err == nil {
		total = spec.Bytes(vm.Total)
	}
	if limit := limitAbove("/proc/self/cgroup", "/sys/fs/cgroup"); limit > 0 && (total == 0 || limit < total) {
		total = limit
	}
	return total
}

// limitAbove is the least limit from our cgroup up to what is mounted, 0 for
// none: memory.max of version 2, memory.limit_in_bytes of version 1. In a
// container the top of the mount is the container itself.
func limitAbove(self, mount string) (least spec.Bytes) {
	b, err := os.ReadFile(self)
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(b)) {
		f := strings.SplitN(strings.TrimSpace(line), ":", 3) // cgroups(7)
		if len(f) != 3 {
			continue
		}
		top, file := mount, "memory.max"
		switch {
		case f[0] == "0" && f[1] == "":
		case slices.Contains(strings.Split(f[1], ","), "memory"):
			top, file = filepath.Join(mount, "memory"), "memory.limit_in_bytes"
		default:
			continue
		}
		for dir := filepath.Join(top, f[2]); len(dir) >= len(top); dir = filepath.Dir(dir) {
			if n := limitIn(filepath.Join(dir, file)); n > 0 && (least == 0 || n < least) {
				least = n
			}
		}
	}
	return least
}

// limitIn is 0 where there is no limit; "max" is none, nor is a file that is
// not there.
func limitIn(path string) spec.Bytes {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0
	}
	n, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
	if err != nil {
		return 0
	}
	return spec.Bytes(n)
}

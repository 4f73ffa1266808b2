package procmem

import (
	"os"
	"path/filepath"
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

// limitAbove is the least memory.max from our cgroup up to the root, 0 for none.
func limitAbove(self, mount string) (least spec.Bytes) {
	b, err := os.ReadFile(self)
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(b)) {
		path, ok := strings.CutPrefix(strings.TrimSpace(line), "0::")
		if !ok {
			continue
		}
		for dir := filepath.Join(mount, path); len(dir) > len(mount); dir = filepath.Dir(dir) {
			text, err := os.ReadFile(filepath.Join(dir, "memory.max"))
			if err != nil {
				continue
			}
			n, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
			if err == nil && (least == 0 || spec.Bytes(n) < least) {
				least = spec.Bytes(n)
			}
		}
	}
	return least
}

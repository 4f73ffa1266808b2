package cgroup

import (
	"strconv"
	"strings"

	"github.com/workersd/workersd/pkg/internal/lifecycle"
)

// LeafName is the directory of one process below workers/. It holds a ':' and
// so is never the name of a kernel file; a worker's name holds no '/' and at
// most 128 bytes, so it always fits.
func LeafName(id lifecycle.ProcessID) string {
	return id.Worker + ":" + strconv.FormatUint(id.Generation, 10)
}

// ParseLeaf reads what LeafName wrote. Other names are not ours: ok is false.
func ParseLeaf(name string) (id lifecycle.ProcessID, ok bool) {
	i := strings.LastIndexByte(name, ':')
	if i <= 0 {
		return id, false
	}
	gen, err := strconv.ParseUint(name[i+1:], 10, 64)
	if err != nil || gen == 0 || name[i+1] == '0' || name[i+1] == '+' {
		return id, false
	}
	return lifecycle.ProcessID{Worker: name[:i], Generation: gen}, true
}

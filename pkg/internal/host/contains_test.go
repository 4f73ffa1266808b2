package host

import (
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/workersd/workersd/pkg/internal/host/process"
	"github.com/workersd/workersd/pkg/internal/lifecycle"
	"github.com/workersd/workersd/pkg/spec"
)

// A tree that is not started yet holds nobody. It once held everybody of session
// 0, which is what a container's processes have that came in from outside: an
// operator was taken for a worker and refused.
func TestTreeNotStartedHoldsNobody(t *testing.T) {
	table := process.NewTable()
	defer table.Close()
	s := newSampled(table, spec.Manager{CheckInterval: time.Hour}, reports{})
	defer s.close()
	w := spec.Default("w")
	tree, err := s.prepare(lifecycle.ProcessID{Worker: "w", Generation: 1}, &w)
	if err != nil {
		t.Fatal(err)
	}
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range append(dirs, "/proc/"+strconv.Itoa(os.Getpid())) {
		pid, err := strconv.Atoi(filepath.Base(dir))
		if err != nil {
			continue
		}
		if in, _ := tree.contains(pid); in {
			t.Errorf("process %d is said to be in a tree that has no process", pid)
		}
	}
}

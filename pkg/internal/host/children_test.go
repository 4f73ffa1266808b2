package host

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/workersd/workersd/pkg/internal/host/process"
	"github.com/workersd/workersd/pkg/spec"
)

// scoreOf is the oom_score_adj of a process; ok is false when it is gone.
func scoreOf(pid int) (adj int, ok bool) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/oom_score_adj", pid))
	if err != nil {
		return 0, false
	}
	adj, err = strconv.Atoi(strings.TrimSpace(string(b)))
	return adj, err == nil
}

// What a program has started in its first moment has its oom_score_adj, too, and
// so has what that has started.
func TestNobodyEscapesItsOOMScoreAdj(t *testing.T) {
	r := newRig(t, spec.Manager{})
	ours, _ := scoreOf(os.Getpid())
	for i := range 10 {
		name := fmt.Sprint("w", i)
		w := sh(name, fmt.Sprintf("cd %s; sh -c 'sleep 1000 & echo $! > %s; wait' & wait", r.dir, name))
		w.OOMScoreAdj = ours + 7
		r.spawn(w)
		child := r.file(name)
		r.until("it has the worker's", func() bool { got, ok := scoreOf(child); return !ok || got == ours+7 })
		r.Kill(id(w))
		r.finish(w)
	}
}

// forker is a tree whose members come to light one by one, as if each had been
// forked while the last was written to.
type forker struct {
	holder
	tree []int
	seen int
}

func (f *forker) pids() []int {
	f.seen = min(f.seen+1, len(f.tree))
	return slices.Clone(f.tree[:f.seen])
}

// Who is forked meanwhile is reached in the next round; the main process, and
// whoever has set another, keep theirs.
func TestChildrenAreAdjustedInRounds(t *testing.T) {
	ours, _ := scoreOf(os.Getpid())
	f := &forker{}
	for range 4 {
		pid, err := syscall.ForkExec("/bin/sleep", []string{"sleep", "1000"}, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer func() {
			syscall.Kill(pid, syscall.SIGKILL)
			syscall.Wait4(pid, nil, 0, nil)
		}()
		f.tree = append(f.tree, pid)
	}
	f.seen = 2
	own := f.tree[1]
	process.GiveOOMScoreAdj([]int{own}, ours+3)
	adjustChildren(f, f.tree[0], ours+7)
	for i, want := range []int{ours, ours + 3, ours + 7, ours + 7} {
		if got, _ := scoreOf(f.tree[i]); got != want {
			t.Errorf("member %d has %d, want %d", i, got, want)
		}
	}
}

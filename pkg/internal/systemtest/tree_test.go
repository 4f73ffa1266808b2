package systemtest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/workersd/workersd/pkg/internal/host/cgroup"
	"github.com/workersd/workersd/pkg/internal/lifecycle"
	"github.com/workersd/workersd/pkg/spec"
)

// softPassed is one thing that a tree told.
type softPassed struct {
	leaf         *cgroup.Leaf
	usage, limit spec.Bytes
}

// tree is a cgroup.Tree with what it told.
type tree struct {
	*cgroup.Tree
	t        *testing.T
	soft     chan softPassed
	emptied  chan *cgroup.Leaf
	problems chan string
}

func openTree(t *testing.T, pool spec.Bytes) *tree {
	t.Helper()
	root, err := cgroup.Search{}.Find()
	if err != nil {
		t.Fatal(err)
	}
	x := &tree{t: t, soft: make(chan softPassed, 16), emptied: make(chan *cgroup.Leaf, 1024), problems: make(chan string, 16)}
	x.Tree, err = cgroup.Open(cgroup.Options{
		Root: root, CheckInterval: time.Second, Pool: pool,
		SoftPassed: func(l *cgroup.Leaf, usage, limit spec.Bytes) { x.soft <- softPassed{l, usage, limit} },
		Emptied:    func(l *cgroup.Leaf) { x.emptied <- l },
		Problem:    func(text string) { x.problems <- text },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := x.Close(); err != nil {
			t.Error(err)
		}
		close(x.problems)
		for p := range x.problems {
			t.Errorf("problem: %s", p)
		}
	})
	return x
}

// unlimited is a leaf that limits nothing.
var unlimited = cgroup.Limits{Soft: spec.None, Hard: spec.None, Swap: 0}

func memory(soft, hard spec.Bytes) cgroup.Limits {
	return cgroup.Limits{Soft: soft, Hard: hard, Swap: 0}
}

var generation uint64

// process is a hog in a leaf.
type process struct {
	*cgroup.Leaf
	tree   *tree
	cmd    *exec.Cmd
	report string
}

// hog starts a hog in a leaf of its own, with CLONE_INTO_CGROUP.
func (x *tree) hog(lim cgroup.Limits, args ...string) *process {
	x.t.Helper()
	generation++
	l, err := x.New(lifecycle.ProcessID{Worker: "hog@" + x.t.Name(), Generation: generation}, lim)
	if err != nil {
		x.t.Fatal(err)
	}
	p := &process{Leaf: l, tree: x, report: filepath.Join(x.t.TempDir(), fmt.Sprint("report-", generation))}
	p.cmd = exec.Command(program(x.t, "hog"), append([]string{"-report", p.report}, args...)...)
	p.cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: l.FD(), Setsid: true}
	p.cmd.Stderr = os.Stderr
	if err := p.cmd.Start(); err != nil {
		x.t.Fatal(err)
	}
	// What the manager does: its own protection is not for its workers.
	adj := fmt.Sprintf("/proc/%d/oom_score_adj", p.cmd.Process.Pid)
	if err := os.WriteFile(adj, []byte("0"), 0); err != nil {
		x.t.Fatal(err)
	}
	if err := l.Started(); err != nil {
		x.t.Fatal(err)
	}
	x.t.Cleanup(p.end)
	return p
}

func (p *process) signal(sig syscall.Signal) {
	p.tree.t.Helper()
	if err := p.cmd.Process.Signal(sig); err != nil {
		p.tree.t.Fatal(err)
	}
}

// gone waits for the main process and then for the whole leaf.
func (p *process) gone() (syscall.WaitStatus, lifecycle.Evidence) {
	p.tree.t.Helper()
	p.cmd.Wait()
	p.TellEmpty()
	select {
	case l := <-p.tree.emptied:
		if l != p.Leaf {
			p.tree.t.Fatalf("emptied: %v, want %v", l.ID, p.ID)
		}
		select {
		case l := <-p.tree.emptied:
			p.tree.t.Fatalf("emptied again: %v", l.ID)
		default:
		}
	case <-time.After(patience):
		pids, _ := p.Procs()
		p.tree.t.Fatalf("%v never emptied; in it: %v", p.ID, pids)
	}
	return p.cmd.ProcessState.Sys().(syscall.WaitStatus), p.Evidence()
}

// end leaves nothing behind, whatever the test did.
func (p *process) end() {
	if err := p.Kill(); err != nil {
		p.tree.t.Error(err)
	}
	p.cmd.Wait()
	path := p.Path()
	if err := p.Remove(); err != nil {
		p.tree.t.Error(err)
	}
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		p.tree.t.Errorf("%s is left (%v)", path, err)
	}
}

// told waits for the soft limit.
func (x *tree) told() softPassed {
	x.t.Helper()
	select {
	case s := <-x.soft:
		return s
	case <-time.After(patience):
		x.t.Fatal("the soft limit was never told")
		return softPassed{}
	}
}

// notTold fails if the soft limit was told until now.
func (x *tree) notTold() {
	x.t.Helper()
	select {
	case s := <-x.soft:
		x.t.Errorf("told that %v passed its soft limit: %v of %v", s.leaf.ID, s.usage, s.limit)
	default:
	}
}

func killedBy(s syscall.WaitStatus, sig syscall.Signal) bool {
	return s.Signaled() && s.Signal() == sig
}

package process

import (
	"errors"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/workersd/workersd/pkg/internal/host/procmem"
	"github.com/workersd/workersd/pkg/internal/lifecycle"
	"github.com/workersd/workersd/pkg/spec"
)

func TestStatus(t *testing.T) {
	for _, c := range []struct {
		script string
		want   lifecycle.Status
	}{
		{"exit 0", lifecycle.Status{}},
		{"exit 7", lifecycle.Status{Code: 7}},
		{"kill -9 $$", lifecycle.Status{Signal: spec.Signal(syscall.SIGKILL)}},
		{"kill -TERM $$", lifecycle.Status{Signal: spec.Signal(syscall.SIGTERM)}},
	} {
		if got := mustStart(t, sh(c.script)).ended(); got != c.want {
			t.Errorf("%s: %+v, want %+v", c.script, got, c.want)
		}
	}
}

// A process that ends before its start is registered is judged all the same,
// once, and no end is lost among many.
func TestNoEndIsLost(t *testing.T) {
	const n = 200
	var wg sync.WaitGroup
	codes := make([]int, n)
	for i := range n {
		wg.Add(1)
		go func() {
			defer wg.Done()
			st := sh("exit " + strings.Repeat("0", i%3) + "3")
			null, err := os.Open(os.DevNull)
			if err != nil {
				t.Error(err)
				return
			}
			defer null.Close()
			st.Files = []*os.File{null, null, null}
			ended := make(chan lifecycle.Status, 2)
			if _, err := spawner.Do(st, func(s lifecycle.Status) { ended <- s }); err != nil {
				t.Error(err)
				return
			}
			codes[i] = (<-ended).Code
			if len(ended) != 0 {
				t.Error("its end was told twice")
			}
		}()
	}
	wg.Wait()
	for i, c := range codes {
		if c != 3 {
			t.Errorf("process %d: exit %d, want 3", i, c)
		}
	}
}

// Processes are started one after the other: each caller whose system call takes
// longer than the scheduler likes is worth a thread, too, and how many those are
// is the machine's affair.
func TestProcessesTakeNoThreads(t *testing.T) {
	hold, release, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer hold.Close()
	defer release.Close()
	threads := threadsOf(t)
	const n = 200
	ended := make(chan lifecycle.Status, n)
	for range n {
		st := sh("read line; exit 3")
		st.Files = []*os.File{hold, os.Stderr, os.Stderr}
		if _, err := spawner.Do(st, func(s lifecycle.Status) { ended <- s }); err != nil {
			t.Fatal(err)
		}
	}
	if now := threadsOf(t); now > threads+n/2 {
		t.Errorf("%d threads before %d processes, %d with them: there must be none for each", threads, n, now)
	}
	release.Close()
	for range n {
		if st := <-ended; st.Code != 3 {
			t.Errorf("ended with %+v", st)
		}
	}
}

func threadsOf(t *testing.T) int {
	t.Helper()
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		t.Fatal(err)
	}
	return len(tasks)
}

// An end that the reaper takes before the start is registered is kept for it;
// one from before the start began is of an earlier process with that pid.
func TestEarlyEnd(t *testing.T) {
	table := &Table{children: map[int]func(lifecycle.Status){}, early: map[int]earlyEnd{}}
	var got []lifecycle.Status
	ended := func(s lifecycle.Status) { got = append(got, s) }

	other := table.begin() // keeps early ends from being forgotten
	since := table.begin()
	table.order++
	table.early[4242] = earlyEnd{lifecycle.Status{Code: 5}, table.order}
	table.end(since, 4242, ended)
	if len(got) != 1 || got[0].Code != 5 || table.Is(4242) {
		t.Fatalf("told %+v, still a child: %v", got, table.Is(4242))
	}

	table.order++
	table.early[4243] = earlyEnd{lifecycle.Status{Code: 6}, table.order}
	since = table.begin()
	table.end(since, 4243, ended)
	if len(got) != 1 || !table.Is(4243) {
		t.Fatalf("the end of an earlier process was taken for this one's: %+v", got)
	}
	table.end(other, 0, nil)
	if len(table.early) != 0 || table.starting != 0 {
		t.Errorf("left over: %+v, %d starting", table.early, table.starting)
	}
}

func TestSignal(t *testing.T) {
	c := mustStart(t, sh("trap 'exit 9' USR1; echo ready; while :; do sleep 0.01; done"))
	c.line()
	if !children.Is(c.pid) || !children.Signal(c.pid, syscall.SIGUSR1) {
		t.Fatal("a living child cannot be signalled")
	}
	if st := c.ended(); st.Code != 9 {
		t.Errorf("ended with %v", st)
	}
	if children.Is(c.pid) || children.Signal(c.pid, syscall.SIGUSR1) {
		t.Error("a reaped child was signalled: its pid may be a stranger's by now")
	}
	if children.Signal(os.Getpid(), 0) {
		t.Error("something that is no child was signalled")
	}
}

// Orphans become ours and are reaped, and nobody is told.
func TestOrphans(t *testing.T) {
	c := mustStart(t, sh("setsid sh -c 'echo $$; exec sleep 1000' & exit 4"))
	orphan := number(t, c.line())
	if st := c.ended(); st.Code != 4 {
		t.Errorf("ended with %v", st)
	}
	var table procmem.Table
	here := func() bool {
		pids, ok := children.Orphans(table.Adopted)
		if !ok {
			t.Skip("the kernel has no CONFIG_PROC_CHILDREN; host falls back to a scan")
		}
		for _, pid := range pids {
			if pid == orphan {
				return true
			}
		}
		return false
	}
	eventually(t, "the orphan is our child", here)
	if children.Is(orphan) {
		t.Error("an orphan counts as started by us")
	}
	syscall.Kill(orphan, syscall.SIGKILL)
	eventually(t, "the orphan is reaped", func() bool { return !exists(orphan) })
	if here() {
		t.Error("an orphan that was reaped is still listed")
	}
}

func TestOrphansWithoutList(t *testing.T) {
	if _, ok := children.Orphans(func() ([]int, bool) { return nil, false }); ok {
		t.Error("a list that cannot be read was taken for an empty one")
	}
}

func TestFailedStartLeavesNothing(t *testing.T) {
	for range 20 {
		_, err := spawner.Do(Start{Path: write(t, "x", "#!/nowhere/interpreter\n", 0o755), Args: []string{"x"}, Umask: -1, CgroupFD: -1},
			func(lifecycle.Status) { t.Error("a start that failed has ended") })
		if err == nil || errors.Is(err, errTrampoline) {
			t.Fatal(err)
		}
	}
	children.mu.Lock()
	defer children.mu.Unlock()
	if children.starting != 0 {
		t.Errorf("%d starts under way", children.starting)
	}
}

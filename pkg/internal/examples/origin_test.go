package examples_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/workersd/workersd/pkg/internal/programtest"
)

// The origin's first example, and its output.
func TestOriginBasic(t *testing.T) {
	m := programtest.StartProgram(t, t.TempDir(), "origin-basic")
	m.AwaitOutput("running")
	m.Stop()
	wantInOrder(t, m.Output(),
		`=============================\n`, `Workers Daemon Starting\n`, `=============================\n`,
		`Daemon process \d+\n`, `Check point 1s\n`, `MyWork-1 \d+ created`,
		`stopping, with 1 worker running`, `MyWork-1 \d+ is not existed any more`, `stopped`)
	if !regexp.MustCompile(`(?m)^MyWork-1 \| .*running$`).MatchString(m.Output()) {
		t.Errorf("the worker's line has not its name in front:\n%s", m.Output())
	}
}

// The origin's second example: a worker replaced after two executions, one that
// passes its soft limit and finishes its execution, one killed at its hard limit.
func TestOriginMemory(t *testing.T) {
	dir := t.TempDir()
	m := programtest.StartProgram(t, dir, "origin-memory")
	soft, hard := "NewWorker@1000000", "NewWorker@50000000"
	r := m.AwaitRecord("two executions", ended("Worker-1", "max_requests"))
	if r.Executions != 2 || r.Status != "exit 0" {
		t.Errorf("Worker-1 left after %d executions with %s, want 2 and exit 0", r.Executions, r.Status)
	}
	m.AwaitRecord("another process after two executions", created("Worker-1", r.Generation+1))
	r = m.AwaitRecord("the soft limit", ended(soft, "soft_memory"))
	if r.Executions == 0 || r.Execution != "" || r.Status != "exit 0" || r.Memory <= r.MemoryLimit {
		t.Errorf("%s left with %s after %d executions, %q running, %d of %d bytes; want exit 0, all finished, above its limit",
			soft, r.Status, r.Executions, r.Execution, r.Memory, r.MemoryLimit)
	}
	m.AwaitRecord("another process after the soft limit", created(soft, r.Generation+1))
	r = m.AwaitRecord("the hard limit", ended(hard, "hard_memory"))
	if r.Status != "signal SIGKILL" || r.Executions != 0 {
		t.Errorf("%s ended with %s after %d executions, want SIGKILL in the first", hard, r.Status, r.Executions)
	}
	m.AwaitRecord("another process after the hard limit", created(hard, r.Generation+1))
	m.Stop()
	out := m.Output()
	wantInOrder(t, out, `Check point 1s\n`, `Worker-1 (\d+) created`,
		`Worker-1 \d+ cancelled by reaching max requests count \[2\]`, `Worker-1 \d+ is not existed any more`, `Worker-1 \d+ created`)
	wantInOrder(t, out, soft+` \d+ cancelled by reaching soft memory limit \[50M\]`, soft+` \d+ is not existed any more`, soft+` \d+ created`)
	wantInOrder(t, out, hard+` \d+ is not existed any more: killed at its hard memory limit`)
	log, err := os.ReadFile(filepath.Join(dir, "new_worker.log"))
	if err != nil {
		t.Fatal(err)
	}
	wantInOrder(t, string(log), `result count=1000000\n`, `leaving executions=\d+\n`)
	if strings.Contains(out, "count=1000000\n") {
		t.Errorf("its output stands outside of new_worker.log, too:\n%s", out)
	}
}

// `go run` builds a program, and removes it when it ends.
func TestGoRun(t *testing.T) {
	run, err := os.MkdirTemp("", "gr") // t.TempDir can be too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(run)
	cmd := exec.Command("go", "run", "./origin-basic")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "NO_COLOR=1", "WORKERSD_SOCKET="+run+"/s")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	out, err := os.Create(run + "/out")
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	text := func() string {
		b, err := os.ReadFile(run + "/out")
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	defer syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
	programtest.Await(t, "the worker runs", func() bool { return strings.Contains(text(), "running") })
	// As a terminal does: to the whole group.
	if err := syscall.Kill(-cmd.Process.Pid, syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	cmd.Wait() // it waits for the program; its own exit code after Ctrl-C is 1
	wantInOrder(t, text(), `MyWork-1 \d+ created`, `stopping, with 1 worker running`, `MyWork-1 \d+ is not existed any more: left`, `stopped`)
}

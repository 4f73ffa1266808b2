package manager_test

import (
	"log/slog"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/workersd/workersd/pkg/manager"
)

func init() {
	scenarios["stubborn"] = func() { newManager(manager.Worker{Work: &stubborn{}}).Start() }
	scenarios["logger"] = func() {
		m := newManager(manager.Worker{Work: &life{}, CheckPoint: patience})
		m.Log = slog.New(slog.NewJSONHandler(os.Stderr, nil))
		m.Start()
	}
}

// A second Ctrl-C waits for nobody.
func TestSecondCtrlC(t *testing.T) {
	p := start(t, "stubborn")
	p.says(&p.out, `stubborn$`)
	p.signal(syscall.SIGINT)
	p.says(&p.err, `stubborn-1 \d+ is stopped: the manager ends`)
	// One that comes right behind the first is taken for the same.
	for again := time.NewTicker(200 * time.Millisecond); ; {
		select {
		case <-again.C:
			p.cmd.Process.Signal(syscall.SIGINT)
			continue
		case <-p.ended:
		case <-time.After(patience / 2): // far from the worker's WaitTime
			t.Fatalf("does not end at once\n%s", p.output())
		}
		break
	}
	if code := p.code(); code != 0 {
		t.Errorf("exit code %d\n%s", code, p.output())
	}
	p.nobody()
	p.says(&p.err, `stopping at once`)
}

// The manager says what it has to say to the logger that it was given.
func TestLogger(t *testing.T) {
	p := start(t, "logger")
	p.says(&p.err, `^\{.*"msg":"Workers Daemon Starting"\}$`)
	p.says(&p.err, `^\{.*"msg":"life-1 \d+ created","generation":1\}$`)
	p.signal(syscall.SIGTERM)
	p.code()
	p.says(&p.err, `"msg":"stopped"`)
	p.never(&p.err, `^[^{]`)
}

// Two managers need two sockets, and the second is told which.
func TestTwoManagers(t *testing.T) {
	one := start(t, "stolen")
	one.says(&one.err, `life-1 \d+ created`)
	two := start(t, "stolen", "WORKERSD_SOCKET="+one.dir+"/s")
	if code := two.code(); code != 1 {
		t.Errorf("exit code %d\n%s", code, two.output())
	}
	two.says(&two.err, `another manager \(pid `+strconv.Itoa(one.manager())+`\) serves `+one.dir+`/s already`)
	two.never(&two.err, `created`)
	start(t, "stolen").says(&one.err, `created`)
}

// A program that is started as a trampoline does not get to its main, whose
// arguments these are not.
func TestTrampolineComesBeforeMain(t *testing.T) {
	cmd := exec.Command(os.Args[0])
	cmd.Args = []string{"workersd-exec", "7", "8"}
	cmd.Env = append(os.Environ(), "MANAGER_TEST=none")
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState.ExitCode() != 126 || len(out) > 0 {
		t.Errorf("%v, and it says\n%s", err, out)
	}
}

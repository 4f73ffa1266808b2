package manager_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/workersd/workersd/pkg/client"
)

// The test program is also the program under test: guard, manager and workers
// are this binary, executed again and again.
func TestMain(m *testing.M) {
	if name := os.Getenv("MANAGER_TEST"); name != "" {
		scenarios[name]()
		fmt.Println("Start has returned")
		os.Exit(9)
	}
	os.Exit(m.Run())
}

// patience bounds every wait for a condition; it is met only by one that never
// comes true.
const patience = 2 * time.Minute

// program is one run of a scenario, in a terminal unless NOTIFY_SOCKET is given.
type program struct {
	t        *testing.T
	cmd      *exec.Cmd
	dir      string // where it was started
	mark     string // in the environment of all its processes
	out, err buffer
	ended    chan struct{} // closed when the first process has ended
}

type buffer struct {
	mu sync.Mutex // guards b
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func start(t *testing.T, scenario string, env ...string) *program {
	t.Helper()
	return startProgram(t, shortDir(t), os.Args[0], scenario, nil, env...)
}

// shortDir is a t.TempDir whose path is not too long for a socket.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "wm")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func startProgram(t *testing.T, dir, path, scenario string, args []string, env ...string) *program {
	t.Helper()
	p := &program{t: t, dir: dir, mark: "MANAGER_TEST_MARK=" + dir, ended: make(chan struct{})}
	p.cmd = exec.Command(path, args...)
	p.cmd.Dir = dir
	p.cmd.Env = append(os.Environ(), append([]string{
		"MANAGER_TEST=" + scenario, p.mark, "NO_COLOR=1", "WORKERSD_SOCKET=" + dir + "/s", "DIR=" + dir,
	}, env...)...)
	p.cmd.Stdout, p.cmd.Stderr = &p.out, &p.err
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { // the only one that waits
		p.cmd.Wait()
		close(p.ended)
	}()
	t.Cleanup(func() {
		p.cmd.Process.Signal(syscall.SIGTERM)
		p.cmd.Process.Signal(syscall.SIGTERM) // at once
		<-p.ended
		p.nobody()
	})
	return p
}

func (p *program) output() string {
	return "stdout:\n" + p.out.String() + "stderr:\n" + p.err.String()
}

// until waits for a condition.
func (p *program) until(what string, is func() bool) {
	p.t.Helper()
	for end := time.Now().Add(patience); !is(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			p.t.Fatalf("never came true: %s\n%s", what, p.output())
		}
	}
}

// says waits until one of the two outputs has a match, and returns it with its
// groups. (?m) is set.
func (p *program) says(b *buffer, pattern string) []string {
	p.t.Helper()
	re := regexp.MustCompile("(?m)" + pattern)
	var found []string
	p.until(pattern, func() bool {
		found = re.FindStringSubmatch(b.String())
		return found != nil
	})
	return found
}

// inOrder waits until stderr has all patterns, each behind the one before.
func (p *program) inOrder(b *buffer, patterns ...string) {
	p.t.Helper()
	p.says(b, `(?s)`+strings.Join(patterns, `.*?`))
}

func (p *program) never(b *buffer, pattern string) {
	p.t.Helper()
	if m := regexp.MustCompile("(?m)" + pattern).FindString(b.String()); m != "" {
		p.t.Errorf("unexpected %q in\n%s", m, p.output())
	}
}

// manager is the pid of the manager, which in a terminal is not the first process.
func (p *program) manager() int {
	p.t.Helper()
	pid, err := strconv.Atoi(p.says(&p.err, `Daemon process (\d+)$`)[1])
	if err != nil {
		p.t.Fatal(err)
	}
	return pid
}

func (p *program) signal(s syscall.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Fatal(err)
	}
}

// code waits for the end.
func (p *program) code() int {
	p.t.Helper()
	select {
	case <-p.ended:
	case <-time.After(patience):
		p.t.Fatalf("does not end\n%s", p.output())
	}
	return p.cmd.ProcessState.ExitCode()
}

// processes are those of the program that live.
func (p *program) processes() (left []string) {
	p.t.Helper()
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		p.t.Fatal(err)
	}
	for _, d := range dirs {
		env, err := os.ReadFile(d + "/environ")
		if err != nil && !errors.Is(err, os.ErrNotExist) && !errors.Is(err, syscall.ESRCH) && !errors.Is(err, os.ErrPermission) {
			p.t.Fatal(err)
		}
		if bytes.Contains(append([]byte{0}, env...), append([]byte{0}, p.mark+"\x00"...)) {
			args, _ := os.ReadFile(d + "/cmdline")
			left = append(left, filepath.Base(d)+" "+string(bytes.ReplaceAll(args, []byte{0}, []byte{' '})))
		}
	}
	return left
}

// nobody waits until no process of the program is left.
func (p *program) nobody() {
	p.t.Helper()
	var left []string
	for end := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		if left = p.processes(); len(left) == 0 {
			return
		}
		if time.Now().After(end) {
			p.t.Errorf("left: %q", left)
			return
		}
	}
}

// restart replaces all workers, as workersctl would.
func (p *program) restart() {
	p.t.Helper()
	if _, err := client.New(p.dir+"/s").Act(p.t.Context(), "restart", true, "*"); err != nil {
		p.t.Fatalf("%v\n%s", err, p.output())
	}
}

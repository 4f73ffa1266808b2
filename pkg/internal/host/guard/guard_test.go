package guard

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/workersd/workersd/pkg/internal/host/procmem"
	"github.com/workersd/workersd/pkg/spec"
)

// The test program is its own guard and manager.
const (
	envScripts = "TEST_SCRIPTS" // of the manager's workers, one on a line
	envGrace   = "TEST_GRACE"
)

func TestMain(m *testing.M) {
	switch {
	case os.Getenv(envGrace) == "":
		os.Exit(m.Run())
	case Guarded():
		os.Exit(manager())
	default:
		os.Exit(Run(os.Args))
	}
}

// manager starts its workers, says who they are, then says each signal and ends
// at the third, or with the code that stands on its standard input.
func manager() int {
	sigs := make(chan os.Signal, 16)
	signal.Notify(sigs, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	link := attachElsewhere()
	unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
	grace, _ := time.ParseDuration(os.Getenv(envGrace))
	for i, script := range strings.Split(os.Getenv(envScripts), "\n") {
		pid, err := syscall.ForkExec("/bin/sh", []string{"sh", "-c", script}, &syscall.ProcAttr{
			Env: []string{"PATH=/usr/bin:/bin"}, Files: []uintptr{0, 1, 1}, Sys: &syscall.SysProcAttr{Setsid: true},
		})
		if err != nil {
			fmt.Println(err)
			return 1
		}
		link.Started(pid, spec.Signal(syscall.SIGTERM), grace)
		fmt.Printf("worker%d %d\n", i, pid)
	}
	fmt.Printf("manager %d\n", os.Getpid())
	code := make(chan int)
	go func() {
		s, err := bufio.NewReader(os.Stdin).ReadString('\n')
		if n, e := strconv.Atoi(strings.TrimSpace(s)); e == nil {
			code <- n
		}
		_ = err // its end means nothing
	}()
	for n := 0; n < 3; n++ {
		select {
		case s := <-sigs:
			fmt.Println("signal", s)
		case c := <-code:
			return c
		}
	}
	return 3
}

// attachElsewhere attaches from a thread that ends then, as the runtime's threads
// may, or change their rights.
func attachElsewhere() (l *Link) {
	done := make(chan struct{})
	var attach func()
	attach = func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		if unix.Gettid() == os.Getpid() {
			begun := make(chan struct{})
			go func() { // on another: the first thread stays
				defer close(begun)
				attach()
			}()
			<-begun
			runtime.UnlockOSThread()
			return
		}
		l = Attach()
		go func(tid int) {
			for unix.Tgkill(os.Getpid(), tid, 0) == nil {
				time.Sleep(time.Millisecond)
			}
			close(done)
		}(unix.Gettid())
	}
	go attach()
	<-done
	return l
}

// program is a guard, its manager and their workers.
type program struct {
	t     *testing.T
	cmd   *exec.Cmd
	in    io.WriteCloser
	lines chan string
	early []string // comes before lines
	pids  map[string]int
	ended chan struct{}
}

// begin starts a program and waits until its manager is up.
func begin(t *testing.T, grace time.Duration, scripts ...string) *program {
	t.Helper()
	p := &program{t: t, cmd: exec.Command("/proc/self/exe"), lines: make(chan string, 1000), pids: map[string]int{}, ended: make(chan struct{})}
	p.cmd.Env = []string{envGrace + "=" + grace.String(), envScripts + "=" + strings.Join(scripts, "\n")}
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	var err error
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	p.cmd.Stdout, p.cmd.Stderr = w, w
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	w.Close()
	go func() {
		defer r.Close()
		for s := bufio.NewScanner(r); s.Scan(); {
			p.lines <- s.Text()
		}
		close(p.lines)
	}()
	go func() {
		p.cmd.Wait()
		close(p.ended)
	}()
	t.Cleanup(func() {
		p.cmd.Process.Kill()
		for _, pid := range p.pids {
			unix.Kill(pid, unix.SIGKILL)
		}
		<-p.ended
	})
	var early []string // what workers say before the manager is done
	for p.pids["manager"] == 0 {
		s := p.line()
		p.take(s)
		early = append(early, s)
	}
	p.early = early
	return p
}

// take keeps the pid of a line "name pid".
func (p *program) take(line string) {
	if name, pid, ok := strings.Cut(line, " "); ok {
		if n, err := strconv.Atoi(pid); err == nil {
			p.pids[name] = n
		}
	}
}

func (p *program) line() string {
	p.t.Helper()
	if len(p.early) > 0 {
		s := p.early[0]
		p.early = p.early[1:]
		return s
	}
	select {
	case s, ok := <-p.lines:
		if !ok {
			p.t.Fatal("the program ended without another line")
		}
		return s
	case <-time.After(time.Minute):
		p.t.Fatal("the program says nothing more")
		return ""
	}
}

// await reads on until a line, and returns those before it.
func (p *program) await(want string) (before []string) {
	p.t.Helper()
	for {
		s := p.line()
		if s == want {
			return before
		}
		p.take(s)
		before = append(before, s)
	}
}

// end waits for the guard, checks that no process is left, and returns the exit
// code and what was said.
func (p *program) end() (code int, said string) {
	p.t.Helper()
	select {
	case <-p.ended:
	case <-time.After(time.Minute):
		p.t.Fatal("the guard does not end")
	}
	var all []string
	for s := range p.lines { // ends when nobody holds the output any more
		p.take(s)
		all = append(all, s)
	}
	for name, pid := range p.pids {
		if unix.Kill(pid, 0) == nil {
			p.t.Errorf("%s, process %d, is left", name, pid)
		}
	}
	return p.cmd.ProcessState.ExitCode(), strings.Join(all, "\n")
}

const (
	obeys   = `trap 'echo asked; sleep 0.1; echo done; exit 0' TERM; echo ready; while :; do sleep 0.02; done`
	ignores = `trap 'echo asked' TERM; echo ready; while :; do sleep 0.02; done`
)

// A manager that is killed leaves no worker: each is asked, has its grace, and
// is killed; so are those that made sessions of their own and left their
// parents, but not before the main process that may need them.
func TestManagerKilled(t *testing.T) {
	dir := t.TempDir()
	helper := filepath.Join(dir, "helper")
	// Its helper clears its environment, leaves session and parent, and hears
	// no signal but SIGKILL.
	helped := `trap 'sleep 0.3; kill -0 $(cat ` + helper + `) && echo helper lives; exit 0' TERM
		(setsid env -i sh -c 'trap "" TERM; echo $$ > ` + helper + `; echo helper $$; while :; do sleep 0.02; done' &)
		until [ -s ` + helper + ` ]; do sleep 0.01; done; echo ready; while :; do sleep 0.02; done`
	p := begin(t, 5*time.Second, obeys, strings.ReplaceAll(helped, "\n", ";"))
	p.await("ready")
	p.await("ready")
	unix.Kill(p.pids["manager"], unix.SIGKILL)
	code, said := p.end()
	if code != 128+9 {
		t.Errorf("exit code %d, want 137", code)
	}
	for _, want := range []string{"workersd: the manager was ended by signal SIGKILL; its workers are ended now", "asked\ndone", "helper lives"} {
		if !strings.Contains(said, want) {
			t.Errorf("%q was not said, but\n%s", want, said)
		}
	}
	if p.pids["helper"] == 0 || p.pids["worker1"] == 0 {
		t.Errorf("pids %v", p.pids)
	}
}

func TestGraceEnds(t *testing.T) {
	p := begin(t, 200*time.Millisecond, ignores)
	p.await("ready")
	begun := time.Now()
	unix.Kill(p.pids["manager"], unix.SIGKILL)
	_, said := p.end()
	if n := strings.Count(said, "asked"); n != 1 {
		t.Errorf("it was asked %d times, want once", n)
	}
	if d := time.Since(begun); d < 200*time.Millisecond {
		t.Errorf("it was killed after %v, before its grace was over", d)
	}
}

// Whoever presses Ctrl-C while the guard waits for graces wants the end now.
func TestSignalWhileWorkersEnd(t *testing.T) {
	p := begin(t, time.Hour, ignores)
	p.await("ready")
	unix.Kill(p.pids["manager"], unix.SIGKILL)
	p.await("asked")
	p.cmd.Process.Signal(syscall.SIGINT)
	p.end()
}

func TestExitCodeIsPassedOn(t *testing.T) {
	for _, code := range []int{0, 78} {
		p := begin(t, 5*time.Second, obeys)
		p.await("ready")
		fmt.Fprintln(p.in, code)
		got, said := p.end()
		if got != code {
			t.Errorf("exit code %d, want %d", got, code)
		}
		if strings.Contains(said, "workersd:") {
			t.Errorf("said %s", said)
		}
	}
}

// Ctrl-C goes to the group of the terminal, in which the guard is and the
// manager is not: it reaches the manager once, and the second one is a second.
func TestSignalsReachTheManagerOnce(t *testing.T) {
	p := begin(t, 5*time.Second, obeys)
	p.await("ready")
	for _, s := range []struct {
		sig  syscall.Signal
		want string
	}{{syscall.SIGINT, "signal interrupt"}, {syscall.SIGHUP, "signal hangup"}, {syscall.SIGINT, "signal interrupt"}} {
		if err := unix.Kill(-p.cmd.Process.Pid, s.sig); err != nil {
			t.Fatal(err)
		}
		if before := p.await(s.want); strings.Contains(strings.Join(before, "\n"), "signal") {
			t.Errorf("before %q it said %q", s.want, before)
		}
	}
	if code, said := p.end(); code != 3 || strings.Contains(said, "signal") {
		t.Errorf("exit code %d, want 3; said %s", code, said)
	}
}

// A guard that is killed ends the manager in order, not its workers at once.
func TestGuardKilled(t *testing.T) {
	p := begin(t, 5*time.Second, obeys)
	p.await("ready")
	p.cmd.Process.Kill()
	p.await("signal terminated")
	unix.Kill(p.pids["worker0"], unix.SIGTERM)
	p.await("done")
	unix.Kill(p.pids["manager"], unix.SIGKILL)
	var table procmem.Table
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		m, ok := table.Read(p.pids["manager"])
		if !ok || m.Zombie { // whoever became its parent may be slow to reap
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the manager is left")
		}
	}
}

// A guard that reads nothing, because it is stopped, holds up no start.
func TestLinkNeverWaits(t *testing.T) {
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		t.Fatal(err)
	}
	r := os.NewFile(uintptr(fds[0]), "pipe")
	defer r.Close()
	l := &Link{fd: fds[1]}
	for i := range 100_000 {
		l.Started(i, spec.Signal(syscall.SIGTERM), time.Second)
	}
	unix.Close(fds[1])
	told := newTold()
	told.read(r)
	n := len(told.mains)
	if n < 1000 || n > 100_000 {
		t.Errorf("%d of them were heard", n)
	}
	if h, ok := told.main(0); !ok || h.sig != syscall.SIGTERM || h.grace != time.Second {
		t.Errorf("the first is %+v, %v", h, ok)
	}
	var none *Link
	none.Started(1, 15, 0)
	none.Gone(1)
}

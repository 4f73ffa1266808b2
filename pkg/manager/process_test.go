package manager_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/workersd/workersd/pkg/client"
)

// The origin's session: what it prints, and that 2 means two.
func TestLife(t *testing.T) {
	p := start(t, "life")
	p.inOrder(&p.err,
		`=============================$`,
		`Workers Daemon Starting$`,
		`=============================$`,
		fmt.Sprintf(`Daemon process %d$`, p.manager()),
		`Check point 5s$`,
		`Redis Worker-1 \d+ created`,
		`Redis Worker-1 \d+ cancelled by reaching max requests count \[2\]`,
		`Redis Worker-1 \d+ is not existed any more`,
		`Redis Worker-1 \d+ created`,
	)
	one := func(gen string) string {
		return gen + ` init.*?` + gen + ` run 1.*?` + gen + ` run 2.*?` + gen + ` after$`
	}
	p.inOrder(&p.out, one("1"), one("2"), one("3"))
	p.never(&p.out, `run 3`)
	m := regexp.MustCompile(`Redis Worker-1 (\d+) created generation=[12]\b`).FindAllStringSubmatch(p.err.String(), 2)
	if len(m) != 2 || m[0][1] == m[1][1] {
		t.Errorf("two lives are %q", m)
	}
	p.signal(syscall.SIGINT)
	if code := p.code(); code != 0 {
		t.Errorf("exit code %d after Ctrl-C\n%s", code, p.output())
	}
	p.nobody()
	p.never(&p.err, `DATA RACE|panic`)
}

// Names come from arguments; a number counts those that have none, or the same.
func TestNamesOfProcesses(t *testing.T) {
	p := start(t, "alike")
	p.says(&p.err, `Two of a kind Starting$`)
	p.says(&p.err, `Check point 1s$`)
	p.says(&p.out, `^listen@10\.0\.0\.1,mail \| 1 listens on 10.0.0.1 mail listen@10.0.0.1,mail mail$`)
	p.says(&p.out, `^listen@10\.0\.0\.1,mail#2 \| 1 listens on 10.0.0.1 mail listen@10.0.0.1,mail#2 mail$`)
	p.says(&p.out, `^listen@10\.0\.0\.1,a%2Fb \| 1 listens on 10.0.0.1 a/b listen@10.0.0.1,a%2Fb a/b$`)
	one, two := p.says(&p.err, `life-1 (\d+) created`), p.says(&p.err, `life-2 (\d+) created`)
	if one[1] == two[1] {
		t.Errorf("both have pid %s", one[1])
	}
	p.says(&p.out, `^life-1 \| 1 run 1$`)
	p.says(&p.out, `^life-2 \| 1 run 1$`)
	p.never(&p.out, `run 2`) // CheckPoint
	status, err := client.New(p.dir+"/s").Status(t.Context(), "life-*")
	if err != nil || len(status.Workers) != 2 || status.Manager.Title != "Two of a kind" {
		t.Errorf("workersctl would show %+v, %v", status, err)
	}
}

// An execution that outlives its timeout takes its process with it, whether it
// hears of it or not; AfterRun runs.
func TestTimeout(t *testing.T) {
	p := start(t, "timeout")
	p.says(&p.err, `late-1 \d+ cancelled by timeout: execution 1 runs for [0-9.ms]+ \[200ms\].*reason=timeout`)
	p.says(&p.out, `^late-1 \| 1 late execution timed out`)
	p.says(&p.out, `^late-1 \| 1 late after$`)
	p.says(&p.out, `^late-1 \| 2 late after$`)
	p.says(&p.out, `^deaf-1 \| 1 deaf after$`)
	p.says(&p.out, `^deaf-1 \| 2 deaf after$`)
	p.says(&p.err, `deaf-1 \d+ created generation=2`)
}

// Above the soft limit the process is asked to leave, and its job is finished.
func TestSoftMemoryLimit(t *testing.T) {
	p := start(t, "soft")
	p.says(&p.err, `eater-1 \d+ cancelled by reaching soft memory limit \[128M\], uses \d+`)
	p.inOrder(&p.out, `1 job begins`, `1 asked to leave, goes on`, `1 job done 160$`, `1 eater after$`, `2 job begins`)
	p.never(&p.err, `eater-1 .*(SIGKILL|killed).*generation=1\b`)
}

// Above the hard limit it is killed.
func TestHardMemoryLimit(t *testing.T) {
	p := start(t, "hard")
	p.says(&p.out, `1 job begins`)
	p.says(&p.err, `eater-1 \d+ is not existed any more: killed at its hard memory limit.*generation=1\b.*reason=hard_memory`)
	p.says(&p.out, `2 job begins`)
	p.never(&p.out, `^eater-1 \| 1 (job done|eater after)`)
}

// A panic ends the process with AfterRun, and backs off.
func TestPanic(t *testing.T) {
	p := start(t, "panic")
	p.says(&p.out, `^panics-1 \| 1 panics after$`)
	p.says(&p.out, `^panics-1 \| .*Run panicked: index 5 of 3`)
	p.says(&p.err, `panics-1 \d+ is not existed any more: crashed with exit 2.*reason=crashed`)
	p.says(&p.err, `panics-1 starts again in`)
	p.says(&p.err, `panics-1 \d+ created generation=2`)
}

// Ctrl-C asks all of them at once: none of these leaves before the last one
// was asked.
func TestEndInParallel(t *testing.T) {
	p := start(t, "together")
	for i := range together {
		p.says(&p.out, fmt.Sprintf(`^rendezvous@%d \| 1 waits$`, i))
	}
	p.signal(syscall.SIGINT)
	if code := p.code(); code != 0 {
		t.Errorf("exit code %d\n%s", code, p.output())
	}
	p.nobody()
	if n := strings.Count(p.out.String(), "left with the others"); n != together {
		t.Errorf("%d left by themselves\n%s", n, p.output())
	}
}

// WaitTime bounds the end, whoever is deaf.
func TestGrace(t *testing.T) {
	p := start(t, "grace")
	p.says(&p.out, `stubborn$`)
	p.signal(syscall.SIGTERM)
	if code := p.code(); code != 0 {
		t.Errorf("exit code %d\n%s", code, p.output())
	}
	p.nobody()
	p.says(&p.err, `stubborn-1 \d+ did not leave in time, SIGKILL`)
}

// Nobody survives a manager that is killed, nor a whole program that is. What a
// worker starts is not told that it was that worker.
func TestKilledManager(t *testing.T) {
	p := start(t, "family")
	p.says(&p.out, `^parent-1 \| grandchild true parent-1$`)
	p.says(&p.out, `has a child$`)
	p.says(&p.out, `stubborn$`)
	if err := syscall.Kill(p.manager(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if code := p.code(); code != 128+int(syscall.SIGKILL) {
		t.Errorf("exit code %d\n%s", code, p.output())
	}
	p.nobody()
}

func TestKilledGuard(t *testing.T) {
	p := start(t, "family")
	p.says(&p.out, `has a child$`)
	p.signal(syscall.SIGKILL)
	p.code()
	p.nobody()
}

// Arguments of every kind reach the process as the manager has them, also
// where main would make others by now; what is unexported stays main's.
func TestArguments(t *testing.T) {
	p := start(t, "args")
	text := p.says(&p.out, `^args-%C3%BC%20%2F%2C%40%23%25 \| 1 made by main: (\{.*\})$`)[1]
	want, err := json.Marshal(everything())
	if err != nil {
		t.Fatal(err)
	}
	if text != string(want) {
		t.Errorf("arguments are\n%s, want\n%s", text, want)
	}
}

// A manager goes on with the workers that it was started with, whatever main
// would make by now.
func TestEditedMeanwhile(t *testing.T) {
	dir := t.TempDir()
	queues := filepath.Join(dir, "queues")
	if err := os.WriteFile(queues, []byte("mail report"), 0o644); err != nil {
		t.Fatal(err)
	}
	p := start(t, "edited", "DIR="+dir)
	p.says(&p.out, `^listen@::1,report \| 1 listens on ::1 report`)
	if err := os.WriteFile(queues, []byte("fax mail"), 0o644); err != nil {
		t.Fatal(err)
	}
	p.restart()
	p.says(&p.out, `^listen@::1,report \| 2 listens on ::1 report listen@::1,report report$`)
	p.says(&p.out, `^listen@::1,mail \| 2 listens on ::1 mail listen@::1,mail mail$`)
}

// main runs in every process as it ran in the first one, and whatever it does to
// directory and arguments before Start.
func TestMainDoesThingsFirst(t *testing.T) {
	dir := shortDir(t)
	if err := os.Mkdir(filepath.Join(dir, "sub"), 0o755); err != nil {
		t.Fatal(err)
	}
	p := startProgram(t, dir, os.Args[0], "before", []string{"-v", "x"})
	p.until("Log", func() bool {
		text, _ := os.ReadFile(filepath.Join(p.dir, "sub", "where-1.log"))
		return strings.Contains(string(text), "1 works in "+filepath.Join(p.dir, "sub")+"\n") &&
			strings.Contains(string(text), "main 3 of ")
	})
	p.says(&p.out, `main 3 of `+fmt.Sprint(p.cmd.Process.Pid))
	p.says(&p.out, `main 3 of `+fmt.Sprint(p.manager()))
}

// A program that was replaced goes on as what it was; its name stays.
func TestReplacedProgram(t *testing.T) {
	path := filepath.Join(t.TempDir(), "queues")
	copyProgram(t, path)
	p := startProgram(t, shortDir(t), path, "stolen", nil)
	pid := p.says(&p.err, `life-1 (\d+) created`)[1]
	comm, err := os.ReadFile("/proc/" + pid + "/comm")
	if err != nil || string(comm) != "queues\n" {
		t.Errorf("ps shows %q, %v", comm, err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("#!/bin/false\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	p.restart()
	p.says(&p.out, `^life-1 \| 2 run 1$`)
}

func copyProgram(t *testing.T, path string) {
	t.Helper()
	in, err := os.Open("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(out, in); err != nil {
		t.Fatal(err)
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
}

// Under systemd the program itself is the manager, and tells that it is ready.
func TestService(t *testing.T) {
	dir := shortDir(t)
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: dir + "/n", Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	p := start(t, "alike", "NOTIFY_SOCKET="+dir+"/n", "RUNTIME_DIRECTORY=", "JOURNAL_STREAM=")
	said := make(chan string, 64) // closed by the reader below
	go func() {
		defer close(said)
		b := make([]byte, 4096)
		for {
			n, err := conn.Read(b)
			if err != nil {
				return
			}
			said <- string(b[:n])
		}
	}()
	hear := func(text string) {
		t.Helper()
		for m := range said {
			if strings.Contains(m, text) {
				return
			}
		}
		t.Fatalf("systemd never hears %s\n%s", text, p.output())
	}
	hear("READY=1")
	p.until("a manager of this pid", func() bool {
		s, err := client.New(p.dir + "/s").Status(t.Context())
		return err == nil && s.Manager.PID == p.cmd.Process.Pid && s.Manager.Up == 5
	})
	p.signal(syscall.SIGTERM)
	hear("STOPPING=1")
	if code := p.code(); code != 0 {
		t.Errorf("exit code %d\n%s", code, p.output())
	}
}

// All mistakes are said at once, before anything is started.
func TestMistakes(t *testing.T) {
	p := start(t, "bad")
	if code := p.code(); code != 78 {
		t.Errorf("exit code %d", code)
	}
	want, err := os.ReadFile("testdata/mistakes.txt")
	if err != nil {
		t.Fatal(err)
	}
	if got := p.err.String(); got != string(want) {
		t.Errorf("stderr is\n%s", got)
	}
	p = start(t, "none")
	if code := p.code(); code != 78 {
		t.Errorf("exit code %d without workers", code)
	}
	if got, want := p.err.String(), "the workers are refused:\n  Workers: there are 0 (expected 1 to 10000)\n"; got != want {
		t.Errorf("stderr is %q, want %q", got, want)
	}
}

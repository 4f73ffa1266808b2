package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/workersd/workersd/pkg/client"
	"github.com/workersd/workersd/pkg/internal/config"
	"github.com/workersd/workersd/pkg/internal/control"
	"github.com/workersd/workersd/pkg/internal/history"
	"github.com/workersd/workersd/pkg/internal/host/procmem"
	"github.com/workersd/workersd/pkg/internal/hosttest"
	"github.com/workersd/workersd/pkg/internal/supervisor"
	"github.com/workersd/workersd/pkg/spec"
)

func TestExitCodes(t *testing.T) {
	for _, c := range []struct {
		err  error
		code int
		want string
	}{
		{nil, 0, ""},
		{errSilent, 1, ""},
		{errors.New("x"), 1, "workersctl: x\n"},
		{usageError{errors.New("x")}, 2, "workersctl: x\n"},
		{&client.Error{Status: 500, Text: "x"}, 1, "workersctl: x\n"},
		{&client.Unreachable{Socket: "/s", Err: os.NewSyscallError("connect", syscall.EACCES)}, 1,
			"workersctl: permission denied at /s\nhint: root, the service's user and members of group workersd may connect (sudo workersctl …)\n"},
		{&client.Unreachable{Socket: "/s", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}, 3,
			"workersctl: no manager answers at /s: connect: connection refused\nhint: is workersd running (systemctl status workersd)? --socket PATH or WORKERSD_SOCKET names another\n"},
		{context.Canceled, 130, ""},
		{signaled(syscall.SIGINT), 130, ""},
		{signaled(syscall.SIGTERM), 143, ""},
	} {
		var errs bytes.Buffer
		if code := newApp(&errs, &errs).code(c.err); code != c.code || errs.String() != c.want {
			t.Errorf("%v: exit %d, %q", c.err, code, errs.String())
		}
	}
}

// full is a disk that is full.
type full struct{}

func (full) Write([]byte) (int, error) { return 0, syscall.ENOSPC }

// TestFullDisk: what could not be written is no success.
func TestFullDisk(t *testing.T) {
	f := serve(t)
	f.answer["status"] = fleet()
	for _, args := range [][]string{{"status"}, {"status", "--json"}} {
		var errs bytes.Buffer
		if code := newApp(full{}, &errs).run(t.Context(), append(args, "--socket", f.socket)); code != 1 || !strings.Contains(errs.String(), "no space left on device") {
			t.Errorf("%v: exit %d, %s", args, code, errs.String())
		}
	}
}

// TestColor: the state only, and where it is asked for.
func TestColor(t *testing.T) {
	var out bytes.Buffer
	a := newApp(&out, &out)
	a.color = true
	a.printStatus(client.Status{Manager: client.Manager{Now: now}, Workers: fleet().Workers[:1]})
	if got := out.String(); !strings.Contains(got, "queue@10.0.0.1,mail  \x1b[32mup\x1b[0m     4712") || strings.Count(got, "\x1b") != 2 {
		t.Errorf("%q", got)
	}
}

// TestNotWhole: a manager that goes away in the middle of its answer.
func TestNotWhole(t *testing.T) {
	socket := filepath.Join(filepath.Dir(serve(t).socket), "half")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	answers := make(chan string, 2)
	go func() {
		for text := range answers {
			c, err := l.Accept()
			if err != nil {
				return
			}
			c.Read(make([]byte, 4096))
			c.Write([]byte(text))
			c.Close()
		}
	}()
	defer close(answers)
	for text, want := range map[string]string{
		"": "stderr: workersctl: the manager at DIR/half gave no whole answer: EOF\nexit 1\n",
		"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{\"manager\":": "stderr: workersctl: the manager at DIR/half gave no whole answer: unexpected EOF\nexit 1\n",
	} {
		answers <- text
		if got := ctl(t, socket, "status"); got != want {
			t.Errorf("%q: %s", text, got)
		}
	}
}

func TestNotify(t *testing.T) {
	path := filepath.Join(filepath.Dir(serve(t).socket), "n")
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	t.Setenv("NOTIFY_SOCKET", path)
	if got := ctl(t, "", "notify", "X_WORKERSD_END=7", "X_WORKERSD_RESULT=fail"); got != "exit 0\n" {
		t.Error(got)
	}
	l.SetReadDeadline(time.Now().Add(time.Minute))
	buf := make([]byte, 4096)
	n, err := l.Read(buf)
	if err != nil || strings.TrimSpace(string(buf[:n])) != "X_WORKERSD_END=7\nX_WORKERSD_RESULT=fail" {
		t.Errorf("%q, %v", buf[:n], err)
	}
}

func TestCompletion(t *testing.T) {
	f := serve(t)
	f.answer["status"] = fleet()
	for line, want := range map[string]string{
		"status qu":                       "queue@10.0.0.1,mail\nqueue@10.0.0.2,mail\n:4\n",
		"stop queue@10.0.0.1,mail queue@": "queue@10.0.0.2,mail\n:4\n",
		"why on":                          "once\n:4\n",
		"check x":                         "toml\n:8\n",
	} {
		got := ctl(t, f.socket, append([]string{"__complete"}, strings.Fields(line)...)...)
		if !strings.HasPrefix(got, want) {
			t.Errorf("%s: %s", line, got)
		}
	}
	if got := ctl(t, f.socket+"none", "__complete", "status", ""); !strings.HasPrefix(got, ":4\n") {
		t.Errorf("without a manager: %s", got)
	}
}

// TestFollow: events -f goes on until it is interrupted.
func TestFollow(t *testing.T) {
	r := manage(t, "[worker.q]\ncommand = [\"run\"]\nreplicas = 2\n")
	ctx, cancel := context.WithCancel(t.Context())
	out, errs := &lines{until: "q#2", reached: cancel}, &bytes.Buffer{}
	if code := newApp(out, errs).run(ctx, []string{"--socket", r.socket, "events", "-f"}); code != 130 || errs.Len() != 0 {
		t.Errorf("exit %d, %s", code, errs)
	}
}

// TestSignals: the exit code says which signal ended it, as a shell does.
func TestSignals(t *testing.T) {
	r := manage(t, "[worker.q]\ncommand = [\"run\"]\n")
	for sig, want := range map[syscall.Signal]int{syscall.SIGTERM: 143, syscall.SIGINT: 130} {
		ctx, stop := untilSignal(t.Context())
		out, errs := &lines{until: " q", reached: func() { syscall.Kill(os.Getpid(), sig) }}, &bytes.Buffer{}
		if code := newApp(out, errs).run(ctx, []string{"--socket", r.socket, "events", "-f"}); code != want || errs.Len() != 0 {
			t.Errorf("%v: exit %d, %s", sig, code, errs)
		}
		stop()
	}
}

// lines calls reached when a text was written first.
type lines struct {
	bytes.Buffer
	until   string
	reached func()
}

func (l *lines) Write(b []byte) (int, error) {
	n, err := l.Buffer.Write(b)
	if l.reached != nil && strings.Contains(l.String(), l.until) {
		l.reached()
		l.reached = nil
	}
	return n, err
}

// memoryOfManager is none that a machine has on which this is tested.
const memoryOfManager = 3 * spec.GiB

// manager is a real one, on a machine in memory.
type manager struct{ socket, list string }

func manage(t *testing.T, text string) *manager {
	t.Helper()
	dir, err := os.MkdirTemp("", "w")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	m := &manager{socket: dir + "/s", list: dir + "/list.toml"}
	l := load(t, m.list, text)
	hist, err := history.Open("", func(string) {})
	if err != nil {
		t.Fatal(err)
	}
	h := hosttest.New(t, func(supervisor.SpawnOrder) hosttest.Behaviour { return hosttest.Behaviour{} })
	sup := supervisor.New(supervisor.Options{Host: h, List: l, Record: hist.Add})
	ended := make(chan error, 1)
	go func() { ended <- sup.Run() }()
	s := control.New(control.Options{Supervisor: sup, History: hist, MemoryTotal: func() spec.Bytes { return memoryOfManager }})
	lis, err := control.Listen(m.socket)
	if err != nil {
		t.Fatal(err)
	}
	go s.Serve(lis)
	t.Cleanup(func() {
		sup.Shutdown()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		s.Shutdown(context.Background())
		h.Close()
		hist.Close()
	})
	return m
}

func load(t *testing.T, path, text string) spec.List {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := loadList(path, config.Options{MemoryTotal: memoryOfManager})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// TestPlanFile compares a file that the manager never sees with the list whose
// values the client never sees.
func TestPlanFile(t *testing.T) {
	const text = `[worker.same]
command = ["run"]
environment = { A = "1", B = "2" }
[worker.live]
command = ["run"]
[worker.restart]
command = ["run"]
environment = { PASSWORD = "hunter2" }
[worker.gone]
command = ["run"]
replicas = 2
[worker.param]
name = "param"
command = ["run"]
matrix.v = [1]
`
	m := manage(t, text)
	plan := func(change ...string) string {
		load(t, m.list, strings.NewReplacer(change...).Replace(text))
		return ctl(t, m.socket, "plan", m.list)
	}
	if got := plan(); got != "0 added, 0 removed, 0 restarted, 0 changed in place, 6 unchanged\nexit 0\n" {
		t.Error(got)
	}
	// The order of variables means nothing.
	if got := plan(`{ A = "1", B = "2" }`, `{ B = "2", A = "1" }`); !strings.HasPrefix(got, "0 added, 0 removed, 0 restarted") {
		t.Error(got)
	}
	got := plan("[worker.live]\n", "[manager]\ndrain_max = \"1m\"\n[worker.live]\ntimeout = \"1s\"\n", "hunter2", "hunter3", "replicas = 2", "", "[1]", "[2]")
	want := `+ gone
- gone#1
- gone#2
~ live in place: timeout
! restart restarts: environment
! param restarts: params
~ [manager] in place: drain_max
1 added, 2 removed, 2 restarted, 1 changed in place, 1 unchanged
exit 0
`
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// Percentages are of the manager's memory: its unit may have a limit that the
// terminal of a client has not.
func TestPlanFilePercentages(t *testing.T) {
	const text = "[worker.q]\ncommand = [\"run\"]\nsoft_memory_limit = \"10%\"\nhard_memory_limit = \"400M\"\n"
	m := manage(t, text)
	if got := ctl(t, m.socket, "plan", m.list); got != "0 added, 0 removed, 0 restarted, 0 changed in place, 1 unchanged\nexit 0\n" {
		t.Error(got)
	}
	if err := os.WriteFile(m.list, []byte(strings.Replace(text, "10%", "90%", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := ctl(t, m.socket, "plan", m.list); got != "stderr: DIR/list.toml:3:21: worker \"q\": soft_memory_limit: 2.6G is not below hard_memory_limit 400M "+
		"(expected less: the running execution needs room to finish)\nstderr: workersctl: 1 error\nexit 1\n" {
		t.Error(got)
	}
}

// check needs no manager, and says what it took percentages of.
func TestCheckPercentages(t *testing.T) {
	path := filepath.Join(t.TempDir(), "list.toml")
	for limit, want := range map[string]string{
		"50%": fmt.Sprintf(": no errors\npercentages are of %v: this machine's memory, or the least limit above this process (the service's may be less)\nexit 0\n", procmem.Total()),
		"1M":  ": no errors\nexit 0\n",
	} {
		text := "[worker.q]\ncommand = [\"run\"]\nsoft_memory_limit = \"" + limit + "\"\nhard_memory_limit = \"none\"\n"
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := ctl(t, "", "check", path); !strings.HasSuffix(got, want) {
			t.Errorf("%s: %s", limit, got)
		}
	}
}

func TestAge(t *testing.T) {
	for d, want := range map[time.Duration]string{
		-time.Hour: "0s", 0: "0s", 1500 * time.Microsecond: "2ms", 999 * time.Millisecond: "999ms", 999_999_999: "1s", 59*time.Second + 999*time.Millisecond: "59s",
		time.Minute: "1m0s", time.Hour - 1: "59m59s", 25 * time.Hour: "25h0m", 50 * time.Hour: "2d2h",
	} {
		if got := age(d); got != want {
			t.Errorf("%v is %s, want %s", d, got, want)
		}
	}
}

func TestQuoted(t *testing.T) {
	for arg, want := range map[string]string{"": "''", "a": "a", "a b": "'a b'", "it's": `'it'\''s'`, "a\nb": `$'a\nb'`, "\x1b'": `$'\x1b\''`, "$x": "'$x'", "ü": "ü"} {
		if got := quoted([]string{"x", arg}); got != "x "+want {
			t.Errorf("%q is %s, want %s", arg, got, want)
		}
	}
	if got := fmt.Sprint(clean("a\x1b[2J\nü")); got != "a·[2J·ü" {
		t.Error(got)
	}
}

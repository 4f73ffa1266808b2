package daemon

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/workersd/workersd/pkg/client"
)

// patience is how long something may take on a machine that is busy.
const patience = 60 * time.Second

// underSystemd is a manager whose systemd is this test: it hears what would be
// told to it.
type underSystemd struct {
	t    *testing.T
	dir  string
	conn *net.UnixConn
	cmd  *exec.Cmd
	*client.Client
}

// TestManagerProcess is the manager of the others, in a process of its own.
func TestManagerProcess(t *testing.T) {
	dir := os.Getenv("WORKERSD_TEST_DIR")
	if dir == "" {
		t.Skip("it is run by the other tests only")
	}
	os.Exit(Run(Options{Config: dir + "/list.toml", Socket: dir + "/s", NoCgroup: true}))
}

func manager(t *testing.T, list string) *underSystemd {
	t.Helper()
	dir, err := os.MkdirTemp("", "w") // t.TempDir may be too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	m := &underSystemd{t: t, dir: dir, Client: client.New(dir + "/s")}
	m.list(list)
	if m.conn, err = net.ListenUnixgram("unixgram", &net.UnixAddr{Name: dir + "/n", Net: "unixgram"}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.conn.Close() })
	m.cmd = exec.Command(os.Args[0], "-test.run=^TestManagerProcess$")
	m.cmd.Env = append(os.Environ(), "WORKERSD_TEST_DIR="+dir, "NOTIFY_SOCKET="+dir+"/n", "WATCHDOG_USEC=3000000")
	m.cmd.Stdout, m.cmd.Stderr = t.Output(), t.Output()
	if err := m.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		m.cmd.Process.Signal(syscall.SIGTERM)
		m.cmd.Process.Signal(syscall.SIGTERM)
		m.cmd.Wait()
	})
	return m
}

func (m *underSystemd) list(text string) {
	m.t.Helper()
	if err := os.WriteFile(filepath.Join(m.dir, "list.toml"), []byte(text), 0o644); err != nil {
		m.t.Fatal(err)
	}
}

// hear waits for a message that begins with word, and gives all that came until
// then, it last.
func (m *underSystemd) hear(word string) (all []string) {
	m.t.Helper()
	m.conn.SetReadDeadline(time.Now().Add(patience))
	buf := make([]byte, 4096)
	for {
		n, err := m.conn.Read(buf)
		if err != nil {
			m.t.Fatalf("%s was never said (%v), only %q", word, err, all)
		}
		all = append(all, string(buf[:n]))
		if strings.HasPrefix(all[len(all)-1], word) {
			return all
		}
	}
}

func last(all []string) string { return all[len(all)-1] }

func has(all []string, word string) bool {
	for _, s := range all {
		if strings.HasPrefix(s, word) {
			return true
		}
	}
	return false
}

const threeSleepers = `
[worker.sleep]
command = ["sleep", "1000"]
replicas = 3
[worker.none]
command = ["/nonexistent/program"]
`

func TestReadyIsSaidWhenAllWereTried(t *testing.T) {
	m := manager(t, threeSleepers)
	before := m.hear("READY=1")
	for _, s := range before[:len(before)-1] {
		if !strings.HasPrefix(s, "EXTEND_TIMEOUT_USEC=") && !strings.HasPrefix(s, "STATUS=") && s != "WATCHDOG=1" {
			t.Errorf("before READY=1: %q", s)
		}
	}
	st, err := m.Status(t.Context())
	if err != nil {
		t.Fatalf("READY=1 was said, and the control socket does not answer: %v", err)
	}
	for _, w := range st.Workers {
		if w.Generation == 0 {
			t.Errorf("READY=1 was said, and %s was not tried: %+v", w.Name, w)
		}
	}
	for text := ""; text != "STATUS=3 of 4 up, 0 recycled in the last hour, 1 backing off"; {
		text = last(m.hear("STATUS="))
	}
	m.hear("WATCHDOG=1")
	m.hear("WATCHDOG=1")
}

func TestReloadIsTold(t *testing.T) {
	m := manager(t, threeSleepers)
	m.hear("READY=1")
	for _, c := range []struct{ name, list, refused string }{
		{"taken", "[worker.other]\ncommand = [\"sleep\", \"1000\"]\n", ""},
		{"refused", "[worker.other]\ncomand = 7\n", "comand"},
	} {
		t.Run(c.name, func(t *testing.T) {
			m.list(c.list)
			began := monotonic(t)
			_, err := m.Reload(t.Context(), false)
			ended := monotonic(t)
			var refusal *client.Error
			switch {
			case c.refused == "" && err != nil:
				t.Fatal(err)
			case c.refused != "" && (!errors.As(err, &refusal) || !strings.Contains(refusal.Text, c.refused)):
				t.Fatalf("refused with %v, want %q in it", err, c.refused)
			}
			text := last(m.hear("RELOADING=1"))
			_, at, ok := strings.Cut(text, "\nMONOTONIC_USEC=")
			usec, err := strconv.ParseInt(at, 10, 64)
			if !ok || err != nil || usec < began || usec > ended {
				t.Errorf("said %q between %d and %d", text, began, ended)
			}
			m.hear("READY=1")
		})
	}
	st, err := m.Status(t.Context())
	if err != nil || !contains(st, "other") {
		t.Errorf("the list of before is not in force: %+v (%v)", st.Workers, err)
	}
}

func contains(st client.Status, name string) bool {
	for _, w := range st.Workers {
		if w.Name == name && !w.Removed {
			return true
		}
	}
	return false
}

func monotonic(t *testing.T) int64 {
	t.Helper()
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		t.Fatal(err)
	}
	return ts.Nano() / 1000
}

// A worker that takes its time: systemd is asked for more, never for more than
// the watchdog's time at once, until it has ended.
func TestDrainIsTold(t *testing.T) {
	dir := t.TempDir()
	m := manager(t, fmt.Sprintf(`
[worker.slow]
command = ["sh", "-c", "trap 'until [ -e done ]; do sleep 0.05; done; exit 0' TERM; : >up; while :; do sleep 0.05; done"]
directory = %q
stop_timeout = "1h"
[manager]
drain_max = "1h"
`, dir))
	m.hear("READY=1")
	for end := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		if _, err := os.Stat(dir + "/up"); err == nil {
			break
		} else if time.Now().After(end) {
			t.Fatal(err)
		}
	}
	m.cmd.Process.Signal(syscall.SIGTERM)
	m.hear("STOPPING=1")
	var all []string
	for range 3 {
		all = append(all, m.hear("EXTEND_TIMEOUT_USEC=")...)
		usec, _ := strconv.Atoi(strings.TrimPrefix(last(all), "EXTEND_TIMEOUT_USEC="))
		if usec <= 0 || usec > 3_000_000 {
			t.Errorf("%s with a watchdog of 3 s", last(all))
		}
	}
	if !has(all, "STATUS=stopping, 1 worker still drains") || !has(all, "WATCHDOG=1") || has(all, "READY=1") {
		t.Errorf("said while a worker drains: %q", all)
	}
	// A reload that comes now is refused, and not told: READY=1 would undo STOPPING=1.
	if _, err := m.Reload(t.Context(), false); err == nil || !strings.Contains(err.Error(), "is ending") {
		t.Errorf("a reload at the end: %v", err)
	}
	all = m.hear("EXTEND_TIMEOUT_USEC=")
	if has(all, "READY=1") || has(all, "RELOADING=1") {
		t.Errorf("said at the end: %q", all)
	}
	if err := os.WriteFile(dir+"/done", nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if code := m.end(); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

func (m *underSystemd) end() int {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(m.t.Context(), patience)
	defer cancel()
	ended := make(chan struct{})
	go func() { m.cmd.Wait(); close(ended) }()
	select {
	case <-ended:
		return m.cmd.ProcessState.ExitCode()
	case <-ctx.Done():
		m.t.Fatal("the manager did not end")
		return -1
	}
}

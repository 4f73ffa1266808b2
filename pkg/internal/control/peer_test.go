package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/workersd/workersd/pkg/client"
	"github.com/workersd/workersd/pkg/internal/hosttest"
)

// TestMain lets the test binary be a client of another user, or a manager that
// was given its socket.
func TestMain(m *testing.M) {
	switch os.Getenv("CONTROL_TEST") {
	case "client":
		asOther(os.Getenv("CONTROL_TEST_SOCKET"))
		os.Exit(0)
	case "inherit":
		os.Setenv("LISTEN_PID", strconv.Itoa(os.Getpid()))
		l, err := Listen("/nonexistent/s")
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println(l.Addr())
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// asOther tries two calls that look and two that act, and prints the outcomes.
func asOther(socket string) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	c := client.New(socket)
	_, looked := c.Status(ctx)
	_, asked := c.Why(ctx, "report#1")
	_, acted := c.Act(ctx, "restart", false, "report#1")
	_, listed := c.Digests(ctx)
	var out []string
	for _, err := range []error{looked, asked, acted, listed} {
		var e *client.Error
		switch {
		case err == nil:
			out = append(out, "ok")
		case errors.As(err, &e):
			out = append(out, e.Text)
		default:
			out = append(out, err.Error())
		}
	}
	json.NewEncoder(os.Stdout).Encode(out)
}

// call runs this test's binary as somebody else.
func (r *rig) call(cred *syscall.Credential) string {
	r.Helper()
	// The binary and the socket lie in directories of this user alone.
	exe, err := os.Executable()
	if err != nil {
		r.Fatal(err)
	}
	f, err := os.Open(exe)
	if err != nil {
		r.Fatal(err)
	}
	defer f.Close()
	cmd := exec.CommandContext(r.Context(), "/proc/self/fd/3")
	cmd.ExtraFiles = []*os.File{f}
	cmd.Env = append(os.Environ(), "CONTROL_TEST=client", "CONTROL_TEST_SOCKET="+r.socket)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: cred}
	cmd.Dir = "/"
	out, err := cmd.Output()
	if err != nil {
		r.Fatalf("as %+v: %v, %s", cred, err, out)
	}
	var got []string
	if err := json.Unmarshal(out, &got); err != nil {
		r.Fatalf("%v: %s", err, out)
	}
	return strings.Join(got, ", ")
}

func TestPeers(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, to be somebody else")
	}
	const nobody, someGroup = 65534, 54321
	r := start(t, queues(), behave(hosttest.Behaviour{}), func(s *Server) { s.group = groupOf(t, 1) })
	r.up(4)
	if got := r.call(nil); got != "ok, ok, ok, ok" {
		t.Errorf("root: %s", got)
	}
	// The file's mode keeps strangers out before they are asked who they are.
	os.Chmod(strings.TrimSuffix(r.socket, "/s"), 0o755)
	if got := r.call(&syscall.Credential{Uid: nobody, Gid: nobody}); strings.Count(got, "permission denied") != 4 || !strings.Contains(got, "no manager answers at") {
		t.Errorf("a stranger at a socket of mode 0660: %s", got)
	}
	os.Chmod(r.socket, 0o666)
	for _, c := range []struct {
		who  string
		cred *syscall.Credential
		want string
	}{
		{"a stranger", &syscall.Credential{Uid: nobody, Gid: nobody}, "permission denied, permission denied, permission denied, permission denied"},
		{"of another group", &syscall.Credential{Uid: nobody, Gid: nobody, Groups: []uint32{someGroup}}, "permission denied, permission denied, permission denied, permission denied"},
		{"of the group, first", &syscall.Credential{Uid: nobody, Gid: 1}, "ok, ok, permission denied, permission denied"},
		{"of the group, among others", &syscall.Credential{Uid: nobody, Gid: nobody, Groups: many(someGroup, 200, 1)}, "ok, ok, permission denied, permission denied"},
		{"root without groups", &syscall.Credential{Uid: 0, Gid: nobody}, "ok, ok, ok, ok"},
	} {
		if got := r.call(c.cred); got != c.want {
			t.Errorf("%s: %s\nwant %s", c.who, got, c.want)
		}
	}
}

// many is n groups and one more.
func many(first uint32, n int, last uint32) (g []uint32) {
	for i := range n {
		g = append(g, first+uint32(i))
	}
	return append(g, last)
}

func groupOf(t *testing.T, gid int) string {
	g, err := user.LookupGroupId(strconv.Itoa(gid))
	if err != nil {
		t.Skipf("needs a group of number %d: %v", gid, err)
	}
	return g.Name
}

// TestWorkersMayNotAct: whoever it runs as, a worker may look and not act.
func TestWorkersMayNotAct(t *testing.T) {
	r := start(t, queues(), behave(hosttest.Behaviour{}))
	r.up(4)
	r.worker.Store(int64(os.Getpid()))
	if _, err := r.c.Status(t.Context()); err != nil {
		t.Error(err)
	}
	want := "a worker may not act on workers / do it from outside, as root or the service's user"
	for what, err := range map[string]error{
		"stop": second(r.c.Act(t.Context(), "stop", true, "*")), "reload": second(r.c.Reload(t.Context(), false)), "list": second(r.c.Digests(t.Context())),
	} {
		if got := refusal(err); got != want {
			t.Errorf("%s: %s", what, got)
		}
	}
	r.up(4)
}

// TestMay: who may what, without the kernel.
func TestMay(t *testing.T) {
	s := New(Options{})
	s.group = "there is no such group"
	for _, c := range []struct {
		who       string
		p         peer
		look, act bool
	}{
		{"nobody knows", peer{}, false, false},
		{"root", peer{known: true}, true, true},
		{"the service's user", peer{known: true, uid: os.Geteuid()}, true, true},
		{"a stranger", peer{known: true, uid: 54321}, false, false},
	} {
		if l, a := s.may(&c.p, look) == nil, s.may(&c.p, act) == nil; l != c.look || a != c.act {
			t.Errorf("%s: may look %v, may act %v", c.who, l, a)
		}
	}
}

// TestInherited: a socket of systemd under the name "control" is taken, and
// another's is not.
func TestInherited(t *testing.T) {
	path := shortDir(t) + "/given"
	l, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	f, err := l.(interface{ File() (*os.File, error) }).File()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for names, want := range map[string]string{"control": path, "other:control": path, "other": "control socket /nonexistent/s: ", "": "control socket /nonexistent/s: "} {
		exe, err := os.Executable()
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.CommandContext(t.Context(), exe)
		n := max(1, strings.Count(names, ":")+1)
		for range n {
			cmd.ExtraFiles = append(cmd.ExtraFiles, f)
		}
		cmd.Env = append(os.Environ(), "CONTROL_TEST=inherit", "LISTEN_FDS="+strconv.Itoa(n), "LISTEN_FDNAMES="+names)
		out, _ := cmd.Output()
		if !strings.HasPrefix(string(out), want) {
			t.Errorf("names %q: %s", names, out)
		}
	}
}

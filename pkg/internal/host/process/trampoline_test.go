package process

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// Where clone3 is refused the trampoline joins the leaf before the exec, and
// everything else is as without it.
func TestTrampoline(t *testing.T) {
	clone3Refused.Store(true)
	t.Cleanup(func() { clone3Refused.Store(false) })
	leaf := t.TempDir()
	procs := filepath.Join(leaf, "cgroup.procs")
	if err := os.WriteFile(procs, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	dir, _ := filepath.EvalSymlinks(t.TempDir())
	st := Start{
		Path: "/bin/sh", Args: []string{"sh", "-c", `pwd -P; umask; printf '%s|%s|' "$1" "$A"; ls /proc/self/fd | tr '\n' ' '`, "sh", "b\xff d"},
		Env: []string{"A=\xfe", "PATH=/usr/bin:/bin"}, Dir: dir, Umask: 0o037, CgroupFD: someDirectory(t), CgroupPath: leaf,
	}
	if os.Geteuid() == 0 {
		st.Args[2] += "; id -u; id -G"
	}
	c := mustStart(t, st)
	want := dir + "\n0037\nb\xff d|\xfe|0 1 2 3 "
	if os.Geteuid() == 0 {
		want += "0\n"
	}
	if got := c.output(); !strings.HasPrefix(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if st := c.ended(); st.Code != 0 {
		t.Errorf("ended with %v", st)
	}
	if b, _ := os.ReadFile(procs); string(b) != "0" {
		t.Errorf("written to cgroup.procs: %q", b)
	}
}

// someDirectory is the descriptor of one: a trampoline goes by the path.
func someDirectory(t *testing.T) int {
	t.Helper()
	fd, err := unix.Open("/", unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	return fd
}

func TestTrampolineAsUser(t *testing.T) {
	root(t)
	clone3Refused.Store(true)
	t.Cleanup(func() { clone3Refused.Store(false) })
	leaf := t.TempDir()
	if err := os.WriteFile(leaf+"/cgroup.procs", nil, 0o644); err != nil {
		t.Fatal(err)
	}
	st := sh("id -u; id -g; id -G")
	st.User, st.CgroupFD, st.CgroupPath = nobody(t), someDirectory(t), leaf
	c := mustStart(t, st)
	if got, want := c.output(), fmt.Sprintf("%d\n%d\n%d\n", st.User.UID, st.User.GID, st.User.GID); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	c.ended()
}

func TestTrampolineErrors(t *testing.T) {
	clone3Refused.Store(true)
	t.Cleanup(func() { clone3Refused.Store(false) })
	st := sh("exit 0")
	st.CgroupFD, st.CgroupPath = someDirectory(t), "/nowhere/leaf"
	_, err := start(t, st)
	if want := "command /bin/sh: it cannot be started by way of our own program: /nowhere/leaf/cgroup.procs: no such file or directory"; err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
	leaf := t.TempDir()
	if err := os.WriteFile(leaf+"/cgroup.procs", nil, 0o644); err != nil {
		t.Fatal(err)
	}
	st = Start{Path: write(t, "bad", "#!/nowhere/python\n", 0o755), Args: []string{"x"}, Umask: -1, CgroupFD: someDirectory(t), CgroupPath: leaf}
	_, err = start(t, st)
	if err == nil || !strings.Contains(err.Error(), "its interpreter /nowhere/python does not exist") {
		t.Errorf("the error of the exec became %v", err)
	}
}

// Only a program called by the trampoline's name becomes one.
func TestTrampolineMainReturns(t *testing.T) {
	old := os.Args
	defer func() { os.Args = old }()
	os.Args = []string{"workersd", "3", "4"}
	TrampolineMain()
	os.Args = []string{trampolineName}
	TrampolineMain()
}

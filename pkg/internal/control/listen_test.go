package control

import (
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

func TestSecondManager(t *testing.T) {
	path := filepath.Join(shortDir(t), "s")
	lock, err := Acquire(path)
	if err != nil {
		t.Fatal(err)
	}
	_, err = Acquire(path)
	want := "another manager (pid " + strconv.Itoa(os.Getpid()) + ") serves " + path + " already (stop it, or choose another --socket)"
	if err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	if data, _ := os.ReadFile(path + ".lock"); strings.TrimSpace(string(data)) != strconv.Itoa(os.Getpid()) {
		t.Errorf("the one that was refused wrote %q over the lock", data)
	}
	lock.Release()
	if lock, err = Acquire(path); err != nil {
		t.Errorf("after the first: %v", err)
	} else {
		lock.Release()
	}
}

func TestListenStale(t *testing.T) {
	path := filepath.Join(shortDir(t), "s")
	old, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	old.(*net.UnixListener).SetUnlinkOnClose(false)
	old.Close() // as after a SIGKILL: the file stays and nobody listens
	l, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o660 {
		t.Errorf("mode %v, %v", st.Mode(), err)
	}
	if c, err := net.Dial("unix", path); err != nil {
		t.Error(err)
	} else {
		c.Close()
	}
}

// TestListenKeepsFiles: a socket's path that is something else by mistake is
// not removed.
func TestListenKeepsFiles(t *testing.T) {
	dir := shortDir(t)
	path := filepath.Join(dir, "notes.txt")
	if err := os.WriteFile(path, []byte("of value"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(path, filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "dir"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"notes.txt", "link", "dir"} {
		_, err := Listen(filepath.Join(dir, name))
		if err == nil || !strings.Contains(err.Error(), "something else than a socket") {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := os.Lstat(filepath.Join(dir, name)); err != nil {
			t.Error(err)
		}
	}
	if data, err := os.ReadFile(path); string(data) != "of value" {
		t.Errorf("%q, %v", data, err)
	}
}

func TestAcquireRefuses(t *testing.T) {
	dir := shortDir(t)
	long := filepath.Join(dir, strings.Repeat("x", 100))
	_, err := Acquire(long)
	want := "control socket " + long + ": the path has " + strconv.Itoa(len(long)) + " bytes, and a socket's has at most 107, less 11 for those of the workers beside it (choose a shorter --socket)"
	if err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Acquire(filepath.Join(file, "s")); err == nil || !strings.Contains(err.Error(), "its directory cannot be made: mkdir "+file+": not a directory") {
		t.Error(err)
	}
	// The lock is not written through a link that somebody put there.
	if err := os.Symlink(file, filepath.Join(dir, "s.lock")); err != nil {
		t.Fatal(err)
	}
	if _, err := Acquire(filepath.Join(dir, "s")); err == nil || !strings.Contains(err.Error(), "too many levels of symbolic links") {
		t.Error(err)
	}
	// A directory that is missing is made.
	lock, err := Acquire(filepath.Join(dir, "a", "b", "s"))
	if err != nil {
		t.Fatal(err)
	}
	lock.Release()
}

// TestAcquireInTmp: the default of an unprivileged user is a directory in /tmp,
// which somebody else could have made first.
func TestAcquireInTmp(t *testing.T) {
	t.Setenv("XDG_RUNTIME_DIR", "")
	t.Setenv("TMPDIR", shortDir(t))
	dir := filepath.Join(os.Getenv("TMPDIR"), "workersd-"+strconv.Itoa(os.Geteuid()))
	path := filepath.Join(dir, "control.sock")
	lock, err := Acquire(path)
	if err != nil {
		t.Fatal(err)
	}
	lock.Release()
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	if _, err := Acquire(path); err == nil || !strings.Contains(err.Error(), "mode 0777, and others could put their own socket there") {
		t.Error(err)
	}
}

package config_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/workersd/workersd/pkg/internal/config"
)

const good = "[worker.q]\ncommand = [\"run\"]\n"

// place is a directory that nobody else may write, whatever the umask.
func place(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

func write(t *testing.T, path, data string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(data), 0o644); err != nil {
		t.Fatal(err)
	}
}

func names(t *testing.T, path string, o config.Options) string {
	t.Helper()
	l, err := config.Load(path, o)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, w := range l.Workers {
		out = append(out, w.Name)
	}
	return strings.Join(out, " ")
}

// refused loads a list that must not be accepted and gives its errors with the
// directory taken out of them.
func refused(t *testing.T, path string, o config.Options) string {
	t.Helper()
	l, err := config.Load(path, o)
	if err == nil {
		t.Fatalf("accepted, with %d workers", len(l.Workers))
	}
	text := err.Error()
	if len(err.(config.Errors)) == 0 || strings.TrimSpace(text) == "" {
		t.Fatal("an error without a text")
	}
	return strings.ReplaceAll(text, filepath.Dir(path), "DIR")
}

func TestLoadOrder(t *testing.T) {
	path := filepath.Join(place(t), "list.toml")
	write(t, path, good)
	for _, n := range []string{"b", "a", "10", "9"} {
		write(t, filepath.Join(path+".d", n+".toml"), fmt.Sprintf("[worker.%s]\ncommand = [\"run\"]\n", "w"+n))
	}
	// What editors and packagers leave behind is no drop-in.
	for _, n := range []string{".hidden.toml", "a.toml~", "a.toml.dpkg-old", "README"} {
		write(t, filepath.Join(path+".d", n), "this is no list")
	}
	if got := names(t, path, config.Options{}); got != "q w10 w9 wa wb" {
		t.Errorf("workers are %s", got)
	}
	l, _ := config.Load(path, config.Options{})
	if len(l.Files) != 5 || l.Files[0] != path || l.Files[1] != path+".d/10.toml" {
		t.Errorf("files are %q", l.Files)
	}
}

func TestLoadTellsEveryFile(t *testing.T) {
	path := filepath.Join(place(t), "list.toml")
	write(t, path, good)
	write(t, path+".d/fine.toml", "")
	if err := os.Mkdir(path+".d/dir.toml", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("nowhere", path+".d/link.toml"); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(path+".d/pipe.toml", 0o644); err != nil {
		t.Fatal(err)
	}
	want := `DIR/list.toml.d/dir.toml: is no regular file
DIR/list.toml.d/link.toml: does not exist (expected a worker list; see reference.toml)
DIR/list.toml.d/pipe.toml: is no regular file`
	if got := refused(t, path, config.Options{}); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestLoadMissing(t *testing.T) {
	dir := place(t)
	if got := refused(t, dir+"/none.toml", config.Options{}); got != "DIR/none.toml: does not exist (expected a worker list; see reference.toml)" {
		t.Error(got)
	}
	if got := refused(t, dir+"/no/none.toml", config.Options{}); !strings.HasSuffix(got, "does not exist (expected a worker list; see reference.toml)") {
		t.Error(got)
	}
	write(t, dir+"/file.toml", good)
	write(t, dir+"/file.toml.d", "a file where a directory is expected")
	if got := refused(t, dir+"/file.toml", config.Options{}); got != "DIR/file.toml.d: cannot be read: not a directory" {
		t.Error(got)
	}
	if got := refused(t, dir+"/"+strings.Repeat("n", 300), config.Options{}); !strings.Contains(got, "file name too long") {
		t.Error(got)
	}
}

// TestLoadOthersMayWrite: who may write the list decides what runs, and as whom.
func TestLoadOthersMayWrite(t *testing.T) {
	for _, c := range []struct {
		what  string
		file  os.FileMode
		dir   os.FileMode
		dropd os.FileMode
		want  string
	}{
		{"private", 0o600, 0o700, 0o700, ""},
		{"sticky", 0o644, 0o777 | os.ModeSticky, 0o755, ""},
		{"file", 0o666, 0o755, 0o755, "DIR/list.toml: anyone may write it, mode 0666 (expected chmod o-w)"},
		{"directory", 0o644, 0o777, 0o755, "DIR: the directory of the list: anyone may write it, mode 0777 (expected chmod o-w)"},
		{"drop-ins", 0o644, 0o755, 0o777, "DIR/list.toml.d: anyone may write it, mode 0777 (expected chmod o-w)"},
		{"all", 0o602, 0o707, 0o773, "DIR: the directory of the list: anyone may write it, mode 0707 (expected chmod o-w)\n" +
			"DIR/list.toml.d: anyone may write it, mode 0773 (expected chmod o-w)\n" +
			"DIR/list.toml: anyone may write it, mode 0602 (expected chmod o-w)"},
	} {
		t.Run(c.what, func(t *testing.T) {
			dir := place(t)
			path := dir + "/list.toml"
			write(t, path, good)
			write(t, path+".d/a.toml", "")
			for name, mode := range map[string]os.FileMode{path: c.file, dir: c.dir, path + ".d": c.dropd} {
				if err := os.Chmod(name, mode); err != nil {
					t.Fatal(err)
				}
			}
			if c.want == "" {
				names(t, path, config.Options{})
			} else if got := refused(t, path, config.Options{}); got != c.want {
				t.Errorf("got\n%s\nwant\n%s", got, c.want)
			}
			// Who acts on nothing may read what anybody wrote.
			names(t, path, config.Options{AnyOwner: true})
		})
	}
}

func TestLoadOfOthers(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, to give files to others")
	}
	const other, group = 54321, 54322
	dir := place(t)
	path := dir + "/list.toml"
	write(t, path, good)
	chown := func(name string, uid, gid int) {
		t.Helper()
		if err := os.Chown(name, uid, gid); err != nil {
			t.Fatal(err)
		}
	}
	chown(path, other, 0)
	if got := refused(t, path, config.Options{}); got != "DIR/list.toml: belongs to user 54321, who could write it (expected root or user 0)" {
		t.Error(got)
	}
	names(t, path, config.Options{Owners: []int{other}})

	chown(path, 0, 0)
	chown(dir, other, 0)
	if got := refused(t, path, config.Options{}); got != "DIR: the directory of the list: belongs to user 54321, who could write it (expected root or user 0)" {
		t.Error(got)
	}
	names(t, path, config.Options{Owners: []int{other}})

	chown(dir, 0, 0)
	chown(path, 0, group)
	if err := os.Chmod(path, 0o664); err != nil {
		t.Fatal(err)
	}
	if got := refused(t, path, config.Options{}); got != "DIR/list.toml: group 54322 may write it, mode 0664 (expected chmod g-w)" {
		t.Error(got)
	}
	chown(path, 0, 0) // root's group has nobody else in it
	names(t, path, config.Options{})
	chown(path, other, other) // neither has a user's own
	names(t, path, config.Options{Owners: []int{other}})
}

// TestLoadLink: a symbolic link is followed, and both ends are looked at.
func TestLoadLink(t *testing.T) {
	here, there := place(t), place(t)
	write(t, there+"/real.toml", good)
	if err := os.Symlink(there+"/real.toml", here+"/list.toml"); err != nil {
		t.Fatal(err)
	}
	names(t, here+"/list.toml", config.Options{})
	if err := os.Chmod(there, 0o777); err != nil {
		t.Fatal(err)
	}
	if got := refused(t, here+"/list.toml", config.Options{}); got != there+": the directory of the list: anyone may write it, mode 0777 (expected chmod o-w)" {
		t.Error(got)
	}
}

// TestLoadUnreadable: a drop-in that cannot be read refuses the list, with its name.
func TestLoadUnreadable(t *testing.T) {
	if os.Geteuid() == 0 { // who may read everything
		again := exec.Command("/proc/self/exe", "-test.run=^TestLoadUnreadable$", "-test.v")
		again.Dir, again.Env = "/", []string{"TMPDIR=/tmp"}
		again.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		out, err := again.CombinedOutput()
		if err != nil || !strings.Contains(string(out), "--- PASS: TestLoadUnreadable") {
			t.Errorf("as another user: %v\n%s", err, out)
		}
		return
	}
	path := filepath.Join(place(t), "list.toml")
	write(t, path, good)
	write(t, path+".d/secret.toml", "")
	if err := os.Chmod(path+".d/secret.toml", 0); err != nil {
		t.Fatal(err)
	}
	if got := refused(t, path, config.Options{}); got != "DIR/list.toml.d/secret.toml: cannot be read: permission denied" {
		t.Error(got)
	}
}

func TestLoadLarge(t *testing.T) {
	path := filepath.Join(place(t), "list.toml")
	line := "# " + strings.Repeat("x", 78) + "\n"
	write(t, path, good+strings.Repeat(line, 10<<20/len(line)))
	began := time.Now()
	names(t, path, config.Options{})
	t.Logf("10 MiB in %v", time.Since(began))
	write(t, path, good+strings.Repeat(line, 17<<20/len(line)))
	if got := refused(t, path, config.Options{}); got != "DIR/list.toml: is larger than 16M" {
		t.Error(got)
	}
}

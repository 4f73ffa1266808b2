package logs

import (
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/workersd/workersd/pkg/spec"
)

func fileWorker(name, path string, size spec.Bytes, backups int) *spec.Worker {
	w := worker(name, path)
	w.LogMaxSize, w.LogBackups = size, backups
	return w
}

// contents are the backups from the oldest, then the file.
func contents(t *testing.T, path string) (all string, sizes []int) {
	t.Helper()
	names, _ := filepath.Glob(path + ".*")
	sort.Slice(names, func(i, j int) bool { return names[i] > names[j] })
	for _, name := range append(names, path) {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		all += string(b)
		sizes = append(sizes, len(b))
	}
	return all, sizes
}

// Files are rotated by size at line ends; nothing is lost, and no more backups
// are kept than asked for.
func TestRotation(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	h := begin(t, Options{})
	o := open(t, h, fileWorker("w", path, 1000, 3))
	var want strings.Builder
	for i := range 100 {
		line := fmt.Sprintf("line %02d %s\n", i, strings.Repeat("x", i))
		want.WriteString(line)
		write(t, o.Stdout, line)
	}
	o.Close()
	finish(t, h)
	got, sizes := contents(t, path)
	if !strings.HasSuffix(want.String(), got) || len(sizes) != 4 {
		t.Errorf("files of %v bytes do not hold the last lines in order", sizes)
	}
	for _, n := range sizes {
		if n > 1000 || n == 0 {
			t.Errorf("files of %v bytes, want at most 1000", sizes)
		}
	}
	if !strings.HasPrefix(got, "line ") {
		t.Errorf("a line was torn: %.30q", got)
	}
	if st, _ := os.Stat(path); st.Mode().Perm()&^0o640 != 0 {
		t.Errorf("mode %v", st.Mode())
	}
}

// Several workers write to one file, line by line.
func TestSharedFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	h := begin(t, Options{})
	var wg sync.WaitGroup
	for i := range 8 {
		o := open(t, h, fileWorker(fmt.Sprint("w", i), path, 10_000, 100))
		wg.Go(func() {
			defer o.Close()
			for n := range 500 {
				write(t, o.Stdout, fmt.Sprintf("%d %d ", i, n))
				write(t, o.Stdout, "end\n")
			}
		})
	}
	wg.Wait()
	finish(t, h)
	all, _ := contentsByNumber(t, path)
	next := make([]int, 8)
	for l := range strings.Lines(all) {
		var i, n int
		if k, _ := fmt.Sscanf(l, "%d %d end\n", &i, &n); k != 2 || n != next[i] {
			t.Fatalf("%q: torn, lost or out of order", l)
		}
		next[i]++
	}
	for i, n := range next {
		if n != 500 {
			t.Errorf("worker %d: %d lines", i, n)
		}
	}
}

// contentsByNumber is for more than nine backups.
func contentsByNumber(t *testing.T, path string) (all string, n int) {
	t.Helper()
	for n = 1; ; n++ {
		if _, err := os.Stat(fmt.Sprint(path, ".", n)); err != nil {
			break
		}
	}
	for i := n - 1; i >= 0; i-- {
		name := path
		if i > 0 {
			name = fmt.Sprint(path, ".", i)
		}
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		all += string(b)
	}
	return all, n
}

// Links are not followed, and nothing but a regular file is written to.
func TestWhatIsNoLogFile(t *testing.T) {
	dir := t.TempDir()
	victim := filepath.Join(dir, "victim")
	if err := os.WriteFile(victim, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	in := func(name string) string { return filepath.Join(dir, name) }
	os.Symlink(victim, in("symlink"))
	os.Symlink(in("new"), in("dangling"))
	os.Link(victim, in("hardlink"))
	unix.Mkfifo(in("fifo"), 0o600)
	os.Mkdir(in("dir"), 0o700)
	h := begin(t, Options{})
	for path, want := range map[string]string{
		in("symlink"):        "is a symbolic link, and links are not followed: name the file itself",
		in("dangling"):       "is a symbolic link, and links are not followed: name the file itself",
		in("hardlink"):       "has 2 hard links, and could be a file of somebody else's: remove it",
		in("fifo"):           "is not a regular file",
		in("dir"):            "is not a regular file",
		"/dev/full":          "is not a regular file",
		in("nowhere") + "/x": "directory " + in("nowhere") + " does not exist: make it, or choose another log",
	} {
		_, err := h.Open(worker("w", path), 0, 0)
		if want := "worker w: log file " + path + ": " + want; err == nil || err.Error() != want {
			t.Errorf("got  %v\nwant %s", err, want)
		}
	}
	if b, _ := os.ReadFile(victim); string(b) != "mine" {
		t.Errorf("the file behind the link holds %q", b)
	}
	if _, err := os.Lstat(in("new")); err == nil {
		t.Error("a file was made behind a link")
	}
}

// A full disk costs lines, is said once at its beginning and once at its end,
// and ends nothing.
func TestFullDisk(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("a small file system takes root to mount: run the tests as root, too")
	}
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=1m"); err != nil {
		t.Skipf("no tmpfs may be mounted here: %v", err)
	}
	defer unix.Unmount(dir, unix.MNT_DETACH)
	var told problems
	h := begin(t, Options{Problem: told.tell})
	ballast := filepath.Join(dir, "ballast")
	path := filepath.Join(dir, "log")
	o := open(t, h, worker("w", path))
	write(t, o.Stdout, "first\n")
	until(t, "the first line", func() bool { b, _ := os.ReadFile(path); return string(b) == "first\n" })
	// What is written behind it fits once it is gone, however late it comes.
	os.WriteFile(ballast, make([]byte, 1<<20), 0o600)
	for range 200 {
		write(t, o.Stdout, strings.Repeat("x", 999)+"\n")
	}
	until(t, "it is said", func() bool { return len(told.all()) > 0 })
	// Another worker starts all the same.
	second := open(t, h, worker("w2", filepath.Join(dir, "log2")))
	write(t, second.Stdout, "lost\n")
	second.Close()
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	until(t, "it is over", func() bool {
		write(t, o.Stdout, "again\n")
		for _, s := range told.all() {
			if strings.HasPrefix(s, "w: log file "+path+": is written again; ") {
				return true
			}
		}
		return false
	})
	o.Close()
	finish(t, h)
	n := 0
	for _, s := range told.all() {
		if strings.HasPrefix(s, "w: ") {
			n++
		}
	}
	if said := told.all(); n != 2 || !strings.Contains(said[0], "no space left on device: what is written is lost until this is better") {
		t.Errorf("told %q", said)
	}
	b, err := os.ReadFile(path)
	if err != nil || !strings.HasPrefix(string(b), "first\n") || !strings.HasSuffix(string(b), "again\n") {
		t.Errorf("%v: %.50q", err, b)
	}
	for l := range strings.Lines(string(b)) {
		if l != "first\n" && l != "again\n" && l != strings.Repeat("x", 999)+"\n" {
			t.Fatalf("a line was torn: %.50q", l)
		}
	}
}

// Somebody else's rotation is noticed at once after Reopen.
func TestReopen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	h := begin(t, Options{})
	o := open(t, h, worker("w", path))
	write(t, o.Stdout, "old\n")
	until(t, "the first line", func() bool { b, _ := os.ReadFile(path); return string(b) == "old\n" })
	if err := os.Rename(path, path+".moved"); err != nil {
		t.Fatal(err)
	}
	h.Reopen()
	write(t, o.Stdout, "new\n")
	o.Close()
	finish(t, h)
	for name, want := range map[string]string{path + ".moved": "old\n", path: "new\n"} {
		if b, err := os.ReadFile(name); err != nil || string(b) != want {
			t.Errorf("%s: %q, %v, want %q", name, b, err, want)
		}
	}
}

// A rotation that cannot be done is said once, and the file grows on until it
// can.
func TestRotationThatFails(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	if err := os.MkdirAll(path+".1/x", 0o755); err != nil {
		t.Fatal(err)
	}
	var told problems
	f := newFile(fileWorker("w", path, 100, 1), openFile, told.tell)
	now := time.Now()
	f.now = func() time.Time { return now }
	if err := f.first(); err != nil {
		t.Fatal(err)
	}
	defer f.close()
	line := []byte(strings.Repeat("x", 39) + "\n")
	for range 20 {
		f.write(line)
		now = now.Add(time.Minute)
	}
	if said := told.all(); len(said) != 1 || !strings.Contains(said[0], "cannot be moved to "+path+".1: ") || !strings.HasSuffix(said[0], ": it is not rotated and grows") {
		t.Errorf("told %q", said)
	}
	if st, err := os.Stat(path); err != nil || st.Size() != 800 {
		t.Errorf("%v, %v: want all 800 bytes", st, err)
	}
	if err := os.RemoveAll(path + ".1"); err != nil {
		t.Fatal(err)
	}
	f.write(line)
	if st, err := os.Stat(path); err != nil || st.Size() != 40 {
		t.Errorf("%v, %v: want it rotated", st, err)
	}
}

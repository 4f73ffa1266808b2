package process

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/workersd/workersd/pkg/internal/lifecycle"
)

func root(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("becoming another user takes root: run the tests as root, too")
	}
}

func nobody(t *testing.T) *User {
	t.Helper()
	u, err := new(Users).Lookup("nobody", "")
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// Each error names what is wrong and says what to do.
func TestErrors(t *testing.T) {
	dir := t.TempDir()
	file := write(t, "file", "x", 0o644)
	for _, c := range []struct {
		name string
		st   Start
		want string
	}{
		{"missing", Start{Path: "/nowhere/program"}, "command /nowhere/program does not exist (correct command, or install the program)"},
		{"not executable", Start{Path: file}, "command " + file + " is not executable (chmod +x)"},
		{"directory", Start{Path: dir}, "command " + dir + " is a directory"},
		{"device", Start{Path: "/dev/null"}, "command /dev/null is no program"},
		{"bad interpreter", Start{Path: write(t, "bad", "#!/nowhere/python -x\n", 0o755)}, "its interpreter /nowhere/python does not exist (correct its first line, or install it)"},
		{"text", Start{Path: write(t, "text", "hello\n", 0o755)}, "is no program: neither a binary for this machine nor a script with #! in its first line"},
		{"interpreter is a directory", Start{Path: write(t, "dir", "#!/tmp\n", 0o755)}, "its interpreter /tmp may not be executed (permission denied)"},
		{"no directory", Start{Path: "/bin/sh", Dir: "/nowhere/dir"}, "directory /nowhere/dir does not exist (make it, or correct directory)"},
		{"file as directory", Start{Path: "/bin/sh", Dir: file}, "directory " + file + " is no directory (correct directory)"},
		{"relative", Start{Path: "./program", Dir: dir}, "command " + dir + "/program does not exist"},
		{"long", Start{Path: "/bin/sh", Args: []string{"sh", strings.Repeat("x", 1<<20)}}, "arguments and environment are too long together"},
	} {
		for _, own := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s own %v", c.name, own), func(t *testing.T) {
				withUnshare(t, own)
				st := c.st
				st.Umask, st.CgroupFD = -1, -1
				if st.Args == nil {
					st.Args = []string{"x"}
				}
				_, err := start(t, st)
				if err == nil || !strings.Contains(err.Error(), c.want) {
					t.Errorf("got  %v\nwant %s", err, c.want)
				}
			})
		}
	}
}

// withUnshare makes the spawner's threads anew, with a directory and umask of
// their own or as in a container that refuses unshare.
func withUnshare(t *testing.T, own bool) {
	t.Helper()
	spawner.endIdle()
	if !own {
		unshare = func(int) error { return unix.EPERM }
	}
	t.Cleanup(func() {
		spawner.endIdle()
		unshare = unix.Unshare
	})
}

func TestDirectoryAndUmask(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	here, _ := os.Getwd()
	for _, own := range []bool{true, false} {
		t.Run(fmt.Sprintf("own %v", own), func(t *testing.T) {
			withUnshare(t, own)
			for _, c := range []struct {
				dir   string
				umask int
				want  string
			}{
				{dir, 0o027, dir + " 0027"},
				{"", -1, fmt.Sprintf("%s %04o", here, ourUmask)},
				{"/", 0o777, "/ 0777"},
				{dir, 0, dir + " 0000"},
			} {
				st := sh(`echo "$(pwd -P) $(umask)"`)
				st.Dir, st.Umask = c.dir, c.umask
				child := mustStart(t, st)
				if got := strings.TrimSpace(child.output()); got != c.want {
					t.Errorf("got %q, want %q", got, c.want)
				}
				child.ended()
			}
		})
	}
	if now, _ := os.Getwd(); now != here {
		t.Errorf("our own directory has become %s", now)
	}
	old := unix.Umask(ourUmask)
	unix.Umask(old)
	if old != ourUmask {
		t.Errorf("our own umask has become %04o", old)
	}
}

func TestRelativeProgram(t *testing.T) {
	path := write(t, "program", "#!/bin/sh\necho ran\n", 0o755)
	for _, own := range []bool{true, false} {
		withUnshare(t, own)
		c := mustStart(t, Start{Path: "./program", Args: []string{"program"}, Dir: filepath.Dir(path), Umask: -1, CgroupFD: -1})
		if got := c.output(); got != "ran\n" {
			t.Errorf("own %v: %q", own, got)
		}
		c.ended()
	}
}

func TestSessionAndFiles(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	st := sh(`echo "$(ls /proc/self/fd | tr '\n' ' ')"; cut -d' ' -f1,5,6 /proc/$$/stat; echo said >&3`)
	st.Files = []*os.File{w}
	c := mustStart(t, st)
	w.Close()
	// 4 is the directory that ls reads.
	if got := c.line(); got != "0 1 2 3 4 " {
		t.Errorf("open files: %q", got)
	}
	if got, want := c.line(), fmt.Sprintf("%d %d %d", c.pid, c.pid, c.pid); got != want {
		t.Errorf("pid, group and session: %q, want %q", got, want)
	}
	b := make([]byte, 10)
	if n, _ := r.Read(b); string(b[:n]) != "said\n" {
		t.Errorf("through descriptor 3: %q", b[:n])
	}
	c.ended()
}

func TestCredentials(t *testing.T) {
	root(t)
	u := nobody(t)
	st := sh("id -u; id -g; id -G; grep -c '[1-9a-f]' /proc/self/status >/dev/null; grep CapEff /proc/self/status")
	st.User = u
	c := mustStart(t, st)
	out := c.output()
	want := fmt.Sprintf("%d\n%d\n%d\nCapEff:\t0000000000000000\n", u.UID, u.GID, u.GID)
	if out != want {
		t.Errorf("got %q, want %q", out, want)
	}
	c.ended()
}

// What root may enter the worker's user may not: the check takes the user's
// rights, so that the error names the right thing.
func TestRightsOfTheUser(t *testing.T) {
	root(t)
	closed, err := os.MkdirTemp("/tmp", "workersd")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(closed)
	if err := os.WriteFile(closed+"/program", []byte("#!/bin/sh\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, own := range []bool{true, false} {
		withUnshare(t, own)
		os.Chmod(closed, 0o700)
		st := sh("exit 0")
		st.User, st.Dir = nobody(t), closed
		_, err = start(t, st)
		if want := "directory " + closed + " may not be entered by user nobody (look at the modes of it and those above it)"; err == nil || err.Error() != want {
			t.Errorf("own %v: got  %v\nwant %s", own, err, want)
		}
		st = Start{Path: closed + "/program", Args: []string{"x"}, User: nobody(t), Umask: -1, CgroupFD: -1}
		_, err = start(t, st)
		if want := "command " + closed + "/program may not be reached by user nobody (look at the modes of the directories above it)"; err == nil || err.Error() != want {
			t.Errorf("own %v: got  %v\nwant %s", own, err, want)
		}
		os.Chmod(closed, 0o755)
		_, err = start(t, st)
		if want := "command " + closed + "/program may not be executed by user nobody"; err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("own %v: got  %v\nwant %s", own, err, want)
		}
		// The thread is ours again.
		c := mustStart(t, sh("id -u; id -G"))
		groups, _ := os.Getgroups()
		if out := c.output(); !strings.HasPrefix(out, "0\n") || len(strings.Fields(out)) != 1+max(1, len(groups)) {
			t.Errorf("own %v: after a check as nobody a process has uid and groups %q", own, out)
		}
		c.ended()
	}
}

func TestUnprivilegedUser(t *testing.T) {
	err := explain(Start{Path: "/bin/sh", User: &User{Name: "www"}}, syscall.EPERM)
	if want := "cannot become user www: operation not permitted (only root may set user and group)"; err.Error() != want {
		t.Errorf("got %v", err)
	}
}

func TestAttributes(t *testing.T) {
	var problems []string
	st := sh(`read x; ulimit -n; ulimit -Hn; cut -d' ' -f19 /proc/$$/stat; cat /proc/$$/oom_score_adj`)
	st.Nice, st.LimitNoFile, st.OOMScoreAdj = 5, 99, 321
	st.Problem = func(s string) { problems = append(problems, s) }
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	st.Args[2] = strings.Replace(st.Args[2], "read x", "read x <&3", 1)
	st.Files = []*os.File{r}
	c := mustStart(t, st)
	w.WriteString("go\n")
	if got, want := c.output(), "99\n99\n5\n321\n"; got != want {
		t.Errorf("got %q, want %q (%q)", got, want, problems)
	}
	c.ended()
	if len(problems) > 0 {
		t.Errorf("problems: %q", problems)
	}
}

// The limit stands before the exec, and lowering it takes no privilege, also
// for another user.
func TestLimitNoFileOfAnotherUser(t *testing.T) {
	root(t)
	st := sh(`ulimit -n; id -u`)
	st.LimitNoFile, st.User = 99, nobody(t)
	c := mustStart(t, st)
	if got, want := c.output(), fmt.Sprintf("99\n%d\n", st.User.UID); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	c.ended()
}

// A limit that is refused is an error, not dropped.
func TestLimitNoFileRefused(t *testing.T) {
	st := sh("exec sleep 1000")
	st.LimitNoFile = 1 << 40
	_, err := start(t, st)
	if want := "limit_nofile = 1099511627776 cannot be set: operation not permitted ("; err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v, want %s", err, want)
	}
}

// A directory that hangs holds one thread: starts of others go on.
func TestHungStartHoldsUpNobody(t *testing.T) {
	release := make(chan struct{})
	hangs := make(chan struct{}, 2*startsAtATime)
	var wg sync.WaitGroup
	s := NewSpawner(children)
	for range startsAtATime {
		line, err := s.line()
		if err != nil {
			t.Fatal(err)
		}
		leave := s.room.Enter()
		wg.Add(1)
		go func() {
			defer wg.Done()
			defer leave()
			s.await(line, func() { hangs <- struct{}{}; <-release })
		}()
		<-hangs
	}
	done := make(chan lifecycle.Status, 1)
	if _, err := s.Do(sh("exit 3"), func(st lifecycle.Status) { done <- st }); err != nil {
		t.Fatal(err)
	}
	if st := <-done; st.Code != 3 {
		t.Errorf("ended with %v", st)
	}
	close(release)
	wg.Wait()
	if n := s.room.Free(); n != startsAtATime {
		t.Errorf("%d starts at a time afterwards, want %d", n, startsAtATime)
	}
	s.Close(context.Background())
}

func BenchmarkSpawn(b *testing.B) {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		b.Fatal(err)
	}
	defer null.Close()
	st := Start{Path: "/bin/true", Args: []string{"true"}, Env: os.Environ(), Files: []*os.File{null, null, null}, Umask: -1, CgroupFD: -1}
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			ended := make(chan struct{})
			if _, err := spawner.Do(st, func(lifecycle.Status) { close(ended) }); err != nil {
				b.Error(err)
				return
			}
			<-ended
		}
	})
}

// What a program has started in its first moment has its niceness, too, and a
// thread that may not take its own back is not used again.
func TestNobodyEscapesItsNiceness(t *testing.T) {
	for range 30 {
		st := sh("/bin/sleep 1000 & echo $!; nice; wait")
		st.Nice = ourNice + 2
		c := mustStart(t, st)
		child := number(t, c.line())
		if got := number(t, c.line()); got != ourNice+2 {
			t.Errorf("niceness %d, want %d", got, ourNice+2)
		}
		b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", child))
		if f := strings.Fields(string(b)); len(f) < 19 || number(t, f[18]) != ourNice+2 {
			t.Errorf("a child: %s", b)
		}
		syscall.Kill(child, syscall.SIGKILL)
		c.ended()
	}
	st := sh("nice")
	st.Nice = ourNice
	c := mustStart(t, st)
	if got := number(t, c.line()); got != ourNice {
		t.Errorf("niceness %d of the next, want ours, %d", got, ourNice)
	}
	c.ended()
}

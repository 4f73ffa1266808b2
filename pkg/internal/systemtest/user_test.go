package systemtest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/workersd/workersd/pkg/client"
)

const (
	tester    = "tester"
	testerUID = 1234
	testerRun = "/run/user/1234"
)

// someone is root, or the unprivileged user.
type someone struct {
	t    *testing.T
	uid  uint32
	home string
}

// makeUser makes the user with a manager of his own, once.
var makeUser = sync.OnceValue(func() error {
	for _, c := range [][]string{
		{"sh", "-c", fmt.Sprintf("id %s >/dev/null 2>&1 || useradd -m -u %d %s", tester, testerUID, tester)},
		{"rm", "-f", "/etc/systemd/system/systemd-logind.service"}, // the guest boots faster without
		{"systemctl", "daemon-reload"},
		{"systemctl", "start", "systemd-logind"},
		{"loginctl", "enable-linger", tester},
		{"systemctl", "start", fmt.Sprintf("user@%d.service", testerUID)},
	} {
		if out, err := exec.Command(c[0], c[1:]...).CombinedOutput(); err != nil {
			return fmt.Errorf("%q: %w\n%s", c, err, out)
		}
	}
	return nil
})

func user(t *testing.T) *someone {
	t.Helper()
	if err := makeUser(); err != nil {
		t.Fatal(err)
	}
	return &someone{t, testerUID, "/home/" + tester}
}

// command is one of someone, outside of any unit of his, as after ssh.
func (u *someone) command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(name, args...)
	cmd.Dir = u.home
	cmd.Env = []string{"HOME=" + u.home, "PATH=/usr/bin:/bin"}
	if u.uid != 0 {
		cmd.Env = append(cmd.Env, "XDG_RUNTIME_DIR="+testerRun)
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: u.uid, Gid: u.uid}}
	}
	return cmd
}

func (u *someone) run(name string, args ...string) string {
	u.t.Helper()
	out, err := u.command(name, args...).CombinedOutput()
	if err != nil {
		u.t.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
	return strings.TrimSpace(string(out))
}

// write makes a file of his.
func (u *someone) write(file, text string) {
	u.t.Helper()
	cmd := u.command("sh", "-c", `mkdir -p "$(dirname "$1")" && cat >"$1"`, "sh", file)
	cmd.Stdin = strings.NewReader(text)
	if out, err := cmd.CombinedOutput(); err != nil {
		u.t.Fatalf("%s: %v\n%s", file, err, out)
	}
}

// eaters is a worker that dies at its limit, beside one that does not.
func eaters(t *testing.T) string {
	return sleepers(2, "") + fmt.Sprintf("[worker.eats]\ncommand = [%q, \"-to=200\", \"-step=2\", \"-every=1ms\", \"-ignore-term\", \"grow\"]\n"+
		"soft_memory_limit = \"40M\"\nhard_memory_limit = \"50M\"\n", program(t, "hog"))
}

// enforced waits until the kernel has killed the eater at its own limit, and
// gives the manager.
func enforced(t *testing.T, socket string) client.Status {
	t.Helper()
	var st client.Status
	eventually(t, "the kernel ends the eater at its hard limit", func() bool {
		var err error
		st, err = ask(socket)
		if err != nil {
			return false
		}
		for _, w := range st.Workers {
			if w.Name == "eats" {
				return w.LastReason == "hard_memory"
			}
		}
		return false
	})
	if st.Manager.Enforcement != "kernel" {
		t.Errorf("enforcement is %s, because %s", st.Manager.Enforcement, st.Manager.Because)
	}
	return st
}

// The program in a terminal: it asks systemd for a scope, and the kernel
// enforces there.
func TestTerminal(t *testing.T) {
	for _, c := range []struct {
		name, slice string
		who         func(*testing.T) *someone
	}{
		{"root", "/system.slice/", func(t *testing.T) *someone { return &someone{t, 0, "/root"} }},
		{"user", fmt.Sprintf("/user@%d.service/app.slice/", testerUID), user},
	} {
		t.Run(c.name, func(t *testing.T) {
			u := c.who(t)
			u.write(u.home+"/list.toml", eaters(t))
			socket := u.home + "/control.sock"
			cmd := u.command("workersd", "--config", u.home+"/list.toml", "--socket", socket)
			out, err := os.Create(filepath.Join(t.TempDir(), "output"))
			if err != nil {
				t.Fatal(err)
			}
			defer out.Close()
			cmd.Stdout, cmd.Stderr = out, out
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				cmd.Process.Kill()
				cmd.Wait()
				if t.Failed() {
					t.Logf("it wrote:\n%s", read(t, out.Name()))
				}
			})
			st := enforced(t, socket)
			scope, _ := filepath.Glob("/sys/fs/cgroup" + strings.TrimPrefix(st.Manager.Because, "/sys/fs/cgroup"))
			if !strings.Contains(st.Manager.Because, c.slice+"workersd-") || !strings.Contains(st.Manager.Because, ".scope") {
				t.Errorf("it works in %s (%q)", st.Manager.Because, scope)
			}
			dir, _, _ := strings.Cut(st.Manager.Because, ",")
			if _, err := os.Stat(dir + "/workers"); err != nil {
				t.Error(err)
			}
			cmd.Process.Signal(syscall.SIGTERM)
			if err := cmd.Wait(); err != nil {
				t.Errorf("its end: %v", err)
			}
			if left := members(); len(left) != 0 {
				t.Errorf("left: %+v", left)
			}
			eventually(t, "the scope is gone", func() bool { _, err := os.Stat(dir); return os.IsNotExist(err) })
		})
	}
}

func TestUserService(t *testing.T) {
	u := user(t)
	since := fromNow()
	list := u.home + "/.config/workersd/workers.toml"
	u.write(list, eaters(t))
	u.run("systemctl", "--user", "daemon-reload")
	t.Cleanup(func() {
		u.command("systemctl", "--user", "stop", unit).Run()
		if left := members(); len(left) != 0 {
			t.Errorf("left: %+v", left)
		}
		if t.Failed() {
			t.Log(run(t, "journalctl", "-q", "--no-pager", since, fmt.Sprint("_UID=", testerUID)))
		}
		u.command("systemctl", "--user", "reset-failed", unit).Run()
	})
	u.run("systemctl", "--user", "start", unit)
	st := enforced(t, testerRun+"/workersd/control.sock")
	dir := fmt.Sprintf("/sys/fs/cgroup/user.slice/user-%d.slice/user@%d.service/app.slice/workersd.service", testerUID, testerUID)
	contains(t, "enforcement", st.Manager.Because, dir)
	for _, d := range []string{dir, dir + "/workers"} {
		if got := read(t, d, "cgroup.subtree_control"); got != "cpu memory pids" {
			t.Errorf("%s hands down %q", d, got)
		}
	}
	// His own workersctl finds his own manager.
	contains(t, "workersctl status", u.run("workersctl", "status"), "sleep#1", "eats")
	u.write(list, sleepers(3, ""))
	u.run("systemctl", "--user", "reload", unit)
	if n := len(ofList(t)); n != 3 {
		t.Errorf("%d workers after the reload, want 3", n)
	}
	contains(t, "StatusText", u.run("systemctl", "--user", "show", "-P", "StatusText", unit), "recycled in the last hour")
	u.run("systemctl", "--user", "stop", unit)
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("%s is left (%v)", dir, err)
	}

	// What cannot work here is an error of the list, not a surprise later.
	u.write(list, sleepers(1, "user = \"nobody\"\ngroup = \"nogroup\"\nio_weight = 50\n"))
	if out, err := u.command("systemctl", "--user", "start", unit).CombinedOutput(); err == nil {
		t.Errorf("it started: %s", out)
	}
	if code := u.run("systemctl", "--user", "show", "-P", "ExecMainStatus", unit); code != "78" {
		t.Errorf("ExecMainStatus=%s, want 78", code)
	}
	var said string
	eventually(t, "the errors are in the journal", func() bool {
		said = run(t, "journalctl", "-q", "--no-pager", "-o", "cat", since, fmt.Sprint("_UID=", testerUID), "-t", "workersd")
		return strings.Contains(said, "io_weight")
	})
	contains(t, "errors", said, "workers.toml:4:1:", "workers.toml:5:1:", "workers.toml:6:1:", ": user:", ": group:", ": io_weight:")
}

// ofList are the workers of the user's manager that are in its list.
func ofList(t *testing.T) (names []string) {
	t.Helper()
	st, err := ask(testerRun + "/workersd/control.sock")
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range st.Workers {
		if !w.Removed {
			names = append(names, w.Name)
		}
	}
	return names
}

package systemtest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// What make install has installed, and systemd thinks of it.

const hardened = "/usr/share/doc/workersd/examples/hardened.conf"

func TestUnitsVerify(t *testing.T) {
	for _, args := range [][]string{
		{"verify", "/usr/lib/systemd/system/workersd.service", "/usr/lib/systemd/system/workersd.slice"},
		{"--user", "verify", "/usr/lib/systemd/user/workersd.service"},
	} {
		cmd := exec.Command("systemd-analyze", args...)
		// A user's manager is asked for with the directory of one.
		cmd.Env = append(os.Environ(), "XDG_RUNTIME_DIR="+t.TempDir(), "HOME=/root")
		if out, err := cmd.CombinedOutput(); err != nil || len(out) != 0 {
			t.Errorf("systemd-analyze %q: %v\n%s", args, err, out)
		}
	}
	// The drop-in, as one.
	newService(t, sleepers(1, ""), read(t, hardened))
	if out := run(t, "systemd-analyze", "verify", unit); out != "" {
		t.Errorf("systemd-analyze verify with hardened.conf:\n%s", out)
	}
}

func TestUnitSecurity(t *testing.T) {
	exposure := func() float64 {
		t.Helper()
		// It fails above a threshold of ours only, so the figure is read.
		out := run(t, "systemd-analyze", "security", "--no-pager", unit)
		m := regexp.MustCompile(`Overall exposure level for workersd.service: ([0-9.]+)`).FindStringSubmatch(out)
		if m == nil {
			t.Fatalf("no figure in\n%s", out)
		}
		f, _ := strconv.ParseFloat(m[1], 64)
		t.Logf("exposure %v", f)
		if t.Failed() {
			t.Log(out)
		}
		return f
	}
	newService(t, sleepers(1, ""))
	if x := exposure(); x > 6.5 {
		t.Errorf("the unit's exposure is %v, want at most 6.5", x)
	}
	write(t, filepath.Join(dropInDir, "hardened.conf"), read(t, hardened))
	run(t, "systemctl", "daemon-reload")
	if x := exposure(); x > 3.5 {
		t.Errorf("the exposure with hardened.conf is %v, want at most 3.5", x)
	}
}

func TestInstalled(t *testing.T) {
	if out := run(t, "getent", "group", "workersd"); !strings.HasPrefix(out, "workersd:") {
		t.Errorf("group: %s", out)
	}
	for _, dir := range []string{"/etc/workersd", "/etc/workersd/workers.toml.d"} {
		if st, err := os.Stat(dir); err != nil || st.Mode() != os.ModeDir|0o755 {
			t.Errorf("%s: %v (%v)", dir, st, err)
		}
	}
	for _, file := range []string{
		"share/bash-completion/completions/workersctl", "share/zsh/site-functions/_workersctl",
		"share/fish/vendor_completions.d/workersctl.fish", "share/doc/workersd/README.md", "share/doc/workersd/LICENSE",
	} {
		if st, err := os.Stat("/usr/" + file); err != nil || st.Size() < 1000 || st.Mode() != 0o644 {
			t.Errorf("%s: %v (%v)", file, st, err)
		}
	}
	contains(t, "catalog", run(t, "journalctl", "--no-pager", "--dump-catalog"), "Defined-By: workersd", "Worker @WORKERSD_WORKER@ is gone")
	// What a package would lay down is what was installed here: no sockets, no
	// second copy of a unit.
	for _, pattern := range []string{"/usr/lib/systemd/*/workersd*", "/etc/systemd/system/workersd*", "/usr/lib/systemd/*/*.wants/workersd*"} {
		found, _ := filepath.Glob(pattern)
		for _, f := range found {
			switch f {
			case "/usr/lib/systemd/system/workersd.service", "/usr/lib/systemd/system/workersd.slice",
				"/usr/lib/systemd/user/workersd.service", "/usr/lib/systemd/catalog/workersd.catalog":
			default:
				t.Errorf("%s is installed", f)
			}
		}
	}
}

// Everything in the unit is inherited. What a worker has of it, as root and as
// another user, is shown with the unit as it is, and with hardened.conf.
func TestUnitInherited(t *testing.T) {
	for _, c := range []struct{ name, dropIn, noNewPrivs, bounding string }{
		// The bits of the capabilities that the unit leaves (linux/capability.h).
		{"default", "", "0", "00000000218865ff"},
		{"hardened", read(t, hardened), "1", "00000000000000eb"},
	} {
		t.Run(c.name, func(t *testing.T) {
			script := `grep -E "^(NoNewPrivs|CapBnd|CapEff):" /proc/self/status; echo "oom $(cat /proc/self/oom_score_adj)"; echo told; exec sleep infinity`
			s := newService(t, shell("root", script, "")+shell("nobody", script, "user = \"nobody\"\n")+
				"[worker.leaves]\ncommand = [\"/usr/bin/sleep\", \"infinity\"]\nuser = \"nobody\"\nhard_memory_limit = \"64M\"\nsoft_memory_limit = \"32M\"\n", c.dropIn)
			s.start()
			s.up(3)
			for _, worker := range []string{"root", "nobody"} {
				var out string
				eventually(t, worker+" has told", func() bool {
					out = s.journal("-o", "cat", "-t", worker)
					return strings.HasSuffix(out, "told")
				})
				contains(t, worker, out, "NoNewPrivs:\t"+c.noNewPrivs, "CapBnd:\t"+c.bounding, "oom 0")
				if worker == "nobody" {
					contains(t, worker, out, "CapEff:\t0000000000000000")
				}
			}
			if got := read(t, fmt.Sprintf("/proc/%d/oom_score_adj", s.pid())); got != "-900" {
				t.Errorf("oom_score_adj of the manager is %s", got)
			}
			limits, _ := filepath.Glob(unitDir + "/workers/leaves:*/memory.max")
			if len(limits) != 1 || read(t, limits[0]) != "67108864" {
				t.Errorf("memory.max of %q", limits)
			}
			run(t, "systemctl", "reload", unit)
			run(t, "workersctl", "restart", "nobody")
			s.up(3)
			if errs := s.journal("-p", "err", "-o", "cat"); errs != "" {
				t.Errorf("errors:\n%s", errs)
			}
		})
	}
}

package systemtest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// patience is how long a condition may take to come true: the guest is ten
// times slower than a machine. No test waits for it when all is well.
const patience = 90 * time.Second

// eventually waits for a condition.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Fatalf("never: %s", what)
}

// inUnit runs the test that calls it again in a transient unit with a delegated
// subtree and the given properties. It reports whether this is that inner run.
func inUnit(t *testing.T, properties ...string) bool {
	t.Helper()
	if os.Getenv("WORKERSD_VM") == t.Name() {
		return true
	}
	args := []string{"--wait", "--pipe", "--collect", "--quiet", "--unit=" + strings.ToLower(t.Name()),
		"-p", "Delegate=cpu io memory pids", "-p", "OOMPolicy=continue", "-p", "TasksMax=infinity",
		"-E", "WORKERSD_VM=" + t.Name(), "-E", "PATH=" + os.Getenv("PATH"), "--working-directory=" + here(t)}
	for _, p := range properties {
		args = append(args, "-p", p)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	args = append(args, self, "-test.run=^"+t.Name()+"$", "-test.v", "-test.timeout=10m")
	out, err := exec.Command("systemd-run", args...).CombinedOutput()
	t.Logf("%s", out)
	if err != nil {
		t.Errorf("in its unit: %v", err)
	}
	return false
}

func here(t *testing.T) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// program is one of the programs that were built beside the tests.
func program(t *testing.T, name string) string {
	t.Helper()
	return filepath.Join(here(t), "bin", name)
}

// read is the text of a file without its last newline.
func read(t *testing.T, path ...string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(path...))
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(b))
}

// flat is one value of a file of "key number" lines.
func flat(t *testing.T, text, key string) int64 {
	t.Helper()
	for line := range strings.Lines(text) {
		var n int64
		if v, ok := strings.CutPrefix(line, key+" "); ok {
			if _, err := fmt.Sscan(v, &n); err != nil {
				t.Fatalf("%s: %v", line, err)
			}
			return n
		}
	}
	t.Fatalf("no %q in %q", key, text)
	return 0
}

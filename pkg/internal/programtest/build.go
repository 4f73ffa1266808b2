// Package programtest runs the built programs as a user would.
package programtest

import (
	"os/exec"
	"strings"
	"testing"
)

const module = "github.com/workersd/workersd/"

// Build builds workersd, workersctl and the commands named by their paths in
// the module, and returns the directory that holds them.
func Build(t testing.TB, commands ...string) string {
	t.Helper()
	bin := t.TempDir()
	args := []string{"build", "-o", bin + "/", module + "cmd/workersd", module + "cmd/workersctl"}
	for _, c := range commands {
		args = append(args, module+c)
	}
	if out, err := exec.Command("go", args...).CombinedOutput(); err != nil {
		t.Fatalf("go %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return bin
}

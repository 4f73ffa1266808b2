// Package programtest runs the built programs as a user would.
package programtest

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
)

const module = "github.com/workersd/workersd/"

// bin holds what Main built.
var bin string

// Main is the TestMain of a package: it builds workersd, workersctl and the
// commands named by their paths in the module, once for all tests, and runs
// them.
func Main(m *testing.M, commands ...string) {
	os.Exit(run(m, commands))
}

func run(m *testing.M, commands []string) int {
	dir, err := os.MkdirTemp("", "pb")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	args := []string{"build", "-o", dir + "/", module + "cmd/workersd", module + "cmd/workersctl"}
	for _, c := range commands {
		args = append(args, module+c)
	}
	if out, err := exec.Command("go", args...).CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "go %s: %v\n%s", strings.Join(args, " "), err, out)
		return 1
	}
	bin = dir
	return m.Run()
}

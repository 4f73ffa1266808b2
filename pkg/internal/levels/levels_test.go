package levels

import (
	"encoding/json"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/workersd/workersd/"

// level of each package of ours: a package imports only lower ones, and of its
// own level only what stands in sameLevel.
var level = map[string]int{
	"pkg/spec":             0,
	"pkg/sdnotify":         0,
	"pkg/internal/event":   0,
	"pkg/internal/near":    0,
	"pkg/internal/backlog": 0,
	"pkg/client":           1, // wire types: the event record, nothing else of ours

	"pkg/internal/lifecycle": 1,
	"pkg/internal/config":    1,

	"pkg/internal/plan":      2,
	"pkg/internal/admission": 2,
	"pkg/internal/history":   2,

	"pkg/internal/host/epoll":   2, // what notify and logs wait on
	"pkg/internal/host/room":    2, // how many starts and orders at a time
	"pkg/internal/host/procmem": 2, // /proc as values, for the host and the guard

	// One matter of the operating system each; the host puts them together.
	"pkg/internal/host/process": 3,
	"pkg/internal/host/cgroup":  3,
	"pkg/internal/host/notify":  3,
	"pkg/internal/host/logs":    3,
	"pkg/internal/host/systemd": 3,
	"pkg/internal/host/guard":   3,
	"pkg/internal/supervisor":   3,

	"pkg/internal/host":     4,
	"pkg/internal/hosttest": 4,
	"pkg/internal/control":  4,

	// Helpers of tests.
	"pkg/internal/redistest":       0,
	"pkg/internal/redistest/storm": 3,
	"pkg/internal/programtest":     2,
	"pkg/internal/examples":        3,

	"pkg/worker":     1,
	"pkg/redisqueue": 2,
	"pkg/cli":        5,
	"pkg/daemon":     5,
	"pkg/manager":    6,
}

// sameLevel are the imports inside one level, each with its reason.
var sameLevel = map[[2]string]string{}

// forbidden are imports that a package must not have, not even through others.
var forbidden = []struct{ pkg, dep, why string }{
	{"pkg/internal/supervisor", "os/exec", "the loop never touches the machine: orders go through Host"},
	{"pkg/internal/supervisor", "net", "the loop never waits for a peer"},
	{"pkg/internal/supervisor", module + "pkg/internal/host", "the loop knows the interface, not the machine"},
	{"pkg/internal/lifecycle", "net", "lifecycle is a pure function"},
	{"pkg/internal/lifecycle", "os/exec", "lifecycle is a pure function"},
	{"pkg/internal/lifecycle", "math/rand", "jitter is a hash, so that a test and a crash repeat it"},
	{"pkg/internal/lifecycle", "math/rand/v2", "jitter is a hash, so that a test and a crash repeat it"},
	{"pkg/internal/admission", "os/exec", "admission is a pure function"},
	{"pkg/internal/plan", "os/exec", "plan is a pure function"},
	{"pkg/worker", "github.com/godbus/dbus/v5", "a worker program must stay light"},
	{"pkg/worker", "github.com/prometheus/client_golang/prometheus", "a worker program must stay light"},
	{"pkg/worker", "github.com/redis/go-redis/v9", "only redisqueue speaks Redis"},
	{"pkg/daemon", "github.com/prometheus/client_golang/prometheus", "metrics are handed in, so that embedders do not link them"},
	{"pkg/daemon", "github.com/redis/go-redis/v9", "only redisqueue speaks Redis"},
	{"pkg/manager", "github.com/prometheus/client_golang/prometheus", "metrics are handed in, so that embedders do not link them"},
	{"pkg/manager", "github.com/redis/go-redis/v9", "only redisqueue speaks Redis"},
	{"pkg/manager", "github.com/spf13/cobra", "a program with workers has a command line of its own"},
	{"pkg/client", "github.com/spf13/cobra", "a client library is no command line"},
	{"cmd/workersd", "github.com/redis/go-redis/v9", "only redisqueue speaks Redis"},
}

// pure packages may not import these directly: they wait, read clocks or do I/O.
var pure = []string{"pkg/internal/lifecycle", "pkg/internal/admission", "pkg/internal/plan"}
var impure = []string{"os", "net", "net/http", "os/exec", "os/signal", "sync", "context", "syscall", "golang.org/x/sys/unix", "io/fs", "log/slog"}

type pkg struct {
	ImportPath string
	Imports    []string
	Deps       []string
}

func list(t *testing.T) map[string]pkg {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=ImportPath,Imports,Deps", module+"...")
	cmd.Stderr = t.Output()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	pkgs := map[string]pkg{}
	dec := json.NewDecoder(out)
	for {
		var p pkg
		if err := dec.Decode(&p); err == io.EOF {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		pkgs[strings.TrimPrefix(p.ImportPath, module)] = p
	}
	if err := cmd.Wait(); err != nil {
		t.Fatalf("go list: %v", err)
	}
	return pkgs
}

func TestImportsGoDownward(t *testing.T) {
	for name, p := range list(t) {
		if !strings.HasPrefix(name, "pkg/") || strings.HasPrefix(name, "pkg/internal/levels") || strings.HasPrefix(name, "pkg/internal/systemtest") || strings.HasPrefix(name, "pkg/internal/bench") {
			continue
		}
		at, ok := level[name]
		if !ok {
			t.Errorf("%s has no level: give it one in levels_test.go", name)
			continue
		}
		for _, dep := range p.Imports {
			dep, ours := strings.CutPrefix(dep, module)
			if !ours {
				continue
			}
			if below, ok := level[dep]; ok && below > at {
				t.Errorf("%s (level %d) imports %s (level %d): imports go downward only", name, at, dep, below)
			} else if ok && below == at && sameLevel[[2]string{name, dep}] == "" {
				t.Errorf("%s imports %s of its own level %d: move what they share down, or give the reason in sameLevel", name, dep, at)
			}
		}
	}
}

func TestForbiddenImports(t *testing.T) {
	pkgs := list(t)
	for _, f := range forbidden {
		p, ok := pkgs[f.pkg]
		if !ok {
			t.Errorf("%s is gone: remove its rule", f.pkg)
		} else if slices.Contains(p.Deps, f.dep) {
			t.Errorf("%s links %s: %s", f.pkg, f.dep, f.why)
		}
	}
	for _, name := range pure {
		for _, dep := range impure {
			if slices.Contains(pkgs[name].Imports, dep) {
				t.Errorf("%s imports %s: it is pure, it neither waits nor reads nor writes", name, dep)
			}
		}
	}
}

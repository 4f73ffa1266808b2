package worker_test

import (
	"os/exec"
	"strings"
	"testing"
)

// What a worker program imports is in every one of a hundred processes.
func TestDependencies(t *testing.T) {
	const module = "github.com/workersd/workersd/"
	allowed := map[string]string{
		module + "pkg/worker":   "the package itself",
		module + "pkg/sdnotify": "the protocol it speaks",
	}
	forbidden := map[string]string{
		"net/http":                     "a worker serves nothing: it would bring TLS and 4 MB into every process",
		"github.com/godbus/dbus/v5":    "the manager talks to systemd, not the worker",
		"github.com/prometheus":        "metrics are the manager's",
		"github.com/redis/go-redis":    "only pkg/redisqueue, and who imports it, pays for Redis",
		"github.com/coreos/go-systemd": "sd_notify is a few lines; the rest brings D-Bus",
	}
	out, err := exec.Command("go", "list", "-deps", ".").Output()
	if err != nil {
		t.Fatalf("go list -deps .: %v", err)
	}
	for dep := range strings.FieldsSeq(string(out)) {
		for f, reason := range forbidden {
			if dep == f || strings.HasPrefix(dep, f+"/") {
				t.Errorf("pkg/worker imports %s: %s", dep, reason)
			}
		}
		first, _, _ := strings.Cut(dep, "/")
		external := strings.Contains(first, ".")
		if _, ok := allowed[dep]; external && !ok && !strings.HasPrefix(dep, "golang.org/x/sys/") {
			t.Errorf("pkg/worker imports %s: it may import the standard library, golang.org/x/sys and pkg/sdnotify only", dep)
		}
	}
}

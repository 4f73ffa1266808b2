package host

import (
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/workersd/workersd/pkg/internal/host/logs"
	"github.com/workersd/workersd/pkg/spec"
)

// A cgroup that the operator named is had or refused: workers without the limits
// that were asked for would be a surprise.
func TestNamedRootThatCannotBeHad(t *testing.T) {
	dir, err := os.MkdirTemp("", "w")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	open := func(c *Cgroups) (*Host, error) {
		return New(Options{
			NotifyDir: filepath.Join(dir, "n"), Logs: logs.Options{Stdout: os.Stdout, Stderr: os.Stderr},
			Log: slog.New(slog.NewTextHandler(io.Discard, nil)), Manager: spec.DefaultManager(), Cgroups: c, SampledBecause: "of a test",
		})
	}
	h, err := open(&Cgroups{Override: filepath.Join(dir, "none")})
	if err == nil || !strings.HasPrefix(err.Error(), "--cgroup-root "+dir+"/none: ") {
		t.Fatalf("%v, %v", h, err)
	}
	// Nothing of it is in the way of another one.
	if h, err = open(nil); err != nil {
		t.Fatal(err)
	}
	defer h.Close(t.Context())
	if e := h.Enforcement(); e.Word() != "sampled" || e.Because != "of a test" {
		t.Errorf("%+v", e)
	}
}

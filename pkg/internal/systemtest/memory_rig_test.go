package systemtest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/workersd/workersd/pkg/client"
	"github.com/workersd/workersd/pkg/internal/event"
)

// protected is how the shipped unit protects the manager. A worker must die at
// its limit all the same.
const protected = "OOMScoreAdjust=-900"

// manager is the installed workersd as a unit of its own.
type manager struct {
	t     *testing.T
	unit  string // without .service
	dir   string // of the worker list and the reports
	since string // for journalctl: units of this name may have run before
	// patience is how long a worker may take until it says something, or ends.
	patience time.Duration
	*client.Client
}

// manage starts workersd with a worker list, in a transient service that has
// what these tests are about and no more. In the list DIR and HOG are replaced.
func manage(t *testing.T, list string, properties ...string) *manager {
	t.Helper()
	unit := strings.ToLower(strings.NewReplacer("/", "-", "_", "-").Replace(t.Name()))
	m := &manager{t: t, unit: unit, dir: filepath.Join("/var/tmp", unit), patience: patience,
		since: fmt.Sprintf("--since=@%d", time.Now().Unix())}
	m.Client = client.New(filepath.Join("/run", unit, "control.sock"))
	for _, dir := range []string{m.dir, "/var/lib/" + unit} {
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(m.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	m.write(list)
	args := []string{"--collect", "--quiet", "--unit=" + unit, "-p", "Type=notify",
		"-p", "Delegate=cpu io memory pids", "-p", "OOMPolicy=continue", "-p", "KillMode=mixed", "-p", "TasksMax=infinity",
		"-p", "RuntimeDirectory=" + unit, "-p", "StateDirectory=" + unit, "-p", "LogRateLimitIntervalSec=1", "-p", "LogRateLimitBurst=100000000"}
	for _, p := range append(properties, protected) {
		args = append(args, "-p", p)
	}
	args = append(args, "workersd", "--config", m.list())
	t.Cleanup(m.stop)
	if out, err := exec.Command("systemd-run", args...).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s\n%s", err, out, m.journal())
	}
	return m
}

func (m *manager) list() string { return filepath.Join(m.dir, "workers.toml") }

func (m *manager) write(list string) {
	m.t.Helper()
	list = strings.NewReplacer("DIR", m.dir, "HOG", program(m.t, "hog")).Replace(list)
	if err := os.WriteFile(m.list(), []byte(list), 0o600); err != nil {
		m.t.Fatal(err)
	}
}

// reload puts another list in force.
func (m *manager) reload(list string) client.Plan {
	m.t.Helper()
	m.write(list)
	p, err := m.Reload(m.t.Context(), false)
	if err != nil {
		m.t.Fatal(err)
	}
	return p
}

func (m *manager) stop() {
	out, err := exec.Command("systemctl", "stop", m.unit).CombinedOutput()
	if err != nil && !strings.Contains(string(out), "not loaded") {
		m.t.Errorf("systemctl stop: %v: %s", err, out)
	}
	if _, err := os.Stat(m.root()); !os.IsNotExist(err) {
		m.t.Errorf("%s is left (%v)", m.root(), err)
	}
	if m.t.Failed() {
		m.t.Logf("its journal:\n%s", m.journal())
	}
	m.Close()
	os.RemoveAll(m.dir)
}

func (m *manager) journal() []byte {
	out, _ := exec.Command("journalctl", "--no-pager", "-o", "short-precise", m.since, "-u", m.unit).CombinedOutput()
	return out
}

func (m *manager) root() string { return "/sys/fs/cgroup/system.slice/" + m.unit + ".service" }

// pid is the manager's own.
func (m *manager) pid() int {
	m.t.Helper()
	s, err := m.Status(m.t.Context())
	if err != nil {
		m.t.Fatal(err)
	}
	return s.Manager.PID
}

// leaf is the cgroup of one process.
func (m *manager) leaf(worker string, generation uint64) string {
	return fmt.Sprintf("%s/workers/%s:%d", m.root(), worker, generation)
}

// worker is what the manager knows of one.
func (m *manager) worker(name string) client.Worker {
	m.t.Helper()
	s, err := m.Status(m.t.Context(), name)
	if err != nil {
		m.t.Fatal(err)
	}
	return s.Workers[0]
}

// record waits for a record of a worker's process.
func (m *manager) record(worker string, generation uint64, kind event.Kind) client.Record {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(m.t.Context(), m.patience)
	defer cancel()
	var found client.Record
	enough := errors.New("enough")
	err := m.Events(ctx, -1, true, []string{worker}, func(r client.Record) error {
		if r.Generation == generation && r.Kind == kind {
			found = r
			return enough
		}
		return nil
	})
	if !errors.Is(err, enough) {
		m.t.Fatalf("never: %s of %s:%d (%v)", kind, worker, generation, err)
	}
	return found
}

// records are those of a kind until now.
func (m *manager) records(kind event.Kind, workers ...string) (rs []client.Record) {
	m.t.Helper()
	err := m.Events(m.t.Context(), -1, false, workers, func(r client.Record) error {
		if r.Kind == kind {
			rs = append(rs, r)
		}
		return nil
	})
	if err != nil {
		m.t.Fatal(err)
	}
	return rs
}

// gone waits for the end of a process and checks its reason.
func (m *manager) gone(worker string, generation uint64, reason event.Reason) client.Record {
	m.t.Helper()
	r := m.record(worker, generation, event.Gone)
	if r.Reason != reason {
		m.t.Fatalf("%s:%d ended with the reason %s, want %s: %s", worker, generation, r.Reason, reason, asJSON(r))
	}
	return r
}

func asJSON(v any) string {
	b, _ := json.Marshal(v)
	return string(b)
}

// said waits for a line of the report of a worker's process.
func (m *manager) said(worker string, generation uint64, word string) map[string]int64 {
	m.t.Helper()
	file := filepath.Join(m.dir, worker)
	// Looking takes time away from the worker: a guest has little.
	for end := time.Now().Add(m.patience); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		for _, l := range lines(file, word) {
			if uint64(l["gen"]) == generation {
				return l
			}
		}
	}
	m.t.Fatalf("never: %s:%d says %q", worker, generation, word)
	return nil
}

// lines are the figures of a report's whole lines that begin with word.
func lines(file, word string) (all []map[string]int64) {
	b, _ := os.ReadFile(file)
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) == 0 || f[0] != word || !strings.HasSuffix(line, "\n") {
			continue
		}
		figures := map[string]int64{}
		for _, x := range f[1:] {
			key, value, _ := strings.Cut(x, "=")
			figures[key], _ = strconv.ParseInt(value, 10, 64)
		}
		all = append(all, figures)
	}
	return all
}

// alone checks that no process of a worker was started before nothing was left
// of the one before, by what each of them saw of its siblings at its start.
func (m *manager) alone(workers ...string) {
	m.t.Helper()
	for _, w := range workers {
		starts := lines(filepath.Join(m.dir, w), "start")
		var last int64
		for _, s := range starts {
			if s["alive"] != 1 || s["gen"] <= last {
				m.t.Errorf("%s: at the start of generation %d, after %d, %d generations were alive", w, s["gen"], last, s["alive"])
			}
			last = s["gen"]
		}
		if len(starts) == 0 {
			m.t.Errorf("%s was never started", w)
		}
	}
}

// ctl is what workersctl prints.
func (m *manager) ctl(args ...string) string {
	m.t.Helper()
	cmd := exec.Command("workersctl", append([]string{"--socket", filepath.Join("/run", m.unit, "control.sock")}, args...)...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		m.t.Fatalf("workersctl %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// journalOf is the journal's records about the end of one process.
func (m *manager) journalOf(worker string, generation uint64) (found []map[string]any) {
	m.t.Helper()
	args := []string{"--no-pager", "-o", "json", "--output-fields=MESSAGE_ID,MESSAGE,PRIORITY,WORKERSD_REASON,WORKERSD_POST_MORTEM,WORKERSD_MEMORY_PEAK_BYTES,WORKERSD_PIDS_PEAK",
		m.since, "-u", m.unit, "WORKERSD_EVENT=gone", "WORKERSD_WORKER=" + worker, fmt.Sprint("WORKERSD_GENERATION=", generation)}
	eventually(m.t, "the end in the journal", func() bool {
		out, err := exec.Command("journalctl", args...).Output()
		if err != nil {
			m.t.Fatal(err)
		}
		found = nil
		for line := range strings.Lines(string(out)) {
			var r map[string]any
			if err := json.Unmarshal([]byte(line), &r); err != nil {
				m.t.Fatal(err)
			}
			found = append(found, r)
		}
		return len(found) > 0
	})
	return found
}

// within fails unless least <= n <= most.
func within(t *testing.T, what string, n, least, most int64) {
	t.Helper()
	if n < least || n > most {
		t.Errorf("%s = %d, want %d to %d", what, n, least, most)
	}
}

// stays checks that something is true for a while: long enough for the manager
// to have acted, if it were to.
func stays(t *testing.T, what string, d time.Duration, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if !ok() {
			t.Fatalf("no longer: %s", what)
		}
	}
}

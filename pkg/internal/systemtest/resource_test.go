package systemtest

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/workersd/workersd/pkg/internal/event"
)

// files checks control files of a leaf.
func files(t *testing.T, leaf string, want map[string]string) {
	t.Helper()
	for file, text := range want {
		if got := read(t, leaf, file); got != text {
			t.Errorf("%s = %q, want %q", file, got, text)
		}
	}
}

const limits = `
[worker.w]
command = ["HOG", "-report=DIR/w", "-to=60", "grow"]
`

// Every limit is in the leaf, and a reload changes it under the living process.
func TestLiveLimits(t *testing.T) {
	m := manage(t, limits+`
soft_memory_limit = "100M"
hard_memory_limit = "200M"
cpu_max = 0.5
cpu_weight = 50
io_weight = 200
pids_max = 64
`)
	m.said("w", 1, "full")
	leaf, pid := m.leaf("w", 1), m.worker("w").PID
	files(t, leaf, map[string]string{
		"memory.high": "104857600", "memory.max": "209715200", "memory.swap.max": "0", "memory.oom.group": "1",
		"cpu.max": "50000 100000", "cpu.weight": "50", "io.weight": "default 200", "pids.max": "64",
	})
	// The pool's limit must have one victim.
	files(t, m.root()+"/workers", map[string]string{"memory.oom.group": "0", "memory.max": "max", "cgroup.procs": ""})

	p := m.reload("[manager]\nmemory_limit = \"500M\"\n" + limits + `
soft_memory_limit = "80M"
hard_memory_limit = "120M"
swap_limit = "10M"
cpu_weight = 75
`)
	if len(p.Changed) != 1 || len(p.Changed[0].Restart) != 0 || !slices.Equal(p.Changed[0].Live, []string{
		"soft_memory_limit", "hard_memory_limit", "swap_limit", "cpu_max", "cpu_weight", "pids_max", "io_weight"}) {
		t.Errorf("changed: %s", asJSON(p.Changed))
	}
	eventually(t, "the new limits are in the leaf", func() bool { return read(t, leaf, "memory.max") == "125829120" })
	files(t, leaf, map[string]string{
		"memory.high": "83886080", "memory.swap.max": "10485760",
		"cpu.max": "max 100000", "cpu.weight": "75", "io.weight": "default 100", "pids.max": "max",
	})
	eventually(t, "the pool has its limit", func() bool { return read(t, m.root(), "workers/memory.max") == "524288000" })
	if st := m.worker("w"); st.PID != pid || st.Generation != 1 {
		t.Errorf("the process was touched: %s", asJSON(st))
	}

	// Both limits below what it holds: it is recycled by the soft way and not
	// killed; the next one is born under the new limits.
	m.reload(limits + "soft_memory_limit = \"20M\"\nhard_memory_limit = \"40M\"\n")
	if r := m.gone("w", 1, event.SoftMemory); r.Status != "exit 0" && r.Status != "signal SIGTERM" {
		t.Errorf("%s", asJSON(r))
	}
	m.said("w", 2, "start")
	files(t, m.leaf("w", 2), map[string]string{"memory.max": "41943040"})
	m.alone("w")
}

// A worker that holds more than its new hard limit and does not leave keeps the
// old one until less is in use; the pool's limit waits as well.
func TestLimitsBelowUse(t *testing.T) {
	list := `
[worker.w]
command = ["HOG", "-report=DIR/w", "-to=60", "-ignore-term", "grow"]
stop_timeout = "5m"
`
	m := manage(t, list)
	m.said("w", 1, "full")
	leaf := m.leaf("w", 1)
	m.reload("[manager]\nmemory_limit = \"30M\"\n" + list + "soft_memory_limit = \"20M\"\nhard_memory_limit = \"40M\"\n")
	m.said("w", 1, "sigterm")
	stays(t, "it lives, above both limits", 2*time.Second, func() bool {
		return read(t, leaf, "memory.max") == "314572800" && read(t, m.root(), "workers/memory.max") == "max"
	})
	eventually(t, "nothing brakes it", func() bool { return read(t, leaf, "memory.high") == "max" })
	if err := syscall.Kill(m.worker("w").PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	m.said("w", 2, "start")
	eventually(t, "the pool's limit is in force", func() bool { return read(t, m.root(), "workers/memory.max") == "31457280" })
}

// However a worker gets into its leaf, the first page that it touches is
// charged there: all that it has is what the leaf was charged with.
func TestFirstPage(t *testing.T) {
	for name, properties := range map[string][]string{
		"clone3": nil,
		// clone3 is hidden by seccomp: our own program joins the leaf and becomes
		// the worker.
		"trampoline": {"RestrictNamespaces=yes"},
	} {
		t.Run(name, func(t *testing.T) {
			m := manage(t, `
[worker.w]
command = ["HOG", "-report=DIR/w", "-to=8", "-every=0", "grow"]
`, properties...)
			m.said("w", 1, "full")
			firstPage(t, m.worker("w").PID, m.leaf("w", 1))
			if got := read(t, m.root(), "cgroup.procs"); got != "" {
				t.Errorf("processes in the root: %s", got)
			}
			m.ctl("restart", "w")
			m.said("w", 2, "full")
			firstPage(t, m.worker("w").PID, m.leaf("w", 2))
			m.alone("w")
		})
	}
}

func firstPage(t *testing.T, pid int, leaf string) {
	t.Helper()
	// The statistics lag a little behind the charge.
	var has, charged int64
	eventually(t, "what a child has is charged to its own leaf", func() bool {
		fmt.Sscan(strings.TrimPrefix(find(t, read(t, fmt.Sprintf("/proc/%d/smaps_rollup", pid)), "Anonymous:"), "Anonymous:"), &has)
		charged = flat(t, read(t, leaf, "memory.stat"), "anon")
		return has<<10 == charged
	})
	within(t, "charged", charged, 8*mib, 40*mib)
}

func find(t *testing.T, text, prefix string) string {
	t.Helper()
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, prefix) {
			return line
		}
	}
	t.Fatalf("no line %q in %q", prefix, text)
	return ""
}

// Somebody else changes cgroups under the manager. Each time it says so, goes
// on, and the worker can be had again.
func TestForeignHands(t *testing.T) {
	m := manage(t, `
[worker.moved]
command = ["HOG", "-report=DIR/moved", "-ignore-term", "idle"]
stop_timeout = "1s"
[worker.bystander]
command = ["HOG", "-report=DIR/bystander", "idle"]
[worker.readonly]
command = ["HOG", "-report=DIR/readonly", "-to=30", "grow"]
soft_memory_limit = "100M"
[worker.full]
command = ["HOG", "-report=DIR/full", "idle"]
restart_delay = "50ms"
restart_delay_max = "100ms"
`)
	bystander := m.worker("bystander")

	// A process is moved out, and its leaf is removed. It does not listen, and
	// has to be killed where it is.
	m.said("moved", 1, "start")
	pid := m.worker("moved").PID
	if err := os.WriteFile("/sys/fs/cgroup/cgroup.procs", fmt.Append(nil, pid), 0); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Rmdir(m.leaf("moved", 1)); err != nil {
		t.Fatal(err)
	}
	if st := m.worker("moved"); st.PID != pid {
		t.Errorf("%s", asJSON(st))
	}
	m.ctl("restart", "moved")
	m.gone("moved", 1, event.Restarted)
	m.said("moved", 2, "start")

	// A file that cannot be written.
	m.said("readonly", 1, "full")
	file := filepath.Join(m.leaf("readonly", 1), "memory.max")
	if err := syscall.Mount("/proc/version", file, "", syscall.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(m.list())
	if err != nil {
		t.Fatal(err)
	}
	m.reload(strings.Replace(string(b), `"100M"`, "\"100M\"\nhard_memory_limit = \"250M\"", 1))
	eventually(t, "the manager says what it could not write", func() bool {
		return strings.Contains(string(m.journal()), "readonly: ") && strings.Contains(string(m.journal()), "to memory.max: ")
	})
	if err := syscall.Unmount(file, 0); err != nil {
		t.Fatal(err)
	}

	// No leaf can be made.
	m.said("full", 1, "start")
	if err := os.WriteFile(m.root()+"/workers/cgroup.max.descendants", []byte("0"), 0); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(m.worker("full").PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the start that failed is recorded", func() bool {
		rs := m.records(event.NotStarted, "full")
		return len(rs) > 0 && strings.Contains(rs[0].Message, "workers/full:")
	})
	if err := os.WriteFile(m.root()+"/workers/cgroup.max.descendants", []byte("max"), 0); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is up again", func() bool { return m.worker("full").State == "up" })

	if st := m.worker("bystander"); st.PID != bystander.PID || st.Generation != bystander.Generation {
		t.Errorf("another worker was touched: %s", asJSON(st))
	}
	m.alone("moved", "bystander", "readonly", "full")
}

// What workersctl show prints of a living process is the kernel's statistics.
func TestShow(t *testing.T) {
	m := manage(t, limits)
	m.said("w", 1, "full")
	show := m.ctl("show", "w")
	for _, want := range []string{"anon ", "cpu ", "pids ", "memory peak ", "limits reached ", "pressure ", "io "} {
		if !strings.Contains(show, want) {
			t.Errorf("no %q in what workersctl show prints:\n%s", want, show)
		}
	}
	t.Logf("%s", show)
}

package systemtest

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/workersd/workersd/pkg/client"
)

// ExecStartPost= runs when READY=1 has come, and sees what it means.
func TestServiceReady(t *testing.T) {
	s := newService(t, sleepers(12, "")+"[worker.none]\ncommand = [\"/nonexistent/program\"]\n",
		"[Service]\nExecStartPost=/bin/sh -c '/usr/bin/workersctl --json status >/run/workersd/post'\n")
	s.start()
	var st client.Status
	if err := json.Unmarshal([]byte(read(t, "/run/workersd/post")), &st); err != nil {
		t.Fatal(err)
	}
	if len(st.Workers) != 13 {
		t.Errorf("%d workers at READY=1", len(st.Workers))
	}
	for _, w := range st.Workers {
		if w.Generation == 0 {
			t.Errorf("READY=1 was said, and %s was not tried: %+v", w.Name, w)
		}
	}
	eventually(t, "the status text counts who is up and who is not", func() bool {
		return s.show("StatusText") == "12 of 13 up, 0 recycled in the last hour, 1 backing off"
	})
	if path := read(t, fmt.Sprintf("/proc/%d/cgroup", s.pid())); path != "0::/workersd.slice/workersd.service/manager" {
		t.Errorf("the manager is in %s", path)
	}
}

func TestServiceReload(t *testing.T) {
	s := newService(t, sleepers(3, ""))
	s.start()
	first := s.up(3)
	s.list(sleepers(3, "") + shell("more", "exec sleep infinity", "replicas = 2"))
	run(t, "systemctl", "reload", unit)
	if n := s.status().Manager.Workers; n != 5 {
		t.Errorf("systemctl reload returned, and %d workers are in the list that is in force, want 5", n)
	}
	second := s.up(5)
	for name, pid := range first {
		if second[name] != pid {
			t.Errorf("%s: pid %d, was %d", name, second[name], pid)
		}
	}

	s.list("[worker.sleep]\ncomand = [\"/usr/bin/sleep\"]\nreplicas = \"x\"\n")
	fails(t, "systemctl", "reload", unit)
	for property, want := range map[string]string{"ActiveState": "active", "SubState": "running", "ReloadResult": "exit-code", "NRestarts": "0"} {
		if got := s.show(property); got != want {
			t.Errorf("after a reload that was refused %s=%s, want %s", property, got, want)
		}
	}
	said := s.journal("-o", "cat")
	contains(t, "journal", said, "the old one stays in force", "workers.toml:2:1:", "workers.toml:3:")
	if third := s.up(5); !maps.Equal(second, third) {
		t.Errorf("a refused list changed pids: %v, were %v", third, second)
	}

	// What systemd does for others is none of the workers' business.
	run(t, "systemctl", "daemon-reload")
	run(t, "systemctl", "set-property", "--runtime", unit, "CPUWeight=90")
	s.list(sleepers(4, ""))
	run(t, "systemctl", "kill", "-s", "HUP", "--kill-whom=main", unit)
	fourth := s.up(4)
	if fourth["sleep#1"] != second["sleep#1"] {
		t.Errorf("after SIGHUP: %v, were %v", fourth, second)
	}
	s.onceEach(4)
}

// A worker that needs longer than TimeoutStopSec= for its work gets the time.
func TestServiceDrain(t *testing.T) {
	s := newService(t, shell("slow", `trap "sleep 12; echo finished; exit 0" TERM; echo up; while :; do sleep 0.2; done`, `stop_timeout = "80s"`),
		"[Service]\nTimeoutStopSec=3\nWatchdogSec=6\n")
	s.start()
	s.up(1)
	eventually(t, "the worker has its trap", func() bool { return strings.Contains(s.journal("-o", "cat", "-t", "slow"), "up") })
	run(t, "systemctl", "stop", unit)
	contains(t, "what the worker wrote", s.journal("-o", "cat", "-t", "slow"), "finished")
	if got := s.show("Result"); got != "success" {
		t.Errorf("Result=%s", got)
	}
	nothingLeft(t)
}

// The loop stands still: systemd's watchdog ends the manager, its stacks say
// where it stood, and all is well again.
func TestServiceWatchdog(t *testing.T) {
	s := newService(t, sleepers(3, ""), quickly+"WatchdogSec=8\nTimeoutAbortSec=60\nExecStart=\nExecStart="+
		program(t, "workersd-hang")+" --config "+listFile+"\n")
	s.start()
	s.up(3)
	if err := syscall.Kill(s.pid(), syscall.SIGUSR2); err != nil {
		t.Fatal(err)
	}
	eventually(t, "systemd restarts the manager", func() bool {
		if s.show("NRestarts") != "0" {
			return true
		}
		for _, m := range members() { // the loop hangs at the next record
			syscall.Kill(m.pid, syscall.SIGKILL)
		}
		return false
	})
	s.up(3)
	s.onceEach(3)
	said := s.journal("-o", "cat")
	contains(t, "journal", said, "Watchdog timeout", "SIGABRT: abort", "mayHang", "supervisor.(*Supervisor).Run", "Failed with result 'watchdog'")
}

func TestServiceBadList(t *testing.T) {
	const broken = "[worker.sleep]\ncommand = [\"/usr/bin/sleep\", \"infinity\"]\nreplicass = 3\nmax_requests = \"many\"\n"
	s := newService(t, broken)
	fails(t, "systemctl", "start", unit)
	for property, want := range map[string]string{"ActiveState": "failed", "ExecMainStatus": "78", "NRestarts": "0"} {
		if got := s.show(property); got != want {
			t.Errorf("%s=%s, want %s", property, got, want)
		}
	}
	contains(t, "errors in the journal", s.journal("-o", "cat", "-p", "err"), "workers.toml:3:1:", "replicass", "workers.toml:4:", "max_requests")
	s.list(sleepers(3, ""))
	s.start()
	s.up(3)

	// Broken behind the manager's back: an automatic restart goes on with what
	// was accepted last, and says so.
	s.list(broken)
	before := s.pid()
	if err := syscall.Kill(before, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, "another manager", func() bool { p := s.pid(); return p != 0 && p != before })
	s.up(3)
	s.onceEach(3)
	contains(t, "errors in the journal", s.journal("-o", "cat", "-p", "err"), "the last accepted one is used instead", "workers.toml:3:1:")
	fails(t, "systemctl", "reload", unit)
	s.list(sleepers(4, ""))
	run(t, "systemctl", "reload", unit)
	s.up(4)
}

// What an operator stopped stays so over a restart of the manager, however it
// comes about.
func TestServiceOperatorStop(t *testing.T) {
	s := newService(t, sleepers(3, ""), quickly)
	s.start()
	s.up(3)
	run(t, "workersctl", "stop", "sleep#2")
	stopped := func(when string) {
		t.Helper()
		up := s.up(2)
		if up["sleep#2"] != 0 {
			t.Errorf("%s: %v are up", when, up)
		}
		eventually(t, "the status text counts them", func() bool {
			return s.show("StatusText") == "2 of 2 up, 0 recycled in the last hour"
		})
	}
	stopped("at first")
	run(t, "systemctl", "restart", unit)
	stopped("after systemctl restart")
	before := s.pid()
	syscall.Kill(before, syscall.SIGKILL)
	eventually(t, "another manager", func() bool { p := s.pid(); return p != 0 && p != before })
	stopped("after SIGKILL of the manager")
	run(t, "systemctl", "stop", unit)
	run(t, "systemctl", "start", unit)
	stopped("after systemctl stop and start")
	run(t, "workersctl", "start", "sleep#2")
	s.up(3)
	if _, err := os.Stat("/var/lib/workersd"); err != nil {
		t.Error(err)
	}
}

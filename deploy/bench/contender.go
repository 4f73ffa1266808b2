package main

import (
	"cmp"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// load is what a contender is given to keep alive: n copies of `sh -c script`.
type load struct {
	dir    string // of the contender alone
	n      int
	script string
	soft   string // soft_memory_limit; "": 200M
	log    string // where the workers write, a file or "journal"; "": the contender's own output
}

// contender is one supervisor.
type contender struct {
	name    string
	needs   string // program that must be there
	from    string // Debian package of it
	command func(load) ([]string, error)
	stop    syscall.Signal
	judged  bool // measured in every round, and at full size
	logs    bool // can copy a worker's output into a file
	unit    bool // runs as a service of systemd
}

var contenders = []contender{
	{name: "floor", command: floorCommand("none"), stop: syscall.SIGTERM, judged: true, logs: true},
	{name: "floor with duties", command: floorCommand("terminal"), stop: syscall.SIGTERM, judged: true},
	{name: "workersd", needs: "workersd", from: "this project", command: workersdCommand, stop: syscall.SIGTERM, judged: true, logs: true},
	{name: "supervisord", needs: "supervisord", from: "supervisor", command: supervisordCommand, stop: syscall.SIGTERM, logs: true},
	{name: "runit", needs: "runsvdir", from: "runit", command: runitCommand, stop: syscall.SIGHUP},
	{name: "s6", needs: "s6-svscan", from: "s6", command: s6Command, stop: syscall.SIGTERM},
}

// guestContenders are those of the VM, where there are systemd and cgroups.
var guestContenders = []contender{
	contenders[0],
	{name: "floor with duties", command: floorCommand("service"), stop: syscall.SIGTERM, judged: true},
	{name: "workersd", needs: "workersd", from: "this project", command: serviceCommand, stop: syscall.SIGTERM, judged: true, unit: true},
}

func (c contender) missing() string {
	if c.needs == "" {
		return ""
	}
	if _, err := exec.LookPath(c.needs); err != nil {
		return fmt.Sprintf("%s is not installed (%s)", c.needs, c.from)
	}
	return ""
}

// command is what each worker is.
func (l load) command() []string { return []string{"/bin/sh", "-c", l.script} }

// floorCommand is a floor with the duties of that name.
func floorCommand(duties string) func(load) ([]string, error) {
	return func(l load) ([]string, error) {
		self, err := os.Executable()
		if l.log != "" {
			return append([]string{self, "copy", l.log}, l.command()...), err
		}
		return append([]string{self, "floor", duties, l.dir, strconv.Itoa(l.n)}, l.command()...), err
	}
}

// changed is how many workers of a list are of an entry of their own, which a
// reload changes.
const changed = 5

// writeList writes a worker list; limits are on. A worker that is killed is
// started again at once: its back-off is a microsecond.
func writeList(l load, edition int) (path string, err error) {
	path = filepath.Join(l.dir, "workers.toml")
	log := "inherit"
	if l.log != "" {
		log = l.log
	}
	var b strings.Builder
	fmt.Fprintf(&b, `[manager]
max_workers = 100000
[defaults]
soft_memory_limit = %q
hard_memory_limit = "300M"
restart_delay = "1us"
restart_delay_max = "1us"
log = %q
log_max_size = "10G"
`, cmp.Or(l.soft, "200M"), log)
	few := min(changed, l.n-1)
	for _, e := range []struct {
		name string
		n    int
	}{{"w", l.n - few}, {"x", few}} {
		if e.n == 0 {
			continue
		}
		fmt.Fprintf(&b, "[worker.%s]\ncommand = [\"/bin/sh\", \"-c\", %q]\nmatrix.i = [", e.name, l.script)
		for i := range e.n {
			fmt.Fprintf(&b, "%d,", i)
		}
		b.WriteString("]\n")
		if e.name == "x" {
			fmt.Fprintf(&b, "environment.EDITION = \"%d\"\n", edition)
		}
	}
	return path, os.WriteFile(path, []byte(b.String()), 0o644)
}

func workersdCommand(l load) ([]string, error) {
	list, err := writeList(l, 0)
	return []string{"workersd", "--config", list, "--socket", filepath.Join(l.dir, "s"), "--no-scope"}, err
}

// serviceName is the unit that workersd is measured as in the VM.
const serviceName = "workersd-bench.service"

// serviceCommand starts workersd as the unit does that is shipped, and its
// workers write to the journal.
func serviceCommand(l load) ([]string, error) {
	program, err := exec.LookPath("workersd")
	if err != nil {
		return nil, err
	}
	list, err := writeList(l, 0)
	argv := []string{"systemd-run", "--quiet", "--unit=" + serviceName, "--service-type=notify"}
	for _, p := range []string{
		"Delegate=cpu io memory pids", "KillMode=mixed", "OOMPolicy=continue", "TasksMax=infinity",
		"LimitNOFILE=524288", "LogRateLimitIntervalSec=1", "LogRateLimitBurst=100000000", "TimeoutStartSec=300", "NotifyAccess=main",
	} {
		argv = append(argv, "--property="+p)
	}
	return append(argv, program, "--config", list, "--socket", filepath.Join(l.dir, "s")), err
}

func supervisordCommand(l load) ([]string, error) {
	conf := filepath.Join(l.dir, "supervisord.conf")
	log := "NONE"
	if l.log != "" {
		log = l.log
	}
	text := fmt.Sprintf(`[supervisord]
nodaemon=true
logfile=/dev/null
logfile_maxbytes=0
pidfile=%s/pid
minfds=15000
minprocs=15000
[program:w]
command=/bin/sh -c %q
process_name=%%(program_name)s_%%(process_num)05d
numprocs=%d
startsecs=0
autorestart=true
stdout_logfile=%s
stdout_logfile_maxbytes=0
stderr_logfile=NONE
`, l.dir, strings.ReplaceAll(l.script, "%", "%%"), l.n, log)
	return []string{"supervisord", "-c", conf}, os.WriteFile(conf, []byte(text), 0o644)
}

func services(l load) (string, error) {
	root := filepath.Join(l.dir, "services")
	for i := range l.n {
		d := filepath.Join(root, fmt.Sprintf("w%05d", i))
		if err := os.MkdirAll(d, 0o755); err != nil {
			return "", err
		}
		if err := os.WriteFile(filepath.Join(d, "run"), []byte("#!/bin/sh\n"+l.script+"\n"), 0o755); err != nil {
			return "", err
		}
	}
	return root, nil
}

func runitCommand(l load) ([]string, error) {
	root, err := services(l)
	return []string{"runsvdir", root}, err
}

func s6Command(l load) ([]string, error) {
	root, err := services(l)
	return []string{"s6-svscan", "-c", strconv.Itoa(l.n + 10), root}, err
}

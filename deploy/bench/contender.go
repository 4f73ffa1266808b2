package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

// contender is one supervisor that keeps n copies of `sh -c script` alive.
type contender struct {
	name    string
	needs   string // program that must be there
	from    string // Debian package of it
	command func(dir string, n int, script string) ([]string, error)
	stop    syscall.Signal
}

var contenders = []contender{
	{"floor", "", "", floorCommand, syscall.SIGTERM},
	{"workersd", "workersd", "this project", workersdCommand, syscall.SIGTERM},
	{"supervisord", "supervisord", "supervisor", supervisordCommand, syscall.SIGTERM},
	{"runit", "runsvdir", "runit", runitCommand, syscall.SIGHUP},
	{"s6", "s6-svscan", "s6", s6Command, syscall.SIGTERM},
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

func floorCommand(dir string, n int, script string) ([]string, error) {
	self, err := os.Executable()
	return []string{self, "floor", fmt.Sprint(n), "/bin/sh", "-c", script}, err
}

func workersdCommand(dir string, n int, script string) ([]string, error) {
	list := filepath.Join(dir, "workers.toml")
	text := fmt.Sprintf(`[manager]
max_workers = 100000
[worker.w]
command = ["/bin/sh", "-c", %q]
replicas = %d
restart_delay = "1ms"
restart_delay_max = "1ms"
log = "inherit"
`, script, n)
	return []string{"workersd", "--config", list, "--socket", filepath.Join(dir, "s"), "--no-scope"}, os.WriteFile(list, []byte(text), 0o644)
}

func supervisordCommand(dir string, n int, script string) ([]string, error) {
	conf := filepath.Join(dir, "supervisord.conf")
	text := fmt.Sprintf(`[supervisord]
nodaemon=true
logfile=/dev/null
logfile_maxbytes=0
pidfile=%s/pid
minfds=20000
minprocs=20000
[program:w]
command=/bin/sh -c %q
process_name=%%(program_name)s_%%(process_num)05d
numprocs=%d
startsecs=0
autorestart=true
stdout_logfile=NONE
stderr_logfile=NONE
`, dir, strings.ReplaceAll(script, "%", "%%"), n)
	return []string{"supervisord", "-c", conf}, os.WriteFile(conf, []byte(text), 0o644)
}

func services(dir string, n int, script string) (string, error) {
	root := filepath.Join(dir, "services")
	for i := range n {
		d := filepath.Join(root, fmt.Sprintf("w%05d", i))
		if err := os.MkdirAll(d, 0o755); err != nil {
			return "", err
		}
		if err := os.WriteFile(filepath.Join(d, "run"), []byte("#!/bin/sh\n"+script+"\n"), 0o755); err != nil {
			return "", err
		}
	}
	return root, nil
}

func runitCommand(dir string, n int, script string) ([]string, error) {
	root, err := services(dir, n, script)
	return []string{"runsvdir", root}, err
}

func s6Command(dir string, n int, script string) ([]string, error) {
	root, err := services(dir, n, script)
	return []string{"s6-svscan", "-c", fmt.Sprint(n + 10), root}, err
}

package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// stat is what /proc/PID/stat tells (proc_pid_stat(5)).
type stat struct {
	pid, ppid int
	comm      string
	cpu       time.Duration
	threads   int
}

const tick = 10 * time.Millisecond // USER_HZ is 100 on Linux

func readStat(pid int) (stat, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return stat{}, err
	}
	open, end := bytes.IndexByte(b, '('), bytes.LastIndexByte(b, ')')
	if open < 0 || end < open {
		return stat{}, fmt.Errorf("/proc/%d/stat: unexpected form", pid)
	}
	f := strings.Fields(string(b[end+2:]))
	num := func(i int) int { n, _ := strconv.Atoi(f[i]); return n }
	s := stat{pid: pid, comm: string(b[open+1 : end]), ppid: num(1), threads: num(17)}
	s.cpu = cpuOf(pid, time.Duration(num(11)+num(12))*tick)
	return s, nil
}

// cpuOf is finer than stat's ticks where the scheduler tells (nanoseconds of
// all threads that are alive).
func cpuOf(pid int, coarse time.Duration) time.Duration {
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	var sum time.Duration
	for _, t := range tasks {
		b, err := os.ReadFile(t)
		if err != nil {
			return coarse
		}
		first, _, _ := strings.Cut(string(b), " ")
		n, err := strconv.ParseInt(first, 10, 64)
		if err != nil {
			return coarse
		}
		sum += time.Duration(n)
	}
	return max(sum, coarse-tick)
}

// family is root and its descendants that are supervisors: not the workers.
func family(root int) []stat {
	all := map[int]stat{}
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, d := range dirs {
		pid, _ := strconv.Atoi(filepath.Base(d))
		if s, err := readStat(pid); err == nil {
			all[pid] = s
		}
	}
	var out []stat
	for pid, s := range all {
		switch s.comm {
		case "sleep", "sh", "dash", "seq":
			continue
		}
		for p := pid; p > 1; p = all[p].ppid {
			if p == root {
				out = append(out, s)
				break
			}
		}
	}
	return out
}

func cpu(root int) time.Duration {
	var sum time.Duration
	for _, s := range family(root) {
		sum += s.cpu
	}
	return sum
}

func threads(root int) int {
	n := 0
	for _, s := range family(root) {
		n += s.threads
	}
	return n
}

// pss is the proportional set size in KiB.
func pss(root int) int {
	sum := 0
	for _, s := range family(root) {
		b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", s.pid))
		for line := range strings.Lines(string(b)) {
			if rest, ok := strings.CutPrefix(line, "Pss:"); ok {
				n, _ := strconv.Atoi(strings.Fields(rest)[0])
				sum += n
			}
		}
	}
	return sum
}

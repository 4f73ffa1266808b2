package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// stat is what /proc/PID/stat tells (proc_pid_stat(5)).
type stat struct {
	ppid    int
	comm    string
	zombie  bool
	cpu     time.Duration // in ticks, also of threads that have ended
	threads int
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
	return stat{
		ppid: num(1), comm: string(b[open+1 : end]), zombie: f[0] == "Z",
		cpu: time.Duration(num(11)+num(12)) * tick, threads: num(17),
	}, nil
}

// cpuOf is finer than stat's ticks where the scheduler tells (nanoseconds of
// the threads that are alive).
func cpuOf(pid int) time.Duration {
	s, err := readStat(pid)
	if err != nil {
		return 0
	}
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	var sum time.Duration
	for _, t := range tasks {
		b, err := os.ReadFile(t)
		if err != nil {
			return s.cpu
		}
		first, _, _ := strings.Cut(string(b), " ")
		n, err := strconv.ParseInt(first, 10, 64)
		if err != nil {
			return s.cpu
		}
		sum += time.Duration(n)
	}
	return max(sum, s.cpu-tick)
}

// workers are what a worker is called, before and after its shell's exec.
var workers = []string{"sleep", "sh", "dash", "lines", "grow"}

// isWorker reports whether a pid is that of a worker that lives.
func isWorker(pid int) bool {
	s, err := readStat(pid)
	return err == nil && !s.zombie && slices.Contains(workers, s.comm)
}

// family is root and its descendants, without the workers.
func family(root int) (pids []int) {
	all := map[int]stat{}
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, d := range dirs {
		pid, _ := strconv.Atoi(filepath.Base(d))
		if s, err := readStat(pid); err == nil {
			all[pid] = s
		}
	}
	for pid, s := range all {
		if slices.Contains(workers, s.comm) {
			continue
		}
		for p := pid; p > 1; p = all[p].ppid {
			if p == root {
				pids = append(pids, pid)
				break
			}
		}
	}
	return pids
}

// pss is the proportional set size in KiB.
func pss(pid int) int {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, "Pss:"); ok {
			n, _ := strconv.Atoi(strings.Fields(rest)[0])
			return n
		}
	}
	return 0
}

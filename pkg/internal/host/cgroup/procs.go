package cgroup

import (
	"cmp"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/workersd/workersd/pkg/internal/event"
)

const (
	// tableRead bounds one pass over a leaf with very many processes.
	tableRead = 256
	// tableKept is how many of them, the largest, a post-mortem names.
	tableKept = 16
)

var pageSize = int64(os.Getpagesize())

// processTable reads the processes of pids, largest first. The command is the
// kernel's short name and not the command line, which may hold secrets.
func processTable(proc string, pids []int) []event.PostMortemProc {
	if len(pids) > tableRead {
		pids = pids[:tableRead]
	}
	table := make([]event.PostMortemProc, 0, len(pids))
	for _, pid := range pids {
		s, err := readAt(unix.AT_FDCWD, proc+"/"+strconv.Itoa(pid)+"/stat")
		if err != nil {
			continue // gone in the meantime
		}
		if p, ok := parseStat(s); ok {
			p.PID = pid
			table = append(table, p)
		}
	}
	slices.SortStableFunc(table, func(a, b event.PostMortemProc) int { return cmp.Compare(b.RSS, a.RSS) })
	return table[:min(len(table), tableKept)]
}

// parseStat takes the name, the parent and the resident size from the text of
// /proc/PID/stat. The name stands in parentheses and may hold any of them.
func parseStat(s string) (p event.PostMortemProc, ok bool) {
	open, end := strings.IndexByte(s, '('), strings.LastIndexByte(s, ')')
	if open < 0 || end < open {
		return p, false
	}
	p.Command = s[open+1 : end]
	f := strings.Fields(s[end+1:]) // from field 3, the state
	if len(f) < 22 {
		return p, false
	}
	ppid, err := strconv.Atoi(f[1])
	if err != nil {
		return p, false
	}
	rss, err := strconv.ParseInt(f[21], 10, 64)
	if err != nil {
		return p, false
	}
	p.PPID, p.RSS = ppid, rss*pageSize
	return p, true
}

// parsePIDs reads cgroup.procs. A process of a foreign pid namespace is 0.
func parsePIDs(s string) []int {
	var pids []int
	for f := range strings.FieldsSeq(s) {
		if n, err := strconv.Atoi(f); err == nil && n > 0 {
			pids = append(pids, n)
		}
	}
	return pids
}

// procsBelow are the processes of the cgroups below name in dir.
func procsBelow(dir int, name string) (pids []int) {
	for _, sub := range subdirs(dir, name) {
		sub = name + "/" + sub
		if s, err := readAt(dir, sub+"/cgroup.procs"); err == nil {
			pids = append(pids, parsePIDs(s)...)
		}
		pids = append(pids, procsBelow(dir, sub)...)
	}
	return pids
}

// PathOf is the cgroup v2 path of a process as the kernel writes it, relative
// to our cgroup namespace. ok is false when the process is gone.
func PathOf(proc string, pid int) (path string, ok bool) {
	b, err := os.ReadFile(filepath.Join(proc, strconv.Itoa(pid), "cgroup"))
	if err != nil {
		return "", false
	}
	return unified(string(b))
}

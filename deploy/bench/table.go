package main

import (
	"fmt"
	"io"
	"strings"
)

// measure is what was measured; its text is the row of the table.
type measure string

const (
	killWall          measure = "one killed → successor runs"
	startCPU          measure = "manager CPU to start %d"
	allWall           measure = "all %d killed at once → all back"
	stopWall          measure = "stop of %d"
	memoryOne         measure = "manager memory (PSS), one worker"
	memoryEach        measure = "the same for each worker more, up to %d"
	memory            measure = "all of it divided by %d workers"
	memoryLarge       measure = "all of it divided by %d workers "
	memoryMore        measure = "for each worker more, from %d to %d"
	idleCPU           measure = "idle CPU, limits on, %d workers, %v"
	idleCPULarge      measure = "the same, %d workers, %v"
	threads           measure = "threads of the manager, %d workers"
	threadsLarge      measure = "the same, %d workers "
	logCPU            measure = "manager CPU for %d log lines of one worker"
	logLost           measure = "lines of them lost"
	softWall          measure = "soft limit passed → signal handler, at 200 MiB/s"
	softOver          measure = "above the soft limit then"
	scaleCPU          measure = "start CPU per worker, %d over %d"
	reloadCPU         measure = "manager CPU of a reload of %d, 5 changed"
	reloadCPULarge    measure = "the same of %d"
	touched           measure = "workers touched by it, of %d"
	touchedLarge      measure = "workers touched by it, of %d "
	statusCPU         measure = "manager CPU of a status of %d"
	statusCPULarge    measure = "the same of %d "
	startWall         measure = "start of %d"
	logWall           measure = "time for the log lines"
	cpuPerWorker      measure = "manager CPU per start, %d workers"
	cpuPerWorkerLarge measure = "the same, %d workers  "
)

// goal is what is wanted of workersd: at most so much, as a ratio to the floor
// or to another of its own measures, or as it is.
type goal struct {
	most  float64
	over  measure // another measure of the same contender
	floor bool    // a ratio to the floor
	exact bool    // neither more nor less
}

// row is a line of the table.
type row struct {
	m    measure
	args []any
	unit string
	goal *goal
}

func (b *bench) rows(guest bool) []row {
	kill, start := 1.5, 2.0
	idle := 400.0 // at ten times the workers ten times as much
	if guest {
		kill, start, idle = 2.5, 4, 10
	}
	rows := []row{
		{killWall, nil, "ms", &goal{most: kill, floor: true}},
		{startCPU, []any{b.starts}, "ms", &goal{most: start, floor: true}},
		{allWall, []any{b.size}, "ms", &goal{most: 1.3, floor: true}},
		{stopWall, []any{b.size}, "ms", &goal{most: 1.5, floor: true}},
		{memoryOne, nil, "KiB", nil},
		{memoryEach, []any{b.size}, "KiB", &goal{most: 10}},
		{memory, []any{b.size}, "KiB", &goal{most: 10}},
		{memoryLarge, []any{b.large}, "KiB", &goal{most: 10}},
		{memoryMore, []any{b.size, b.large}, "KiB", &goal{most: 10}},
		{idleCPU, []any{b.size, b.idle}, "ms", &goal{most: idle * b.idle.Seconds() / 30}},
		{idleCPULarge, []any{b.large, b.idle}, "ms", &goal{most: idle * b.idle.Seconds() / 30 * float64(b.large) / float64(b.size)}},
		{threads, []any{b.size}, "", nil},
		{threadsLarge, []any{b.large}, "", &goal{most: 1.2, over: threads}},
		{logCPU, []any{b.lines}, "ms", &goal{most: 1.5, floor: true}},
		{logLost, nil, "", &goal{most: 0}},
		{scaleCPU, []any{b.large, b.size}, "", &goal{most: 1.2}},
		{reloadCPU, []any{b.size}, "ms", nil},
		{reloadCPULarge, []any{b.large}, "ms", &goal{most: 1.2 * float64(b.large) / float64(b.size), over: reloadCPU}},
		{touched, []any{b.size}, "", &goal{most: changed, exact: true}},
		{touchedLarge, []any{b.large}, "", &goal{most: changed, exact: true}},
		{statusCPU, []any{b.size}, "ms", nil},
		{statusCPULarge, []any{b.large}, "ms", &goal{most: 50}},
		{startWall, []any{b.size}, "ms", nil},
		{logWall, nil, "ms", nil},
	}
	if guest {
		rows = append(rows,
			row{softWall, nil, "ms", &goal{most: 10}},
			row{softOver, nil, "KiB", &goal{most: 8 << 10}})
		for i := range rows {
			switch rows[i].m {
			case logCPU:
				rows[i].goal = &goal{most: 0.05, floor: true} // it has no part in it; what else it does
			case statusCPULarge:
				rows[i].goal = nil // its goal is in ms of a machine that is none of these
			}
		}
	}
	return rows
}

// text is the goal as a person reads it.
func (g *goal) text(unit string) string {
	switch {
	case g == nil:
		return ""
	case g.floor:
		return fmt.Sprintf("≤ %g× floor", g.most)
	case g.over != "":
		return fmt.Sprintf("≤ %g× the one above", g.most)
	case g.exact:
		return fmt.Sprintf("%g", g.most)
	case unit == "KiB" && g.most >= 1024:
		return fmt.Sprintf("≤ %g MiB", g.most/1024)
	}
	return strings.TrimSpace(fmt.Sprintf("≤ %.4g %s", g.most, unit))
}

// met judges workersd; ok is false where it was not measured.
func (b *bench) met(r row) (met, ok bool) {
	v, most := median(b.r["workersd"][r.m]), r.goal.most
	base := 1.0
	switch {
	case r.goal.floor:
		base = median(b.r["floor"][r.m])
	case r.goal.over != "":
		base = median(b.r["workersd"][r.goal.over])
	}
	if v < 0 || base < 0 {
		return false, false
	}
	if r.goal.exact {
		return v == most, true
	}
	return v <= most*base, true
}

// report prints the table of all contenders that took part.
func (b *bench) report(w io.Writer, cs []contender, guest bool) {
	fmt.Fprint(w, "| |")
	for _, c := range cs {
		fmt.Fprintf(w, " %s |", c.name)
	}
	fmt.Fprintf(w, " goal | |\n|---|%s---|---|\n", strings.Repeat("---:|", len(cs)))
	for _, r := range b.rows(guest) {
		if len(b.r["workersd"][r.m]) == 0 {
			continue
		}
		name := strings.TrimSpace(string(r.m))
		if len(r.args) > 0 {
			name = fmt.Sprintf(name, r.args...)
		}
		fmt.Fprintf(w, "| %s |", name)
		for _, c := range cs {
			fmt.Fprintf(w, " %s |", b.cell(c, r))
		}
		verdict := ""
		if r.goal != nil {
			switch met, ok := b.met(r); {
			case !ok:
			case met:
				verdict = "met"
			default:
				verdict = "**missed**"
			}
		}
		fmt.Fprintf(w, " %s | %s |\n", r.goal.text(r.unit), verdict)
	}
}

func (b *bench) cell(c contender, r row) string {
	v := median(b.r[c.name][r.m])
	if v < 0 {
		return "–"
	}
	text := fmt.Sprintf("%.4g", v)
	if v >= 1000 {
		text = fmt.Sprintf("%.0f", v)
	}
	if r.unit != "" {
		text += " " + r.unit
	}
	if base := median(b.r["floor"][r.m]); c.name != "floor" && base > 0 && (r.goal == nil || r.goal.floor) {
		text += fmt.Sprintf(" (%.2f×)", v/base)
	}
	return text
}

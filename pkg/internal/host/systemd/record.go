package systemd

import (
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/workersd/workersd/pkg/internal/event"
	"github.com/workersd/workersd/pkg/spec"
)

// Record queues one record. Its fields carry the words of the worker list, so
// that `journalctl WORKERSD_WORKER=NAME` finds all of a worker's life.
func (j *Journal) Record(level slog.Level, r event.Record) {
	j.queue.Put(entry{priority: priority(level), message: recordText(r), fields: recordFields(r)})
}

// recordText is "NAME PID MESSAGE", as the origin wrote it.
func recordText(r event.Record) string {
	var b strings.Builder
	if r.Worker != "" {
		b.WriteString(r.Worker)
		b.WriteByte(' ')
		if r.PID != 0 {
			fmt.Fprintf(&b, "%d ", r.PID)
		}
	}
	b.WriteString(r.Message)
	return b.String()
}

func recordFields(r event.Record) map[string]string {
	f := map[string]string{"WORKERSD_EVENT": string(r.Kind)}
	if id := MessageID(r); id != "" {
		f["MESSAGE_ID"] = id
	}
	text := func(key, v string) {
		if v != "" {
			f["WORKERSD_"+key] = v
		}
	}
	number := func(key string, n int64) {
		if n != 0 {
			f["WORKERSD_"+key] = strconv.FormatInt(n, 10)
		}
	}
	usec := func(key string, d time.Duration) { number(key+"_USEC", d.Microseconds()) }
	text("WORKER", r.Worker)
	text("REASON", string(r.Reason))
	text("STATUS", r.Status)
	text("EXECUTION", r.Execution)
	number("SEQ", int64(r.Seq))
	number("GENERATION", int64(r.Generation))
	number("PID", int64(r.PID))
	number("EXECUTIONS", int64(r.Executions))
	number("MEMORY_BYTES", r.Memory)
	number("MEMORY_LIMIT_BYTES", r.MemoryLimit)
	usec("UPTIME", r.Uptime)
	usec("DELAY", r.Delay)
	usec("EXECUTION_AGE", r.ExecutionAge)
	if p := r.PostMortem; p != nil {
		number("MEMORY_PEAK_BYTES", p.Peak)
		number("SWAP_BYTES", p.Swap)
		number("PIDS_PEAK", p.PidsPeak)
		text("POST_MORTEM", PostMortemText(p))
	}
	return f
}

// PostMortemText is a post-mortem for a person, on several lines.
func PostMortemText(p *event.PostMortem) string {
	var b strings.Builder
	line := func(format string, a ...any) {
		if b.Len() > 0 {
			b.WriteByte('\n')
		}
		fmt.Fprintf(&b, format, a...)
	}
	if p.Peak > 0 {
		line("memory peak: %v", spec.Bytes(p.Peak))
	}
	if p.Swap > 0 {
		line("swap: %v", spec.Bytes(p.Swap))
	}
	if len(p.Stat) > 0 {
		line("memory.stat:")
		for _, k := range slices.Sorted(maps.Keys(p.Stat)) {
			line("  %s %v", k, spec.Bytes(p.Stat[k]))
		}
	}
	if len(p.Events) > 0 {
		line("memory.events since the start:")
		for _, k := range slices.Sorted(maps.Keys(p.Events)) {
			line("  %s %d", k, p.Events[k])
		}
	}
	if s := strings.TrimSpace(p.Pressure); s != "" {
		line("memory.pressure:\n  %s", strings.ReplaceAll(s, "\n", "\n  "))
	}
	if p.PidsPeak > 0 {
		line("pids peak: %d", p.PidsPeak)
	}
	if len(p.Procs) > 0 {
		line("processes:\n  %8s %8s %8s COMMAND", "PID", "PPID", "RSS")
		for _, q := range p.Procs {
			line("  %8d %8d %8v %s", q.PID, q.PPID, spec.Bytes(q.RSS), q.Command)
		}
	}
	if p.Note != "" {
		line("%s", p.Note)
	}
	return b.String()
}

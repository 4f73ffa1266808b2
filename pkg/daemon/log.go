package daemon

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/lmittmann/tint"
	"golang.org/x/sys/unix"

	"github.com/workersd/workersd/pkg/internal/event"
	"github.com/workersd/workersd/pkg/spec"
)

// terminal is where a person watches: the manager's log by tint on stderr, the
// workers' lines with their names in front on stdout. Each line is one write,
// so that none is torn.
type terminal struct {
	mu    sync.Mutex // guards out and buf: lines come from the log pump, one at a time
	out   io.Writer
	buf   []byte
	color bool
}

func newTerminal(out *os.File) *terminal {
	return &terminal{out: out, color: wantsColor(out)}
}

// wantsColor reports whether f is a terminal of a person who did not say
// NO_COLOR (https://no-color.org).
func wantsColor(f *os.File) bool {
	return os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb" && isTerminal(f)
}

func isTerminal(f *os.File) bool {
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}

// line writes one line of a worker. It blocks as long as the reader of stdout
// does: back-pressure, not loss.
func (t *terminal) line(worker string, text []byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	b := t.buf[:0]
	if t.color {
		b = fmt.Appendf(b, "\x1b[%dm%s\x1b[0m | ", colorOf(worker), worker)
	} else {
		b = append(append(b, worker...), " | "...)
	}
	b = append(append(b, text...), '\n')
	for len(b) > 0 {
		n, err := t.out.Write(b)
		if err != nil {
			break // nobody reads our stdout any more; the workers go on
		}
		b = b[n:]
	}
	t.buf = b[:0]
}

// colorOf gives a worker the same colour for all its life.
func colorOf(worker string) int {
	h := uint32(2166136261)
	for i := range len(worker) {
		h = (h ^ uint32(worker[i])) * 16777619
	}
	return []int{32, 33, 34, 35, 36, 92, 93, 94, 95, 96}[h%10]
}

// newTerminalLogger is the manager's own log for a person.
func newTerminalLogger(w *os.File, level slog.Leveler) *slog.Logger {
	return slog.New(tint.NewTextHandler(w, &tint.Options{
		Level: level, TimeFormat: "15:04:05.000", NoColor: !wantsColor(w),
	}))
}

// banner is the origin's: title, pid and how often memory is looked at.
func banner(log *slog.Logger, m spec.Manager, pid int) {
	title := m.Title
	if title == "" {
		title = "Workers Daemon"
	}
	text := title + " Starting"
	rule := strings.Repeat("=", max(len([]rune(text)), 29))
	log.Info(rule)
	log.Info(text)
	log.Info(rule)
	log.Info(fmt.Sprintf("Daemon process %d", pid))
	log.Info(fmt.Sprintf("Check point %v", m.CheckInterval))
}

// levelOf is how loud a record is.
func levelOf(r event.Record) slog.Level {
	switch r.Kind {
	case event.Warning, event.Stuck, event.NotStarted, event.ManagerRefused:
		return slog.LevelError
	case event.Recycling, event.Killing, event.BackingOff:
		return slog.LevelWarn
	case event.Gone:
		if !r.Reason.Planned() {
			return slog.LevelWarn
		}
	}
	return slog.LevelInfo
}

// logRecord writes one record as the origin wrote it, "NAME PID MESSAGE", with
// the figures behind it under the words of the worker list.
func logRecord(log *slog.Logger, r event.Record) {
	level := levelOf(r)
	if !log.Enabled(context.Background(), level) {
		return
	}
	var text strings.Builder
	if r.Worker != "" {
		text.WriteString(r.Worker)
		text.WriteByte(' ')
		if r.PID != 0 {
			fmt.Fprintf(&text, "%d ", r.PID)
		}
	}
	text.WriteString(r.Message)
	log.LogAttrs(context.Background(), level, text.String(), recordAttrs(r)...)
}

func recordAttrs(r event.Record) []slog.Attr {
	var a []slog.Attr
	if r.Generation != 0 {
		a = append(a, slog.Uint64("generation", r.Generation))
	}
	if r.Reason != "" {
		a = append(a, slog.String("reason", string(r.Reason)))
	}
	if r.Status != "" {
		a = append(a, slog.String("status", r.Status))
	}
	if r.Uptime != 0 {
		a = append(a, slog.Duration("uptime", r.Uptime.Round(time.Millisecond)))
	}
	if r.Executions != 0 {
		a = append(a, slog.Int("executions", r.Executions))
	}
	if r.Memory != 0 {
		a = append(a, slog.String("memory", spec.Bytes(r.Memory).String()))
	}
	if r.MemoryLimit > 0 {
		a = append(a, slog.String("limit", spec.Bytes(r.MemoryLimit).String()))
	}
	if p := r.PostMortem; p != nil && p.Peak > 0 {
		a = append(a, slog.String("memory_peak", spec.Bytes(p.Peak).String()))
	}
	return a
}

// terminalGone reports whether f was a terminal that has been hung up.
func terminalGone(f *os.File) bool {
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == unix.EIO
}

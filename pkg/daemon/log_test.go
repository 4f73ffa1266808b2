package daemon

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/workersd/workersd/pkg/internal/event"
	"github.com/workersd/workersd/pkg/internal/history"
	"github.com/workersd/workersd/pkg/internal/supervisor"
	"github.com/workersd/workersd/pkg/spec"
)

// plainLog is a log without times.
func plainLog(b *bytes.Buffer) *slog.Logger {
	return slog.New(slog.NewTextHandler(b, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}}))
}

// The origin's banner, and one that is as wide as a long title.
func TestBanner(t *testing.T) {
	for _, c := range []struct{ title, want string }{
		{"", `level=INFO msg="============================="
level=INFO msg="Workers Daemon Starting"
level=INFO msg="============================="
level=INFO msg="Daemon process 83307"
level=INFO msg="Check point 5s"
`},
		{"Empfänger der Warteschlangen für Post", `level=INFO msg="=============================================="
level=INFO msg="Empfänger der Warteschlangen für Post Starting"
level=INFO msg="=============================================="
level=INFO msg="Daemon process 83307"
level=INFO msg="Check point 5s"
`},
	} {
		var b bytes.Buffer
		banner(plainLog(&b), spec.Manager{Title: c.title, CheckInterval: 5 * time.Second}, 83307)
		if b.String() != c.want {
			t.Errorf("banner is\n%s, want\n%s", &b, c.want)
		}
	}
}

// A record reads as the origin's line, its figures behind it.
func TestLogRecord(t *testing.T) {
	for _, c := range []struct {
		r    event.Record
		want string
	}{
		{event.Record{Kind: event.Created, Worker: "Redis Worker-1", PID: 83308, Generation: 1, Message: "created"},
			`level=INFO msg="Redis Worker-1 83308 created" generation=1`},
		{event.Record{Kind: event.Gone, Reason: event.HardMemory, Worker: "w", PID: 7, Generation: 2, Message: "is not existed any more: killed", Status: "signal SIGKILL",
			Uptime: 1234567 * time.Microsecond, Executions: 3, Memory: 3 << 20, MemoryLimit: 2 << 20, PostMortem: &event.PostMortem{Peak: 1 << 30}},
			`level=WARN msg="w 7 is not existed any more: killed" generation=2 reason=hard_memory status="signal SIGKILL" uptime=1.235s executions=3 memory=3M limit=2M memory_peak=1G`},
		{event.Record{Kind: event.Gone, Reason: event.MaxRequests, Worker: "w", PID: 7, Generation: 2, Message: "gone"}, `level=INFO msg="w 7 gone" generation=2 reason=max_requests`},
		{event.Record{Kind: event.BackingOff, Worker: "w", Reason: event.Crashed, Message: "starts again in 1s"}, `level=WARN msg="w starts again in 1s" reason=crashed`},
		{event.Record{Kind: event.ManagerRefused, Message: "refused"}, `level=ERROR msg=refused`},
	} {
		var b bytes.Buffer
		logRecord(plainLog(&b), c.r)
		if got := strings.TrimSpace(b.String()); got != c.want {
			t.Errorf("%s\nwant %s", got, c.want)
		}
	}
}

// A line of a worker is one write with the name in front.
func TestTerminalLine(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	term := newTerminal(w)
	term.line("q@a", []byte("hello"))
	term.line("q@a", nil)
	term.color = true
	term.line("q@a", []byte("blue"))
	w.Close()
	var b bytes.Buffer
	if _, err := b.ReadFrom(r); err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprintf("q@a | hello\nq@a | \n\x1b[%dmq@a\x1b[0m | blue\n", colorOf("q@a"))
	if got := b.String(); got != want {
		t.Errorf("lines are %q, want %q", got, want)
	}
	term.line("q@a", []byte("nobody reads")) // and nothing breaks
}

// What systemctl status shows.
func TestStatusText(t *testing.T) {
	h, err := history.Open("", func(text string) { t.Error(text) })
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	now := time.Now()
	h.Add(event.Record{Seq: 1, Time: now.Add(-2 * time.Hour), Kind: event.Recycling})
	h.Add(event.Record{Seq: 2, Time: now.Add(-time.Minute), Kind: event.Recycling})
	d := &daemon{history: h}
	for _, c := range []struct {
		now  supervisor.Counts
		want string
	}{
		{supervisor.Counts{Wanted: 2, Up: 2}, "2 of 2 up, 1 recycled in the last hour"},
		{supervisor.Counts{Title: "Mail", Wanted: 2, Up: 1, Backoff: 1}, "Mail: 1 of 2 up, 1 recycled in the last hour, 1 backing off"},
		{supervisor.Counts{Stopping: true, Living: 1}, "stopping, 1 worker still drains"},
		{supervisor.Counts{Stopping: true, Living: 2}, "stopping, 2 workers still drain"},
	} {
		c.now.Time = now
		if got := d.statusText(c.now); got != c.want {
			t.Errorf("%q, want %q", got, c.want)
		}
	}
}

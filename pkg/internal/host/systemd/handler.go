package systemd

import (
	"context"
	"log/slog"
	"maps"
	"strconv"
	"strings"
	"time"

	sdjournal "github.com/coreos/go-systemd/v22/journal"
)

// handler is a slog.Handler that queues for journald. Attributes become fields
// with the prefix WORKERSD_; for people they stand behind the message too.
type handler struct {
	journal *Journal
	level   slog.Leveler
	group   string // "CONTROL_" within group "control"
	fields  map[string]string
	text    string
}

// Handler makes the journal a target of log/slog.
func (j *Journal) Handler(level slog.Leveler) slog.Handler {
	return &handler{journal: j, level: level}
}

func (h *handler) Enabled(_ context.Context, l slog.Level) bool { return l >= h.level.Level() }

func (h *handler) Handle(_ context.Context, r slog.Record) error {
	e := entry{priority: priority(r.Level), fields: make(map[string]string, len(h.fields)+r.NumAttrs()+1)}
	maps.Copy(e.fields, h.fields)
	var text strings.Builder
	text.WriteString(r.Message)
	text.WriteString(h.text)
	r.Attrs(func(a slog.Attr) bool {
		addAttr(e.fields, &text, h.group, a)
		return true
	})
	e.message = text.String()
	h.journal.queue.Put(e)
	return nil
}

func (h *handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	c := *h
	c.fields = maps.Clone(h.fields)
	if c.fields == nil {
		c.fields = map[string]string{}
	}
	var text strings.Builder
	for _, a := range attrs {
		addAttr(c.fields, &text, h.group, a)
	}
	c.text += text.String()
	return &c
}

func (h *handler) WithGroup(name string) slog.Handler {
	if name == "" {
		return h
	}
	c := *h
	c.group += fieldName(name) + "_"
	return &c
}

func addAttr(fields map[string]string, text *strings.Builder, group string, a slog.Attr) {
	v := a.Value.Resolve()
	if a.Equal(slog.Attr{}) {
		return
	}
	if v.Kind() == slog.KindGroup {
		if a.Key != "" {
			group += fieldName(a.Key) + "_"
		}
		for _, b := range v.Group() {
			addAttr(fields, text, group, b)
		}
		return
	}
	s := v.String()
	if v.Kind() == slog.KindTime {
		s = v.Time().Format(time.RFC3339Nano)
	}
	fields["WORKERSD_"+group+fieldName(a.Key)] = s
	text.WriteByte(' ')
	text.WriteString(a.Key)
	text.WriteByte('=')
	if strings.ContainsAny(s, " \"\n") || s == "" {
		s = strconv.Quote(s)
	}
	text.WriteString(s)
}

// fieldName makes a name that journald takes: capitals, digits and underscores.
func fieldName(key string) string {
	b := []byte(key)
	for i, c := range b {
		switch {
		case 'a' <= c && c <= 'z':
			b[i] = c - 'a' + 'A'
		case 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '_':
		default:
			b[i] = '_'
		}
	}
	return string(b)
}

func priority(l slog.Level) sdjournal.Priority {
	switch {
	case l >= slog.LevelError:
		return sdjournal.PriErr
	case l >= slog.LevelWarn:
		return sdjournal.PriWarning
	case l >= slog.LevelInfo:
		return sdjournal.PriInfo
	}
	return sdjournal.PriDebug
}

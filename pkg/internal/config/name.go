package config

import (
	"fmt"
	"strings"

	"github.com/workersd/workersd/pkg/spec"
)

// nameIt gives a worker its name, which comes from its parameters alone.
func (b *builder) nameIt(d *draft, w *spec.Worker, t *templates) bool {
	at := b.place(d, "name")
	if t.name != nil {
		w.Name = t.name.escaped(w)
	} else {
		w.Name = Name(w.Entry, w.Params, w.Replica)
		at = d.pos
	}
	switch was, taken := b.named[w.Name]; {
	case len(w.Name) > spec.MaxName:
		b.fail(at, `worker %q: the name of its worker %s has %d bytes, and %d are allowed (expected a shorter one, made by name = "…", e.g. name = "%s@${%s}")`, w.Entry, spec.Quote(w.Name), len(w.Name), spec.MaxName, w.Entry, firstParam(w))
		return false
	case !spec.ValidName(w.Name):
		b.fail(at, "worker %q: name: %s cannot be a name (expected letters, digits and _ . : + - @ , # %%, or spaces inside, beginning with a letter or digit)", w.Entry, spec.Quote(w.Name))
		return false
	case taken:
		b.fail(at, "worker %q: name: %q is the name of a worker from %s:%d already (expected every parameter in the name, and nothing twice)", w.Entry, w.Name, was.file, was.line)
		return false
	}
	b.named[w.Name] = at
	return true
}

func firstParam(w *spec.Worker) string {
	if len(w.Params) > 0 {
		return w.Params[0].Name
	}
	return "replica"
}

// Name is what a worker is called: entry@value1,value2#replica. Every byte of a
// value that could be mistaken is escaped, so no two values give one name.
func Name(entry string, params []spec.Param, replica int) string {
	var s strings.Builder
	s.WriteString(entry)
	for i, p := range params {
		if i == 0 {
			s.WriteByte('@')
		} else {
			s.WriteByte(',')
		}
		s.WriteString(escape(p.Value))
	}
	if replica > 0 {
		fmt.Fprintf(&s, "#%d", replica)
	}
	return s.String()
}

func plain(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("_.:+-", c) >= 0
}

func escape(s string) string {
	var b strings.Builder
	for i := range len(s) {
		if plain(s[i]) {
			b.WriteByte(s[i])
		} else {
			fmt.Fprintf(&b, "%%%02X", s[i])
		}
	}
	return b.String()
}

package config

import (
	"cmp"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"

	"github.com/workersd/workersd/pkg/internal/near"
	"github.com/workersd/workersd/pkg/spec"
)

// maxErrors bounds how many errors are told of a list.
const maxErrors = 1000

var (
	entryName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]*$`)
	paramName = regexp.MustCompile(`^[a-z][a-z0-9_]*$`)
)

// builder is the work of one Parse.
type builder struct {
	o        Options
	errs     Errors
	list     spec.List
	defaults spec.Worker
	general  map[string]*member // keys of [defaults]
	said     map[string]bool    // errors about them, which every entry would repeat
	named    map[string]pos     // worker names taken
	total    int                // workers, also those that were not expanded
	counted  bool               // the list being too large was said
}

func (b *builder) fail(p pos, format string, args ...any) {
	b.errs = append(b.errs, Error{p.file, p.line, p.col, fmt.Sprintf(format, args...)})
}

// problem is about a key of an entry. What comes from [defaults] is told there,
// for the first entry that has it.
func (b *builder) problem(d *draft, key, format string, args ...any) {
	b.problemAt(b.place(d, key), d, key, format, args...)
}

func (b *builder) problemAt(at pos, d *draft, key, format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if d.members[key] == nil && b.general[key] != nil {
		id := key + ": " + text
		if b.said[id] {
			return
		}
		b.said[id] = true
	}
	b.fail(at, "worker %q: %s: %s", d.name, key, text)
}

// place is where to point for keys of an entry: where the first of them stands,
// in the entry or else in [defaults], else the entry.
func (b *builder) place(d *draft, keys ...string) pos {
	for _, from := range []map[string]*member{d.members, b.general} {
		for _, k := range keys {
			if m := from[k]; m != nil {
				return m.val.pos
			}
		}
	}
	return d.pos
}

// suggest is the known word that is nearest, if one is near.
func (b *builder) suggest(word string, known []string) string {
	if len(b.errs) > maxErrors {
		return "" // nobody will read it
	}
	if words := near.Words(word, known, 1); len(words) > 0 {
		return fmt.Sprintf(" (did you mean %s?)", words[0])
	}
	return ""
}

// Parse makes a list of files that were read, in their order. It does no I/O.
// The error is Errors.
func Parse(files []File, o Options) (spec.List, error) {
	b := &builder{o: o, general: map[string]*member{}, said: map[string]bool{}, named: map[string]pos{}}
	b.list.Manager = spec.DefaultManager()
	b.defaults = spec.Default("")
	var roots []*value
	var clean []File
	for _, f := range files {
		root, errs := parse(f)
		b.errs = append(b.errs, errs...)
		if len(errs) == 0 {
			clean = append(clean, f)
		}
		roots = append(roots, root)
		b.list.Files = append(b.list.Files, f.Name)
	}
	seen := map[string]pos{}
	for _, root := range roots {
		b.tables(root, seen)
	}
	entries := map[string]pos{}
	found := false
	for _, root := range roots {
		if m := root.get("worker"); m != nil {
			found = found || len(m.val.members) > 0
			b.entries(m, entries)
		}
	}
	b.strict(clean)
	if !found && len(b.errs) == 0 {
		at := Error{Text: `no worker in the list (expected a table such as [worker.NAME] with command = ["program"])`}
		if len(files) > 0 {
			at.File = files[0].Name
		}
		b.errs = append(b.errs, at)
	}
	if len(b.errs) > 0 {
		return spec.List{}, b.errs.sorted(files)
	}
	return b.list, nil
}

// strict has go-toml look for what its unstable parser lets pass: dates and
// numbers that are none, tables that TOML would not let be added to. It is left
// out where there is more wrong than anybody reads: its time grows with the
// square of the keys of one table.
func (b *builder) strict(files []File) {
	if len(b.errs) > maxErrors {
		return
	}
	said := map[pos]bool{}
	for _, e := range b.errs {
		said[pos{e.File, e.Line, e.Col}] = true
	}
	for _, f := range files {
		var all map[string]any
		err := toml.Unmarshal(withoutMark(f.Data), &all)
		if err == nil {
			continue
		}
		at := pos{file: f.Name}
		var de *toml.DecodeError
		if errors.As(err, &de) {
			at.line, at.col = de.Position()
		}
		if !said[at] {
			b.fail(at, "%s", strings.TrimPrefix(err.Error(), "toml: "))
		}
	}
}

// tables reads [manager] and [defaults] of one file; each key once over all.
func (b *builder) tables(root *value, seen map[string]pos) {
	for _, m := range root.members {
		switch m.name {
		case "manager", "defaults":
			if m.val.kind != unstable.InlineTable {
				b.fail(m.val.pos, "%s %s", m.name, expected(m.val, "a table, ["+m.name+"]"))
				continue
			}
			for _, k := range m.val.members {
				full := m.name + "." + k.name
				if was, ok := seen[full]; ok {
					b.fail(k.pos, "[%s] %s is set already, in %s:%d", m.name, k.name, was.file, was.line)
					continue
				}
				seen[full] = k.pos
				if m.name == "manager" {
					b.managerKey(k)
				} else {
					b.defaultsKey(k)
				}
			}
		case "worker":
			if m.val.kind != unstable.InlineTable {
				b.fail(m.val.pos, "worker %s", expected(m.val, "tables, [worker.NAME]"))
				m.val = newTable(m.pos)
			}
		default:
			b.fail(m.pos, "unknown table or key %s%s", spec.Quote(m.name), b.suggest(m.name, []string{"manager", "defaults", "worker"}))
		}
	}
}

func (b *builder) managerKey(m *member) {
	k := find(spec.ManagerKeys, m.name)
	if k == nil {
		b.fail(m.pos, "[manager] unknown key %s%s", spec.Quote(m.name), b.suggest(m.name, names(spec.ManagerKeys)))
		return
	}
	for _, f := range b.o.set(k, k.Manager(&b.list.Manager), m.val) {
		b.fail(f.pos, "[manager] %s: %s", m.name, f.text)
	}
}

func (b *builder) defaultsKey(m *member) {
	k := find(spec.Keys, m.name)
	switch {
	case k == nil:
		b.fail(m.pos, "[defaults] unknown key %s%s", spec.Quote(m.name), b.suggest(m.name, names(spec.Keys)))
	case k.NoDef:
		b.fail(m.pos, "[defaults] %s: belongs to one entry, not to all (move it to [worker.NAME])", m.name)
	case b.forbidden(m, "[defaults]"):
	default:
		b.general[m.name] = m
		for _, f := range b.o.set(k, k.Worker(&b.defaults), m.val) {
			b.fail(f.pos, "[defaults] %s: %s", m.name, f.text)
		}
	}
}

func (b *builder) forbidden(m *member, where string) bool {
	why, ok := b.o.Forbidden[m.name]
	if ok {
		b.fail(m.pos, "%s %s: %s", where, m.name, why)
	}
	return ok
}

// entries reads the [worker.NAME] tables of one file.
func (b *builder) entries(m *member, seen map[string]pos) {
	for _, e := range m.val.members {
		switch was, twice := seen[e.name]; {
		case e.val.kind != unstable.InlineTable:
			b.fail(e.val.pos, "worker %s: %s", spec.Quote(e.name), expected(e.val, "a table, [worker.NAME]"))
			continue
		case !entryName.MatchString(e.name):
			b.fail(e.pos, "worker %s: an entry cannot be called so (expected letters, digits and _ . -, beginning with a letter or digit)", spec.Quote(e.name))
			continue
		case len(e.name) > spec.MaxName:
			b.fail(e.pos, "worker %s: its name has %d bytes, and %d are allowed", spec.Quote(e.name), len(e.name), spec.MaxName)
			continue
		case twice:
			b.fail(e.pos, "worker %q: stands already in %s:%d (an entry stands in one file)", e.name, was.file, was.line)
			continue
		}
		seen[e.name] = e.pos
		b.entry(e)
	}
}

// draft is an entry before it is expanded.
type draft struct {
	name    string
	pos     pos
	w       spec.Worker
	members map[string]*member
	bad     bool
}

func (b *builder) entry(e *member) {
	d := &draft{name: e.name, pos: e.val.pos, w: b.defaults, members: map[string]*member{}}
	d.w.Entry, d.w.Name = e.name, e.name
	d.w.Environment = slices.Clone(b.defaults.Environment)
	before := len(b.errs)
	for _, m := range e.val.members {
		k := find(spec.Keys, m.name)
		if k == nil {
			b.fail(m.pos, "worker %q: unknown key %s%s", e.name, spec.Quote(m.name), b.suggest(m.name, names(spec.Keys)))
			continue
		}
		if b.forbidden(m, fmt.Sprintf("worker %q:", e.name)) {
			continue
		}
		d.members[m.name] = m
		if k.Worker == nil {
			continue // expanded below
		}
		for _, f := range b.o.set(k, k.Worker(&d.w), m.val) {
			b.fail(f.pos, "worker %q: %s: %s", e.name, m.name, f.text)
		}
	}
	d.w.Environment = mergeEnv(b.defaults.Environment, d.w.Environment)
	typed := len(b.errs) == before
	for _, p := range d.w.Validate() {
		if p.Key == "command" && (e.val.broken || d.members["command"] != nil && !typed) {
			continue // it may stand where a syntax error is, or has an error of its own
		}
		b.problemAt(b.place(d, p.Key, p.With), d, p.Key, "%s", p.Text)
	}
	b.check(d)
	rows, ok := b.rows(d)
	d.bad = !ok || len(b.errs) > before
	b.expand(d, rows)
}

// check looks at what only an entry of the list can have wrong.
func (b *builder) check(d *draft) {
	if d.members["interval"] != nil && d.w.Type != spec.Task {
		b.problem(d, "interval", `only a task has one (expected type = "task" too, or no interval)`)
	}
}

// mergeEnv lets an entry's variables win over those of [defaults]; the order
// means nothing, so that it is that of the names.
func mergeEnv(defaults, own []spec.EnvVar) []spec.EnvVar {
	var out []spec.EnvVar
	for _, v := range defaults {
		if !slices.ContainsFunc(own, func(o spec.EnvVar) bool { return o.Name == v.Name }) {
			out = append(out, v)
		}
	}
	out = append(out, own...)
	slices.SortFunc(out, func(a, b spec.EnvVar) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

func find(keys []spec.Key, name string) *spec.Key {
	for i := range keys {
		if keys[i].Name == name {
			return &keys[i]
		}
	}
	return nil
}

func names(keys []spec.Key) []string {
	out := make([]string, len(keys))
	for i, k := range keys {
		out[i] = k.Name
	}
	return out
}

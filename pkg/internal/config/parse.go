package config

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2/unstable"

	"github.com/workersd/workersd/pkg/spec"
)

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
	named    map[string]pos // worker names taken
	total    int            // workers, also those that were not expanded
	counted  bool           // the list being too large was said
}

func (b *builder) fail(p pos, format string, args ...any) {
	b.errs = append(b.errs, Error{p.file, p.line, p.col, fmt.Sprintf(format, args...)})
}

// Parse makes a list of files that were read, in their order. It does no I/O.
// The error is Errors.
func Parse(files []File, o Options) (spec.List, error) {
	b := &builder{o: o, named: map[string]pos{}}
	b.list.Manager = spec.DefaultManager()
	b.defaults = spec.Default("")
	var roots []*value
	for _, f := range files {
		root, errs := parse(f)
		b.errs = append(b.errs, errs...)
		roots = append(roots, root)
		b.list.Files = append(b.list.Files, f.Name)
	}
	seen := map[string]pos{}
	for _, root := range roots {
		b.general(root, seen)
	}
	entries := map[string]pos{}
	found := false
	for _, root := range roots {
		if m := root.get("worker"); m != nil {
			found = found || len(m.val.members) > 0
			b.entries(m, entries)
		}
	}
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

// general reads [manager] and [defaults] of one file; each key once over all.
func (b *builder) general(root *value, seen map[string]pos) {
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
			b.fail(m.pos, "unknown table or key %q%s", m.name, suggest(m.name, []string{"manager", "defaults", "worker"}))
		}
	}
}

func (b *builder) managerKey(m *member) {
	k := find(spec.ManagerKeys, m.name)
	if k == nil {
		b.fail(m.pos, "[manager] unknown key %q%s", m.name, suggest(m.name, names(spec.ManagerKeys)))
		return
	}
	if text := b.o.set(k, k.Manager(&b.list.Manager), m.val); text != "" {
		b.fail(m.val.pos, "[manager] %s: %s", m.name, text)
	}
}

func (b *builder) defaultsKey(m *member) {
	k := find(spec.Keys, m.name)
	switch {
	case k == nil:
		b.fail(m.pos, "[defaults] unknown key %q%s", m.name, suggest(m.name, names(spec.Keys)))
	case k.NoDef:
		b.fail(m.pos, "[defaults] %s: belongs to one entry, not to all (move it to [worker.NAME])", m.name)
	case b.forbidden(m, "[defaults]"):
	default:
		if text := b.o.set(k, k.Worker(&b.defaults), m.val); text != "" {
			b.fail(m.val.pos, "[defaults] %s: %s", m.name, text)
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
			b.fail(e.val.pos, "worker %q: %s", e.name, expected(e.val, "a table, [worker."+e.name+"]"))
			continue
		case !entryName.MatchString(e.name):
			b.fail(e.pos, "worker %q: the name of an entry is letters, digits, _ . - and begins with a letter or digit", e.name)
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

// place is where to point for a key: where it stands, else the entry.
func (d *draft) place(key string) pos {
	if m := d.members[key]; m != nil {
		return m.val.pos
	}
	return d.pos
}

func (b *builder) entry(e *member) {
	d := &draft{name: e.name, pos: e.val.pos, w: b.defaults, members: map[string]*member{}}
	d.w.Entry, d.w.Name = e.name, e.name
	d.w.Environment = slices.Clone(b.defaults.Environment)
	before := len(b.errs)
	for _, m := range e.val.members {
		k := find(spec.Keys, m.name)
		if k == nil {
			b.fail(m.pos, "worker %q: unknown key %q%s", e.name, m.name, suggest(m.name, names(spec.Keys)))
			continue
		}
		if b.forbidden(m, fmt.Sprintf("worker %q:", e.name)) {
			continue
		}
		d.members[m.name] = m
		if k.Worker == nil {
			continue // expanded below
		}
		if text := b.o.set(k, k.Worker(&d.w), m.val); text != "" {
			b.fail(m.val.pos, "worker %q: %s: %s", e.name, m.name, text)
		}
	}
	d.w.Environment = mergeEnv(b.defaults.Environment, d.w.Environment)
	typed := len(b.errs) == before
	for _, p := range d.w.Validate() {
		if p.Key == "command" && d.members["command"] != nil && !typed {
			continue // its own error says more
		}
		b.fail(d.place(p.Key), "worker %q: %s: %s", e.name, p.Key, p.Text)
	}
	if d.members["interval"] != nil && d.w.Type != spec.Task {
		b.fail(d.place("interval"), `worker %q: interval: only a task has one (expected type = "task" too, or no interval)`, e.name)
	}
	switch d.w.Log {
	case spec.LogAuto, spec.LogJournal, spec.LogInherit:
	default:
		if !strings.HasPrefix(d.w.Log, "/") {
			b.fail(d.place("log"), `worker %q: log: %q is no absolute path (expected "journal", "inherit" or a path from /)`, e.name, d.w.Log)
		}
	}
	if d.w.Directory != "" && !strings.HasPrefix(d.w.Directory, "/") {
		b.fail(d.place("directory"), "worker %q: directory: %q is no absolute path", e.name, d.w.Directory)
	}
	rows, ok := b.rows(d)
	d.bad = !ok || len(b.errs) > before
	b.expand(d, rows)
}

// mergeEnv lets an entry's variables win over those of [defaults].
func mergeEnv(defaults, own []spec.EnvVar) []spec.EnvVar {
	var out []spec.EnvVar
	for _, v := range defaults {
		if !slices.ContainsFunc(own, func(o spec.EnvVar) bool { return o.Name == v.Name }) {
			out = append(out, v)
		}
	}
	return append(out, own...)
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

// suggest is the known word that is nearest, if one is near.
func suggest(word string, known []string) string {
	best, bestAt := "", 3
	for _, k := range known {
		if d := distance(word, k); d < bestAt {
			best, bestAt = k, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf(" (did you mean %s?)", best)
}

// distance is Levenshtein's, of two short words.
func distance(a, b string) int {
	if len(a) > 64 || len(b) > 64 {
		return 64
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		diag := row[0]
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := diag
			if a[i-1] != b[j-1] {
				cost++
			}
			diag = row[j]
			row[j] = min(cost, row[j]+1, row[j-1]+1)
		}
	}
	return row[len(b)]
}

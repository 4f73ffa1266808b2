package config

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/pelletier/go-toml/v2/unstable"

	"github.com/workersd/workersd/pkg/spec"
)

// maxName is the longest name of a worker, in bytes.
const maxName = 128

// axis is one parameter of a matrix with its values.
type axis struct {
	name   string
	values []string
}

// rows are the parameters of an entry's workers: every combination of the
// matrix, for each row of params, less what exclude names. They are not made
// where the list has more workers than it may have.
func (b *builder) rows(d *draft) (rows [][]spec.Param, ok bool) {
	before := len(b.errs)
	matrix := b.matrix(d)
	params := b.tables(d, "params")
	exclude := b.tables(d, "exclude")
	replicas := b.replicas(d)
	if len(b.errs) > before {
		return nil, false
	}
	count := max(1, len(params))
	for _, a := range matrix {
		count = times(count, len(a.values))
	}
	count = times(count, max(1, replicas))
	if b.total = plus(b.total, count); b.total > b.list.Manager.MaxWorkers {
		if !b.counted {
			b.counted = true
			b.fail(d.pos, "worker %q: the list expands to %d workers, and %d are allowed (raise max_workers in [manager])", d.name, b.total, b.list.Manager.MaxWorkers)
		}
		return nil, false
	}
	rows = [][]spec.Param{nil}
	if len(params) > 0 {
		rows = params
	}
	for _, a := range matrix {
		next := make([][]spec.Param, 0, len(rows)*len(a.values))
		for _, r := range rows {
			for _, v := range a.values {
				next = append(next, append(slices.Clone(r), spec.Param{Name: a.name, Value: v}))
			}
		}
		rows = next
	}
	all := len(rows)
	rows = slices.DeleteFunc(rows, func(r []spec.Param) bool {
		return slices.ContainsFunc(exclude, func(x []spec.Param) bool { return fits(r, x) })
	})
	if len(rows) == 0 && all > 0 {
		b.fail(d.place("exclude"), "worker %q: exclude: leaves no worker", d.name)
		return nil, false
	}
	return rows, true
}

// fits reports whether a row has every parameter of x.
func fits(row, x []spec.Param) bool {
	for _, p := range x {
		if !slices.Contains(row, p) {
			return false
		}
	}
	return len(x) > 0
}

func times(a, b int) int {
	if b != 0 && a > math.MaxInt/b {
		return math.MaxInt
	}
	return a * b
}

func plus(a, b int) int {
	if a > math.MaxInt-b {
		return math.MaxInt
	}
	return a + b
}

// scalar is a parameter's value: a text or a whole number.
func scalar(v *value) (string, bool) {
	switch v.kind {
	case unstable.String:
		return v.text, !strings.ContainsRune(v.text, 0)
	case unstable.Integer:
		return strconv.FormatInt(v.num, 10), true
	}
	return "", false
}

func (b *builder) matrix(d *draft) (axes []axis) {
	m := d.members["matrix"]
	if m == nil {
		return nil
	}
	if m.val.kind != unstable.InlineTable {
		b.fail(m.val.pos, "worker %q: matrix: %s", d.name, expected(m.val, `a table of lists, matrix.ip = ["10.0.0.1", …]`))
		return nil
	}
	for _, a := range m.val.members {
		if !b.param(d, a, "matrix") {
			continue
		}
		if a.val.kind != unstable.Array {
			b.fail(a.val.pos, "worker %q: matrix.%s: %s", d.name, a.name, expected(a.val, "a list of texts or whole numbers"))
			continue
		}
		if len(a.val.items) == 0 {
			b.fail(a.val.pos, "worker %q: matrix.%s: is empty, so there would be no worker (expected a value, or enabled = false)", d.name, a.name)
			continue
		}
		ax := axis{name: a.name}
		for _, it := range a.val.items {
			s, ok := scalar(it)
			if !ok {
				b.fail(it.pos, "worker %q: matrix.%s: a value %s", d.name, a.name, expected(it, "a text without NUL, or a whole number"))
				continue
			}
			if slices.Contains(ax.values, s) {
				b.fail(it.pos, "worker %q: matrix.%s: %q stands twice", d.name, a.name, s)
				continue
			}
			ax.values = append(ax.values, s)
		}
		axes = append(axes, ax)
	}
	return axes
}

// param checks the name of a parameter.
func (b *builder) param(d *draft, m *member, key string) bool {
	switch {
	case !paramName.MatchString(m.name):
		b.fail(m.pos, "worker %q: %s: parameter %q: expected a to z, 0 to 9 and _, beginning with a letter", d.name, key, m.name)
		return false
	case m.name == "worker" || m.name == "replica":
		b.fail(m.pos, "worker %q: %s: parameter %q is set by workersd itself (choose another name)", d.name, key, m.name)
		return false
	}
	return true
}

// tables reads params and exclude: lists of tables of parameters.
func (b *builder) tables(d *draft, key string) (rows [][]spec.Param) {
	m := d.members[key]
	if m == nil {
		return nil
	}
	what := "a list of tables, " + key + ` = [{ ip = "10.0.0.1" }, …]`
	if m.val.kind != unstable.Array {
		b.fail(m.val.pos, "worker %q: %s: %s", d.name, key, expected(m.val, what))
		return nil
	}
	if key == "params" && len(m.val.items) == 0 {
		b.fail(m.val.pos, "worker %q: params: is empty, so there would be no worker (expected a row, or enabled = false)", d.name)
	}
	for i, it := range m.val.items {
		if it.kind != unstable.InlineTable || len(it.members) == 0 {
			b.fail(it.pos, "worker %q: %s: row %d %s", d.name, key, i+1, expected(it, "a table with at least one parameter"))
			continue
		}
		var row []spec.Param
		for _, p := range it.members {
			if !b.param(d, p, key) {
				continue
			}
			s, ok := scalar(p.val)
			if !ok {
				b.fail(p.val.pos, "worker %q: %s: %s %s", d.name, key, p.name, expected(p.val, "a text without NUL, or a whole number"))
				continue
			}
			row = append(row, spec.Param{Name: p.name, Value: s})
		}
		if key == "params" && i > 0 && len(rows) > 0 && !sameNames(rows[0], row) {
			b.fail(it.pos, "worker %q: params: row %d has other parameters than the first", d.name, i+1)
			continue
		}
		if key == "params" && len(rows) > 0 {
			row = inOrder(row, rows[0])
		}
		rows = append(rows, row)
	}
	if key == "params" && len(rows) > 0 {
		if x := d.members["matrix"]; x != nil {
			for _, p := range rows[0] {
				if x.val.kind == unstable.InlineTable && x.val.get(p.Name) != nil {
					b.fail(m.val.pos, "worker %q: %s stands both in params and in matrix", d.name, p.Name)
				}
			}
		}
	}
	return rows
}

func sameNames(a, b []spec.Param) bool {
	if len(a) != len(b) {
		return false
	}
	for _, p := range a {
		if !slices.ContainsFunc(b, func(q spec.Param) bool { return q.Name == p.Name }) {
			return false
		}
	}
	return true
}

// inOrder gives a row the order of the first, from which names are made.
func inOrder(row, first []spec.Param) []spec.Param {
	out := make([]spec.Param, 0, len(row))
	for _, f := range first {
		for _, p := range row {
			if p.Name == f.Name {
				out = append(out, p)
			}
		}
	}
	return out
}

// replicas is 0 where the key is not set: then no number is in the name.
func (b *builder) replicas(d *draft) int {
	m := d.members["replicas"]
	if m == nil {
		return 0
	}
	if m.val.kind != unstable.Integer || m.val.num < 1 || m.val.num > math.MaxInt32 {
		b.fail(m.val.pos, "worker %q: replicas: expected a whole number from 1 (for none, enabled = false)", d.name)
		return 0
	}
	return int(m.val.num)
}

// expand makes the workers of an entry. A bad entry is still checked as far as
// its templates go, with its first row, so that all its errors come at once.
func (b *builder) expand(d *draft, rows [][]spec.Param) {
	t := b.templates(d, rows)
	if d.bad || t == nil || len(rows) == 0 {
		return
	}
	replicas := 1
	if m := d.members["replicas"]; m != nil {
		replicas = int(m.val.num)
	}
	for _, row := range rows {
		for r := range replicas {
			w := d.w
			w.Params = row
			if d.members["replicas"] != nil {
				w.Replica = r + 1
			}
			if !b.nameIt(d, &w, t) {
				return
			}
			t.fill(&w)
			if why := logValues(t.log, &w); why != "" {
				b.fail(d.place("log"), "worker %q: log: %s", w.Name, why)
				return
			}
			b.list.Workers = append(b.list.Workers, w)
		}
	}
}

// nameIt gives a worker its name, which comes from its parameters alone.
func (b *builder) nameIt(d *draft, w *spec.Worker, t *templates) bool {
	at := d.place("name")
	if t.name != nil {
		w.Name = t.name.escaped(w)
	} else {
		w.Name = Name(w.Entry, w.Params, w.Replica)
		at = d.pos
	}
	switch was, taken := b.named[w.Name]; {
	case len(w.Name) > maxName:
		b.fail(at, `worker %q: its name has %d bytes, and %d are allowed (shorten it with name = "…", e.g. name = "%s@${%s}")`, w.Name, len(w.Name), maxName, w.Entry, firstParam(w))
		return false
	case w.Name == "" || !safeName(w.Name):
		b.fail(at, "worker %q: name: expected letters, digits and _ . : + - @ , # %%, beginning with a letter or digit", w.Name)
		return false
	case taken:
		b.fail(at, "worker %q: a worker of that name stands already in %s:%d", w.Name, was.file, was.line)
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

// safeName reports whether a name can be that of a cgroup and a journal
// identifier as it is.
func safeName(s string) bool {
	for i := range len(s) {
		if !plain(s[i]) && strings.IndexByte("@,#%", s[i]) < 0 {
			return false
		}
	}
	return s[0] >= 'a' && s[0] <= 'z' || s[0] >= 'A' && s[0] <= 'Z' || s[0] >= '0' && s[0] <= '9'
}

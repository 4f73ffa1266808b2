package config

import (
	"cmp"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/pelletier/go-toml/v2/unstable"

	"github.com/workersd/workersd/pkg/spec"
)

// axis is one parameter of a matrix with its values.
type axis struct {
	name   string
	values []string
}

// mostRows bounds what is made of a matrix before exclude is applied to it,
// unless a list may have more workers than that.
const mostRows = 100_000

// rows are the parameters of an entry's workers: every combination of the
// matrix, for each row of params, less what exclude names. They are not made
// where the list has more workers than it may have.
func (b *builder) rows(d *draft) (rows [][]spec.Param, ok bool) {
	before := len(b.errs)
	matrix := b.matrix(d)
	params := b.params(d, matrix)
	var known []string
	if len(b.errs) == before {
		known = parameters(params, matrix)
	}
	exclude := b.exclude(d, known)
	replicas := max(1, b.replicas(d))
	if len(b.errs) > before {
		return nil, false
	}
	count := max(1, len(params))
	for _, a := range matrix {
		count = times(count, len(a.values))
	}
	if len(exclude) == 0 {
		if !b.count(d, times(count, replicas)) {
			return nil, false
		}
		return combine(params, matrix), true
	}
	if most := max(mostRows, b.list.Manager.MaxWorkers); count > most {
		b.fail(d.pos, "worker %q: its matrix has %d combinations before exclude, and %d are allowed (write those that stay as rows of params, or raise max_workers in [manager])", d.name, count, most)
		return nil, false
	}
	rows = b.without(d, combine(params, matrix), exclude)
	if len(rows) == 0 {
		b.problem(d, "exclude", "leaves no worker (expected a row that stays, or enabled = false)")
		return nil, false
	}
	return rows, b.count(d, times(len(rows), replicas))
}

// count adds the workers of an entry to those of the list, and reports whether
// the list may have so many. That it may not is said once.
func (b *builder) count(d *draft, workers int) bool {
	if b.total = plus(b.total, workers); b.total <= b.list.Manager.MaxWorkers {
		return true
	}
	if !b.counted {
		b.counted = true
		b.fail(d.pos, "worker %q: with this entry the list expands to %d workers, and %d are allowed (raise max_workers in [manager])", d.name, b.total, b.list.Manager.MaxWorkers)
	}
	return false
}

// combine makes every combination of a matrix for each row of params; without
// both it is one row without parameters.
func combine(params [][]spec.Param, matrix []axis) [][]spec.Param {
	rows := [][]spec.Param{nil}
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
	return rows
}

// without takes out the rows that exclude names.
func (b *builder) without(d *draft, rows [][]spec.Param, exclude []row) [][]spec.Param {
	used := make([]bool, len(exclude))
	rows = slices.DeleteFunc(rows, func(r []spec.Param) (out bool) {
		for i, x := range exclude {
			if fits(r, x.params) {
				used[i], out = true, true
			}
		}
		return out
	})
	for i, x := range exclude {
		if !used[i] { // a typing error would start what must not run
			b.fail(x.pos, "worker %q: exclude: this row fits no worker (expected values of one, or no such row)", d.name)
		}
	}
	return rows
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
		return strconv.FormatInt(v.num, 10), !v.huge
	}
	return "", false
}

const isScalar = "a text without NUL, or a whole number of 64 bits"

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
		seen := make(map[string]bool, len(a.val.items))
		for _, it := range a.val.items {
			s, ok := scalar(it)
			switch {
			case !ok:
				b.fail(it.pos, "worker %q: matrix.%s: a value %s", d.name, a.name, expected(it, isScalar))
			case seen[s]:
				b.fail(it.pos, "worker %q: matrix.%s: %s stands twice (remove one)", d.name, a.name, spec.Quote(s))
			default:
				seen[s] = true
				ax.values = append(ax.values, s)
			}
		}
		axes = append(axes, ax)
	}
	return axes
}

// param checks the name of a parameter.
func (b *builder) param(d *draft, m *member, key string) bool {
	switch {
	case !paramName.MatchString(m.name):
		b.fail(m.pos, "worker %q: %s: a parameter cannot be called %s (expected a to z, 0 to 9 and _, beginning with a letter)", d.name, key, spec.Quote(m.name))
		return false
	case m.name == "worker" || m.name == "replica":
		b.fail(m.pos, "worker %q: %s: parameter %q is set by workersd itself (choose another name)", d.name, key, m.name)
		return false
	}
	return true
}

// row is one row of params or exclude, with its place.
type row struct {
	pos
	params []spec.Param
}

// table reads params or exclude: lists of tables of parameters.
func (b *builder) table(d *draft, key string) (rows []row) {
	m := d.members[key]
	if m == nil {
		return nil
	}
	if m.val.kind != unstable.Array {
		b.problem(d, key, "%s", expected(m.val, "a list of tables, "+key+` = [{ ip = "10.0.0.1" }, …]`))
		return nil
	}
	for i, it := range m.val.items {
		if it.kind != unstable.InlineTable {
			b.fail(it.pos, "worker %q: %s: row %d %s", d.name, key, i+1, expected(it, `a table, { ip = "10.0.0.1" }`))
			continue
		}
		if len(it.members) == 0 {
			b.fail(it.pos, "worker %q: %s: row %d is empty (expected at least one parameter)", d.name, key, i+1)
			continue
		}
		r := row{pos: it.pos}
		for _, p := range it.members {
			if !b.param(d, p, key) {
				continue
			}
			s, ok := scalar(p.val)
			if !ok {
				b.fail(p.val.pos, "worker %q: %s: %s %s", d.name, key, p.name, expected(p.val, isScalar))
				continue
			}
			r.params = append(r.params, spec.Param{Name: p.name, Value: s})
		}
		if len(r.params) == len(it.members) {
			rows = append(rows, r)
		}
	}
	return rows
}

// params are rows that all have the parameters of the first, in its order, from
// which names are made.
func (b *builder) params(d *draft, matrix []axis) (rows [][]spec.Param) {
	m := d.members["params"]
	if m != nil && m.val.kind == unstable.Array && len(m.val.items) == 0 {
		b.problem(d, "params", "is empty, so there would be no worker (expected a row, or enabled = false)")
	}
	seen := map[string]pos{}
	for _, r := range b.table(d, "params") {
		if len(rows) > 0 && !sameNames(rows[0], r.params) {
			b.fail(r.pos, "worker %q: params: this row has other parameters than the first (expected %s)", d.name, strings.Join(parameters(rows[:1], nil), ", "))
			continue
		}
		p := r.params
		if len(rows) > 0 {
			p = inOrder(p, rows[0])
		}
		id := Name("", p, 0)
		if was, twice := seen[id]; twice {
			b.fail(r.pos, "worker %q: params: this row is the same as that in line %d (remove one)", d.name, was.line)
			continue
		}
		seen[id] = r.pos
		rows = append(rows, p)
	}
	for _, name := range parameters(rows, nil) {
		if slices.ContainsFunc(matrix, func(a axis) bool { return a.name == name }) {
			b.problem(d, "params", "%s stands in matrix, too (expected one of the two)", name)
		}
	}
	return rows
}

// exclude are rows of some of the parameters; known are all there are, or nil
// where that is not known.
func (b *builder) exclude(d *draft, known []string) []row {
	rows := b.table(d, "exclude")
	for _, r := range rows {
		for _, p := range r.params {
			if known != nil && !slices.Contains(known, p.Name) {
				b.fail(r.pos, "worker %q: exclude: %s is no parameter of this entry (known: %s)", d.name, p.Name, cmp.Or(strings.Join(known, ", "), "none"))
			}
		}
	}
	return rows
}

// parameters are the names of an entry's parameters, in the order of its names.
func parameters(rows [][]spec.Param, matrix []axis) []string {
	names := []string{}
	if len(rows) > 0 {
		for _, p := range rows[0] {
			names = append(names, p.Name)
		}
	}
	for _, a := range matrix {
		names = append(names, a.name)
	}
	return names
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
	switch {
	case m.val.kind != unstable.Integer:
		b.problem(d, "replicas", "%s", expected(m.val, "a whole number from 1"))
		return 0
	case m.val.huge || m.val.num < 1 || m.val.num > math.MaxInt32:
		b.problem(d, "replicas", "%s is out of range (expected a whole number from 1; for none, enabled = false)", cut(m.val.text))
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
				b.problem(d, "log", "%s", why)
				return
			}
			b.list.Workers = append(b.list.Workers, w)
		}
	}
}

package config

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/pelletier/go-toml/v2/unstable"
)

// pos is a place in a file.
type pos struct {
	file      string
	line, col int
}

// value is one value of the list with its place. Tables keep their order.
type value struct {
	pos
	kind    unstable.Kind // String, Integer, Float, Bool, Array, InlineTable (any table)
	text    string        // of a String; as written otherwise
	num     int64
	float   float64
	truth   bool
	items   []*value
	members []*member
	index   map[string]*member
	defined bool // a table that had its own header, or an inline one
	closed  bool // an inline table: nothing is added to it
}

// member is a key of a table.
type member struct {
	pos
	name string
	val  *value
}

func newTable(p pos) *value {
	return &value{pos: p, kind: unstable.InlineTable, index: map[string]*member{}}
}

func (v *value) get(name string) *member { return v.index[name] }

func (v *value) put(m *member) {
	v.members = append(v.members, m)
	v.index[m.name] = m
}

// parser makes the tree of one file.
type parser struct {
	p     unstable.Parser
	file  string
	line  []int // offset at which each line begins
	errs  Errors
	root  *value
	table *value // that key/values go to; nil: skip them, its header was wrong
}

// parse reads one file. What was read before a syntax error is still checked,
// so that its errors come together with it.
func parse(f File) (*value, Errors) {
	ps := &parser{file: f.Name, line: []int{0}}
	for i, b := range f.Data {
		if b == '\n' {
			ps.line = append(ps.line, i+1)
		}
	}
	ps.root = newTable(pos{f.Name, 1, 1})
	ps.table = ps.root
	ps.p.Reset(f.Data)
	for ps.p.NextExpression() {
		e := ps.p.Expression()
		switch e.Kind {
		case unstable.Table:
			ps.header(e)
		case unstable.ArrayTable:
			k := ps.keys(e)
			ps.fail(k[0].pos, "[[%s]]: arrays of tables are not used here (expected [worker.NAME], [defaults] or [manager])", dotted(k))
			ps.table = nil
		case unstable.KeyValue:
			if ps.table != nil {
				ps.keyValue(ps.table, e)
			}
		}
	}
	if err := ps.p.Error(); err != nil {
		at := pos{file: f.Name}
		var pe *unstable.ParserError
		if errors.As(err, &pe) {
			at = ps.at(int(ps.p.Range(pe.Highlight).Offset))
			ps.fail(at, "%s", strings.TrimPrefix(pe.Message, "toml: "))
		} else {
			ps.fail(at, "%v", err)
		}
	}
	return ps.root, ps.errs
}

func (ps *parser) fail(p pos, format string, args ...any) {
	ps.errs = append(ps.errs, Error{p.file, p.line, p.col, fmt.Sprintf(format, args...)})
}

// at is the place of an offset; columns count bytes, as editors' "go to" does.
func (ps *parser) at(offset int) pos {
	lo, hi := 0, len(ps.line)
	for hi-lo > 1 {
		if mid := (lo + hi) / 2; ps.line[mid] <= offset {
			lo = mid
		} else {
			hi = mid
		}
	}
	return pos{ps.file, lo + 1, offset - ps.line[lo] + 1}
}

func (ps *parser) keys(e *unstable.Node) (ks []*member) {
	for it := e.Key(); it.Next(); {
		n := it.Node()
		ks = append(ks, &member{pos: ps.at(int(n.Raw.Offset)), name: string(n.Data)})
	}
	return ks
}

func dotted(ks []*member) string {
	names := make([]string, len(ks))
	for i, k := range ks {
		names[i] = k.name
	}
	return strings.Join(names, ".")
}

// header makes [a.b.c] the table that the next keys go to.
func (ps *parser) header(e *unstable.Node) {
	ks := ps.keys(e)
	t := ps.descend(ps.root, ks)
	if t != nil && t.defined {
		ps.fail(ks[0].pos, "[%s] stands a second time; first in line %d", dotted(ks), t.line)
		t = nil
	}
	if t != nil {
		t.defined = true
		t.pos = ks[0].pos
	}
	ps.table = t
}

// descend finds the table that keys lead to, making what is not there.
func (ps *parser) descend(t *value, ks []*member) *value {
	for _, k := range ks {
		m := t.get(k.name)
		if m == nil {
			m = &member{pos: k.pos, name: k.name, val: newTable(k.pos)}
			t.put(m)
		}
		if m.val.kind != unstable.InlineTable || m.val.closed {
			ps.fail(k.pos, "%s is not a table that can be added to; it is set in line %d", k.name, m.line)
			return nil
		}
		t = m.val
	}
	return t
}

func (ps *parser) keyValue(t *value, e *unstable.Node) {
	ks := ps.keys(e)
	last := ks[len(ks)-1]
	if t = ps.descend(t, ks[:len(ks)-1]); t == nil {
		return
	}
	if was := t.get(last.name); was != nil {
		ps.fail(last.pos, "%s stands a second time; first in line %d", dotted(ks), was.line)
		return
	}
	last.val = ps.value(e.Value(), last.pos)
	t.put(last)
}

func (ps *parser) value(n *unstable.Node, at pos) *value {
	if n.Raw.Length > 0 {
		at = ps.at(int(n.Raw.Offset))
	}
	v := &value{pos: at, kind: n.Kind, text: string(n.Data)}
	switch n.Kind {
	case unstable.Bool:
		v.truth = v.text == "true"
	case unstable.Integer:
		num, err := strconv.ParseInt(strings.ReplaceAll(v.text, "_", ""), 0, 64)
		if err != nil {
			ps.fail(at, "%s is not a whole number that fits in 64 bits", v.text)
		}
		v.num = num
	case unstable.Float:
		v.float, _ = strconv.ParseFloat(strings.ReplaceAll(v.text, "_", ""), 64)
	case unstable.Array:
		for it := n.Children(); it.Next(); {
			if c := it.Node(); c.Kind != unstable.Comment {
				v.items = append(v.items, ps.value(c, at))
			}
		}
	case unstable.InlineTable:
		t := newTable(at)
		for it := n.Children(); it.Next(); {
			if c := it.Node(); c.Kind == unstable.KeyValue {
				ps.keyValue(t, c)
			}
		}
		t.defined, t.closed = true, true
		return t
	}
	return v
}

package config

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/pelletier/go-toml/v2/unstable"

	"github.com/workersd/workersd/pkg/spec"
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
	rows    bool // an array of tables, [[a]]: each header adds one
	huge    bool // an Integer that does not fit in 64 bits
	broken  bool // a table with a syntax error in it: not all of it was read
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

// maxSyntax bounds the syntax errors that are told of one file: behind some of
// them it is noise.
const maxSyntax = 20

// parser makes the tree of one file.
type parser struct {
	p     unstable.Parser
	file  string
	data  []byte
	base  int   // offset in data of what p reads
	line  []int // offset at which each line begins
	errs  Errors
	root  *value
	table *value // that key/values go to; nil: skip them, its header was wrong
}

// parse reads one file. What stands around a syntax error is still checked, so
// that all errors come together.
func parse(f File) (*value, Errors) {
	data := withoutMark(f.Data)
	ps := &parser{file: f.Name, data: data, line: []int{0}}
	for i, b := range data {
		if b == '\n' {
			ps.line = append(ps.line, i+1)
		}
	}
	ps.root = newTable(pos{f.Name, 1, 1})
	ps.table = ps.root
	for range maxSyntax {
		ps.p.Reset(data[ps.base:])
		for ps.p.NextExpression() {
			ps.expression(ps.p.Expression())
		}
		err := ps.p.Error()
		if err == nil {
			break
		}
		next := ps.resume(ps.syntax(err))
		if next < 0 {
			break
		}
		ps.base = next
	}
	return ps.root, ps.errs
}

// withoutMark drops the byte order mark that editors of Windows put in front,
// and that means nothing.
func withoutMark(data []byte) []byte { return bytes.TrimPrefix(data, []byte("\ufeff")) }

func (ps *parser) expression(e *unstable.Node) {
	switch e.Kind {
	case unstable.Table:
		ps.header(e)
	case unstable.ArrayTable:
		ps.rowHeader(e)
	case unstable.KeyValue:
		if ps.table != nil {
			ps.keyValue(ps.table, e)
		}
	}
}

// syntax tells a syntax error and gives its offset.
func (ps *parser) syntax(err error) int {
	if ps.table != nil {
		ps.table.broken = true
	}
	var pe *unstable.ParserError
	if !errors.As(err, &pe) {
		ps.fail(pos{file: ps.file}, "%v", err)
		return len(ps.data)
	}
	at := ps.base + int(ps.p.Range(pe.Highlight).Offset)
	ps.fail(ps.at(at), "%s", strings.TrimPrefix(pe.Message, "toml: "))
	return at
}

// beginning is a line that most likely begins something, also where what is
// before it cannot be read.
var beginning = regexp.MustCompile(`(?m)^[ \t]*([A-Za-z0-9_.-]+[ \t]*=|\[[A-Za-z0-9_.@ \t-]+\][ \t\r]*(#.*)?$)`)

// resume is where reading goes on behind a syntax error; -1: nowhere. Keys of a
// header that cannot be read would go to the table before it, so that what
// follows a bad header is skipped up to the next one.
func (ps *parser) resume(at int) int {
	bad := bytes.HasPrefix(bytes.TrimLeft(ps.data[ps.line[ps.at(at).line-1]:], " \t"), []byte("["))
	if bad {
		ps.table = nil
	}
	eol := bytes.IndexByte(ps.data[at:], '\n')
	if eol < 0 {
		return -1
	}
	next := beginning.FindIndex(ps.data[at+eol+1:])
	if next == nil {
		return -1
	}
	return at + eol + 1 + next[0]
}

func (ps *parser) fail(p pos, format string, args ...any) {
	ps.errs = append(ps.errs, Error{p.file, p.line, p.col, fmt.Sprintf(format, args...)})
}

// at is the place of an offset in data; columns count bytes, as editors' "go to" does.
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
		ks = append(ks, &member{pos: ps.at(ps.base + int(n.Raw.Offset)), name: string(n.Data)})
	}
	return ks
}

func dotted(ks []*member) string {
	names := make([]string, len(ks))
	for i, k := range ks {
		names[i] = k.name
		if !bareKey.MatchString(k.name) {
			names[i] = spec.Quote(k.name)
		}
	}
	return strings.Join(names, ".")
}

var bareKey = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)

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

// rowHeader makes [[a.b.c]] a new row of an array of tables.
func (ps *parser) rowHeader(e *unstable.Node) {
	ks := ps.keys(e)
	last := ks[len(ks)-1]
	ps.table = nil
	t := ps.descend(ps.root, ks[:len(ks)-1])
	if t == nil {
		return
	}
	m := t.get(last.name)
	if m == nil {
		m = &member{pos: last.pos, name: last.name, val: &value{pos: last.pos, kind: unstable.Array, rows: true}}
		t.put(m)
	}
	if !m.val.rows {
		ps.fail(last.pos, "%s is set already, in line %d, and no row can be added to it", dotted(ks), m.line)
		return
	}
	ps.table = newTable(ks[0].pos)
	ps.table.defined = true
	m.val.items = append(m.val.items, ps.table)
}

// descend finds the table that keys lead to, making what is not there.
func (ps *parser) descend(t *value, ks []*member) *value {
	for i, k := range ks {
		m := t.get(k.name)
		if m == nil {
			m = &member{pos: k.pos, name: k.name, val: newTable(k.pos)}
			t.put(m)
		}
		t = m.val
		if t.rows {
			t = t.items[len(t.items)-1]
		}
		if t.kind != unstable.InlineTable || t.closed {
			ps.fail(k.pos, "%s is not a table that can be added to; it is set in line %d", dotted(ks[:i+1]), m.line)
			return nil
		}
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
	last.val = ps.value(e.Value(), ps.valueAt(e))
	t.put(last)
}

// valueAt is where the value of a key begins; go-toml tells it of scalars only.
func (ps *parser) valueAt(e *unstable.Node) pos {
	var key unstable.Range
	for it := e.Key(); it.Next(); {
		key = it.Node().Raw
	}
	at := ps.base + int(key.Offset+key.Length)
	for at < len(ps.data) && strings.IndexByte(" \t=", ps.data[at]) >= 0 {
		at++
	}
	return ps.at(at)
}

func (ps *parser) value(n *unstable.Node, at pos) *value {
	if n.Raw.Length > 0 {
		at = ps.at(ps.base + int(n.Raw.Offset))
	}
	v := &value{pos: at, kind: n.Kind, text: string(n.Data)}
	switch n.Kind {
	case unstable.Bool:
		v.truth = v.text == "true"
	case unstable.Integer:
		num, err := strconv.ParseInt(strings.ReplaceAll(v.text, "_", ""), 0, 64)
		v.num, v.huge = num, err != nil
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

package config

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/pelletier/go-toml/v2/unstable"

	"github.com/workersd/workersd/pkg/spec"
)

// template is a text with ${parameters}, taken apart once for all workers.
type template []piece

// piece is literal text, or the name of a parameter.
type piece struct{ text, param string }

// parseTemplate reads one pass of ${NAME}; $${ stands for ${ itself.
func parseTemplate(s string) (template, error) {
	var t template
	for s != "" {
		i := strings.Index(s, "${")
		if i < 0 {
			return append(t, piece{text: s}), nil
		}
		if i > 0 && s[i-1] == '$' {
			t = append(t, piece{text: s[:i-1] + "${"})
			s = s[i+2:]
			continue
		}
		if i > 0 {
			t = append(t, piece{text: s[:i]})
		}
		name, rest, ok := strings.Cut(s[i+2:], "}")
		if !ok {
			return nil, fmt.Errorf("${ has no } behind it (write $${ for a literal ${)")
		}
		if name == "" {
			return nil, fmt.Errorf("${} names no parameter (write $${} for the text itself)")
		}
		t = append(t, piece{param: name})
		s = rest
	}
	return t, nil
}

// expand gives the text for one worker.
func (t template) expand(w *spec.Worker, escaper func(string) string) string {
	if len(t) == 1 && t[0].param == "" {
		return t[0].text
	}
	var b strings.Builder
	for _, p := range t {
		if p.param == "" {
			b.WriteString(p.text)
		} else {
			b.WriteString(escaper(paramOf(w, p.param)))
		}
	}
	return b.String()
}

func (t template) plain(w *spec.Worker) string {
	return t.expand(w, func(s string) string { return s })
}
func (t template) escaped(w *spec.Worker) string { return t.expand(w, escape) }

func (t template) params() (names []string) {
	for _, p := range t {
		if p.param != "" {
			names = append(names, p.param)
		}
	}
	return names
}

func paramOf(w *spec.Worker, name string) string {
	switch name {
	case "worker":
		return w.Name
	case "replica":
		return strconv.Itoa(max(1, w.Replica))
	}
	for _, p := range w.Params {
		if p.Name == name {
			return p.Value
		}
	}
	return ""
}

// templates are all texts of an entry in which parameters stand.
type templates struct {
	command            []template
	directory, envFile template
	log                template
	env                []template
	name               template
}

// templates takes the texts of an entry apart; nil where one is wrong.
func (b *builder) templates(d *draft, rows [][]spec.Param) *templates {
	known := []string{"worker", "replica"}
	if len(rows) > 0 {
		for _, p := range rows[0] {
			known = append(known, p.Name)
		}
	}
	before := len(b.errs)
	one := func(key, text string, at pos, known []string) template {
		t, err := parseTemplate(text)
		key, name, _ := strings.Cut(key, " ")
		if name != "" {
			name += ": "
		}
		if err != nil {
			b.problemAt(at, d, key, "%s%v", name, err)
			return nil
		}
		if len(rows) == 0 {
			return t // its parameters are wrong already
		}
		for _, n := range t.params() {
			switch {
			case slices.Contains(known, n):
			case !paramName.MatchString(n):
				// Not repeated: it could be a part of a secret.
				b.problemAt(at, d, key, "%swhat stands in ${…} is no name of a parameter (known: %s; write $${ for a literal ${)", name, strings.Join(known, ", "))
			default:
				b.problemAt(at, d, key, "%sunknown parameter ${%s} (known: %s; write $${%s} for the text itself)", name, n, strings.Join(known, ", "), n)
			}
		}
		return t
	}
	t := &templates{}
	cmd := d.members["command"]
	for i, arg := range d.w.Command {
		at := b.place(d, "command")
		if cmd != nil && i < len(cmd.val.items) {
			at = cmd.val.items[i].pos
		}
		t.command = append(t.command, one("command", arg, at, known))
	}
	t.directory = one("directory", d.w.Directory, b.place(d, "directory"), known)
	t.envFile = one("environment_file", d.w.EnvironmentFile, b.place(d, "environment_file"), known)
	t.log = one("log", d.w.Log, b.place(d, "log"), known)
	for _, v := range d.w.Environment {
		at := b.place(d, "environment")
		for _, m := range []*member{b.general["environment"], d.members["environment"]} {
			if m == nil || m.val.kind != unstable.InlineTable {
				continue
			}
			if x := m.val.get(v.Name); x != nil {
				at = x.val.pos
			}
		}
		t.env = append(t.env, one("environment "+v.Name, v.Value, at, known))
	}
	if m := d.members["name"]; m != nil {
		switch {
		case m.val.kind != unstable.String:
			b.problem(d, "name", "%s", expected(m.val, `a template such as "queue-${ip}"`))
		case m.val.text == "":
			b.problem(d, "name", "is empty (expected a template such as \"queue-${ip}\")")
		default:
			t.name = one("name", m.val.text, m.val.pos, slices.DeleteFunc(slices.Clone(known), func(n string) bool { return n == "worker" }))
		}
	}
	if len(b.errs) > before {
		return nil
	}
	return t
}

// fill expands every text of a worker that has its name.
func (t *templates) fill(w *spec.Worker) {
	command := make([]string, len(t.command))
	for i, c := range t.command {
		command[i] = c.plain(w)
	}
	w.Command = command
	w.Directory = t.directory.plain(w)
	w.EnvironmentFile = t.envFile.plain(w)
	w.Log = t.log.plain(w)
	if len(t.env) > 0 {
		env := make([]spec.EnvVar, len(t.env))
		for i, e := range t.env {
			env[i] = spec.EnvVar{Name: w.Environment[i].Name, Value: e.plain(w)}
		}
		w.Environment = env
	}
}

// logValues keeps a parameter from leading a log out of its directory.
func logValues(t template, w *spec.Worker) string {
	for _, n := range t.params() {
		if n == "worker" || n == "replica" {
			continue
		}
		if v := paramOf(w, n); strings.Contains(v, "/") || strings.Contains(v, "..") || strings.ContainsFunc(v, unicode.IsControl) {
			return fmt.Sprintf("parameter %s is %s, and a path may hold no value with / or .. or a control character in it (expected ${worker} instead)", n, spec.Quote(v))
		}
	}
	return ""
}

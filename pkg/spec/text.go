package spec

import (
	"math"
	"strconv"
	"strings"
	"unicode"
)

// Quote is a text as an error shows it: long ones are cut.
func Quote(s string) string {
	const most = 80
	if len(s) > most {
		return strconv.Quote(s[:most]) + "…"
	}
	return strconv.Quote(s)
}

// LineProblem says why a text is not one line, "" if it is: it stands in logs
// and tables, and some of them in paths.
func LineProblem(s string) string {
	if strings.ContainsFunc(s, unicode.IsControl) {
		return "has a control character in it, such as a new line (expected one line of text)"
	}
	return ""
}

// NameProblem says why no shell could use the variable's name, "" if one can.
func (v EnvVar) NameProblem() string {
	digit := v.Name != "" && v.Name[0] >= '0' && v.Name[0] <= '9'
	bad := func(r rune) bool { return r != '_' && (r > unicode.MaxASCII || !alphanumeric(byte(r))) }
	if v.Name == "" || digit || strings.ContainsFunc(v.Name, bad) {
		return Quote(v.Name) + " is no name of a variable (expected letters, digits and _)"
	}
	return ""
}

// ValueProblem says why no program can be given the variable's value, "" if it
// can. The value is not told.
func (v EnvVar) ValueProblem() string {
	if strings.IndexByte(v.Value, 0) >= 0 {
		return v.Name + " has a NUL byte in it, which no program can be given"
	}
	return ""
}

func (ps *problems) environment(env []EnvVar) {
	for _, v := range env {
		if text := v.NameProblem(); text != "" {
			ps.add("environment", "", "%s", text)
		} else if text := v.ValueProblem(); text != "" {
			ps.add("environment", "", "%s", text)
		}
	}
}

// paths must be absolute: the manager's directory is no part of a list.
func (ps *problems) paths(w *Worker) {
	switch w.Log {
	case LogAuto, LogJournal, LogInherit:
	default:
		if !strings.HasPrefix(w.Log, "/") {
			ps.add("log", "", `%s is no absolute path (expected "journal", "inherit" or a path from /)`, Quote(w.Log))
		}
	}
	if w.Directory != "" && !strings.HasPrefix(w.Directory, "/") {
		ps.add("directory", "", "%s is no absolute path (expected a path from /)", Quote(w.Directory))
	}
	if f := strings.TrimPrefix(w.EnvironmentFile, "-"); f != "" && !strings.HasPrefix(f, "/") {
		ps.add("environment_file", "", `%s is no absolute path (expected a path from /, with a "-" before it if the file may be missing)`, Quote(f))
	}
}

// ids looks at a user and a group that are numbers. The kernel takes 32 bits of
// them, and the highest for none, which changes nothing (setresuid(2)).
func (ps *problems) ids(w *Worker) {
	for _, id := range []struct{ key, text string }{{"user", w.User}, {"group", w.Group}} {
		if id.text == "" || strings.Trim(id.text, "0123456789") != "" {
			continue // by name
		}
		if n, err := strconv.ParseUint(id.text, 10, 32); err != nil || n == math.MaxUint32 {
			ps.add(id.key, "", "%s is out of range (expected a name, or a number to %d)", Quote(id.text), uint32(math.MaxUint32-1))
		}
	}
}

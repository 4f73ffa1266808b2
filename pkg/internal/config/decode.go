package config

import (
	"cmp"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/pelletier/go-toml/v2/unstable"

	"github.com/workersd/workersd/pkg/spec"
)

// fault is something wrong with a value, or with a part of it.
type fault struct {
	pos
	text string
}

// set decodes a value into the field of its key; the faults say what is wrong.
func (o Options) set(k *spec.Key, field any, v *value) []fault {
	text := ""
	switch k.Kind {
	case spec.KindCommand:
		return setCommand(field.(*[]string), v)
	case spec.KindEnv:
		return setEnv(field.(*[]spec.EnvVar), v)
	case spec.KindString:
		text = setString(field.(*string), v)
	case spec.KindBool:
		text = setBool(field.(*bool), v)
	case spec.KindInt:
		text = setInt(field.(*int), v, k)
	case spec.KindDuration:
		text = setDuration(field.(*time.Duration), v, k)
	case spec.KindBytes:
		text = o.setBytes(field.(*spec.Bytes), v, `a size such as "200M", "1.5G", "10%" or "none"`)
	case spec.KindSize:
		o.MemoryTotal = 0
		text = o.setBytes(field.(*spec.Bytes), v, `a size such as "50M" or "none"`)
	case spec.KindSignal:
		text = setSignal(field.(*spec.Signal), v)
	case spec.KindEnum:
		text = setEnum(field.(*string), v, k.Words)
	case spec.KindShare:
		text = setShare(field.(*spec.Share), v)
	case spec.KindCPU:
		text = setCPU(field.(*float64), v)
	case spec.KindUmask:
		text = setUmask(field.(*int), v)
	}
	if text != "" {
		return []fault{{v.pos, text}}
	}
	return nil
}

// expected says what a value is and what it should be.
func expected(v *value, what string) string {
	is := map[unstable.Kind]string{
		unstable.String: "a text", unstable.Integer: "a whole number", unstable.Float: "a number", unstable.Bool: "a truth value",
		unstable.Array: "a list", unstable.InlineTable: "a table",
	}[v.kind]
	if is == "" {
		is = "a date"
	}
	return fmt.Sprintf("is %s (expected %s)", is, what)
}

func setString(field *string, v *value) string {
	if v.kind != unstable.String {
		return expected(v, "a text")
	}
	if text := spec.LineProblem(v.text); text != "" {
		return text
	}
	*field = v.text
	return ""
}

func setBool(field *bool, v *value) string {
	if v.kind != unstable.Bool {
		return expected(v, "true or false")
	}
	*field = v.truth
	return ""
}

func setSignal(field *spec.Signal, v *value) string {
	if v.kind != unstable.String {
		return expected(v, `a signal such as "SIGTERM"`)
	}
	sig, err := spec.ParseSignal(v.text)
	if err != nil {
		return spec.Quote(v.text) + ` is no signal (expected a name such as "SIGTERM")`
	}
	*field = sig
	return ""
}

func setCommand(field *[]string, v *value) (fs []fault) {
	const what = `a list of texts, ["program", "argument", …]; for a shell write ["/bin/sh", "-c", "…"]`
	if v.kind != unstable.Array {
		return []fault{{v.pos, expected(v, what)}}
	}
	out := make([]string, len(v.items))
	for i, it := range v.items {
		switch {
		case it.kind != unstable.String:
			fs = append(fs, fault{it.pos, fmt.Sprintf("item %d %s", i+1, expected(it, "a text"))})
		case strings.ContainsRune(it.text, 0):
			fs = append(fs, fault{it.pos, fmt.Sprintf("item %d has a NUL byte in it, which no program can be given", i+1)})
		}
		out[i] = it.text
	}
	if len(fs) == 0 && (len(out) == 0 || out[0] == "") {
		fs = append(fs, fault{v.pos, "is empty (expected " + what + ")"})
	}
	*field = out
	return fs
}

func setEnv(field *[]spec.EnvVar, v *value) (fs []fault) {
	if v.kind != unstable.InlineTable {
		return []fault{{v.pos, expected(v, `a table, { NAME = "value" }`)}}
	}
	var out []spec.EnvVar
	for _, m := range v.members {
		e := spec.EnvVar{Name: m.name, Value: m.val.text}
		switch {
		case e.NameProblem() != "":
			fs = append(fs, fault{m.pos, e.NameProblem()})
		case ours(m.name):
			fs = append(fs, fault{m.pos, m.name + " is set by workersd itself (remove it)"})
		case m.val.kind != unstable.String:
			fs = append(fs, fault{m.val.pos, m.name + " " + expected(m.val, "a text")})
		case e.ValueProblem() != "":
			fs = append(fs, fault{m.val.pos, e.ValueProblem()})
		default:
			out = append(out, e)
		}
	}
	*field = out
	return fs
}

// ours reports whether a variable is one that the manager sets for each process;
// WORKERSD_SOCKET is only read, by workersctl.
func ours(name string) bool {
	switch name {
	case "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID":
		return true
	}
	return strings.HasPrefix(name, "WORKERSD_") && name != "WORKERSD_SOCKET"
}

func setInt(field *int, v *value, k *spec.Key) string {
	what := fmt.Sprintf("a whole number from %d to %d", k.Min, cmp.Or(k.Max, math.MaxInt32))
	if v.kind != unstable.Integer {
		return expected(v, what)
	}
	if v.huge || v.num < int64(k.Min) || k.Max != 0 && v.num > int64(k.Max) || v.num > math.MaxInt32 {
		return fmt.Sprintf("%s is out of range (expected %s)", cut(v.text), what)
	}
	*field = int(v.num)
	return ""
}

func setDuration(field *time.Duration, v *value, k *spec.Key) string {
	const what = `a duration such as "500ms", "30s", "5m" or "1h"`
	if v.kind != unstable.String {
		return expected(v, what)
	}
	d, err := time.ParseDuration(v.text)
	if err != nil || d < 0 {
		return fmt.Sprintf("%s is no duration (expected %s)", spec.Quote(v.text), what)
	}
	if d > spec.MaxDuration {
		return fmt.Sprintf("%s is too long (expected at most %q)", spec.Quote(v.text), "87600h")
	}
	if d == 0 && k.Min > 0 {
		return "is zero (expected " + what + ")"
	}
	*field = d
	return ""
}

func (o Options) setBytes(field *spec.Bytes, v *value, what string) string {
	if v.kind == unstable.Integer {
		if v.huge || v.num < 0 || v.num > 1<<62 {
			return fmt.Sprintf("%s is out of range (expected %s)", cut(v.text), what)
		}
		*field = spec.Bytes(v.num)
		return ""
	}
	if v.kind != unstable.String {
		return expected(v, what)
	}
	if v.text == "none" {
		*field = spec.None
		return ""
	}
	num, unit := v.text, 1.0
	if len(num) > 0 {
		switch num[len(num)-1] {
		case 'K':
			unit = float64(spec.KiB)
		case 'M':
			unit = float64(spec.MiB)
		case 'G':
			unit = float64(spec.GiB)
		case 'T':
			unit = float64(spec.TiB)
		case '%':
			if o.MemoryTotal <= 0 && strings.Contains(what, "%") {
				return "a percentage cannot be used: the machine's memory is not known"
			} else if o.MemoryTotal <= 0 {
				return fmt.Sprintf("%s is a percentage, of nothing (expected %s)", spec.Quote(v.text), what)
			}
			unit = float64(o.MemoryTotal) / 100
			if o.Percentage != nil {
				o.Percentage()
			}
		}
		if unit != 1 {
			num = num[:len(num)-1]
		}
	}
	f, err := strconv.ParseFloat(num, 64)
	if err != nil || f < 0 || math.IsNaN(f) || f*unit > 1<<62 || !decimal(num) {
		return fmt.Sprintf("%s is no size (expected %s)", spec.Quote(v.text), what)
	}
	*field = spec.Bytes(f * unit)
	return ""
}

// decimal reports whether a number is written as people write sizes: ParseFloat
// takes "1e3", "0x1p4" and "Inf", too.
func decimal(s string) bool {
	return s != "" && strings.Trim(s, "0123456789.") == ""
}

// cut is a number as an error shows it.
func cut(s string) string {
	if len(s) > 40 {
		return s[:40] + "…"
	}
	return s
}

func setEnum(field *string, v *value, words []string) string {
	what := `"` + strings.Join(words, `" or "`) + `"`
	if v.kind != unstable.String {
		return expected(v, what)
	}
	for _, w := range words {
		if v.text == w {
			*field = w
			return ""
		}
	}
	return fmt.Sprintf("%s is not known (expected %s)", spec.Quote(v.text), what)
}

func setShare(field *spec.Share, v *value) string {
	const what = `a whole number, or a percentage such as "10%"`
	switch v.kind {
	case unstable.Integer:
		if v.huge || v.num < 0 || v.num > math.MaxInt32 {
			return fmt.Sprintf("%s is out of range (expected %s)", cut(v.text), what)
		}
		*field = spec.Share{N: int(v.num)}
		return ""
	case unstable.String:
		num, ok := strings.CutSuffix(v.text, "%")
		n, err := strconv.Atoi(num)
		if !ok || err != nil || n < 1 || n > 100 {
			return fmt.Sprintf("%s is no share (expected %s)", spec.Quote(v.text), what)
		}
		*field = spec.Share{N: n, Percent: true}
		return ""
	}
	return expected(v, what)
}

func setCPU(field *float64, v *value) string {
	const what = `a number of CPUs such as 1.5, or "150%"`
	f := v.float
	switch v.kind {
	case unstable.Integer:
		f = float64(v.num)
		if v.huge {
			f = math.Inf(1)
		}
	case unstable.Float:
	case unstable.String:
		num, ok := strings.CutSuffix(v.text, "%")
		p, err := strconv.ParseFloat(num, 64)
		if !ok || err != nil || !decimal(num) {
			return fmt.Sprintf("%s is no share of a CPU (expected %s)", spec.Quote(v.text), what)
		}
		f = p / 100
	default:
		return expected(v, what)
	}
	if math.IsNaN(f) || f < 0 || f > 1e6 || f > 0 && f < 0.01 {
		return fmt.Sprintf("%s is out of range (expected %s, at least 0.01)", cut(v.text), what)
	}
	*field = f
	return ""
}

func setUmask(field *int, v *value) string {
	const what = `octal text such as "0027"`
	if v.kind != unstable.String {
		return expected(v, what)
	}
	n, err := strconv.ParseUint(v.text, 8, 32)
	if err != nil || n > 0o777 {
		return fmt.Sprintf("%s is no mask (expected %s)", spec.Quote(v.text), what)
	}
	*field = int(n)
	return ""
}

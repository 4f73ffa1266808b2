package config

import (
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/pelletier/go-toml/v2/unstable"

	"github.com/workersd/workersd/pkg/spec"
)

var envName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// set decodes a value into the field of its key; the text says what is wrong.
func (o Options) set(k *spec.Key, field any, v *value) string {
	switch k.Kind {
	case spec.KindString:
		return setString(field.(*string), v)
	case spec.KindCommand:
		return setCommand(field.(*[]string), v)
	case spec.KindEnv:
		return setEnv(field.(*[]spec.EnvVar), v)
	case spec.KindBool:
		if v.kind != unstable.Bool {
			return expected(v, "true or false")
		}
		*field.(*bool) = v.truth
	case spec.KindInt:
		return setInt(field.(*int), v, k)
	case spec.KindDuration:
		return setDuration(field.(*time.Duration), v, k)
	case spec.KindBytes:
		return o.setBytes(field.(*spec.Bytes), v)
	case spec.KindSignal:
		if v.kind != unstable.String {
			return expected(v, `a signal such as "SIGTERM"`)
		}
		sig, err := spec.ParseSignal(v.text)
		if err != nil {
			return err.Error()
		}
		*field.(*spec.Signal) = sig
	case spec.KindEnum:
		return setEnum(field.(*string), v, k.Words)
	case spec.KindShare:
		return setShare(field.(*spec.Share), v)
	case spec.KindCPU:
		return setCPU(field.(*float64), v)
	case spec.KindUmask:
		return setUmask(field.(*int), v)
	}
	return ""
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
	if strings.ContainsRune(v.text, 0) {
		return "has a NUL byte in it"
	}
	*field = v.text
	return ""
}

func setCommand(field *[]string, v *value) string {
	const what = `a list of texts, ["program", "argument", …]; for a shell write ["/bin/sh", "-c", "…"]`
	if v.kind != unstable.Array {
		return expected(v, what)
	}
	out := make([]string, len(v.items))
	for i, it := range v.items {
		if it.kind != unstable.String {
			return fmt.Sprintf("item %d %s", i+1, expected(it, "a text"))
		}
		if strings.ContainsRune(it.text, 0) {
			return fmt.Sprintf("item %d has a NUL byte in it", i+1)
		}
		out[i] = it.text
	}
	if len(out) == 0 || out[0] == "" {
		return "is empty (expected " + what + ")"
	}
	*field = out
	return ""
}

func setEnv(field *[]spec.EnvVar, v *value) string {
	if v.kind != unstable.InlineTable {
		return expected(v, `a table, { NAME = "value" }`)
	}
	var out []spec.EnvVar
	for _, m := range v.members {
		if !envName.MatchString(m.name) {
			return fmt.Sprintf("%q is no name of a variable", m.name)
		}
		if m.val.kind != unstable.String {
			return m.name + " " + expected(m.val, "a text")
		}
		if strings.ContainsRune(m.val.text, 0) {
			return m.name + " has a NUL byte in it"
		}
		out = append(out, spec.EnvVar{Name: m.name, Value: m.val.text})
	}
	*field = out
	return ""
}

func setInt(field *int, v *value, k *spec.Key) string {
	what := fmt.Sprintf("a whole number from %d", k.Min)
	if k.Max != 0 {
		what += fmt.Sprintf(" to %d", k.Max)
	}
	if v.kind != unstable.Integer {
		return expected(v, what)
	}
	if v.num < int64(k.Min) || k.Max != 0 && v.num > int64(k.Max) || v.num > math.MaxInt32 {
		return fmt.Sprintf("%d is out of range (expected %s)", v.num, what)
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
		return fmt.Sprintf("%q is no duration (expected %s)", v.text, what)
	}
	if d == 0 && k.Min > 0 {
		return "is zero (expected " + what + ")"
	}
	*field = d
	return ""
}

func (o Options) setBytes(field *spec.Bytes, v *value) string {
	const what = `a size such as "200M", "1.5G", "10%" or "none"`
	if v.kind == unstable.Integer && v.num >= 0 {
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
			if o.MemoryTotal <= 0 {
				return "a percentage cannot be used: the machine's memory is not known"
			}
			unit = float64(o.MemoryTotal) / 100
		}
		if unit != 1 {
			num = num[:len(num)-1]
		}
	}
	f, err := strconv.ParseFloat(num, 64)
	if err != nil || f < 0 || math.IsNaN(f) || f*unit > 1<<62 || strings.ContainsAny(num, "eExXpPiInN_+") {
		return fmt.Sprintf("%q is no size (expected %s)", v.text, what)
	}
	*field = spec.Bytes(f * unit)
	return ""
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
	return fmt.Sprintf("%q is not known (expected %s)", v.text, what)
}

func setShare(field *spec.Share, v *value) string {
	const what = `a whole number, or a percentage such as "10%"`
	switch v.kind {
	case unstable.Integer:
		if v.num < 0 || v.num > math.MaxInt32 {
			return fmt.Sprintf("%d is out of range (expected %s)", v.num, what)
		}
		*field = spec.Share{N: int(v.num)}
		return ""
	case unstable.String:
		num, ok := strings.CutSuffix(v.text, "%")
		n, err := strconv.Atoi(num)
		if !ok || err != nil || n < 1 || n > 100 {
			return fmt.Sprintf("%q is no share (expected %s)", v.text, what)
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
	case unstable.Float:
	case unstable.String:
		num, ok := strings.CutSuffix(v.text, "%")
		p, err := strconv.ParseFloat(num, 64)
		if !ok || err != nil {
			return fmt.Sprintf("%q is no share of a CPU (expected %s)", v.text, what)
		}
		f = p / 100
	default:
		return expected(v, what)
	}
	if math.IsNaN(f) || f < 0 || f > 1e6 || f > 0 && f < 0.01 {
		return fmt.Sprintf("%v is out of range (expected %s, at least 0.01)", f, what)
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
		return fmt.Sprintf("%q is no mask (expected %s)", v.text, what)
	}
	*field = int(n)
	return ""
}

package manager

import (
	"encoding"
	"fmt"
	"reflect"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unsafe"

	"github.com/workersd/workersd/pkg/internal/config"
	"github.com/workersd/workersd/pkg/spec"
	"github.com/workersd/workersd/pkg/worker"
)

// params are the arguments that name a worker: texts, numbers and times, in the
// order of the fields.
func params(w worker.Worker) (ps []spec.Param) {
	v := reflect.ValueOf(w)
	if v.Kind() == reflect.Pointer {
		v = v.Elem()
	}
	t := v.Type()
	if t.Kind() == reflect.Func || whole(t) {
		return nil
	}
	for _, f := range arguments(t) {
		field := v.FieldByIndex(f.Index)
		if strings.Contains(f.Tag.Get("json"), ",omitempty") && field.IsZero() {
			continue
		}
		if text, ok := scalar(field); ok {
			ps = append(ps, spec.Param{Name: paramName(f), Value: text})
		}
	}
	return ps
}

// scalar is the value of a field that can stand in a name.
func scalar(v reflect.Value) (string, bool) {
	if d, ok := v.Interface().(time.Duration); ok {
		return d.String(), true
	}
	if m, ok := v.Interface().(encoding.TextMarshaler); ok && v.Kind() != reflect.Pointer {
		text, err := m.MarshalText()
		return string(text), err == nil
	}
	switch v.Kind() {
	case reflect.String:
		return v.String(), true
	case reflect.Bool:
		return strconv.FormatBool(v.Bool()), true
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return strconv.FormatInt(v.Int(), 10), true
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Uintptr:
		return strconv.FormatUint(v.Uint(), 10), true
	case reflect.Float32, reflect.Float64:
		return strconv.FormatFloat(v.Float(), 'g', -1, 64), true
	}
	return "", false
}

var validParam = regexp.MustCompile(`^[a-z][a-z0-9_]*$`)

// paramName is the JSON name of a field, or QueueName as queue_name.
func paramName(f reflect.StructField) string {
	if n := tagName(f); validParam.MatchString(n) {
		return n
	}
	var b strings.Builder
	runes := []rune(f.Name)
	for i, r := range runes {
		upper := unicode.IsUpper(r)
		if i > 0 && upper && (!unicode.IsUpper(runes[i-1]) || i+1 < len(runes) && unicode.IsLower(runes[i+1])) && runes[i-1] != '_' {
			b.WriteByte('_')
		}
		b.WriteRune(unicode.ToLower(r))
	}
	return b.String()
}

// typeName names a worker that was given no name: by its type, or as the origin
// did where that has none.
func typeName(w worker.Worker) string {
	t := reflect.TypeOf(w)
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	name, _, _ := strings.Cut(t.Name(), "[") // of a generic type
	if name == "" || t == reflect.TypeFor[worker.Func]() {
		return "Process"
	}
	return name
}

// kind tells what two workers do apart, also in two processes of a program: the
// type, and which function it is.
func kind(w worker.Worker) string {
	v := reflect.ValueOf(w)
	t, k := v.Type(), ""
	if t.Kind() == reflect.Pointer {
		t, k = t.Elem(), "*"
	}
	if t.Name() == "" {
		k += t.String()
	} else {
		k += t.PkgPath() + "." + t.Name()
	}
	if v.Kind() == reflect.Func {
		k += " " + runtime.FuncForPC(v.Pointer()).Name()
	}
	return k
}

// identity tells workers of one kind apart, in this process: types of one name
// that are declared in two functions, and values of one function that have
// captured different things.
type identity struct {
	typ     reflect.Type
	closure unsafe.Pointer // nil for what is no function
}

func identify(w worker.Worker) identity {
	id := identity{typ: reflect.TypeOf(w)}
	if id.typ.Kind() == reflect.Func {
		// A function value is a pointer to its code and what it has captured;
		// reflect tells of that only the code.
		f := reflect.New(id.typ)
		f.Elem().Set(reflect.ValueOf(w))
		id.closure = *(*unsafe.Pointer)(f.UnsafePointer())
	}
	return id
}

var placeholder = regexp.MustCompile(`\$\{([^}]*)\}`)

// fill puts parameters in the place of ${…}. No value can climb out of a
// directory or be taken for two.
func fill(template string, ps []spec.Param, also ...string) (string, error) {
	var err error
	text := placeholder.ReplaceAllStringFunc(template, func(m string) string {
		name := m[2 : len(m)-1]
		known := slices.Clone(also)
		for _, p := range ps {
			if p.Name == name {
				return escape(p.Value)
			}
			known = append(known, p.Name)
		}
		err = fmt.Errorf("unknown ${%s} (known: %s)", name, strings.Join(known, ", "))
		return m
	})
	return text, err
}

// escape keeps what the worker list keeps of a value.
func escape(value string) string {
	return strings.TrimPrefix(config.Name("", []spec.Param{{Value: value}}, 0), "@")
}

// checkName says what is wrong with a name.
func checkName(name string) error {
	switch {
	case len(name) > spec.MaxName:
		return fmt.Errorf("%q has %d bytes, and %d are allowed (choose what stands in it: Name: \"queue-${ip}\")", name, len(name), spec.MaxName)
	case !spec.ValidName(name):
		return fmt.Errorf("%q cannot be a name (expected letters, digits and _ . : + - @ , or spaces inside, beginning with a letter or digit)", name)
	}
	return nil
}

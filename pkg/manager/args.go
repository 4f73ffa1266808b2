package manager

import (
	"encoding"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"

	"github.com/workersd/workersd/pkg/worker"
)

var (
	marshaler   = reflect.TypeFor[json.Marshaler]()
	unmarshaler = reflect.TypeFor[json.Unmarshaler]()
	textOut     = reflect.TypeFor[encoding.TextMarshaler]()
	textIn      = reflect.TypeFor[encoding.TextUnmarshaler]()
)

// encode is the arguments of a worker as JSON, nil where it has none. It
// refuses what another process could not have back as it was.
func encode(w worker.Worker) (json.RawMessage, error) {
	v := reflect.ValueOf(w)
	if v.Kind() == reflect.Pointer {
		if v.IsNil() {
			return nil, errors.New("is a nil pointer")
		}
		v = v.Elem()
	}
	t := v.Type()
	switch {
	case t.Kind() == reflect.Func:
		return nil, nil // what a function has captured, main captures again
	case whole(t):
		if err := faithful(t, nil); err != nil {
			return nil, err
		}
	default:
		n := 0
		for _, f := range arguments(t) {
			n++
			if err := faithful(f.Type, nil); err != nil {
				return nil, fmt.Errorf("field %s: %w", f.Name, err)
			}
		}
		if n == 0 {
			return nil, nil
		}
	}
	args, err := json.Marshal(w)
	if err != nil {
		return nil, err
	}
	return args, arrive(v, args)
}

// decode puts arguments into a worker that main has made; its unexported fields
// stay as they are.
func decode(w worker.Worker, args json.RawMessage) (worker.Worker, error) {
	if args == nil {
		return w, nil
	}
	v := reflect.ValueOf(w)
	dst := v
	if v.Kind() == reflect.Pointer {
		dst = v.Elem()
	} else {
		dst = reflect.New(v.Type()).Elem()
		dst.Set(v)
	}
	// Into a fresh one: JSON merges maps with what is there already.
	fresh := reflect.New(dst.Type())
	if err := json.Unmarshal(args, fresh.Interface()); err != nil {
		return nil, fmt.Errorf("its arguments: %w", err)
	}
	if whole(dst.Type()) {
		dst.Set(fresh.Elem())
	} else {
		for _, f := range arguments(dst.Type()) {
			dst.FieldByIndex(f.Index).Set(fresh.Elem().FieldByIndex(f.Index))
		}
	}
	if v.Kind() == reflect.Pointer {
		return w, nil
	}
	return dst.Interface().(worker.Worker), nil
}

// whole reports whether a worker is its arguments, not a struct that has some.
func whole(t reflect.Type) bool {
	return t.Kind() != reflect.Struct || t.Implements(marshaler) || reflect.PointerTo(t).Implements(marshaler)
}

// arguments are the exported fields of a struct that JSON would write; those of
// embedded structs are its own.
func arguments(t reflect.Type) (fields []reflect.StructField) {
	for i := range t.NumField() {
		f := t.Field(i)
		if f.Tag.Get("json") == "-" {
			continue
		}
		if f.Anonymous && f.Type.Kind() == reflect.Struct && !codes(f.Type) && tagName(f) == "" {
			for _, in := range arguments(f.Type) {
				in.Index = append([]int{i}, in.Index...)
				fields = append(fields, in)
			}
			continue
		}
		if f.IsExported() {
			fields = append(fields, f)
		}
	}
	return fields
}

func tagName(f reflect.StructField) string {
	name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
	return name
}

// codes reports whether a type writes and reads itself.
func codes(t reflect.Type) bool {
	p := reflect.PointerTo(t)
	return p.Implements(marshaler) && p.Implements(unmarshaler) || p.Implements(textOut) && p.Implements(textIn)
}

// faithful refuses types of which JSON keeps only a part; what it does to a value
// is for arrive to see.
func faithful(t reflect.Type, above []reflect.Type) error {
	for _, a := range above {
		if a == t {
			return nil // a type that holds itself
		}
	}
	above = append(above, t)
	if codes(t) {
		return nil
	}
	switch t.Kind() {
	case reflect.Func, reflect.Chan, reflect.Interface, reflect.Complex64, reflect.Complex128, reflect.UnsafePointer:
		return fmt.Errorf("a %v cannot be handed to another process%s", t, hint)
	case reflect.Pointer, reflect.Slice, reflect.Array:
		return faithful(t.Elem(), above)
	case reflect.Map:
		switch k := t.Key(); {
		case codes(k), k.Kind() == reflect.String, reflect.Int <= k.Kind() && k.Kind() <= reflect.Uintptr:
		default:
			return fmt.Errorf("a %v cannot be handed to another process: its keys are no texts or whole numbers%s", t, hint)
		}
		return faithful(t.Elem(), above)
	case reflect.Struct:
		for i := range t.NumField() {
			f := t.Field(i)
			switch {
			case f.Tag.Get("json") == "-":
			case !f.IsExported() && !(f.Anonymous && f.Type.Kind() == reflect.Struct):
				return fmt.Errorf("a %v cannot be handed to another process whole: its field %s is unexported%s", t, f.Name, hint)
			default:
				if err := faithful(f.Type, above); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

const hint = ` (make it in Init and keep it in an unexported field, or tag the field json:"-")`

package manager

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
)

const lossHint = ` (JSON keeps texts that are UTF-8, fields whose JSON name no other has, and types that read what they write; a type with MarshalJSON or MarshalText on its pointer needs a worker that is a pointer)`

// arrive does what the worker's process will do with its arguments, and refuses
// what would not be there as it is here. Types alone do not tell: see faithful.
func arrive(v reflect.Value, args json.RawMessage) error {
	fresh := reflect.New(v.Type())
	if err := json.Unmarshal(args, fresh.Interface()); err != nil {
		return unreadable(v.Type(), args, err)
	}
	if whole(v.Type()) {
		if !same(v, fresh.Elem()) {
			return fmt.Errorf("a %v would be another one in the worker's process%s", v.Type(), lossHint)
		}
		return nil
	}
	for _, f := range arguments(v.Type()) {
		if !same(v.FieldByIndex(f.Index), fresh.Elem().FieldByIndex(f.Index)) {
			return fmt.Errorf("field %s: a %v would be another one in the worker's process%s", path(v.Type(), f.Index), f.Type, lossHint)
		}
	}
	return nil
}

// unreadable says which argument cannot be read back, where it is one alone.
func unreadable(t reflect.Type, args json.RawMessage, err error) error {
	var each map[string]json.RawMessage
	if !whole(t) && json.Unmarshal(args, &each) == nil {
		for _, f := range arguments(t) {
			text, there := each[cmp.Or(tagName(f), f.Name)]
			if !there {
				continue
			}
			if err := json.Unmarshal(text, reflect.New(f.Type).Interface()); err != nil {
				return fmt.Errorf("field %s: cannot be read back: %w%s", path(t, f.Index), err, lossHint)
			}
		}
	}
	return fmt.Errorf("its arguments cannot be read back: %w%s", err, lossHint)
}

// path is the name of a field, with those of the structs that it is embedded in.
func path(t reflect.Type, index []int) string {
	var names []string
	for _, i := range index {
		f := t.Field(i)
		names, t = append(names, f.Name), f.Type
	}
	return strings.Join(names, ".")
}

// same is reflect.DeepEqual for arguments: nil and empty are one, a field that is
// no argument is not looked at, and a type that writes and reads itself is what it
// writes, so that a time may lose its clock reading.
func same(a, b reflect.Value) bool {
	if codes(a.Type()) && a.CanInterface() {
		return sameText(a, b)
	}
	switch a.Kind() {
	case reflect.Pointer:
		if a.IsNil() || b.IsNil() {
			return a.IsNil() && b.IsNil()
		}
		return same(a.Elem(), b.Elem())
	case reflect.Slice, reflect.Array:
		if a.Len() != b.Len() {
			return false
		}
		for i := range a.Len() {
			if !same(a.Index(i), b.Index(i)) {
				return false
			}
		}
	case reflect.Map:
		return sameMap(a, b)
	case reflect.Struct:
		for i := range a.NumField() {
			if a.Type().Field(i).Tag.Get("json") != "-" && !same(a.Field(i), b.Field(i)) {
				return false
			}
		}
	default:
		return a.Equal(b)
	}
	return true
}

func sameMap(a, b reflect.Value) bool {
	if a.Len() != b.Len() {
		return false
	}
	for i := a.MapRange(); i.Next(); {
		if in := b.MapIndex(i.Key()); !in.IsValid() || !same(i.Value(), in) {
			return false
		}
	}
	return true
}

// sameText compares what two values write by their pointers, which may have the
// methods where the values have not.
func sameText(a, b reflect.Value) bool {
	write := func(v reflect.Value) ([]byte, error) {
		p := reflect.New(v.Type())
		p.Elem().Set(v)
		return json.Marshal(p.Interface())
	}
	textA, errA := write(a)
	textB, errB := write(b)
	return errA == nil && errB == nil && bytes.Equal(textA, textB)
}

package spec

import (
	"cmp"
	"slices"
	"time"
)

// Changes names the keys in which two versions of one worker differ, by what a
// reload does about them, in the order of the table. It never tells values.
func Changes(old, new *Worker) (live, restart []string) {
	return Differing(func(k *Key) bool { return !Equal(k.Worker(old), k.Worker(new)) })
}

// Differing is Changes for who has no values: it asks of each key of a worker
// whether it differs.
func Differing(differs func(*Key) bool) (live, restart []string) {
	for i := range Keys {
		k := &Keys[i]
		if k.Worker == nil || !differs(k) {
			continue
		}
		if k.Class == Live {
			live = append(live, k.Name)
		} else {
			restart = append(restart, k.Name)
		}
	}
	return live, restart
}

// ManagerChanges names the keys of [manager] in which two lists differ.
func ManagerChanges(old, new *Manager) []string {
	return ManagerDiffering(func(k *Key) bool { return !Equal(k.Manager(old), k.Manager(new)) })
}

// ManagerDiffering is ManagerChanges for who has no values.
func ManagerDiffering(differs func(*Key) bool) (keys []string) {
	for i := range ManagerKeys {
		if k := &ManagerKeys[i]; differs(k) {
			keys = append(keys, k.Name)
		}
	}
	return keys
}

// Equal compares the values of one key, as Key.Worker and Key.Manager give
// them. The order of variables and of parameters means nothing to a process.
func Equal(a, b any) bool {
	switch a := a.(type) {
	case *string:
		return *a == *b.(*string)
	case *int:
		return *a == *b.(*int)
	case *bool:
		return *a == *b.(*bool)
	case *float64:
		return *a == *b.(*float64)
	case *time.Duration:
		return *a == *b.(*time.Duration)
	case *Bytes:
		return *a == *b.(*Bytes)
	case *Signal:
		return *a == *b.(*Signal)
	case *Share:
		return *a == *b.(*Share)
	case *[]string:
		return slices.Equal(*a, *b.(*[]string))
	case *[]EnvVar:
		return sameSet(*a, *b.(*[]EnvVar), func(x, y EnvVar) int { return cmp.Compare(x.Name, y.Name) })
	case *[]Param:
		return sameSet(*a, *b.(*[]Param), func(x, y Param) int { return cmp.Compare(x.Name, y.Name) })
	}
	panic("spec: a key of a type that Equal does not know")
}

// sameSet compares without regard to the order; names stand once.
func sameSet[E comparable](a, b []E, by func(x, y E) int) bool {
	if slices.Equal(a, b) {
		return true
	}
	if len(a) != len(b) {
		return false
	}
	return slices.Equal(slices.SortedFunc(slices.Values(a), by), slices.SortedFunc(slices.Values(b), by))
}

package cgroup

import (
	"strings"
	"testing"

	"github.com/workersd/workersd/pkg/internal/lifecycle"
)

func TestLeafName(t *testing.T) {
	for name, id := range map[string]lifecycle.ProcessID{
		"queue@10.0.0.1,mail:17":        {Worker: "queue@10.0.0.1,mail", Generation: 17},
		"a:b:1":                         {Worker: "a:b", Generation: 1},
		"q@%2F#2:9":                     {Worker: "q@%2F#2", Generation: 9},
		"w:18446744073709551615":        {Worker: "w", Generation: 1<<64 - 1},
		strings.Repeat("x", 128) + ":1": {Worker: strings.Repeat("x", 128), Generation: 1},
	} {
		if got := LeafName(id); got != name {
			t.Errorf("LeafName(%v) = %q, want %q", id, got, name)
		}
		if got, ok := ParseLeaf(name); !ok || got != id {
			t.Errorf("ParseLeaf(%q) = %v, %v", name, got, ok)
		}
	}
	for _, foreign := range []string{"", "queue", ":", ":1", "queue:", "queue:0", "queue:01", "queue:+1", "queue:-1", "queue:1x", "queue: 1", "queue:18446744073709551616"} {
		if id, ok := ParseLeaf(foreign); ok {
			t.Errorf("ParseLeaf(%q) = %v", foreign, id)
		}
	}
}

// Each name has one reading, and each reading one name.
func FuzzLeafName(f *testing.F) {
	f.Add("queue@10.0.0.1,mail:17")
	f.Add("a:b:01")
	f.Fuzz(func(t *testing.T, name string) {
		if id, ok := ParseLeaf(name); ok && LeafName(id) != name {
			t.Errorf("ParseLeaf(%q) = %v, which is called %q", name, id, LeafName(id))
		}
		if len(name) > 0 {
			id := lifecycle.ProcessID{Worker: name, Generation: 7}
			if got, ok := ParseLeaf(LeafName(id)); !ok || got != id {
				t.Errorf("%v comes back as %v, %v", id, got, ok)
			}
		}
	})
}

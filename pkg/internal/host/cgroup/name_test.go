package cgroup

import (
	"os"
	"path/filepath"
	"strconv"
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

// Whose a process is, its cgroup tells.
func TestOwner(t *testing.T) {
	tree := &Tree{proc: t.TempDir(), relative: "/system.slice/workersd.service"}
	leaf := &Leaf{tree: tree, ID: lifecycle.ProcessID{Worker: "q@10.0.0.1,mail", Generation: 3}}
	for pid, c := range []struct {
		path   string
		worker string // "": a stranger
		in     bool   // leaf
	}{
		{"/system.slice/workersd.service/workers/q@10.0.0.1,mail:3", "q@10.0.0.1,mail", true},
		{"/system.slice/workersd.service/workers/q@10.0.0.1,mail:3/its/own", "q@10.0.0.1,mail", true},
		{"/system.slice/workersd.service/workers/q@10.0.0.1,mail:33", "q@10.0.0.1,mail", false},
		{"/system.slice/workersd.service/workers/q@10.0.0.2,mail:3", "q@10.0.0.2,mail", false},
		{"/system.slice/workersd.service/workers/somebody", "", false},
		{"/system.slice/workersd.service/workers", "", false},
		{"/system.slice/workersd.service/manager", "", false},
		{"/system.slice/other.service/workers/q@10.0.0.1,mail:3", "", false},
		{"/", "", false},
	} {
		dir := filepath.Join(tree.proc, strconv.Itoa(pid))
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "cgroup"), []byte("0::"+c.path+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		if id, ok := tree.Owner(pid); id.Worker != c.worker || ok != (c.worker != "") {
			t.Errorf("%s: of %v, %v", c.path, id, ok)
		}
		if in, known := leaf.Contains(pid); in != c.in || !known {
			t.Errorf("%s: in the leaf %v, known %v", c.path, in, known)
		}
	}
	if in, known := leaf.Contains(1000); in || known {
		t.Errorf("a process that is gone: in the leaf %v, known %v", in, known)
	}
}

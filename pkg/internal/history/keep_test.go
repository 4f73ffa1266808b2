package history

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func generations(t *testing.T, dir string, told *problems) *Generations {
	t.Helper()
	g, err := OpenGenerations(dir, 0, told.tell)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func reserve(g *Generations, floor uint64) {
	done := make(chan struct{})
	g.Reserve(floor, func() { close(done) })
	<-done
}

// A manager that crashes at any moment after Reserve was answered leaves a
// floor that the next one begins at.
func TestGenerationsNeverRepeat(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	path := filepath.Join(dir, "generations")
	var told problems
	floor := uint64(1)
	for life := range 30 {
		g := generations(t, dir, &told)
		if g.Floor() != floor {
			t.Fatalf("life %d begins at %d, want %d", life, g.Floor(), floor)
		}
		reserve(g, floor+1000)
		floor += 1000
		// The crash: what is on disk now, and half of the next block.
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		reserve(g, floor+1000)
		after, _ := os.ReadFile(path)
		g.Close()
		torn := after[len(b):]
		if err := os.WriteFile(path, append(b, torn[:life%len(torn)]...), 0o640); err != nil {
			t.Fatal(err)
		}
		if life%len(torn) == len(torn)-1 { // only the line end is missing
			floor += 1000
		}
	}
	if len(told.all()) != 0 {
		t.Errorf("told %q", told.all())
	}
}

func TestGenerationsFileIsBounded(t *testing.T) {
	dir := t.TempDir()
	g := generations(t, dir, &problems{})
	line := string(seal([]byte("5000")))
	if err := os.WriteFile(g.path, []byte(strings.Repeat(line, maxGenerations/len(line)+1)), 0o640); err != nil {
		t.Fatal(err)
	}
	reserve(g, 7000)
	reserve(g, 8000)
	g.Close()
	if st, err := os.Stat(g.path); err != nil || st.Size() > 100 {
		t.Errorf("%v, %v: want the last two floors alone", st.Size(), err)
	}
	if names, _ := filepath.Glob(filepath.Join(dir, "*")); len(names) != 1 {
		t.Errorf("left: %q", names)
	}
	g = generations(t, dir, &problems{})
	defer g.Close()
	if g.Floor() != 8000 {
		t.Errorf("floor %d", g.Floor())
	}
}

// Where nothing can be kept the workers run all the same, and it is said once.
func TestGenerationsWithoutADisk(t *testing.T) {
	g := generations(t, "", &problems{})
	reserve(g, 1000)
	g.Close()
	if g.Floor() != 1 {
		t.Errorf("floor %d", g.Floor())
	}
	dir := t.TempDir()
	var told problems
	g = generations(t, dir, &told)
	if err := os.Mkdir(g.path, 0o755); err != nil {
		t.Fatal(err)
	}
	for i := range 5 {
		reserve(g, uint64(i))
	}
	g.Close()
	if said := told.all(); len(said) != 1 || !strings.HasPrefix(said[0], "generations cannot be reserved on disk: open "+g.path+": is a directory") {
		t.Errorf("told %q", said)
	}
}

func TestStops(t *testing.T) {
	s := Stops{Path: filepath.Join(t.TempDir(), "stopped")}
	if got := s.Load(); got != nil {
		t.Errorf("before the first: %q", got)
	}
	names := []string{"queue@a", "queue@b,ü"}
	for _, want := range [][]string{names, {}, names[1:]} {
		if err := s.Save(want); err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(want, s.Load()); d != "" {
			t.Errorf("(-want +got):\n%s", d)
		}
	}
	b, err := os.ReadFile(s.Path)
	if err != nil {
		t.Fatal(err)
	}
	for _, bad := range [][]byte{nil, b[:len(b)/2], []byte(strings.Replace(string(b), "queue", "other", 1)), []byte(fmt.Sprintf("%s%s", b, b))} {
		if err := os.WriteFile(s.Path, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		if got := s.Load(); got != nil {
			t.Errorf("%q was read as %q", bad, got)
		}
	}
	if err := (Stops{Path: "/nowhere/stopped"}).Save(names); err == nil {
		t.Error("saved nowhere")
	}
}

// What the history knows to be used does not come again, whatever has become of
// the file; that is said.
func TestGenerationsGoOnFromTheHistory(t *testing.T) {
	dir := t.TempDir()
	var told problems
	h := reopen(t, dir, &told)
	r := record(1)
	r.Generation = 4711
	h.Add(r)
	h.Close()
	h = reopen(t, dir, &told)
	defer h.Close()
	for _, text := range []string{"", "no seal\n", string(seal([]byte("1001")))} {
		if err := os.WriteFile(filepath.Join(dir, "generations"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		var told problems
		g, err := OpenGenerations(dir, h.Generation(), told.tell)
		if err != nil {
			t.Fatal(err)
		}
		if g.Floor() != 4712 || len(told.all()) != 1 || !strings.Contains(told.all()[0], "go on from 4712") {
			t.Errorf("%q: from %d, told %q", text, g.Floor(), told.all())
		}
		g.Close()
	}
}

// A state directory is one manager's.
func TestStateDirectoryIsLocked(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	unlock, err := Lock(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Lock(dir); err == nil || !strings.Contains(err.Error(), "--state-dir") {
		t.Errorf("a second manager: %v", err)
	}
	unlock()
	if unlock, err = Lock(dir); err != nil {
		t.Fatal(err)
	}
	unlock()
}

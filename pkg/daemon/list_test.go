package daemon

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/workersd/workersd/pkg/spec"
)

// chooser is a daemon that has got no further than its list.
func chooser(t *testing.T, service bool, list string) *daemon {
	t.Helper()
	d := &daemon{o: Options{Config: filepath.Join(t.TempDir(), "list.toml")}, service: service, place: testPlace(t)}
	if err := d.place.prepare(); err != nil {
		t.Fatal(err)
	}
	rewrite(t, d, list)
	return d
}

func rewrite(t *testing.T, d *daemon, list string) {
	t.Helper()
	if err := os.WriteFile(d.o.Config, []byte(list), 0o644); err != nil {
		t.Fatal(err)
	}
}

const (
	good   = "[worker.good]\ncommand = [\"/bin/true\"]\n"
	broken = "[worker.broken]\ncommand = 7\n"
)

func workerNames(l spec.List) string {
	var out []string
	for _, w := range l.Workers {
		out = append(out, w.Name)
	}
	return strings.Join(out, " ")
}

// A manager starts with its list. After one that was killed, a list that has
// been broken meanwhile does not keep the workers down.
func TestFirstList(t *testing.T) {
	d := chooser(t, true, good)
	l, files, instead, err := d.first()
	if err != nil || instead != nil || workerNames(l) != "good" || len(files) != 1 {
		t.Fatalf("a good list: %s, %d files, %v, %v", workerNames(l), len(files), instead, err)
	}
	if err := saveAccepted(d.place.accepted(), files); err != nil {
		t.Fatal(err)
	}
	rewrite(t, d, broken)
	l, files, instead, err = d.first()
	if err != nil || workerNames(l) != "good" || len(files) != 1 || instead == nil || !strings.Contains(instead.Error(), `worker "broken": command`) {
		t.Errorf("a broken list after a killed manager: %s, %d files, %v, %v; want the one before, and why", workerNames(l), len(files), instead, err)
	}
	rewrite(t, d, strings.Replace(good, "good", "better", 1))
	if l, _, instead, err = d.first(); err != nil || instead != nil || workerNames(l) != "better" {
		t.Errorf("a good list wins over the accepted one: %s, %v, %v", workerNames(l), instead, err)
	}
	// An orderly end leaves none: then a broken list is refused.
	if err := d.place.remove(true); err != nil {
		t.Fatal(err)
	}
	rewrite(t, d, broken)
	if _, _, _, err = d.first(); err == nil {
		t.Error("a broken list at a first start is taken")
	}
}

// What was kept may be torn or gone out of date; it is no reason to start with
// nothing, nor without an error.
func TestFirstListWithTornAccepted(t *testing.T) {
	for _, kept := range []string{"", "{", "[]", "null", `[{"name":"/x","data":"Z2FyYmFnZQ=="}]`} {
		d := chooser(t, true, broken)
		if err := os.WriteFile(d.place.accepted(), []byte(kept), 0o600); err != nil {
			t.Fatal(err)
		}
		if l, _, _, err := d.first(); err == nil || !strings.Contains(err.Error(), `worker "broken"`) {
			t.Errorf("kept %q: starts with %q, %v; want the errors of the list", kept, workerNames(l), err)
		}
	}
}

// A person in a terminal is told at once.
func TestFirstListInTerminal(t *testing.T) {
	d := chooser(t, false, good)
	_, files, _, err := d.first()
	if err != nil {
		t.Fatal(err)
	}
	if err := saveAccepted(d.place.accepted(), files); err != nil {
		t.Fatal(err)
	}
	rewrite(t, d, broken)
	if _, _, instead, err := d.first(); err == nil {
		t.Errorf("a broken list is taken in a terminal, instead of it: %v", instead)
	}
}

// A program's own list is its list, also at a reload.
func TestOwnList(t *testing.T) {
	own := &spec.List{Workers: []spec.Worker{spec.Default("mine")}}
	d := &daemon{o: Options{List: own}, service: true, place: testPlace(t)}
	if l, files, instead, err := d.first(); err != nil || instead != nil || files != nil || workerNames(l) != "mine" {
		t.Errorf("%s, %v, %v, %v", workerNames(l), files, instead, err)
	}
}

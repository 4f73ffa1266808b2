package config_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/workersd/workersd/pkg/internal/config"
	"github.com/workersd/workersd/pkg/spec"
)

var update = flag.Bool("update", false, "write the golden parts of testdata")

// The archives of testdata hold a list, its drop-ins, and as "want" what comes
// of them: the workers, or the errors, each with the text that it points to.
func TestGolden(t *testing.T) {
	archives, err := filepath.Glob("testdata/*/*.txtar")
	if err != nil || len(archives) < 10 {
		t.Fatalf("%d archives, %v", len(archives), err)
	}
	for _, path := range archives {
		t.Run(strings.TrimSuffix(strings.TrimPrefix(path, "testdata/"), ".txtar"), func(t *testing.T) {
			a, err := txtar.ParseFile(path)
			if err != nil {
				t.Fatal(err)
			}
			var files []config.File
			want := ""
			for i, f := range a.Files {
				if f.Name == "want" {
					want = string(f.Data)
					a.Files = a.Files[:i]
					break
				}
				files = append(files, config.File{Name: f.Name, Data: f.Data})
			}
			l, err := config.Parse(files, config.Options{MemoryTotal: 16 * spec.GiB})
			if good := filepath.Base(filepath.Dir(path)) == "good"; good != (err == nil) {
				t.Errorf("accepted %v, and it is in %s", err == nil, path)
			}
			got := dump(l)
			if err != nil {
				got = dumpErrors(files, err.(config.Errors))
			}
			if *update {
				a.Files = append(a.Files, txtar.File{Name: "want", Data: []byte(got)})
				if err := os.WriteFile(path, txtar.Format(a), 0o644); err != nil {
					t.Fatal(err)
				}
			} else if d := cmp.Diff(want, got); d != "" {
				t.Errorf("(-want +got)\n%s", d)
			}
		})
	}
}

// dumpErrors prints under each error what stands at its place.
func dumpErrors(files []config.File, es config.Errors) string {
	var b strings.Builder
	for _, e := range es {
		fmt.Fprintf(&b, "%v\n\tat |%s|\n", e, at(files, e))
	}
	return b.String()
}

func at(files []config.File, e config.Error) string {
	for _, f := range files {
		if f.Name == e.File && e.Line > 0 {
			lines := strings.Split(string(f.Data), "\n")
			if e.Line <= len(lines) && e.Col <= len(lines[e.Line-1])+1 {
				return lines[e.Line-1][e.Col-1:]
			}
			return "THERE IS NO SUCH PLACE"
		}
	}
	return ""
}

// dump prints the workers with all that differs from the defaults.
func dump(l spec.List) string {
	var b strings.Builder
	def := spec.DefaultManager()
	for _, k := range spec.ManagerKeys {
		if v, d := k.Manager(&l.Manager), k.Manager(&def); !reflect.DeepEqual(v, d) {
			fmt.Fprintf(&b, "[manager] %s = %s\n", k.Name, value(v))
		}
	}
	for i := range l.Workers {
		w := &l.Workers[i]
		fmt.Fprintf(&b, "%s: entry %s", w.Name, w.Entry)
		for _, p := range w.Params {
			fmt.Fprintf(&b, ", %s=%q", p.Name, p.Value)
		}
		if w.Replica != 0 {
			fmt.Fprintf(&b, ", replica %d", w.Replica)
		}
		b.WriteByte('\n')
		def := spec.Default(w.Entry)
		for _, k := range spec.Keys {
			if k.Worker == nil || k.Name == "params" {
				continue
			}
			if v := k.Worker(w); !reflect.DeepEqual(v, k.Worker(&def)) {
				fmt.Fprintf(&b, "\t%s = %s\n", k.Name, value(v))
			}
		}
	}
	return b.String()
}

func value(v any) string {
	switch v := reflect.ValueOf(v).Elem().Interface().(type) {
	case string:
		return fmt.Sprintf("%q", v)
	case []string:
		return fmt.Sprintf("%q", v)
	case []spec.EnvVar:
		out := []string{} // the test's values are no secrets
		for _, e := range v {
			out = append(out, fmt.Sprintf("%s=%q", e.Name, e.Value))
		}
		return fmt.Sprint(out)
	case spec.Bytes:
		return fmt.Sprintf("%v (%d)", v, int64(v))
	default:
		return fmt.Sprintf("%v", v)
	}
}

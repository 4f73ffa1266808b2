package config_test

import (
	"fmt"
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/workersd/workersd/pkg/internal/config"
	"github.com/workersd/workersd/pkg/spec"
)

const referenceFile = "../../../deploy/examples/reference.toml"

const referenceHead = `# Every key of a worker list, with the value it has where it is not set, or with
# an example (e.g.) where it has none. The list of the service is
# /etc/workersd/workers.toml; drop-ins beside it, workers.toml.d/*.toml, are read
# after it in the order of their names. "workersctl check FILE" looks for errors,
# "workersctl plan" says what a reload would do.
#
#   sizes        "64K" "200M" "1.5G" "1T" in powers of 1024; a percentage of the
#                machine's memory or the least limit above the service; "none"
#   durations    "500ms" "30s" "5m" "1h"
#   ${NAME}      a parameter of the worker; ${worker} and ${replica}, too; $${
#                stands for ${
#
# What a reload ("systemctl reload workersd", "workersctl reload") does with a
# changed key:
#
#   [live]       it takes effect in the running process
#   [restart]    the worker is restarted
#   [expand]     workers are added, removed or named anew; the others go on
`

// sections are the headings of [defaults], by the first key below each.
var sections = map[string]string{
	"type":              "what runs",
	"max_requests":      "when a process is replaced",
	"soft_memory_limit": "memory",
	"cpu_max":           "other resources",
	"ready":             "start, restart and stop",
	"log":               "output",
}

// reference is the file as the tables of keys say it should be.
func reference() string {
	var b strings.Builder
	b.WriteString(referenceHead)
	b.WriteString("\n[manager]\n")
	for _, k := range spec.ManagerKeys {
		writeKey(&b, k)
	}
	b.WriteString("\n# Every entry inherits these, and may set each for itself.\n[defaults]\n")
	for _, k := range spec.Keys {
		if h := sections[k.Name]; h != "" {
			fmt.Fprintf(&b, "\n# ---- %s\n", h)
		}
		if !k.NoDef {
			writeKey(&b, k)
		}
	}
	b.WriteString(`
# An entry: a name of letters, digits, _ . and -. It stands in one file. Workers
# are called entry@value1,value2 in the order of the parameters, and #1, #2 where
# there are replicas: a value more renames no other worker.
#[worker.example]
`)
	for _, k := range spec.Keys {
		if k.NoDef {
			writeKey(&b, k)
		}
	}
	return b.String()
}

func writeKey(b *strings.Builder, k spec.Key) {
	b.WriteByte('\n')
	text := fmt.Sprintf("[%s] %s", k.Class, k.Summary)
	if k.Kind == spec.KindEnum {
		text += fmt.Sprintf(` ("%s")`, strings.Join(k.Words, `" or "`))
	}
	line := "#"
	for _, word := range strings.Fields(text) {
		if len(line)+1+len(word) > 79 {
			fmt.Fprintln(b, line)
			line = "#"
		}
		line += " " + word
	}
	fmt.Fprintln(b, line)
	if k.Default != "" {
		fmt.Fprintf(b, "#%s = %s\n", k.Name, k.Default)
	} else {
		fmt.Fprintf(b, "#%s = %s # e.g.\n", k.Name, k.Example)
	}
}

// setting is a line of the reference that would be one of a list.
var setting = regexp.MustCompile(`(?m)^#([a-z_]+ = |\[)`)

func TestReference(t *testing.T) {
	want := reference()
	if *update {
		if err := os.WriteFile(referenceFile, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	data, err := os.ReadFile(referenceFile)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, string(data)); d != "" {
		t.Errorf("reference.toml and the table of keys differ: change the one that is wrong, or run this test with -update (-want +got)\n%s", d)
	}
}

// TestReferenceIsComplete reads the file as a person does: every key stands in
// it once, with its class before it, and it holds no other.
func TestReferenceIsComplete(t *testing.T) {
	data, err := os.ReadFile(referenceFile)
	if err != nil {
		t.Fatal(err)
	}
	classes := map[string]spec.Class{}
	var class, where string
	header := regexp.MustCompile(`^#?\[(manager|defaults|worker)[.a-z]*\]$`)
	marked := regexp.MustCompile(`^# \[(live|restart|expand)\] `)
	key := regexp.MustCompile(`^#([a-z_]+) = `)
	for _, line := range strings.Split(string(data), "\n") {
		if m := header.FindStringSubmatch(line); m != nil {
			where = m[1]
		} else if m := marked.FindStringSubmatch(line); m != nil {
			class = m[1]
		} else if m := key.FindStringSubmatch(line); m != nil {
			id := where + "." + m[1]
			if _, twice := classes[id]; twice {
				t.Errorf("%s stands twice", id)
			}
			classes[id], class = spec.Class(class), ""
		}
	}
	want := map[string]spec.Class{}
	for _, k := range spec.ManagerKeys {
		want["manager."+k.Name] = k.Class
	}
	for _, k := range spec.Keys {
		if k.NoDef {
			want["worker."+k.Name] = k.Class
		} else {
			want["defaults."+k.Name] = k.Class
		}
	}
	if d := cmp.Diff(want, classes); d != "" {
		t.Errorf("(-table +file)\n%s", d)
	}
}

// TestReferenceParses: the commented file is a list without workers; with every
// setting uncommented it is accepted, and what has a default has it.
func TestReferenceParses(t *testing.T) {
	data, err := os.ReadFile(referenceFile)
	if err != nil {
		t.Fatal(err)
	}
	o := config.Options{MemoryTotal: spec.GiB}
	_, err = config.Parse([]config.File{{Name: "reference.toml", Data: data}}, o)
	if err == nil || !strings.Contains(err.Error(), "no worker in the list") || len(err.(config.Errors)) != 1 {
		t.Errorf("commented: %v", err)
	}
	live := setting.ReplaceAll(data, []byte("$1"))
	l, err := config.Parse([]config.File{{Name: "reference.toml", Data: live}}, o)
	if err != nil {
		t.Fatalf("uncommented: %v", err)
	}
	if len(l.Workers) != 12 {
		t.Errorf("%d workers", len(l.Workers))
	}
	def, manager := spec.Default("example"), spec.DefaultManager()
	for _, k := range spec.Keys {
		if k.Worker == nil {
			continue
		}
		if same := reflect.DeepEqual(k.Worker(&l.Workers[0]), k.Worker(&def)); same != (k.Default != "") {
			t.Errorf("%s has its default: %v", k.Name, same)
		}
	}
	for _, k := range spec.ManagerKeys {
		if same := reflect.DeepEqual(k.Manager(&l.Manager), k.Manager(&manager)); same != (k.Default != "") {
			t.Errorf("[manager] %s has its default: %v", k.Name, same)
		}
	}
}

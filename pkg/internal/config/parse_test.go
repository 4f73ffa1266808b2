package config_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/pelletier/go-toml/v2"

	"github.com/workersd/workersd/pkg/internal/config"
	"github.com/workersd/workersd/pkg/spec"
)

func parse(lists ...string) (spec.List, error) {
	var files []config.File
	for i, l := range lists {
		name := "list.toml"
		if i > 0 {
			name = fmt.Sprintf("list.toml.d/%d.toml", i)
		}
		files = append(files, config.File{Name: name, Data: []byte(l)})
	}
	return config.Parse(files, config.Options{MemoryTotal: spec.GiB})
}

// Bytes that editors and accidents leave, which an archive cannot hold.
func TestParseBytes(t *testing.T) {
	for _, c := range []struct{ what, list, want string }{
		{"byte order mark", "\ufeff" + good, ""},
		{"its columns", "\ufeffx = 1\n" + good, `list.toml:1:1: unknown table or key "x"`},
		{"two marks", "\ufeff\ufeff" + good, `list.toml:1:1: invalid character at start of key: U+00EF 'ï'`},
		{"CRLF", "[worker.q]\r\ncommand = [\r\n  \"run\",\r\n]\r\nnice = 1 # one\r\n", ""},
		{"CRLF and an error", "[worker.q]\r\ncommand = [\"run\"]\r\nnice = 99\r\n", `list.toml:3:8: worker "q": nice: 99 is out of range (expected a whole number from -20 to 19)`},
		{"CR", "[worker.q]\rcommand = [\"run\"]\r", "list.toml:1:11: expected newline but got U+000D"},
		{"NUL", "[worker.q]\ncommand = [\"run\"]\n\x00", "list.toml:3:1: invalid character at start of key: U+0000"},
		{"NUL in a text", "[worker.q]\ncommand = [\"r\x00n\"]\n", "list.toml:2:14: basic strings cannot have control characters"},
		{"NUL in a comment", "# \x00\n" + good, "list.toml:1:3: control characters are not allowed in comments"},
		{"no UTF-8", "[worker.q]\ncommand = [\"\xff\"]\n", "list.toml:2:13: invalid UTF-8"},
		{"no UTF-8 in a key", "\"\xff\" = 1\n", "list.toml:1:2: invalid UTF-8"},
		{"binary", "\x7fELF\x02\x01\x01\x00", "list.toml:1:1: invalid character"},
		{"no end", "[worker.q]\ncommand = [\"run\"", "list.toml:2:16: array is incomplete"},
		{"no text's end", "[worker.q]\ncommand = [\"\"\"run", "list.toml:2:17: multiline basic string not terminated"},
		{"header only", "[", "list.toml:1:1: expected key but reached end of input"},
		{"key only", "worker", "list.toml:1:6: expected '=' after key"},
		{"deep", "x = " + strings.Repeat("[", 1<<20), "list.toml:1:10005: arrays and inline tables are nested more than the maximum of 10000 levels deep"},
		{"deep tables", "x = " + strings.Repeat("{a=", 1<<20), "nested more than"},
		{"deep keys", strings.Repeat("a.", 1<<16) + "a = 1", `list.toml:1:1: unknown table or key "a"`},
		{"long key", strings.Repeat("a", 1<<20) + " = 1", `…`},
	} {
		t.Run(c.what, func(t *testing.T) {
			_, err := parse(c.list)
			switch {
			case c.want == "" && err != nil:
				t.Errorf("refused: %v", err)
			case c.want != "" && err == nil:
				t.Errorf("accepted, want %s", c.want)
			case c.want != "" && !strings.Contains(err.Error(), c.want):
				t.Errorf("got %.300s\nwant %s", err, c.want)
			case err != nil && len(err.Error()) > 2000:
				t.Errorf("an error of %d bytes", len(err.Error()))
			}
		})
	}
}

// Errors are bounded, however much is wrong, and found in time that grows with
// the list and not with its square.
func TestParseManyErrors(t *testing.T) {
	const n = 100_000
	var values, keys strings.Builder
	for i := range n {
		fmt.Fprintf(&values, "%d,", i)
		fmt.Fprintf(&keys, "k%d = 1\n", i)
	}
	for _, list := range []string{
		good + keys.String(),
		good + "matrix.v = [" + values.String() + "]\n",
		good + "params = [" + strings.Repeat("{ a = 1 }, ", n) + "]\n",
		strings.Repeat("a = b\n", n),
		strings.Repeat("[[worker]]\n", n),
	} {
		_, err := parse(list)
		var es config.Errors
		if !errors.As(err, &es) || len(es) > 1001 {
			t.Errorf("%.30q: %d errors", list, len(es))
		} else if len(es) == 1001 && !strings.Contains(es[1000].Text, "more errors") {
			t.Errorf("%.30q: the last error is %v", list, es[1000])
		}
	}
	_, err := parse(good + "matrix.v = [" + values.String() + "]\n")
	if want := `list.toml:1:2: worker "q": with this entry the list expands to 100000 workers, and 10000 are allowed (raise max_workers in [manager])`; err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
	if l, err := parse("manager.max_workers = 100_000\n" + good + "matrix.v = [" + values.String() + "]\n"); err != nil || len(l.Workers) != n {
		t.Errorf("with the limit raised: %d workers, %v", len(l.Workers), err)
	}
}

func TestParsePercentages(t *testing.T) {
	list := []config.File{{Name: "l", Data: []byte(good + "hard_memory_limit = \"50%\"\nsoft_memory_limit = \"12.5%\"\n")}}
	l, err := config.Parse(list, config.Options{MemoryTotal: 8 * spec.GiB})
	if err != nil || l.Workers[0].HardMemory != 4*spec.GiB || l.Workers[0].SoftMemory != spec.GiB {
		t.Errorf("%v, %v", l.Workers, err)
	}
	_, err = config.Parse(list, config.Options{})
	if err == nil || !strings.Contains(err.Error(), "l:3:21: worker \"q\": hard_memory_limit: a percentage cannot be used: the machine's memory is not known") {
		t.Error(err)
	}
}

func TestParseForbidden(t *testing.T) {
	_, err := config.Parse([]config.File{{Name: "l", Data: []byte("[defaults]\nuser = \"x\"\n" + good + "group = \"x\"\n")}},
		config.Options{Forbidden: map[string]string{"user": "only root may", "group": "not here"}})
	if want := "l:2:1: [defaults] user: only root may\nl:5:1: worker \"q\": group: not here"; err == nil || err.Error() != want {
		t.Errorf("got %v\nwant %s", err, want)
	}
}

// TestNameIsInjective: no two different rows of values give one name, and every
// name can be that of a cgroup and of a file.
func TestNameIsInjective(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	const bytes = "a1_.:+-,@#%/\\ \n\xc3\xbc\"'$A2C"
	seen := map[string]string{}
	for range 200_000 {
		params := make([]spec.Param, rnd.IntN(4))
		id := fmt.Sprint(len(params))
		for i := range params {
			b := make([]byte, rnd.IntN(5))
			for j := range b {
				b[j] = bytes[rnd.IntN(len(bytes))]
			}
			params[i] = spec.Param{Name: string(rune('a' + i)), Value: string(b)}
			id += fmt.Sprintf("|%q", b)
		}
		replica := rnd.IntN(3)
		id += fmt.Sprint("|", replica)
		name := config.Name("q", params, replica)
		if was, ok := seen[name]; ok && was != id {
			t.Fatalf("%s and %s are both called %s", was, id, name)
		}
		seen[name] = id
		if strings.ContainsAny(name, "/\x00\n \\") || strings.HasPrefix(name, ".") {
			t.Fatalf("%s is called %q", id, name)
		}
	}
}

// TestRowsRenameNobody: a row more, anywhere, leaves every other worker as it
// was: its name, its parameters and all its keys.
func TestRowsRenameNobody(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	list := func(ips, queues []string, rows [][2]string) spec.List {
		var b strings.Builder
		b.WriteString("[worker.m]\ncommand = [\"run\", \"${ip}\", \"${queue}\"]\nlog = \"/log/${worker}\"\nreplicas = 2\n")
		fmt.Fprintf(&b, "matrix.ip = %s\nmatrix.queue = %s\n", quoted(ips), quoted(queues))
		b.WriteString("[worker.p]\ncommand = [\"run\", \"${a}\", \"${b}\"]\nparams = [\n")
		for _, r := range rows {
			fmt.Fprintf(&b, "{ a = %q, b = %q },\n", r[0], r[1])
		}
		b.WriteString("]\n")
		l, err := parse(b.String())
		if err != nil {
			t.Fatalf("%v\n%s", err, b.String())
		}
		return l
	}
	for range 300 {
		ips, queues := some(rnd, "ip"), some(rnd, "q")
		var rows [][2]string
		for i := range 1 + rnd.IntN(4) {
			rows = append(rows, [2]string{fmt.Sprint("a", i), fmt.Sprint("b", rnd.IntN(3))})
		}
		before := list(ips, queues, rows)
		at := func(n int) int { return rnd.IntN(n + 1) }
		ips = slices.Insert(ips, at(len(ips)), "new,ip")
		queues = slices.Insert(queues, at(len(queues)), "new#queue")
		rows = slices.Insert(rows, at(len(rows)), [2]string{"new", "row"})
		after := list(ips, queues, rows)
		now := map[string]*spec.Worker{}
		for i := range after.Workers {
			now[after.Workers[i].Name] = &after.Workers[i]
		}
		for i := range before.Workers {
			w := &before.Workers[i]
			if n := now[w.Name]; n == nil {
				t.Fatalf("%s is gone", w.Name)
			} else if live, restart := spec.Changes(w, n); len(live)+len(restart) > 0 || !slices.Equal(w.Params, n.Params) {
				t.Fatalf("%s changed: %v %v", w.Name, live, restart)
			}
		}
	}
}

func some(rnd *rand.Rand, prefix string) (values []string) {
	for i := range 1 + rnd.IntN(4) {
		values = append(values, fmt.Sprint(prefix, i))
	}
	return values
}

func quoted(values []string) string {
	q := make([]string, len(values))
	for i, v := range values {
		q[i] = fmt.Sprintf("%q", v)
	}
	return "[" + strings.Join(q, ", ") + "]"
}

// FuzzParse: no input panics, no accepted list has two workers of one name or a
// soft limit at or above the hard one, and what is refused says where.
func FuzzParse(f *testing.F) {
	seed(f)
	f.Fuzz(func(t *testing.T, list, dropin []byte) {
		if bytes.Contains(list, []byte("max_workers")) || bytes.Contains(dropin, []byte("max_workers")) {
			return // a million workers may be asked for, and take their time
		}
		files := []config.File{{Name: "list", Data: list}}
		if len(dropin) > 0 {
			files = append(files, config.File{Name: "dropin", Data: dropin})
		}
		l, err := config.Parse(files, config.Options{MemoryTotal: spec.GiB})
		if err != nil {
			checkErrors(t, files, err)
			return
		}
		checkList(t, files, l)
	})
}

func checkErrors(t *testing.T, files []config.File, err error) {
	var es config.Errors
	if !errors.As(err, &es) || len(es) == 0 {
		t.Fatalf("error is %#v", err)
	}
	for _, e := range es {
		if e.Text == "" || e.File == "" {
			t.Errorf("error without a text or a file: %#v", e)
		}
		if e.Line == 0 && e.Col == 0 {
			continue
		}
		for _, f := range files {
			data := bytes.TrimPrefix(f.Data, []byte("\ufeff"))
			lines := bytes.Split(data, []byte("\n"))
			if e.File == f.Name && (e.Line < 1 || e.Line > len(lines) || e.Col < 1 || e.Col > len(lines[e.Line-1])+1) {
				t.Errorf("%v: there is no such place", e)
			}
		}
	}
}

func checkList(t *testing.T, files []config.File, l spec.List) {
	for _, f := range files {
		var all map[string]any
		if err := toml.Unmarshal(bytes.TrimPrefix(f.Data, []byte("\ufeff")), &all); err != nil {
			t.Errorf("accepted, and %s is no TOML: %v", f.Name, err)
		}
	}
	if len(l.Workers) == 0 || len(l.Workers) > l.Manager.MaxWorkers {
		t.Errorf("%d workers", len(l.Workers))
	}
	seen := map[string]bool{}
	for i := range l.Workers {
		w := &l.Workers[i]
		switch {
		case seen[w.Name]:
			t.Errorf("two workers are called %q", w.Name)
		case w.Name == "" || len(w.Name) > 128 || strings.ContainsAny(w.Name, "/\x00\n"):
			t.Errorf("a worker is called %q", w.Name)
		case w.SoftMemory.Set() && w.HardMemory.Set() && w.SoftMemory >= w.HardMemory:
			t.Errorf("%s: soft %v, hard %v", w.Name, w.SoftMemory, w.HardMemory)
		}
		seen[w.Name] = true
		for _, p := range w.Validate() {
			t.Errorf("%s: %v", w.Name, p)
		}
	}
}

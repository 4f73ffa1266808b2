package manager

import (
	"context"
	"database/sql"
	"encoding/json"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/workersd/workersd/pkg/internal/config"
	"github.com/workersd/workersd/pkg/spec"
	"github.com/workersd/workersd/pkg/worker"
)

// run makes a worker of what embeds it.
type run struct{}

func (run) Run(context.Context) (bool, error) { return true, nil }

type (
	text  string
	host  struct{ Host string }
	plain struct{ run }
	mixed struct {
		run
		host
		Queue    string `json:"queue_name"`
		HTTPPort int
		Every    time.Duration
		Addr     netip.Addr
		Note     string `json:",omitempty"`
		Secret   string `json:"-"`
		Rows     []int
		mu       sync.Mutex
		db       *sql.DB
	}
	withDB struct {
		run
		DB *sql.DB
	}
	withLog struct {
		run
		Log *slog.Logger
	}
	withFunc struct {
		run
		Do func()
	}
	withAny struct {
		run
		V map[string]any
	}
	withMutex struct {
		run
		In struct {
			sync.Mutex
			N int
		}
	}
	withKeys struct {
		run
		M map[float64]int
	}
	withNaN struct {
		run
		F float64
	}
	withTree struct {
		run
		T *tree
	}
	generic[T any] struct {
		run
		V T
	}
)

type tree struct {
	Left, Right *tree
	N           int
}

func (text) Run(context.Context) (bool, error) { return true, nil }

// What JSON would lose is refused, with the field that loses it.
func TestEncodeRefuses(t *testing.T) {
	cyclic := &tree{}
	cyclic.Left = cyclic
	for _, c := range []struct {
		w    worker.Worker
		want string
	}{
		{&withDB{}, "field DB: a sql.DB cannot be handed to another process whole: its field waitDuration is unexported"},
		{&withLog{}, "field Log: a slog.Logger cannot be handed to another process whole: its field handler is unexported"},
		{&withFunc{}, "field Do: a func() cannot be handed to another process"},
		{&withAny{}, "field V: a interface {} cannot be handed to another process"},
		{&withMutex{}, "its field "},
		{&withKeys{}, "field M: a map[float64]int cannot be handed to another process: its keys"},
		{&withNaN{F: nan()}, "json: unsupported value: NaN"},
		{&withTree{T: cyclic}, "json: unsupported value: encountered a cycle"},
		{(*plain)(nil), "is a nil pointer"},
	} {
		if args, err := encode(c.w); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%T: %s, %v; want %q", c.w, args, err, c.want)
		}
	}
}

func nan() float64 { zero := 0.0; return zero / zero }

func TestEncodeNothing(t *testing.T) {
	for _, w := range []worker.Worker{plain{}, &plain{}, worker.Func(func(context.Context) (bool, error) { return true, nil })} {
		if args, err := encode(w); args != nil || err != nil {
			t.Errorf("%T: %s, %v; want no arguments", w, args, err)
		}
	}
}

// What was encoded comes back, and nothing of what main has made in the other
// process but what is no argument.
func TestDecode(t *testing.T) {
	in := &mixed{host: host{"h"}, Queue: "q", HTTPPort: 80, Every: time.Second, Addr: netip.MustParseAddr("::1"), Secret: "s", Rows: []int{1}}
	args, err := encode(in)
	if err != nil {
		t.Fatal(err)
	}
	if want := `{"Host":"h","queue_name":"q","HTTPPort":80,"Every":1000000000,"Addr":"::1","Rows":[1]}`; string(args) != want {
		t.Errorf("arguments are %s, want %s", args, want)
	}
	db := &sql.DB{}
	mains := &mixed{host: host{"other"}, Note: "main's", Secret: "kept", Rows: []int{9, 9}, db: db}
	got, err := decode(mains, args)
	if err != nil {
		t.Fatal(err)
	}
	if m := got.(*mixed); m != mains || m.db != db || !m.mu.TryLock() || m.Secret != "kept" {
		t.Errorf("what is no argument was changed: %+v", m)
	}
	if back, err := encode(got); err != nil || string(back) != string(args) {
		t.Errorf("came back as %s, %v", back, err)
	}
	// A value is as good as a pointer, and so is what is no struct.
	for _, c := range []struct{ in, mains worker.Worker }{
		{generic[map[string]int]{V: map[string]int{"a": 1}}, generic[map[string]int]{V: map[string]int{"b": 2}}},
		{text("a"), text("b")},
		{&withTree{T: &tree{Left: &tree{N: 1}}}, &withTree{}},
	} {
		args, err := encode(c.in)
		if err != nil {
			t.Fatal(err)
		}
		got, err := decode(c.mains, args)
		if err != nil {
			t.Fatal(err)
		}
		if back, _ := json.Marshal(got); string(back) != string(args) {
			t.Errorf("%T came back as %s, want %s", c.in, back, args)
		}
	}
	if _, err := decode(&mixed{}, json.RawMessage(`{"HTTPPort":"x"}`)); err == nil || !strings.Contains(err.Error(), "its arguments: ") {
		t.Errorf("arguments of another program: %v", err)
	}
}

func names(ws ...Worker) (out []string) {
	made, mistakes := (&Manager{Workers: ws}).named()
	for _, m := range made {
		out = append(out, m.name)
	}
	for _, m := range mistakes {
		out = append(out, m.String())
	}
	return out
}

func TestNames(t *testing.T) {
	fn := worker.Func(func(context.Context) (bool, error) { return true, nil })
	other := worker.Func(func(context.Context) (bool, error) { return false, nil })
	got := names(
		Worker{Work: plain{}}, Worker{Work: plain{}},
		Worker{Work: &plain{}, Name: "Redis Worker"}, Worker{Work: &plain{}, Name: "Redis Worker"},
		Worker{Work: fn}, Worker{Work: fn}, Worker{Work: other, Name: "Work"},
		Worker{Work: &mixed{host: host{"10.0.0.1"}, Queue: "a b", HTTPPort: 8080, Every: time.Minute, Note: "x"}},
		Worker{Work: &mixed{host: host{"10.0.0.1"}, Queue: "a b", HTTPPort: 8080, Every: time.Minute}},
		Worker{Work: generic[string]{V: "v"}}, Worker{Work: generic[string]{V: "v"}},
		Worker{Work: generic[[]string]{V: []string{"v"}}},
		Worker{Work: generic[float64]{V: 1.5}, Name: "${v}x${v}"},
	)
	want := []string{
		"plain-1", "plain-2", "Redis Worker-1", "Redis Worker-2", "Process-1", "Process-2", "Work-1",
		"mixed@10.0.0.1,a%20b,8080,1m0s,,x", "mixed@10.0.0.1,a%20b,8080,1m0s,",
		"generic@v", "generic@v#2", "generic-1", "1.5x1.5",
	}
	for i := range max(len(got), len(want)) {
		if i >= len(got) || i >= len(want) || got[i] != want[i] {
			t.Fatalf("names are\n%q, want\n%q", got, want)
		}
	}
	for _, n := range want {
		if err := checkName(n); err != nil {
			t.Error(err)
		}
	}
	// The same parameters have the same name in a worker list.
	if n := config.Name("mixed", []spec.Param{{Value: "10.0.0.1"}, {Value: "a b"}, {Value: "8080"}, {Value: "1m0s"}, {Value: ""}, {Value: "x"}}, 0); n != want[7] {
		t.Errorf("a worker list would call it %s", n)
	}
	if got := names(Worker{Work: fn}, Worker{Work: other}); len(got) != 3 || !strings.Contains(got[2], "does something else") {
		t.Errorf("two functions of one name: %q", got)
	}
}

// Whatever is added, taken out or moved: the others keep their names.
func TestNamesStay(t *testing.T) {
	all := []Worker{
		{Work: &generic[string]{V: "a"}}, {Work: &generic[string]{V: "b"}}, {Work: &generic[string]{V: "b"}},
		{Work: plain{}}, {Work: plain{}, Name: "other"}, {Work: plain{}, Name: "other"}, {Work: &generic[int]{V: 1}, Name: "n${v}"},
	}
	known := map[string]bool{}
	for _, n := range names(all...) {
		known[n] = true
	}
	for i := range all {
		less := append(append([]Worker{}, all[i+1:]...), all[:i]...)
		got := names(less...)
		if len(got) != len(all)-1 {
			t.Errorf("without %d: %q", i, got)
		}
		for _, n := range got {
			if !known[n] {
				t.Errorf("without %d there is a %q, which was not there before", i, n)
			}
		}
	}
}

func TestParamNames(t *testing.T) {
	ps := params(&mixed{Note: "x"})
	var got []string
	for _, p := range ps {
		got = append(got, p.Name)
	}
	if s := strings.Join(got, " "); s != "host queue_name http_port every addr note" {
		t.Errorf("parameters are %s", s)
	}
}

// Values cannot lead a log file elsewhere.
func TestLog(t *testing.T) {
	for _, c := range []struct{ value, log, want string }{
		{"mail", "/l/${v}.log", "/l/mail.log"},
		{"../../etc", "/l/${v}", "/l/..%2F..%2Fetc"},
		{"..", "/l/${v}/x", `"/l/${v}/x" becomes "/l/../x", which is another directory`},
		{"a", "/l/${worker}", "/l/generic@a"},
		{"a", "", ""}, {"a", "journal", "journal"},
	} {
		m, err := Worker{Work: generic[string]{V: c.value}, Log: c.log}.prepare()
		if err != nil {
			t.Fatal(err)
		}
		got, err := m.log()
		if err != nil {
			got = err.Error()
		}
		if got != c.want {
			t.Errorf("%s of %s is %s, want %s", c.log, c.value, got, c.want)
		}
	}
}

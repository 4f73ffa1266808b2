package spec

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// identity are the fields that say which worker it is, and that it is of no
// worker list (Self); all others are keys.
var identity = []string{"Name", "Entry", "Replica", "Self"}

// TestEveryFieldHasOneKey: a new field without a key would be neither decoded,
// compared by a reload nor documented.
func TestEveryFieldHasOneKey(t *testing.T) {
	var w Worker
	at := map[uintptr][]string{}
	for _, k := range Keys {
		if k.Worker != nil {
			p := reflect.ValueOf(k.Worker(&w)).Pointer()
			at[p] = append(at[p], k.Name)
		}
	}
	fields(t, reflect.ValueOf(&w).Elem(), at, identity)
	var m Manager
	clear(at)
	for _, k := range ManagerKeys {
		p := reflect.ValueOf(k.Manager(&m)).Pointer()
		at[p] = append(at[p], k.Name)
	}
	fields(t, reflect.ValueOf(&m).Elem(), at, nil)
}

func fields(t *testing.T, v reflect.Value, at map[uintptr][]string, without []string) {
	for i := range v.NumField() {
		f := v.Type().Field(i)
		keys := at[v.Field(i).Addr().Pointer()]
		switch {
		case slices.Contains(without, f.Name):
			if keys != nil {
				t.Errorf("%s is set by %v", f.Name, keys)
			}
		case len(keys) != 1:
			t.Errorf("field %s of %v has the keys %v, want one", f.Name, v.Type(), keys)
		}
		delete(at, v.Field(i).Addr().Pointer())
	}
	for _, keys := range at {
		t.Errorf("key %v sets no field", keys)
	}
}

func TestKeyTable(t *testing.T) {
	word := regexp.MustCompile(`^[a-z]+(_[a-z]+)*$`)
	kinds := map[Kind]any{
		KindString: "", KindCommand: []string{}, KindEnv: []EnvVar{}, KindBool: false, KindInt: 0, KindDuration: time.Second,
		KindBytes: Bytes(0), KindSize: Bytes(0), KindSignal: Signal(0), KindEnum: "", KindShare: Share{}, KindCPU: 0.0, KindUmask: 0,
	}
	for where, keys := range map[string][]Key{"worker": Keys, "manager": ManagerKeys} {
		seen := map[string]bool{}
		for _, k := range keys {
			name := where + " " + k.Name
			if seen[k.Name] || !word.MatchString(k.Name) {
				t.Errorf("%s stands twice or is no name", name)
			}
			seen[k.Name] = true
			if k.Class != Live && k.Class != Restart && k.Class != Expand {
				t.Errorf("%s has the class %q", name, k.Class)
			}
			if (k.Class == Expand) != (k.Kind == KindTable) {
				t.Errorf("%s: what is of class expand is decoded by expanding, and nothing else is", name)
			}
			if k.Summary == "" || strings.HasSuffix(k.Summary, ".") {
				t.Errorf("%s: summary %q", name, k.Summary)
			}
			if (k.Default == "") == (k.Example == "") {
				t.Errorf("%s: default %q, example %q: want one of them", name, k.Default, k.Example)
			}
			if (k.Kind == KindEnum) != (k.Words != nil) {
				t.Errorf("%s: words %q", name, k.Words)
			}
			var field any
			var w Worker
			var m Manager
			switch {
			case where == "manager":
				field = k.Manager(&m)
			case k.Worker != nil:
				field = k.Worker(&w)
			}
			if want := kinds[k.Kind]; k.Kind != KindTable && reflect.TypeOf(field) != reflect.PointerTo(reflect.TypeOf(want)) {
				t.Errorf("%s: field is a %T, its kind wants a *%T", name, field, want)
			}
		}
	}
}

// touch gives a field another value.
func touch(t *testing.T, v any) {
	t.Helper()
	switch v := v.(type) {
	case *string:
		*v += "x"
	case *int:
		*v++
	case *bool:
		*v = !*v
	case *float64:
		*v += 0.5
	case *time.Duration:
		*v++
	case *Bytes:
		*v++
	case *Signal:
		*v++
	case *Share:
		v.Percent = !v.Percent
	case *[]string:
		*v = append(slices.Clone(*v), "x")
	case *[]EnvVar:
		*v = append(slices.Clone(*v), EnvVar{"X", "secret"})
	case *[]Param:
		*v = append(slices.Clone(*v), Param{"x", "1"})
	default:
		t.Fatalf("touch does not know %T", v)
	}
}

func TestChangesNameTheKey(t *testing.T) {
	for _, k := range Keys {
		if k.Worker == nil {
			continue
		}
		old := Default("q")
		new := old
		touch(t, k.Worker(&new))
		live, restart := Changes(&old, &new)
		want := map[bool][2]string{true: {"[" + k.Name + "]", "[]"}, false: {"[]", "[" + k.Name + "]"}}[k.Class == Live]
		if got := [2]string{fmt.Sprint(live), fmt.Sprint(restart)}; got != want {
			t.Errorf("%s: live %v, restart %v", k.Name, live, restart)
		}
		if live, restart := Changes(&new, &new); live != nil || restart != nil {
			t.Errorf("%s differs from itself: %v %v", k.Name, live, restart)
		}
	}
	for _, k := range ManagerKeys {
		old := DefaultManager()
		new := old
		touch(t, k.Manager(&new))
		if got := fmt.Sprint(ManagerChanges(&old, &new)); got != "["+k.Name+"]" {
			t.Errorf("%s: %s", k.Name, got)
		}
	}
}

// The order of variables and parameters means nothing, nor do nil and empty.
func TestChangesOfOrder(t *testing.T) {
	a, b := Default("q"), Default("q")
	a.Environment = []EnvVar{{"A", "1"}, {"B", "2"}}
	b.Environment = []EnvVar{{"B", "2"}, {"A", "1"}}
	a.Params = []Param{{"x", "1"}, {"y", "2"}}
	b.Params = []Param{{"y", "2"}, {"x", "1"}}
	if live, restart := Changes(&a, &b); live != nil || restart != nil {
		t.Errorf("changed: %v %v", live, restart)
	}
	if a.Environment[0].Name != "A" || b.Environment[0].Name != "B" {
		t.Error("comparing changed the order")
	}
	b.Environment[0].Value = "3"
	b.Params[1].Value = "3"
	if _, restart := Changes(&a, &b); !slices.Equal(restart, []string{"environment", "params"}) {
		t.Errorf("restart: %v", restart)
	}
	a, b = Default("q"), Default("q")
	a.Environment, b.Environment = nil, []EnvVar{}
	if live, restart := Changes(&a, &b); live != nil || restart != nil {
		t.Errorf("nil and empty differ: %v %v", live, restart)
	}
}

// TestSecrets: however a worker is printed, the values of its variables are not.
func TestSecrets(t *testing.T) {
	w := Default("q")
	w.Environment = []EnvVar{{"PASSWORD", "hunter2"}}
	other := Default("q")
	live, restart := Changes(&w, &other)
	text, err := json.Marshal(w)
	if err != nil {
		t.Fatal(err)
	}
	var log strings.Builder
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "worker", w, "var", w.Environment[0])
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "worker", w, "var", w.Environment[0])
	for _, got := range []string{
		string(text), log.String(), fmt.Sprintf("%v", w), fmt.Sprintf("%+v", w), fmt.Sprintf("%#v", w), fmt.Sprintf("%s %q", w.Environment, w.Environment[0]),
		fmt.Sprint(&w), fmt.Sprint(live, restart), fmt.Sprint(w.Validate()),
	} {
		if strings.Contains(got, "hunter2") {
			t.Errorf("tells the secret: %s", got)
		}
	}
	if !strings.Contains(string(text), `"PASSWORD=…"`) {
		t.Errorf("does not name the variable: %s", text)
	}
}

func TestBytesString(t *testing.T) {
	for b, want := range map[Bytes]string{
		None: "none", 0: "0", 1: "1", 1023: "1023", KiB: "1K", 1536: "1.5K", MiB - 1: "1023.9K", MiB: "1M", 200 * MiB: "200M",
		MiB + 1: "1.0M", GiB - 1: "1023.9M", 3 * GiB / 2: "1.5G", 1 << 62: "4194304T", TiB - 1: "1023.9G", 1<<63 - 1: "8388607.9T",
	} {
		if got := b.String(); got != want {
			t.Errorf("%d is %s, want %s", int64(b), got, want)
		}
	}
}

func TestSignals(t *testing.T) {
	for sig := syscall.Signal(1); sig < 32; sig++ {
		s := Signal(sig)
		back, err := ParseSignal(s.String())
		if err != nil || back != s {
			t.Errorf("%d is %v, and that is %v, %v", sig, s, back, err)
		}
		if back, err := ParseSignal(strings.ToLower(strings.TrimPrefix(s.String(), "SIG"))); err != nil || back != s {
			t.Errorf("%v in short is %v, %v", s, back, err)
		}
	}
	for _, bad := range []string{"", "SIG", "TERM ", "15", "SIGNOTHING"} {
		if s, err := ParseSignal(bad); err == nil {
			t.Errorf("%q is %v", bad, s)
		}
	}
	if got := Signal(0).String() + "," + Signal(42).String(); got != ",signal 42" {
		t.Error(got)
	}
}

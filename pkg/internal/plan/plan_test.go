package plan

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/workersd/workersd/pkg/spec"
)

func worker(name string, changes ...func(*spec.Worker)) spec.Worker {
	entry, _, _ := strings.Cut(name, "@")
	w := spec.Default(entry)
	w.Name, w.Command = name, []string{"/bin/true", name}
	w.Environment = []spec.EnvVar{{Name: "KEY", Value: "secret"}}
	for _, c := range changes {
		c(&w)
	}
	return w
}

func list(ws ...spec.Worker) spec.List {
	return spec.List{Manager: spec.DefaultManager(), Workers: ws}
}

func TestMake(t *testing.T) {
	nice := func(w *spec.Worker) { w.Nice = 5 }
	timeout := func(w *spec.Worker) { w.Timeout = time.Minute }
	env := func(w *spec.Worker) { w.Environment = []spec.EnvVar{{Name: "KEY", Value: "other secret"}} }
	for _, c := range []struct {
		name     string
		old, new spec.List
		want     string
	}{
		{"two empty lists", list(), list(), "0 added, 0 removed, 0 restarted, 0 changed in place, 0 unchanged\n"},
		{"the same", list(worker("a"), worker("b")), list(worker("a"), worker("b")), "0 added, 0 removed, 0 restarted, 0 changed in place, 2 unchanged\n"},
		{"another order is no change", list(worker("a"), worker("b")), list(worker("b"), worker("a")), "0 added, 0 removed, 0 restarted, 0 changed in place, 2 unchanged\n"},
		{"all kinds", list(worker("a"), worker("b"), worker("c"), worker("d"), worker("e")),
			list(worker("f"), worker("a", timeout), worker("b"), worker("c", nice, timeout), worker("d", env)),
			"+ f\n- e\n~ a in place: timeout\n! c restarts: nice, timeout\n! d restarts: environment\n" +
				"1 added, 1 removed, 2 restarted, 1 changed in place, 1 unchanged\n"},
		{"one more row renames nobody", list(worker("q@1"), worker("q@3")), list(worker("q@1"), worker("q@2"), worker("q@3")),
			"+ q@2\n1 added, 0 removed, 0 restarted, 0 changed in place, 2 unchanged\n"},
		{"disabled", list(worker("a")), list(worker("a", func(w *spec.Worker) { w.Enabled = false })),
			"~ a in place: enabled\n0 added, 0 removed, 0 restarted, 1 changed in place, 0 unchanged\n"},
		{"the manager's table", list(), spec.List{Manager: spec.Manager{Title: "x"}},
			"~ [manager] in place: title, check_interval, memory_limit, drain_max, max_workers\n0 added, 0 removed, 0 restarted, 0 changed in place, 0 unchanged\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := Make(c.old, c.new)
			if got := p.String(); got != c.want {
				t.Errorf("%s\nwant:\n%s", got, c.want)
			}
			if empty := !strings.ContainsAny(c.want, "+-~!"); p.Empty() != empty {
				t.Errorf("empty is %v", p.Empty())
			}
			if strings.Contains(p.String()+fmt.Sprintf("%+v", p), "secret") {
				t.Error("the plan tells a secret")
			}
		})
	}
}

// other makes what a key holds another value.
func other(v any) {
	switch f := reflect.ValueOf(v).Elem(); f.Kind() {
	case reflect.String:
		f.SetString(f.String() + "x")
	case reflect.Bool:
		f.SetBool(!f.Bool())
	case reflect.Float64:
		f.SetFloat(f.Float() + 1)
	case reflect.Int, reflect.Int64:
		f.SetInt(f.Int() + 1)
	case reflect.Slice:
		f.Set(reflect.Append(f.Slice(0, f.Len()), reflect.Zero(f.Type().Elem())))
	case reflect.Struct: // a share
		f.Field(0).SetInt(f.Field(0).Int() + 1)
	default:
		panic(f.Type())
	}
}

// TestEachKeyIsSeenAlone: a key that changed is told, in its class, and no other.
func TestEachKeyIsSeenAlone(t *testing.T) {
	n := 0
	for _, k := range spec.Keys {
		if k.Worker == nil {
			continue
		}
		n++
		was, is := worker("a"), worker("a")
		other(k.Worker(&is))
		want := Change{Name: "a", Restart: []string{k.Name}}
		if k.Class == spec.Live {
			want = Change{Name: "a", Live: []string{k.Name}}
		}
		if p := Make(list(was), list(is)); len(p.Changed) != 1 || !reflect.DeepEqual(p.Changed[0], want) {
			t.Errorf("%s: %+v, want %+v", k.Name, p.Changed, want)
		}
	}
	for _, k := range spec.ManagerKeys {
		n++
		old, new := list(), list()
		other(k.Manager(&new.Manager))
		if p := Make(old, new); !slices.Equal(p.Manager, []string{k.Name}) {
			t.Errorf("[manager] %s: %v", k.Name, p.Manager)
		}
	}
	if n < 40 {
		t.Errorf("only %d keys were tried", n)
	}
}

// randomList has some of ten names, in any order, with keys of both classes.
func randomList(r *rand.Rand) spec.List {
	l := list()
	for _, i := range r.Perm(10)[:r.IntN(11)] {
		l.Workers = append(l.Workers, worker(fmt.Sprintf("w@%d", i), func(w *spec.Worker) {
			w.Nice, w.MaxRequests, w.Enabled = r.IntN(2), r.IntN(2), r.IntN(4) > 0
			w.Command = append(w.Command, []string{"--fast", "--slow"}[r.IntN(2)])
		}))
	}
	l.Manager.MaxStarting = r.IntN(2)
	return l
}

// deep copies a list, so that no change of the other is missed.
func deep(l spec.List) spec.List {
	l.Workers = slices.Clone(l.Workers)
	for i := range l.Workers {
		w := &l.Workers[i]
		w.Command, w.Environment, w.Params = slices.Clone(w.Command), slices.Clone(w.Environment), slices.Clone(w.Params)
	}
	return l
}

// carryOut does to a list what a plan says, with the values of the new one.
func carryOut(p Plan, old, new spec.List) spec.List {
	of := func(name string) spec.Worker {
		return new.Workers[slices.IndexFunc(new.Workers, func(w spec.Worker) bool { return w.Name == name })]
	}
	out := deep(old)
	out.Workers = slices.DeleteFunc(out.Workers, func(w spec.Worker) bool { return slices.Contains(p.Removed, w.Name) })
	for _, n := range p.Added {
		out.Workers = append(out.Workers, of(n))
	}
	for _, c := range p.Changed {
		i := slices.IndexFunc(out.Workers, func(w spec.Worker) bool { return w.Name == c.Name })
		out.Workers[i] = of(c.Name)
	}
	if len(p.Manager) > 0 {
		out.Manager = new.Manager
	}
	return out
}

func TestAnyTwoLists(t *testing.T) {
	for seed := range uint64(1000) {
		r := rand.New(rand.NewPCG(seed, 0))
		a, b := randomList(r), randomList(r)
		wasA, wasB := deep(a), deep(b)
		p := Make(a, b)
		if !reflect.DeepEqual(a, wasA) || !reflect.DeepEqual(b, wasB) {
			t.Fatalf("seed %d: a list was changed", seed)
		}
		classes := map[string]int{}
		for _, names := range [][]string{p.Added, p.Removed, p.Unchanged} {
			for _, n := range names {
				classes[n]++
			}
		}
		for _, c := range p.Changed {
			classes[c.Name]++
			if len(c.Live)+len(c.Restart) == 0 {
				t.Fatalf("seed %d: %s changed in no key", seed, c.Name)
			}
		}
		for _, w := range append(slices.Clone(a.Workers), b.Workers...) {
			if classes[w.Name] != 1 {
				t.Fatalf("seed %d: %s is in %d classes", seed, w.Name, classes[w.Name])
			}
		}
		done := carryOut(p, a, b)
		if again := Make(done, b); !again.Empty() {
			t.Fatalf("seed %d: carried out, there remains %s", seed, again)
		}
		if back := carryOut(Make(done, a), done, a); !Make(back, a).Empty() {
			t.Fatalf("seed %d: there and back again is not where it was", seed)
		}
		if back := Make(b, a); !sameSet(back.Added, p.Removed) || !sameSet(back.Removed, p.Added) || len(back.Changed) != len(p.Changed) {
			t.Fatalf("seed %d: the way back is another: %s and %s", seed, p, back)
		}
	}
}

func sameSet(a, b []string) bool {
	a, b = slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b))
	return slices.Equal(a, b)
}

// BenchmarkMake is a reload of a large list of which hardly anything changed.
func BenchmarkMake(b *testing.B) {
	const workers = 5000
	old, new := list(), list()
	for i := range workers {
		old.Workers = append(old.Workers, worker(fmt.Sprintf("queue@10.0.0.%d", i)))
		new.Workers = append(new.Workers, worker(fmt.Sprintf("queue@10.0.0.%d", i)))
	}
	for i := range 5 {
		new.Workers[i*1000].Timeout = time.Minute
	}
	b.ReportAllocs()
	for b.Loop() {
		if p := Make(old, new); len(p.Changed) != 5 || len(p.Unchanged) != workers-5 {
			b.Fatal(p.Summary())
		}
	}
}

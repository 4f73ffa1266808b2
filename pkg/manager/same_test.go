package manager

import (
	"context"
	"strings"
	"testing"

	"github.com/workersd/workersd/pkg/worker"
)

// queueFunc is a function that knows its queue by what it has captured. Inlined
// it would be two functions.
//
//go:noinline
func queueFunc(queue string) worker.Func {
	return func(context.Context) (bool, error) { return queue != "", nil }
}

func oneLocal() worker.Worker {
	type local struct{ run }
	return local{}
}

func otherLocal() worker.Worker {
	type local struct{ run }
	return local{}
}

func oneLocalWith(v string) worker.Worker {
	type local struct {
		run
		V string
	}
	return &local{V: v}
}

func otherLocalWith(v string) worker.Worker {
	type local struct {
		run
		V string
	}
	return &local{V: v}
}

// A number would move to another one when the list does, and with it what a queue
// keeps under the name.
func TestWhatIsNotTheSameIsNotNumbered(t *testing.T) {
	for name, c := range map[string]struct {
		one, other worker.Worker
		want       string
	}{
		"closures of one function": {queueFunc("mail"), queueFunc("report"),
			`Name: it is called "Process" as worker 1 is, which is the same function, but not the same value, and may have captured something else: a number would change when the list does (give it another Name)`},
		"methods of two values": {worker.Func(generic[string]{V: "mail"}.Run), worker.Func(generic[string]{V: "report"}.Run),
			"but not the same value"},
		"types of one name in two functions": {oneLocal(), otherLocal(),
			`Name: it is called "local" as worker 1 is, which is of another type with that name: a number would change when the list does (give it another Name)`},
		"a value and a pointer": {plain{}, &plain{}, "which does something else: "},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := New(Worker{Work: c.one}, Worker{Work: c.other}).list()
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want %s", err, c.want)
			}
			if got := names(Worker{Work: c.one, Name: "a"}, Worker{Work: c.one, Name: "a"}, Worker{Work: c.other, Name: "b"}); strings.Join(got, " ") != "a-1 a-2 b-1" {
				t.Errorf("the same twice, and another one: %q", got)
			}
		})
	}
}

// Functions that capture nothing, and what is made in a loop from equal values,
// are the same wherever they stand.
func TestWhatIsTheSameIsNumbered(t *testing.T) {
	var ws []Worker
	for range 2 {
		ws = append(ws, Worker{Work: worker.Func(func(context.Context) (bool, error) { return true, nil })}, Worker{Work: oneLocal()})
	}
	if got := strings.Join(names(ws...), " "); got != "Process-1 local-1 Process-2 local-2" {
		t.Errorf("names are %s", got)
	}
}

// Where main makes workers with other arguments by now, one of the type takes
// those of the order. Of two types with one name none is taken: either could be
// the wrong one.
func TestFindTakesNoTypeByItsNameAlone(t *testing.T) {
	was, err := Worker{Work: oneLocalWith("a")}.prepare()
	if err != nil {
		t.Fatal(err)
	}
	w, err := New(Worker{Work: oneLocalWith("b")}).find(was.order())
	if err != nil || params(w)[0].Value != "a" {
		t.Errorf("found %v, %v; want one with the order's arguments", w, err)
	}
	w, err = New(Worker{Work: otherLocalWith("c")}, Worker{Work: oneLocalWith("b")}).find(was.order())
	if err == nil || !strings.Contains(err.Error(), "is not among those") {
		t.Errorf("found %v, %v; want none", w, err)
	}
	w, err = New(Worker{Work: otherLocalWith("c")}, Worker{Work: oneLocalWith("a")}).find(was.order())
	if err != nil || params(w)[0].Value != "a" {
		t.Errorf("found %v, %v; want the one of that name", w, err)
	}
}

package lifecycle

import (
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/workersd/workersd/pkg/internal/event"
	"github.com/workersd/workersd/pkg/spec"
)

var update = flag.Bool("update", false, "write the golden files in testdata, and their copy in README.md")

// situation is a worker in which every event is tried.
type situation struct {
	name    string
	changes []change
	before  []any    // events, and durations that pass between them
	only    []string // rows; none: all
	tick    string   // what a Tick at the deadline is, in the picture
	emptied string   // what Emptied is, in the picture
	ready   string   // what Ready is, in the picture; READY=1 unless set
}

var (
	begin  = []any{StartWanted{}, Tick{}}
	atWork = []any{StartWanted{}, Tick{}, Spawned{1, 101}}
)

func then(before []any, more ...any) []any { return append(before[:len(before):len(before)], more...) }

var situations = []situation{
	{name: "down"},
	{name: "waiting", before: []any{StartWanted{}}, tick: "its time has come"},
	{name: "backoff", before: then(begin, SpawnFailed{1, "no"}), tick: "delay over"},
	{name: "done", changes: []change{restart(spec.RestartNever)}, before: then(begin, SpawnFailed{1, "no"})},
	{name: "starting: ordered", before: begin, tick: "start_timeout"},
	{name: "starting: ordered, restart = never", changes: []change{restart(spec.RestartNever)}, before: begin, only: []string{"SpawnFailed"}},
	{name: "starting: not ready yet", changes: []change{notify}, before: atWork, tick: "start_timeout"},
	{name: "up", before: atWork},
	{name: "up: an execution runs", changes: []change{timeout(time.Minute)}, before: then(atWork, ExecutionBegan{1, "a"}), only: ticks, tick: "timeout"},
	{name: "up: with a watchdog", changes: []change{func(w *spec.Worker) { w.Watchdog = time.Minute }}, before: atWork, only: ticks, tick: "watchdog"},
	{name: "up: with a max_lifetime", changes: []change{func(w *spec.Worker) { w.MaxLifetime = time.Minute }}, before: atWork, only: ticks},
	{name: "up: one execution before max_requests", changes: []change{maxReq(1)}, before: then(atWork, ExecutionBegan{1, "a"}), only: []string{"ExecutionEnded", "ExecutionsCounted"}},
	{name: "up: asked to be recycled", before: then(atWork, SoftMemoryPassed{1, 2, 1}), only: []string{"RecycleGranted", "SoftMemoryPassed"}},
	{name: "up: a task", changes: []change{task, timeout(time.Minute)}, before: atWork, only: append([]string{"SoftMemoryPassed"}, ticks...), tick: "timeout"},
	{name: "stopping", before: then(atWork, StopWanted{event.Stopped}), tick: "stop deadline"},
	{name: "stopping: not started yet", before: then(begin, StopWanted{event.Stopped}), only: []string{"Spawned", "SpawnFailed", ticks[1]}, tick: "stop deadline"},
	{name: "killing: the main process lives", before: then(atWork, KillWanted{event.Killed})},
	{name: "killing: the main process has crashed", before: then(atWork, Exited{1, exit(1)}), emptied: "failed"},
	{name: "killing: ended as planned", before: then(atWork, RestartWanted{event.Restarted}, Exited{1, exit(0)}), only: []string{"Emptied"}, emptied: "replaced"},
	{name: "killing: a young clean exit", before: then(atWork, Exited{1, exit(0)}), only: []string{"Emptied"}, emptied: "finished too young"},
	{name: "killing: a healthy clean exit", before: then(atWork, time.Minute, Exited{1, exit(0)}), only: []string{"Emptied"}, emptied: "finished"},
	{name: "killing: a clean exit, restart = on-failure", changes: []change{restart(spec.RestartOnFailure)}, before: then(atWork, Exited{1, exit(0)}), only: []string{"Emptied"}, emptied: "restart= says no"},
	{name: "killing: not wanted any more", before: then(atWork, StopWanted{event.Stopped}, Exited{1, exit(0)}), only: []string{"Emptied"}, emptied: "stopped"},
	{name: "overlap: the successor starts", changes: []change{overlap, notify}, before: then(atWork, Ready{1}, RestartWanted{event.Restarted}, Spawned{2, 102}), ready: "its successor is ready"},
	{name: "overlap: the old one leaves", changes: []change{overlap, notify}, before: then(atWork, Ready{1}, RestartWanted{event.Restarted}, Spawned{2, 102}, Ready{2}, Exited{1, exit(0)}),
		only: []string{"Emptied, of the old one"}, emptied: "its successor works"},
	{name: "overlap: the successor is to be tried again", changes: []change{overlap, notify}, before: then(atWork, Ready{1}, RestartWanted{event.Restarted}, SpawnFailed{2, "no"}),
		only: []string{ticks[1], "StopWanted"}},
}

var ticks = []string{"Tick, before the deadline", "Tick, at the deadline"}

// row is one event of the table.
type row struct {
	name string
	word string // in the picture
	ev   func(g uint64, s situation) Event
}

func plain(ev Event) func(uint64, situation) Event {
	return func(uint64, situation) Event { return ev }
}

func of(f func(g uint64) Event) func(uint64, situation) Event {
	return func(g uint64, _ situation) Event { return f(g) }
}

var rows = []row{
	{ticks[0], "", plain(Tick{})},
	{ticks[1], "", plain(Tick{})},
	{"StartWanted", "start", plain(StartWanted{})},
	{"StopWanted", "stop", plain(StopWanted{event.Stopped})},
	{"RestartWanted, by an operator", "restart", plain(RestartWanted{event.Restarted})},
	{"RestartWanted, by a reload", "reload", plain(RestartWanted{event.Reloaded})},
	{"KillWanted", "kill", plain(KillWanted{event.Killed})},
	{"SpecChanged", "", func(_ uint64, s situation) Event { return SpecChanged{worker(s.changes...)} }},
	{"DrainMaxChanged", "", plain(DrainMaxChanged{time.Minute})},
	{"RecycleGranted", "recycle", plain(RecycleGranted{})},
	{"Spawned", "executed", of(func(g uint64) Event { return Spawned{g, 7} })},
	{"SpawnFailed", "start failed", of(func(g uint64) Event { return SpawnFailed{g, "no"} })},
	{"Exited, clean", "exited", of(func(g uint64) Event { return Exited{g, exit(0)} })},
	{"Exited, crashed", "exited", of(func(g uint64) Event { return Exited{g, exit(1)} })},
	{"Emptied", "", of(func(g uint64) Event { return Emptied{Generation: g} })},
	{"Emptied, of the old one", "", plain(Emptied{Generation: 1})},
	{"SoftMemoryPassed", "", of(func(g uint64) Event { return SoftMemoryPassed{g, 2, 1} })},
	{"HardMemoryPassed", "hard_memory", of(func(g uint64) Event { return HardMemoryPassed{g, 2, 1} })},
	{"Ready", "READY=1", of(func(g uint64) Event { return Ready{g} })},
	{"SaidStopping", "", of(func(g uint64) Event { return SaidStopping{g} })},
	{"SaidStatus", "", of(func(g uint64) Event { return SaidStatus{g, "busy"} })},
	{"WatchdogPinged", "", of(func(g uint64) Event { return WatchdogPinged{g} })},
	{"WatchdogTriggered", "watchdog", of(func(g uint64) Event { return WatchdogTriggered{g} })},
	{"Extended", "", of(func(g uint64) Event { return Extended{g, time.Minute} })},
	{"MainPIDChanged", "", of(func(g uint64) Event { return MainPIDChanged{g, 8} })},
	{"ExecutionBegan", "", of(func(g uint64) Event { return ExecutionBegan{g, "b"} })},
	{"ExecutionEnded", "", of(func(g uint64) Event { return ExecutionEnded{g, "a", OK} })},
	{"ExecutionsCounted", "", of(func(g uint64) Event { return ExecutionsCounted{g, 1} })},
}

// enter brings a worker into a situation.
func (s situation) enter(t *testing.T) *life {
	l := down(t, s.changes...)
	for _, b := range s.before {
		switch b := b.(type) {
		case time.Duration:
			l.pass(b)
		case Event:
			l.on(b)
		}
	}
	l.orders = nil
	return l
}

// walk tries every event in every situation.
func walk(t *testing.T, visit func(s situation, r row, before, after Worker, orders []string)) {
	for _, s := range situations {
		for _, r := range rows {
			if s.only != nil && !slices.Contains(s.only, r.name) || s.only == nil && r.name == "Emptied, of the old one" {
				continue
			}
			l := s.enter(t)
			before := l.w
			l.now = l.now.Add(time.Millisecond)
			if r.name == ticks[1] {
				if l.w.Deadline.IsZero() {
					continue
				}
				l.now = l.w.Deadline
			} else if r.name == ticks[0] && !l.w.Deadline.IsZero() {
				l.now = l.w.Deadline.Add(-1)
			}
			l.on(r.ev(max(1, l.w.Generation), s))
			visit(s, r, before, l.w, l.orders)
		}
	}
}

func TestTransitionTable(t *testing.T) {
	var b strings.Builder
	b.WriteString("# What each event does in each situation: the next state, and the orders.\n# Written by go test ./pkg/internal/lifecycle -run TransitionTable -update\n")
	var last string
	var kept, nothing []string
	flush := func() {
		if len(kept) > 0 {
			fmt.Fprintf(&b, "  changes neither state nor orders: %s\n", strings.Join(kept, "; "))
		}
		if len(nothing) > 0 {
			fmt.Fprintf(&b, "  changes nothing: %s\n", strings.Join(nothing, "; "))
		}
		kept, nothing = nil, nil
	}
	walk(t, func(s situation, r row, before, after Worker, orders []string) {
		if s.name != last {
			flush()
			fmt.Fprintf(&b, "\n%s\n", s.name)
			last = s.name
		}
		switch {
		case same(before, after) && len(orders) == 0:
			nothing = append(nothing, r.name)
		case before.State == after.State && len(orders) == 0:
			kept = append(kept, r.name)
		default:
			line := fmt.Sprintf("  %-30s -> %-9v %s", r.name, after.State, strings.Join(orders, ", "))
			b.WriteString(strings.TrimRight(line, " ") + "\n")
		}
	})
	flush()
	golden(t, "testdata/transitions.txt", b.String())
}

// TestStaleEventsChangeNothing tries every event of a process in every
// situation, with the number of a process before and after.
func TestStaleEventsChangeNothing(t *testing.T) {
	for _, s := range situations {
		for _, r := range rows {
			for _, g := range []uint64{0, 77} {
				ev := r.ev(g, s)
				if generationOf(ev) != g || g == 0 && generationOf(r.ev(1, s)) == 0 {
					continue // about no process
				}
				l := s.enter(t)
				before, notes := l.w, len(l.notes)
				l.on(ev)
				if !same(before, l.w) || len(l.orders) > 0 || len(l.notes) > notes {
					t.Errorf("%s: %s of generation %d leads to %v", s.name, r.name, g, l.orders)
				}
			}
		}
	}
}

// picture is the states with what leads from one to the other.
func picture(t *testing.T) string {
	words := map[[2]State][]string{}
	walk(t, func(s situation, r row, before, after Worker, _ []string) {
		word := r.word
		switch {
		case r.name == ticks[1]:
			word = s.tick
		case strings.HasPrefix(r.name, "Emptied") && s.emptied != "":
			word = s.emptied
		case r.name == "Ready" && s.ready != "":
			word = s.ready
		}
		if edge := [2]State{before.State, after.State}; before.State != after.State && word != "" && !slices.Contains(words[edge], word) {
			words[edge] = append(words[edge], word)
		}
	})
	var b strings.Builder
	b.WriteString("stateDiagram-v2\n    [*] --> down\n")
	for _, from := range States {
		for _, to := range States {
			if w := words[[2]State{from, to}]; len(w) > 0 {
				fmt.Fprintf(&b, "    %v --> %v: %s\n", from, to, strings.Join(w, " / "))
			}
		}
	}
	return b.String()
}

func TestPictureOfTheStates(t *testing.T) {
	golden(t, "testdata/states.mmd", picture(t))
}

// TestREADMEShowsThePicture compares the README's copy, between its two markers.
func TestREADMEShowsThePicture(t *testing.T) {
	const readme, begin, end = "../../../README.md", "<!-- states: begin (make test compares; go test ./pkg/internal/lifecycle -update writes) -->\n```mermaid\n", "```\n<!-- states: end -->\n"
	text, err := os.ReadFile(readme)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(text), begin)
	shown, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("README.md lacks the markers\n%s…\n%s", begin, end)
	}
	want := picture(t)
	if *update {
		if err := os.WriteFile(readme, []byte(before+begin+want+end+after), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if shown != want {
		t.Errorf("README.md shows another picture than the code makes; go test ./pkg/internal/lifecycle -update writes it\n%s", difference(shown, want))
	}
}

// TestEveryEventAndStateIsInTheTable keeps the table whole when one is added.
func TestEveryEventAndStateIsInTheTable(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "event.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range file.Decls {
		f, ok := d.(*ast.FuncDecl)
		if !ok || f.Name.Name != "isEvent" {
			continue
		}
		name := f.Recv.List[0].Type.(*ast.Ident).Name
		if !slices.ContainsFunc(rows, func(r row) bool {
			return fmt.Sprintf("%T", r.ev(1, situation{})) == "lifecycle."+name
		}) {
			t.Errorf("no row of the table has event %s", name)
		}
	}
	for _, st := range States {
		if !slices.ContainsFunc(situations, func(s situation) bool { return s.only == nil && s.enter(t).w.State == st }) {
			t.Errorf("no situation tries all events in state %v", st)
		}
	}
	for _, s := range situations {
		for _, o := range s.only {
			if !slices.ContainsFunc(rows, func(r row) bool { return r.name == o }) {
				t.Errorf("%s: there is no row %q", s.name, o)
			}
		}
		if got := s.enter(t).w.State.String(); !strings.HasPrefix(s.name, got) && !strings.HasPrefix(s.name, "overlap") {
			t.Errorf("%s: the worker is %s", s.name, got)
		}
	}
}

func golden(t *testing.T, file, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs; if that is what you meant: go test ./pkg/internal/lifecycle -update\n%s", file, difference(string(want), got))
	}
}

// difference is the lines that only one of two texts has.
func difference(want, got string) string {
	var b strings.Builder
	w, g := strings.Split(want, "\n"), strings.Split(got, "\n")
	for _, line := range w {
		if !slices.Contains(g, line) {
			fmt.Fprintf(&b, "- %s\n", line)
		}
	}
	for _, line := range g {
		if !slices.Contains(w, line) {
			fmt.Fprintf(&b, "+ %s\n", line)
		}
	}
	return b.String()
}

package lifecycle

import (
	"fmt"
	"testing"
	"time"

	"github.com/workersd/workersd/pkg/spec"
)

// TestCounting: each execution counts once, in whatever order END and COUNT
// come, and COUNT brings back what lost datagrams took.
func TestCounting(t *testing.T) {
	begin := func(id string) Event { return ExecutionBegan{1, id} }
	end := func(id string) Event { return ExecutionEnded{1, id, OK} }
	fail := func(id string) Event { return ExecutionEnded{1, id, Fail} }
	skip := func(id string) Event { return ExecutionEnded{1, id, Skip} }
	count := func(n int) Event { return ExecutionsCounted{1, n} }
	for _, c := range []struct {
		name               string
		evs                []Event
		want, failed, runs int
	}{
		{"nothing", nil, 0, 0, 0},
		{"END", []Event{begin("a"), end("a")}, 1, 0, 0},
		{"END without BEGIN", []Event{end("a")}, 1, 0, 0},
		{"fail counts", []Event{begin("a"), fail("a"), begin("b"), end("b")}, 2, 1, 0},
		{"skip does not", []Event{begin("a"), skip("a")}, 0, 0, 0},
		{"END and COUNT of one datagram", []Event{begin("a"), end("a"), count(1), begin("b"), end("b"), count(2)}, 2, 0, 0},
		{"COUNT and END of one datagram", []Event{begin("a"), count(1), end("a"), begin("b"), count(2), end("b")}, 2, 0, 0},
		{"COUNT alone", []Event{count(1), count(2), count(3)}, 3, 0, 0},
		{"COUNT repeated", []Event{count(3), count(3)}, 3, 0, 0},
		{"COUNT that goes back", []Event{count(3), count(2)}, 3, 0, 0},
		{"an END was lost", []Event{end("a"), count(1), count(3), end("d"), count(4)}, 4, 0, 0},
		{"the count of a lost END, then its END late", []Event{begin("a"), count(1), end("a")}, 1, 0, 0},
		{"COUNT=5 after four of five ENDs", []Event{end("a"), end("b"), end("c"), end("d"), count(5)}, 5, 0, 0},
		{"and the next one", []Event{end("a"), end("b"), end("c"), end("d"), count(5), end("f"), count(6)}, 6, 0, 0},
		{"skip between", []Event{end("a"), count(1), skip("b"), count(1), end("c"), count(2)}, 2, 0, 0},
		{"parallel", []Event{begin("a"), begin("b"), begin("c"), end("b"), count(1)}, 1, 0, 2},
		{"the same id again", []Event{begin("a"), begin("a")}, 0, 0, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := up(t)
			l.on(c.evs...)
			p := l.w.Places[0]
			if p.Executions != c.want || p.Failed != c.failed || len(p.Running) != c.runs {
				t.Errorf("%d executions, %d failed, %d running; want %d, %d, %d", p.Executions, p.Failed, len(p.Running), c.want, c.failed, c.runs)
			}
			if p.Reported != (len(c.evs) > 0) {
				t.Errorf("reported is %v", p.Reported)
			}
		})
	}
}

func TestMaxRequestsOfTwoMeansTwo(t *testing.T) {
	for name, evs := range map[string][]Event{
		"END":       {ExecutionEnded{1, "a", OK}, ExecutionEnded{1, "b", OK}},
		"END+COUNT": {ExecutionEnded{1, "a", OK}, ExecutionsCounted{1, 1}, ExecutionEnded{1, "b", OK}, ExecutionsCounted{1, 2}},
		"COUNT+END": {ExecutionsCounted{1, 1}, ExecutionEnded{1, "a", OK}, ExecutionsCounted{1, 2}, ExecutionEnded{1, "b", OK}},
		"COUNT":     {ExecutionsCounted{1, 1}, ExecutionsCounted{1, 2}},
	} {
		l := up(t, maxReq(2))
		for _, ev := range evs[:len(evs)/2] {
			l.on(ev)
		}
		l.want(Up)
		for _, ev := range evs[len(evs)/2:] {
			l.on(ev)
		}
		l.want(Up, "ask max_requests")
		if t.Failed() {
			t.Fatal(name)
		}
	}
}

func TestWhatRunsIsBounded(t *testing.T) {
	l := up(t, timeout(time.Hour))
	for i := range 3 * maxRunning {
		l.on(ExecutionBegan{1, fmt.Sprint(i)})
	}
	if n := len(l.w.Places[0].Running); n != maxRunning {
		t.Errorf("%d executions are remembered", n)
	}
	l.pass(time.Minute)
	l.on(ExecutionBegan{1, "7"}) // one of them begins anew
	if e := l.w.Places[0].Running[7]; !e.Began.Equal(l.now) {
		t.Errorf("execution 7 began at %v", e.Began)
	}
}

func TestAStepChangesNoEarlierValue(t *testing.T) {
	l := up(t, timeout(time.Hour))
	l.on(ExecutionBegan{1, "a"}, ExecutionBegan{1, "b"}, ExecutionBegan{1, "c"})
	before := l.w
	saved := append([]Execution(nil), before.Places[0].Running...)
	l.pass(time.Second)
	l.on(ExecutionEnded{1, "a", OK}, ExecutionBegan{1, "d"}, ExecutionBegan{1, "b"}, ExecutionEnded{1, "c", OK})
	for i, e := range before.Places[0].Running {
		if e != saved[i] {
			t.Errorf("an earlier value changed: %v was %v", e, saved[i])
		}
	}
}

func TestTheOldestExecutionTimesOutFirst(t *testing.T) {
	l := up(t, timeout(time.Minute))
	l.on(ExecutionBegan{1, "a"})
	l.pass(10 * time.Second)
	l.on(ExecutionBegan{1, "b"})
	l.in(50 * time.Second)
	l.on(ExecutionEnded{1, "a", OK})
	l.in(time.Minute)
	l.on(ExecutionEnded{1, "b", OK})
	l.in(never)
	l.on(SpecChanged{worker(timeout(time.Second))})
	l.in(never)
}

func TestLateWordsOfADeadProcessStillCount(t *testing.T) {
	l := up(t, maxReq(1), restart(spec.RestartOnFailure))
	l.on(Exited{1, exit(0)}, ExecutionEnded{1, "a", OK}) // it crossed with the exit
	l.on(Emptied{Generation: 1})
	l.want(Waiting, "kill 1", "release 1")
}

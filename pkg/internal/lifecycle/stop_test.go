package lifecycle

import (
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/workersd/workersd/pkg/internal/event"
	"github.com/workersd/workersd/pkg/spec"
)

// TestStopDeadline is the end of the grace: the later of stop_timeout and the
// end of each running execution's timeout, moved by EXTEND_TIMEOUT_USEC, and
// never past drain_max.
func TestStopDeadline(t *testing.T) {
	begin := func(id string) func(*life) { return func(l *life) { l.on(ExecutionBegan{1, id}) } }
	wait := func(d time.Duration) func(*life) { return func(l *life) { l.pass(d) } }
	stop := func(l *life) { l.on(StopWanted{event.Stopped}) }
	say := func(ev Event) func(*life) { return func(l *life) { l.on(ev) } }
	for _, c := range []struct {
		name    string
		changes []change
		do      []func(*life)
		want    time.Duration // after the last of do
	}{
		{"stop_timeout", nil, []func(*life){stop}, 10 * time.Second},
		{"an execution without timeout", nil, []func(*life){begin("a"), stop}, 10 * time.Second},
		{"an execution with more time", []change{timeout(time.Minute)}, []func(*life){begin("a"), wait(20 * time.Second), stop}, 40 * time.Second},
		{"an execution with less time", []change{timeout(time.Minute)}, []func(*life){begin("a"), wait(55 * time.Second), stop}, 10 * time.Second},
		{"the latest of several", []change{timeout(time.Minute)},
			[]func(*life){begin("a"), wait(20 * time.Second), begin("b"), wait(10 * time.Second), stop}, 50 * time.Second},
		{"it ended", []change{timeout(time.Minute)}, []func(*life){begin("a"), stop, wait(time.Second), say(ExecutionEnded{1, "a", OK})}, 10 * time.Second},
		// It must be able to leave, after_run and all, when it has finished late.
		{"it ended long after stop_timeout", []change{timeout(time.Minute)},
			[]func(*life){begin("a"), stop, wait(50 * time.Second), say(ExecutionEnded{1, "a", OK})}, 10 * time.Second},
		{"the first of two ended", []change{timeout(time.Minute)},
			[]func(*life){begin("a"), begin("b"), stop, wait(20 * time.Second), say(ExecutionEnded{1, "a", OK})}, 40 * time.Second},
		{"one without timeout ended", nil, []func(*life){begin("a"), stop, wait(9 * time.Second), say(ExecutionEnded{1, "a", OK})}, time.Second},
		{"one that began after the signal ended", []change{timeout(time.Minute)},
			[]func(*life){stop, wait(time.Second), begin("a"), wait(8 * time.Second), say(ExecutionEnded{1, "a", OK})}, time.Second},
		{"the one that outlived its time ended", []change{timeout(time.Minute)},
			[]func(*life){begin("a"), wait(time.Minute), wait(9 * time.Second), say(ExecutionEnded{1, "a", Fail})}, time.Second},
		{"drain_max and one that ended", []change{timeout(time.Hour)},
			[]func(*life){begin("a"), stop, wait(drainMax - 2*time.Second), say(ExecutionEnded{1, "a", OK})}, 2 * time.Second},
		// What begins after the signal gets no time of its own: a process that
		// ignores the signal would move its end for ever.
		{"one that begins after the signal", []change{timeout(time.Minute)}, []func(*life){stop, wait(5 * time.Second), begin("a")}, 5 * time.Second},
		{"one that begins again after the signal", []change{timeout(time.Minute)},
			[]func(*life){begin("a"), stop, say(ExecutionEnded{1, "a", OK}), wait(5 * time.Second), begin("a")}, 5 * time.Second},
		{"EXTEND_TIMEOUT_USEC", nil, []func(*life){stop, wait(5 * time.Second), say(Extended{1, 20 * time.Second})}, 20 * time.Second},
		{"EXTEND_TIMEOUT_USEC, less", nil, []func(*life){stop, say(Extended{1, time.Second})}, 10 * time.Second},
		{"EXTEND_TIMEOUT_USEC, then less", nil, []func(*life){stop, say(Extended{1, time.Minute}), say(Extended{1, time.Second})}, time.Minute},
		{"EXTEND_TIMEOUT_USEC while up", nil, []func(*life){say(Extended{1, time.Hour}), stop}, 10 * time.Second},
		{"drain_max and an extension", nil, []func(*life){stop, wait(5 * time.Second), say(Extended{1, 24 * time.Hour})}, drainMax - 5*time.Second},
		{"drain_max and an execution", []change{timeout(time.Hour)}, []func(*life){begin("a"), stop}, drainMax},
		{"drain_max and stop_timeout", []change{func(w *spec.Worker) { w.StopTimeout = time.Hour }}, []func(*life){stop}, drainMax},
		{"drain_max that moves", []change{timeout(time.Hour)}, []func(*life){begin("a"), stop, say(DrainMaxChanged{time.Minute})}, time.Minute},
		{"a task", []change{task, timeout(time.Minute)}, []func(*life){wait(15 * time.Second), stop}, 45 * time.Second},
		{"stop_timeout of a new spec", nil, []func(*life){stop, say(SpecChanged{worker(func(w *spec.Worker) { w.StopTimeout = time.Second })})}, time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := up(t, c.changes...)
			for _, do := range c.do {
				do(l)
			}
			if l.w.State != Stopping {
				t.Fatalf("it is %v", l.w.State)
			}
			l.in(c.want)
			l.orders = nil
			l.pass(c.want - 1)
			l.want(Stopping)
			l.pass(1)
			l.want(Killing, "kill 1")
		})
	}
}

func TestAnOperatorsStop(t *testing.T) {
	l := up(t)
	l.on(StopWanted{event.Stopped})
	l.want(Stopping, "signal 1 SIGTERM")
	if r := l.last(event.Stopping); r.Reason != event.Stopped || r.PID != 101 || r.Message != "is stopped by an operator" {
		t.Errorf("%+v", r)
	}
	l.on(StopWanted{event.Stopped}) // again: nothing new
	l.want(Stopping)
	l.on(Exited{1, exit(0)})
	l.want(Killing, "kill 1") // what is left of its tree
	l.on(Emptied{Generation: 1})
	l.want(Down, "release 1")
	l.in(never)
	if l.w.LastReason != event.Stopped || l.w.DownReason != event.Stopped {
		t.Errorf("last reason %s, down because %s", l.w.LastReason, l.w.DownReason)
	}
}

func TestStopSignalIsTheEntrys(t *testing.T) {
	l := up(t, func(w *spec.Worker) { w.StopSignal = spec.Signal(syscall.SIGINT) })
	l.on(StopWanted{event.Shutdown})
	l.want(Stopping, "signal 1 SIGINT")
}

func TestAStartWhileStopping(t *testing.T) {
	l := up(t)
	l.on(StopWanted{event.Stopped})
	l.pass(3 * time.Second)
	l.on(StartWanted{})
	l.want(Stopping, "signal 1 SIGTERM")
	l.in(7 * time.Second) // it still has to leave
	l.gone(1, exit(0))
	l.want(Waiting, "kill 1", "release 1")
	l.in(0)
	l.on(StopWanted{event.Stopped}) // and not after all
	l.want(Down)
	l.in(never)
}

func TestAStopWhileAReplacementIsUnderWay(t *testing.T) {
	l := up(t)
	l.on(RestartWanted{event.Restarted}, StopWanted{event.Removed})
	l.want(Stopping, "signal 1 SIGTERM") // one signal
	l.gone(1, exit(0))
	l.want(Down, "kill 1", "release 1")
	l.in(never)
}

func TestARestartWhileStopping(t *testing.T) {
	// Whatever the process is ended for: who asks for a restart does not wait.
	l := up(t, restart(spec.RestartNever), func(w *spec.Worker) { w.Watchdog = time.Second })
	l.pass(time.Second)
	l.want(Stopping, "signal 1 SIGABRT")
	l.on(RestartWanted{event.Restarted})
	l.gone(1, signalled(syscall.SIGABRT))
	l.want(Waiting, "kill 1", "release 1")
	l.in(0)
}

func TestAnOperatorsRestart(t *testing.T) {
	l := up(t, restart(spec.RestartNever)) // it did not leave by itself
	l.on(RestartWanted{event.Restarted})
	l.want(Stopping, "signal 1 SIGTERM") // without asking admission
	l.gone(1, signalled(syscall.SIGKILL))
	l.want(Waiting, "kill 1", "release 1")
	l.in(0)
	if l.w.Failures != 0 || l.w.Restarts != 1 || l.w.LastReason != event.Restarted {
		t.Errorf("%d failures, %d restarts, last %s", l.w.Failures, l.w.Restarts, l.w.LastReason)
	}
}

func TestAnOperatorsKill(t *testing.T) {
	for name, before := range map[string][]Event{"up": nil, "stopping": {StopWanted{event.Stopped}}} {
		l := up(t)
		l.on(before...)
		l.orders = nil
		l.on(KillWanted{event.Killed})
		l.want(Killing, "kill 1")
		if r := l.last(event.Killing); !strings.Contains(r.Message, "SIGKILL") || strings.Contains(r.Message, "in time") {
			t.Errorf("%s: it says %q", name, r.Message)
		}
		l.on(KillWanted{event.Killed}) // again: nothing new
		l.want(Killing)
	}
	l := down(t)
	l.on(KillWanted{event.Killed})
	l.want(Down)
}

// The last record says who killed it: its grace was over, or somebody ended it.
func TestWhoKilledIt(t *testing.T) {
	for want, ends := range map[string]func(l *life){
		"killed, it had not left in time": func(l *life) {
			l.on(StopWanted{event.Shutdown})
			l.pass(l.w.Spec.StopTimeout)
			l.on(KillWanted{event.Shutdown}) // too late
		},
		"killed by a second signal to the manager":        func(l *life) { l.on(StopWanted{event.Shutdown}, KillWanted{event.Shutdown}) },
		"killed by an operator":                           func(l *life) { l.on(StopWanted{event.Stopped}, KillWanted{event.Killed}) },
		"killed by somebody (SIGKILL, not out of memory)": func(*life) {},
	} {
		l := up(t)
		ends(l)
		l.gone(1, Status{Signal: sigkill})
		if r := l.last(event.Gone); r.Message != "is not existed any more: "+want {
			t.Errorf("it says %q, want %q", r.Message, want)
		}
	}
	l := up(t)
	l.on(KillWanted{event.Killed})
	l.gone(1, Status{Signal: sigkill})
	if r := l.last(event.Gone); r.Reason != event.Killed || r.Message != "is not existed any more: killed by an operator" {
		t.Errorf("it says %q, reason %s", r.Message, r.Reason)
	}
}

func TestWhatIsLeftOfATreeIsKilledAndAwaited(t *testing.T) {
	l := up(t)
	l.on(Exited{1, exit(1)})
	l.want(Killing, "kill 1")
	l.pass(5 * time.Second)
	l.want(Killing)
	l.on(Emptied{Generation: 1})
	l.want(Backoff, "release 1")
}

func TestStuck(t *testing.T) {
	for name, begin := range map[string]func(*life){
		"the main process": func(l *life) { l.on(KillWanted{event.Killed}) },
		"the rest":         func(l *life) { l.on(Exited{1, exit(0)}) },
	} {
		t.Run(name, func(t *testing.T) {
			l := up(t)
			begin(l)
			l.pass(stuckAfter - 1)
			l.want(Killing, "kill 1")
			l.pass(1)
			l.want(Killing, "kill 1")
			if r := l.last(event.Stuck); !strings.Contains(r.Message, "SIGKILL") || !l.w.Places[0].Stuck {
				t.Errorf("%q, stuck %v", r.Message, l.w.Places[0].Stuck)
			}
			l.on(StartWanted{}, RestartWanted{event.Restarted}, RecycleGranted{})
			l.pass(2 * stuckAgain) // killed again, named once, never doubled
			l.want(Killing, "kill 1", "kill 1")
			if n := l.count(event.Stuck); n != 1 {
				t.Errorf("named %d times", n)
			}
			l.on(Emptied{Generation: 1})
			l.want(Waiting, "release 1")
		})
	}
}

// TestVerdict decides why a process ended: what the counters
// show, then our own order, then the exit status.
func TestVerdict(t *testing.T) {
	killed, term := Status{Signal: sigkill}, Status{Signal: sigterm}
	stop, kill := []Event{StopWanted{event.Stopped}}, []Event{KillWanted{event.Killed}}
	soft := []Event{SoftMemoryPassed{1, 2 * spec.MiB, spec.MiB}}
	granted := append(soft[:1:1], RecycleGranted{})
	hard := []Event{HardMemoryPassed{1, 3 * spec.MiB, 2 * spec.MiB}}
	works := []Event{ExecutionBegan{1, "a"}, ExecutionEnded{1, "a", OK}}
	for _, c := range []struct {
		name   string
		before []Event
		st     Status
		oom    OOM
		want   event.Reason
	}{
		{"its own limit", nil, killed, OOMLeaf, event.HardMemory},
		{"the pool's limit", nil, killed, OOMPool, event.PoolMemory},
		{"the unit's limit", nil, killed, OOMUnit, event.UnitMemory},
		{"the machine", nil, killed, OOMHost, event.HostMemory},
		{"out of memory while it stops", stop, killed, OOMLeaf, event.HardMemory},
		{"out of memory at the soft limit", granted, killed, OOMLeaf, event.HardMemory},
		{"out of memory, status unknown", nil, Status{Unknown: true}, OOMLeaf, event.HardMemory},
		// One of its children was the victim; the main process left by itself.
		{"a child out of memory, clean", nil, exit(0), OOMLeaf, event.Finished},
		{"a child out of memory, crash", nil, exit(1), OOMLeaf, event.Crashed},
		{"our SIGKILL, and a child out of memory", kill, killed, OOMLeaf, event.Killed},
		{"nobody knows who sent SIGKILL", nil, killed, NoOOM, event.Killed},
		{"sampled hard limit", hard, killed, NoOOM, event.HardMemory},
		{"sampled hard limit while it stops", append(stop[:1:1], hard...), killed, NoOOM, event.HardMemory},
		{"our stop", stop, term, NoOOM, event.Stopped},
		{"our stop, whatever its code", stop, exit(3), NoOOM, event.Stopped},
		{"our recycle", granted, exit(0), NoOOM, event.SoftMemory},
		{"asked, and left by itself before the answer", soft, exit(0), NoOOM, event.SoftMemory},
		{"asked, and crashed before the answer", soft, exit(1), NoOOM, event.Crashed},
		{"clean", nil, exit(0), NoOOM, event.Finished},
		{"clean by SIGTERM", nil, term, NoOOM, event.Finished},
		{"crash", nil, exit(1), NoOOM, event.Crashed},
		{"core", nil, Status{Signal: sigabrt, Core: true}, NoOOM, event.Crashed},
		{"lost", nil, Status{Unknown: true}, NoOOM, event.Lost},
		{"lost while it stops", stop, Status{Unknown: true}, NoOOM, event.Stopped},
		{"clean at its number of executions", works, exit(0), NoOOM, event.MaxRequests},
		{"crash at its number of executions", works, exit(1), NoOOM, event.Crashed},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := up(t, maxReq(1))
			l.on(c.before...)
			pm := &event.PostMortem{Peak: 7}
			l.on(Exited{1, c.st}, Emptied{1, Evidence{c.oom, pm}})
			r := l.last(event.Gone)
			if r.Reason != c.want || r.PostMortem != pm || r.Status != c.st.String() || r.Generation != 1 || r.PID != 101 {
				t.Errorf("%+v, want reason %s", r, c.want)
			}
		})
	}
}

// Who says that it leaves is shown as leaving. What holds for it holds on, and the
// next process has said nothing.
func TestSaidStopping(t *testing.T) {
	l := up(t, func(w *spec.Worker) { w.Watchdog = 10 * time.Second })
	l.on(SaidStopping{1})
	l.want(Up)
	if !l.w.Places[0].Leaving {
		t.Error("it is not leaving")
	}
	l.pass(10 * time.Second)
	l.want(Stopping, "signal 1 SIGABRT")
	l.gone(1, exit(0))
	l.pass(time.Minute)
	if p := l.w.Places[0]; p.Generation != 2 || p.Leaving {
		t.Errorf("the next process is %+v", p)
	}
}

func TestStatusText(t *testing.T) {
	for want, st := range map[string]Status{
		"exit 0": exit(0), "exit 3": exit(3), "unknown": {Unknown: true}, "signal SIGKILL": {Signal: sigkill},
		"signal SIGABRT (core dumped)": {Signal: sigabrt, Core: true},
	} {
		if got := st.String(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestWhatEndsItIsToldOnce(t *testing.T) {
	l := up(t)
	l.on(Exited{1, exit(1)}, Exited{1, exit(2)}, Emptied{Generation: 1}, Emptied{Generation: 1}, Exited{1, exit(3)})
	l.want(Backoff, "kill 1", "release 1")
	if r := l.last(event.Gone); r.Status != "exit 1" || l.count(event.Gone) != 1 {
		t.Errorf("%d times gone, with %s", l.count(event.Gone), r.Status)
	}
}

func TestEmptiedAloneIsAnUnknownEnd(t *testing.T) {
	l := up(t)
	l.on(Emptied{Generation: 1})
	l.want(Backoff, "release 1")
	if r := l.last(event.Gone); r.Reason != event.Lost || r.Status != "unknown" {
		t.Errorf("%s with %s", r.Reason, r.Status)
	}
}

package lifecycle

import (
	"strings"
	"testing"
	"time"

	"github.com/workersd/workersd/pkg/internal/event"
)

// A worker that hears its timeout reports the end of the execution before it
// leaves. The reason tells all the same which one it was, and not another that
// runs beside it.
func TestTheReasonOfATimeoutTellsItsExecution(t *testing.T) {
	for name, evs := range map[string][]Event{
		"it is killed in it":    nil,
		"it ended it":           {ExecutionEnded{1, "slow", Fail}},
		"it ended all":          {ExecutionEnded{1, "slow", Fail}, ExecutionEnded{1, "other", OK}},
		"it began another then": {ExecutionEnded{1, "slow", Fail}, ExecutionBegan{1, "slow"}},
	} {
		t.Run(name, func(t *testing.T) {
			l := up(t, timeout(30*time.Second))
			l.on(ExecutionBegan{1, "slow"})
			l.pass(10 * time.Second)
			l.on(ExecutionBegan{1, "other"})
			l.pass(20 * time.Second)
			l.on(evs...)
			l.pass(time.Second)
			l.on(Exited{1, Status{Code: 1}}, Emptied{Generation: 1})
			r := l.last(event.Gone)
			if r.Reason != event.Timeout || r.Execution != "slow" || r.ExecutionAge != 30*time.Second {
				t.Errorf("reason %s, execution %q of %v; want timeout, slow of 30s", r.Reason, r.Execution, r.ExecutionAge)
			}
			if want := "execution slow outlived its timeout, after 30s; exit 1"; !strings.Contains(r.Message, want) {
				t.Errorf("message %q, want %q in it", r.Message, want)
			}
		})
	}
}

package host

import (
	"fmt"
	"testing"
	"testing/synctest"

	"github.com/workersd/workersd/pkg/internal/lifecycle"
)

// TestAHangingSuccessorHoldsUpNoOrderOfTheOldOne: orders stand behind their own
// process's start, and a start behind the release of the process before.
func TestAHangingSuccessorHoldsUpNoOrderOfTheOldOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &Host{queues: newQueues(nil), closing: make(chan struct{}), procs: map[lifecycle.ProcessID]*proc{}}
		var done []string // by one goroutine at a time: each waits below
		begin := func(generation uint64, hang chan struct{}) lifecycle.ProcessID {
			id := lifecycle.ProcessID{Worker: "w", Generation: generation}
			p := &proc{id: id, begun: make(chan struct{})}
			h.procs[id] = p
			h.queues.add(id.Worker, queued{do: func() {
				<-hang
				done = append(done, fmt.Sprint("start ", generation))
				close(p.begun)
			}})
			return id
		}
		say := func(text string) func() { return func() { done = append(done, text) } }
		want := func(texts ...string) {
			t.Helper()
			synctest.Wait()
			if fmt.Sprint(done) != fmt.Sprint(texts) {
				t.Errorf("done: %q, want %q", done, texts)
			}
			done = nil
		}
		open, hanging := make(chan struct{}), make(chan struct{})
		close(open)
		first := begin(1, open)
		want("start 1")
		second := begin(2, hanging)
		h.then(second, say("kill 2"))
		want()
		h.then(first, say("signal 1"))
		h.then(first, say("kill 1"))
		want("signal 1", "kill 1")
		slow := make(chan struct{})
		h.last(first, func() { <-slow; done = append(done, "release 1") })
		begin(3, open)
		close(hanging)
		want("start 2", "kill 2") // 3 waits for the release that was ordered before it
		close(slow)
		want("release 1", "start 3")
		h.then(lifecycle.ProcessID{Worker: "w", Generation: 9}, say("nobody"))
		want()
	})
}

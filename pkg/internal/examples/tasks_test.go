package examples_test

import (
	"testing"

	"github.com/workersd/workersd/pkg/client"
	"github.com/workersd/workersd/pkg/internal/programtest"
)

// Each process of a task is one execution; what fails backs off.
func TestTasks(t *testing.T) {
	m := programtest.Start(t, "deploy/examples/tasks.toml")
	for _, name := range []string{"report@north", "report@south"} {
		for gen := uint64(1); gen <= 2; gen++ {
			r := m.AwaitRecord("execution of "+name, func(r client.Record) bool {
				return r.Kind == "gone" && r.Worker == name && r.Generation == gen
			})
			if r.Reason != "finished" || r.Executions != 1 || r.Status != "exit 0" {
				t.Errorf("%s ended: %s, %d executions, %s; want finished, 1, exit 0", name, r.Reason, r.Executions, r.Status)
			}
		}
	}
	m.AwaitOutput("report@south | report of south at ")
	m.AwaitRecord("the end of prepare", func(r client.Record) bool { return r.Kind == "done" && r.Worker == "prepare" })
	for _, c := range []struct{ name, reason string }{{"broken", "crashed"}, {"endless", "timeout"}} {
		r := m.AwaitRecord(c.name, ended(c.name, c.reason))
		m.AwaitRecord("the delay of "+c.name, func(d client.Record) bool {
			return d.Kind == "backing_off" && d.Worker == c.name && d.Seq > r.Seq && d.Delay > 0
		})
	}
	m.Stop()
}

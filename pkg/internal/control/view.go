package control

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"time"

	"github.com/workersd/workersd/pkg/client"
	"github.com/workersd/workersd/pkg/internal/lifecycle"
	"github.com/workersd/workersd/pkg/internal/supervisor"
	"github.com/workersd/workersd/pkg/spec"
)

func (s *Server) manager(snap supervisor.Snapshot) client.Manager {
	return client.Manager{
		Title: snap.Title, Version: s.o.Version, PID: s.o.PID, Started: snap.Started, Now: snap.Time, Files: snap.Files,
		Enforcement: s.o.Enforcement, Because: s.o.Because, Stopping: snap.Stopping, Refused: s.refused.Load(),
		Workers: len(snap.Workers), Wanted: snap.Wanted, Up: snap.Up, Recycled: s.o.History.Recycled(snap.Time),
	}
}

// worker fills out with what there is to see of a worker; its params and
// executions take the room of those that were there.
func (s *Server) worker(out *client.Worker, st *supervisor.Status) {
	p := &st.Process
	params, running := out.Params, out.Running[:0]
	*out = client.Worker{
		Name: st.Spec.Name, Entry: st.Spec.Entry, State: st.State.String(), Wanted: bool(st.Wanted),
		PID: p.PID, Generation: p.Generation, Since: st.Since, NextStart: st.NextStart, Started: p.Started,
		Executions: p.Executions, Failed: p.Failed, Reports: p.Reported || st.Spec.Type == spec.Task,
		Memory: -1, SoftMemory: int64(st.Spec.SoftMemory), HardMemory: int64(st.Spec.HardMemory), Enforcement: s.o.Enforcement,
		Restarts: st.Restarts, Failures: st.Failures, LastReason: string(st.LastReason), StatusText: p.StatusText, Leaving: p.Leaving, Stuck: st.Stuck,
		OperatorStop: st.OperatorStop, Removed: st.Removed,
	}
	switch {
	case p.Generation == 0:
		out.Generation = st.Generation
	case s.o.Memory != nil:
		if n, ok := s.o.Memory(lifecycle.ProcessID{Worker: out.Name, Generation: p.Generation}); ok {
			out.Memory = int64(n)
		}
	}
	for _, e := range p.Running {
		running = append(running, client.Execution{ID: e.ID, Age: time.Since(e.Began)})
	}
	out.Running = running
	if params == nil && len(st.Spec.Params) > 0 {
		params = map[string]string{}
	}
	clear(params)
	for _, p := range st.Spec.Params {
		params[p.Name] = p.Value
	}
	out.Params = params
}

// keys are what differs from the defaults, as a person would write it.
func keys(w *spec.Worker) map[string]string {
	def := spec.Default(w.Entry)
	out := map[string]string{}
	for _, k := range spec.Keys {
		if k.Worker == nil {
			continue
		}
		v := k.Worker(w)
		if spec.Equal(v, k.Worker(&def)) {
			continue
		}
		switch x := v.(type) {
		case *[]spec.EnvVar:
			names := make([]string, len(*x))
			for i, e := range *x {
				names[i] = e.String()
			}
			out[k.Name] = strings.Join(names, " ")
		case *[]spec.Param:
			values := make([]string, len(*x))
			for i, p := range *x {
				values[i] = fmt.Sprintf("%s=%q", p.Name, p.Value)
			}
			out[k.Name] = strings.Join(values, " ")
		case *[]string:
			b, _ := json.Marshal(*x)
			out[k.Name] = string(b)
		default:
			out[k.Name] = fmt.Sprint(reflect.ValueOf(v).Elem().Interface())
		}
	}
	return out
}

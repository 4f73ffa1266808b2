package control

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/workersd/workersd/pkg/client"
	"github.com/workersd/workersd/pkg/internal/lifecycle"
	"github.com/workersd/workersd/pkg/internal/supervisor"
)

// verb does what an operator asks and, unless told otherwise, waits for it.
func verb(v supervisor.Verb) func(*Server, http.ResponseWriter, *http.Request) error {
	return func(s *Server, w http.ResponseWriter, req *http.Request) error {
		snap, err := s.o.Supervisor.Snapshot(req.Context())
		if err != nil {
			return err
		}
		patterns := req.URL.Query()["worker"]
		picked, err := pick(snap.Workers, patterns, false)
		if err != nil {
			return err
		}
		if v == supervisor.Restart && !snap.Stopping && !slices.ContainsFunc(picked, mayRestart) {
			return allStopped(picked, patterns)
		}
		before := make(map[string]uint64, len(picked))
		names := make([]string, len(picked))
		for i, p := range picked {
			names[i] = p.Spec.Name
			before[p.Spec.Name] = p.Generation
		}
		if err := s.o.Supervisor.Apply(req.Context(), v, names); err != nil {
			return &client.Error{Status: http.StatusConflict, Text: err.Error()}
		}
		out, err := s.wait(req.Context(), v, before, req.URL.Query().Get("wait") != "false")
		if err != nil {
			return err
		}
		return answer(w, out)
	}
}

// mayRestart reports whether a restart does something, or is refused by the
// supervisor for a better reason than that nothing is there.
func mayRestart(w supervisor.Status) bool { return w.Wanted == lifecycle.WantedUp || w.Removed }

// allStopped refuses a restart that would do nothing.
func allStopped(picked []supervisor.Status, patterns []string) error {
	text := fmt.Sprintf("%d workers were named, and all are stopped", len(picked))
	if len(picked) == 1 {
		text = fmt.Sprintf("worker %q is stopped", picked[0].Spec.Name)
	}
	names := "NAME…"
	if len(patterns) == 1 {
		names = "'" + patterns[0] + "'" // as a shell must be given it
	}
	return &client.Error{Status: http.StatusConflict, Text: text + " (workersctl start " + names + ")"}
}

// errEnding is the answer to who waits for a process that will not come.
var errEnding = &client.Error{Status: http.StatusConflict, Text: "the manager is ending"}

// wait looks until all is as it was asked for, or has failed.
func (s *Server) wait(ctx context.Context, v supervisor.Verb, before map[string]uint64, wait bool) ([]client.Worker, error) {
	starts := v == supervisor.Start || v == supervisor.Restart
	for pause := 5 * time.Millisecond; ; pause = min(2*pause, 500*time.Millisecond) {
		snap, err := s.o.Supervisor.Snapshot(ctx)
		if err != nil {
			return nil, err
		}
		if snap.Stopping && starts {
			return nil, errEnding
		}
		var out []client.Worker
		done := true
		for i := range snap.Workers {
			w := &snap.Workers[i]
			generation, asked := before[w.Spec.Name]
			if !asked {
				continue
			}
			out = append(out, client.Worker{})
			s.worker(&out[len(out)-1], w)
			done = done && reached(v, w, generation)
		}
		if done || !wait {
			return out, nil
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-s.ctx.Done():
			if starts {
				return nil, errEnding
			}
			return out, nil
		}
	}
}

// reached reports whether a worker is as it was asked for, or will not get there
// soon: it waits after a failure, or its process does not die.
func reached(v supervisor.Verb, w *supervisor.Status, before uint64) bool {
	if w.Stuck {
		return true
	}
	settled := false
	switch w.State {
	case lifecycle.Up, lifecycle.Backoff, lifecycle.Done, lifecycle.Down:
		settled = true
	case lifecycle.Waiting: // a task that has run; one that is held by admission is due
		settled = !w.NextStart.Before(time.Now())
	}
	switch v {
	case supervisor.Start:
		return settled && w.State != lifecycle.Down
	case supervisor.Stop:
		return w.Idle
	case supervisor.Restart:
		return w.Wanted == lifecycle.WantedDown || w.Generation > before && settled && !w.Overlaps
	case supervisor.Kill:
		return w.Idle || w.Generation > before
	}
	return true
}

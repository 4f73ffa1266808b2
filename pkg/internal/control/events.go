package control

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"

	"github.com/workersd/workersd/pkg/client"
	"github.com/workersd/workersd/pkg/internal/event"
	"github.com/workersd/workersd/pkg/internal/supervisor"
)

// events writes the last n= records that fit (all that are kept unless given),
// a line each, and with follow=true every new one until the client leaves.
func (s *Server) events(w http.ResponseWriter, req *http.Request) error {
	q := req.URL.Query()
	n := -1
	if text := q.Get("n"); text != "" {
		var err error
		if n, err = strconv.Atoi(text); err != nil {
			return &client.Error{Status: http.StatusBadRequest, Text: fmt.Sprintf("n is %q (expected a whole number)", text)}
		}
	}
	patterns := q["worker"]
	keep := n
	if len(patterns) > 0 {
		keep = -1 // the last n that fit are looked for in all
	}
	old, sub := s.o.History.Subscribe(keep)
	defer sub.Cancel()
	if err := s.known(req.Context(), patterns, old); err != nil {
		return err
	}
	old = fitting(old, patterns)
	if n >= 0 && len(old) > n {
		old = old[len(old)-n:]
	}
	w.Header().Set("Content-Type", "application/jsonl")
	patience(w)
	enc := json.NewEncoder(w)
	for i := range old {
		if enc.Encode(&old[i]) != nil {
			return nil
		}
	}
	if q.Get("follow") != "true" {
		return nil
	}
	flush := http.NewResponseController(w)
	for flush.Flush() == nil {
		select {
		case r, ok := <-sub.C:
			if !ok {
				return nil
			}
			patience(w)
			if lost := sub.Lost(); lost > 0 {
				enc.Encode(client.Record{Time: r.Time, Kind: event.Warning, Message: fmt.Sprintf("%d records are missing here: they came faster than they were read", lost)})
			}
			if fits(patterns, r.Worker) && enc.Encode(&r) != nil {
				return nil
			}
		case <-req.Context().Done():
			return nil
		case <-s.ctx.Done():
			return nil
		}
	}
	return nil
}

// known refuses a pattern that fits no worker and none of the records: of one
// that has left the list there are records still.
func (s *Server) known(ctx context.Context, patterns []string, records []client.Record) error {
	if len(patterns) == 0 {
		return nil
	}
	snap, err := s.o.Supervisor.Snapshot(ctx)
	if err != nil {
		return err
	}
	for _, p := range patterns {
		worker := func(w supervisor.Status) bool { return match(p, w.Spec.Name) }
		record := func(r client.Record) bool { return r.Worker != "" && match(p, r.Worker) }
		if !slices.ContainsFunc(snap.Workers, worker) && !slices.ContainsFunc(records, record) {
			return nothingFits(p, snap.Workers)
		}
	}
	return nil
}

func fits(patterns []string, worker string) bool {
	for _, p := range patterns {
		if match(p, worker) {
			return true
		}
	}
	return len(patterns) == 0
}

func fitting(rs []client.Record, patterns []string) []client.Record {
	if len(patterns) == 0 {
		return rs
	}
	out := rs[:0:0]
	for _, r := range rs {
		if fits(patterns, r.Worker) {
			out = append(out, r)
		}
	}
	return out
}

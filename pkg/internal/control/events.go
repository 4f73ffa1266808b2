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
	keep, fits := n, func(client.Record) bool { return true }
	words := q["worker"]
	if len(words) > 0 {
		keep = -1 // the last n that fit are looked for in all
	}
	old, sub := s.o.History.Subscribe(keep)
	defer sub.Cancel()
	if len(words) > 0 {
		ps := newPatterns(words)
		if err := s.known(req.Context(), ps, old); err != nil {
			return err
		}
		fits = func(r client.Record) bool { return ps.fit(r.Worker) }
		old = slices.DeleteFunc(old, func(r client.Record) bool { return !fits(r) }) // ours, not the history's
	}
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
			if fits(r) && enc.Encode(&r) != nil {
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
func (s *Server) known(ctx context.Context, ps *patterns, records []client.Record) error {
	snap, err := s.o.Supervisor.Snapshot(ctx)
	if err != nil {
		return err
	}
	for _, w := range snap.Workers {
		ps.fit(w.Spec.Name)
	}
	for _, r := range records {
		if r.Worker != "" { // of the manager
			ps.fit(r.Worker)
		}
	}
	if p, missed := ps.missed(); missed {
		return nothingFits(p, snap.Workers)
	}
	return nil
}

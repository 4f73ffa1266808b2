package control

import (
	"encoding/json"
	"fmt"
	"net/http"
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
	patterns := q["worker"]
	keep := n
	if len(patterns) > 0 && n > 0 {
		keep = -1 // the last n that fit are looked for in all
	}
	old, sub := s.o.History.Subscribe(keep)
	defer sub.Cancel()
	old = fitting(old, patterns)
	if n > 0 && len(old) > n {
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

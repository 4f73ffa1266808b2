package control

import (
	"encoding/json"
	"net/http"
	"strconv"
	"time"

	"github.com/workersd/workersd/pkg/client"
	"github.com/workersd/workersd/pkg/internal/lifecycle"
	"github.com/workersd/workersd/pkg/internal/plan"
	"github.com/workersd/workersd/pkg/internal/supervisor"
)

// route is one call. Names of workers hold @ , # and %, so they stand in the
// query ("worker=", any number of them, patterns too), never in the path.
type route struct {
	pattern string
	act     bool // it changes something: root and the service's user only
	serve   func(*Server, http.ResponseWriter, *http.Request) error
}

// routes is protocol version 1. New calls and new fields may be added; what is
// here keeps its meaning.
var routes = []route{
	{"GET /v1/status", false, (*Server).status},
	{"GET /v1/show", false, (*Server).show},
	{"GET /v1/events", false, (*Server).events}, // n=, follow=; a JSON object a line
	{"GET /v1/why", false, (*Server).why},
	{"GET /v1/plan", false, (*Server).plan},
	{"GET /v1/list", false, (*Server).list},
	{"POST /v1/start", true, verb(supervisor.Start)}, // wait=
	{"POST /v1/stop", true, verb(supervisor.Stop)},
	{"POST /v1/restart", true, verb(supervisor.Restart)},
	{"POST /v1/kill", true, verb(supervisor.Kill)},
	{"POST /v1/reload", true, (*Server).reloadNow},
}

func (s *Server) status(w http.ResponseWriter, req *http.Request) error {
	snap, err := s.o.Supervisor.Snapshot(req.Context())
	if err != nil {
		return err
	}
	picked, err := pick(snap.Workers, req.URL.Query()["worker"], true)
	if err != nil {
		return err
	}
	st := client.Status{Manager: s.manager(snap), Workers: make([]client.Worker, len(picked))}
	for i, p := range picked {
		st.Workers[i] = s.worker(p)
	}
	return answer(w, st)
}

func (s *Server) show(w http.ResponseWriter, req *http.Request) error {
	snap, err := s.o.Supervisor.Snapshot(req.Context())
	if err != nil {
		return err
	}
	picked, err := pick(snap.Workers, req.URL.Query()["worker"], false)
	if err != nil {
		return err
	}
	out := make([]client.Worker, len(picked))
	for i, p := range picked {
		out[i] = s.worker(p)
		out[i].Keys = keys(p.Spec)
		if s.o.Statistics != nil && out[i].PID != 0 {
			out[i].Statistics = s.o.Statistics(lifecycle.ProcessID{Worker: out[i].Name, Generation: out[i].Generation})
		}
		if s.o.LogTarget != nil {
			out[i].Log = s.o.LogTarget(p.Spec)
		}
	}
	return answer(w, out)
}

func (s *Server) why(w http.ResponseWriter, req *http.Request) error {
	names := req.URL.Query()["worker"]
	if len(names) != 1 {
		return &client.Error{Status: http.StatusBadRequest, Text: "why is about one worker"}
	}
	records := s.o.History.Deaths(names[0])
	if records == nil {
		snap, err := s.o.Supervisor.Snapshot(req.Context())
		if err != nil {
			return err
		}
		if _, err := pick(snap.Workers, names, false); err != nil {
			return err
		}
		records = []client.Record{}
	}
	return answer(w, records)
}

func (s *Server) events(w http.ResponseWriter, req *http.Request) error {
	q := req.URL.Query()
	n, err := strconv.Atoi(q.Get("n"))
	if err != nil {
		n = -1
	}
	old, sub := s.o.History.Subscribe(n)
	defer sub.Cancel()
	w.Header().Set("Content-Type", "application/jsonl")
	enc := json.NewEncoder(w)
	fits := func(r client.Record) bool {
		for _, p := range q["worker"] {
			if match(p, r.Worker) {
				return true
			}
		}
		return len(q["worker"]) == 0
	}
	for _, r := range old {
		if fits(r) {
			if enc.Encode(r) != nil {
				return nil
			}
		}
	}
	if q.Get("follow") != "true" {
		return nil
	}
	flush := http.NewResponseController(w)
	flush.Flush()
	for {
		select {
		case r, ok := <-sub.C:
			if !ok {
				return nil
			}
			if !fits(r) {
				continue
			}
			flush.SetWriteDeadline(time.Now().Add(time.Minute)) // who does not read is let go
			if enc.Encode(r) != nil || flush.Flush() != nil {
				return nil
			}
		case <-req.Context().Done():
			return nil
		case <-s.ctx.Done():
			return nil
		}
	}
}

func (s *Server) plan(w http.ResponseWriter, req *http.Request) error {
	l, err := s.o.LoadList()
	if err != nil {
		return refusedList(err)
	}
	p, err := s.o.Supervisor.Plan(req.Context(), l)
	if err != nil {
		return err
	}
	return answer(w, wirePlan(p))
}

func (s *Server) reloadNow(w http.ResponseWriter, req *http.Request) error {
	s.reload.Lock()
	defer s.reload.Unlock()
	p, err := s.o.Reload(req.Context())
	if err != nil {
		return refusedList(err)
	}
	return answer(w, wirePlan(p))
}

func refusedList(err error) error {
	return &client.Error{Status: http.StatusUnprocessableEntity, Text: err.Error(), Hint: "the old list stays in force"}
}

func wirePlan(p plan.Plan) client.Plan {
	out := client.Plan{Added: p.Added, Removed: p.Removed, Unchanged: len(p.Unchanged), Manager: p.Manager, Text: p.String()}
	for _, c := range p.Changed {
		out.Changed = append(out.Changed, client.Change(c))
	}
	return out
}

package control

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/workersd/workersd/pkg/client"
	"github.com/workersd/workersd/pkg/internal/lifecycle"
	"github.com/workersd/workersd/pkg/internal/plan"
	"github.com/workersd/workersd/pkg/internal/supervisor"
)

// need is what a call needs of the peer.
type need uint8

const (
	look need = iota // root, the service's user, the group
	act              // root and the service's user, from outside the workers
)

func (n need) String() string { return [...]string{"look", "act"}[n] }

// route is one call. Names of workers hold @ , # and %, so they stand in the
// query ("worker=", any number of them, patterns too), never in the path.
type route struct {
	pattern string
	need    need
	serve   func(*Server, http.ResponseWriter, *http.Request) error
}

// routes is protocol version 1. New calls and new fields may be added; what is
// here keeps its meaning.
var routes = []route{
	{"GET /v1/status", look, (*Server).status},
	{"GET /v1/show", look, (*Server).show},
	{"GET /v1/events", look, (*Server).events}, // n=, follow=; a JSON object a line
	{"GET /v1/why", look, (*Server).why},
	{"GET /v1/plan", look, (*Server).plan},
	{"GET /v1/list", act, (*Server).list},           // guesses of a secret could be tried on its digests
	{"POST /v1/start", act, verb(supervisor.Start)}, // wait=
	{"POST /v1/stop", act, verb(supervisor.Stop)},
	{"POST /v1/restart", act, verb(supervisor.Restart)},
	{"POST /v1/kill", act, verb(supervisor.Kill)},
	{"POST /v1/reload", act, (*Server).reloadNow},
}

// status is written worker by worker: of thousands there is never more than one
// as text in memory.
func (s *Server) status(w http.ResponseWriter, req *http.Request) error {
	snap, err := s.o.Supervisor.Snapshot(req.Context())
	if err != nil {
		return err
	}
	picked, err := pick(snap.Workers, req.URL.Query()["worker"], true)
	if err != nil {
		return err
	}
	begin(w)
	out := bufio.NewWriterSize(w, 32<<10)
	enc := json.NewEncoder(out) // its errors are the client's, who left
	manager, one := s.manager(snap), client.Worker{}
	out.WriteString(`{"manager":`)
	enc.Encode(&manager)
	out.WriteString(`,"workers":[`)
	for i := range picked {
		if i > 0 {
			out.WriteByte(',')
		}
		s.worker(&one, &picked[i])
		enc.Encode(&one)
	}
	out.WriteString("]}\n")
	out.Flush()
	return nil
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
		s.worker(&out[i], &p)
		out[i].Keys = keys(p.Spec)
		if s.o.Statistics != nil && out[i].PID != 0 {
			out[i].Statistics = s.o.Statistics(lifecycle.ProcessID{Worker: out[i].Name, Generation: out[i].Generation})
		}
		if s.o.Unheard != nil && out[i].PID != 0 {
			out[i].Garbage, out[i].Refused = s.o.Unheard(lifecycle.ProcessID{Worker: out[i].Name, Generation: out[i].Generation})
		}
		if s.o.LogTarget != nil {
			out[i].Log = s.o.LogTarget(p.Spec)
		}
	}
	return answer(w, out)
}

// why is about one worker: by its name, which may have left the list, or by a
// pattern that fits one.
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
		picked, err := pick(snap.Workers, names, false)
		if err != nil {
			return err
		}
		if len(picked) > 1 {
			return &client.Error{Status: http.StatusBadRequest, Text: fmt.Sprintf("%q fits %d workers, and why is about one", names[0], len(picked)), Hint: "name one, such as " + picked[0].Spec.Name}
		}
		if records = s.o.History.Deaths(picked[0].Spec.Name); records == nil {
			records = []client.Record{}
		}
	}
	return answer(w, records)
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

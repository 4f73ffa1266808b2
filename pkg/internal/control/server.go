package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/workersd/workersd/pkg/client"
	"github.com/workersd/workersd/pkg/internal/event"
	"github.com/workersd/workersd/pkg/internal/history"
	"github.com/workersd/workersd/pkg/internal/host/procmem"
	"github.com/workersd/workersd/pkg/internal/lifecycle"
	"github.com/workersd/workersd/pkg/internal/plan"
	"github.com/workersd/workersd/pkg/internal/supervisor"
	"github.com/workersd/workersd/pkg/spec"
)

// Supervisor is what the server needs of it.
type Supervisor interface {
	Snapshot(context.Context) (supervisor.Snapshot, error)
	Apply(context.Context, supervisor.Verb, []string) error
	Plan(context.Context, spec.List) (plan.Plan, error)
	List(context.Context) (spec.List, error)
}

// Options are what a server is made of.
type Options struct {
	Supervisor Supervisor
	History    *history.History
	Version    string
	PID        int
	// Memory is what a process uses now.
	Memory func(lifecycle.ProcessID) (spec.Bytes, bool)
	// Statistics are the kernel's figures, for show; nil where it has none.
	Statistics func(lifecycle.ProcessID) *event.Statistics
	// Unheard is how many messages of a process were dropped, for show.
	Unheard func(lifecycle.ProcessID) (garbage, refused uint64)
	// Enforcement is its word and its reason.
	Enforcement, Because string
	// LoadList reads the manager's own list; the client's is never opened here.
	LoadList func() (spec.List, error)
	// Reload reads it and puts it in force.
	Reload func(context.Context) (plan.Plan, error)
	// IsWorker reports whether a process belongs to a worker: it may look and
	// not act, whoever it runs as.
	IsWorker func(pid int) bool
	// MemoryTotal is what percentages of a list are of; nil: the least of the
	// machine's memory and the limits above us.
	MemoryTotal func() spec.Bytes
	// LogTarget says where a worker's output goes.
	LogTarget func(*spec.Worker) string
}

// Server answers on a control socket.
type Server struct {
	o       Options
	http    *http.Server
	refused atomic.Uint64
	reload  sync.Mutex // one reload at a time
	key     []byte     // of Digests
	ctx     context.Context
	cancel  context.CancelFunc // ends those who follow

	maxConns int
	group    string // that may look
}

// bounds on what a client can make us hold.
const (
	maxHeader = 1 << 20 // ten thousand names stand in one; see client.MaxQuery
	maxConns  = 256
)

// writeTimeout is how long a client may take to read what is written to it at
// once; it is a variable for tests.
var writeTimeout = time.Minute

// New makes a server.
func New(o Options) *Server {
	if o.MemoryTotal == nil {
		o.MemoryTotal = procmem.Total
	}
	s := &Server{o: o, key: newKey(), maxConns: maxConns, group: Group}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.http = &http.Server{
		Handler:           s.handler(),
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    maxHeader,
		ConnContext:       withPeer,
		ErrorLog:          log.New(io.Discard, "", 0),
		ConnState:         s.watch,
	}
	return s
}

// Serve answers until Shutdown.
func (s *Server) Serve(l net.Listener) error {
	err := s.http.Serve(newLimited(l, s.maxConns))
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// Shutdown lets answers finish within ctx.
func (s *Server) Shutdown(ctx context.Context) {
	s.cancel()
	if s.http.Shutdown(ctx) != nil {
		s.http.Close()
	}
}

// watch counts connections that ended without a request: garbage.
func (s *Server) watch(c net.Conn, state http.ConnState) {
	p, ok := c.(*conn)
	if !ok {
		return
	}
	switch state {
	case http.StateActive:
		p.active.Store(true)
	case http.StateClosed:
		if p.active.Load() && !p.answered.Load() {
			s.refused.Add(1)
		}
	}
}

func (s *Server) handler() http.Handler {
	mux := http.NewServeMux()
	for _, r := range routes {
		mux.HandleFunc(r.pattern, s.handle(func(w http.ResponseWriter, req *http.Request) error {
			if err := s.may(peerOf(req.Context()), r.need); err != nil {
				return err
			}
			return r.serve(s, w, req)
		}))
	}
	mux.HandleFunc("/", s.handle(func(_ http.ResponseWriter, req *http.Request) error {
		return &client.Error{Status: http.StatusNotFound, Text: fmt.Sprintf("no such call: %s %.100s", req.Method, req.URL.Path), Hint: "workersctl and workersd should be of one version"}
	}))
	return mux
}

// handle is what all calls have in common. None takes a body: the server would
// wait for the rest of one that does not come.
func (s *Server) handle(serve func(http.ResponseWriter, *http.Request) error) http.HandlerFunc {
	return func(w http.ResponseWriter, req *http.Request) {
		peerOf(req.Context()).conn.answered.Store(true)
		if req.ContentLength != 0 {
			http.NewResponseController(w).SetReadDeadline(time.Now())
			w.Header().Set("Connection", "close")
			fail(w, &client.Error{Status: http.StatusRequestEntityTooLarge, Text: "no call takes a body"})
			return
		}
		if err := serve(w, req); err != nil {
			fail(w, err)
		}
	}
}

func fail(w http.ResponseWriter, err error) {
	var e *client.Error
	if !errors.As(err, &e) {
		e = &client.Error{Status: http.StatusInternalServerError, Text: err.Error()}
		if errors.Is(err, supervisor.ErrEnded) {
			e.Status = http.StatusServiceUnavailable
		}
	}
	w.Header().Set("Content-Type", "application/json")
	patience(w)
	w.WriteHeader(e.Status)
	json.NewEncoder(w).Encode(e)
}

func answer(w http.ResponseWriter, v any) error {
	begin(w)
	json.NewEncoder(w).Encode(v) // an error is the client's, who left
	return nil
}

// begin is what comes before an answer.
func begin(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "application/json")
	patience(w)
}

// patience bounds how long the next writes may take, so that a client which
// does not read is let go. It is set before each answer, because the connection
// is kept for the next.
func patience(w http.ResponseWriter) {
	http.NewResponseController(w).SetWriteDeadline(time.Now().Add(writeTimeout))
}

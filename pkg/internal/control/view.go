package control

import (
	"cmp"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/workersd/workersd/pkg/client"
	"github.com/workersd/workersd/pkg/internal/event"
	"github.com/workersd/workersd/pkg/internal/lifecycle"
	"github.com/workersd/workersd/pkg/internal/supervisor"
	"github.com/workersd/workersd/pkg/spec"
)

// match is the pattern of a shell (path.Match), with which a plain name fits
// itself whatever bytes it has.
func match(pattern, name string) bool {
	if pattern == name {
		return true
	}
	ok, _ := filepath.Match(pattern, name)
	return ok
}

// pick are the workers that fit, in the order of the list. A pattern that fits
// none is an error: an operator who mistyped must learn it.
func pick(all []supervisor.Status, patterns []string, allWithout bool) ([]supervisor.Status, error) {
	if len(patterns) == 0 {
		if allWithout {
			return all, nil
		}
		return nil, &client.Error{Status: http.StatusBadRequest, Text: "no worker was named", Hint: `name one, or a pattern such as "queue@*"`}
	}
	hit := make([]bool, len(patterns))
	var out []supervisor.Status
	for _, w := range all {
		fits := false
		for i, p := range patterns {
			if match(p, w.Spec.Name) {
				hit[i], fits = true, true
			}
		}
		if fits {
			out = append(out, w)
		}
	}
	for i, p := range patterns {
		if !hit[i] {
			if _, err := filepath.Match(p, ""); err != nil {
				return nil, &client.Error{Status: http.StatusBadRequest, Text: fmt.Sprintf("%q is no pattern: %v", p, err)}
			}
			return nil, &client.Error{Status: http.StatusNotFound, Text: fmt.Sprintf("no worker fits %q", p), Hint: "workersctl status lists them"}
		}
	}
	return out, nil
}

func (s *Server) manager(snap supervisor.Snapshot) client.Manager {
	m := client.Manager{
		Title: snap.Manager.Title, Version: s.o.Version, PID: s.o.PID, Started: snap.Started, Now: snap.Time, Files: snap.Files,
		Enforcement: s.o.Enforcement, Because: s.o.Because, Stopping: snap.Stopping, Refused: s.refused.Load(),
		Recycled: s.o.History.Count(event.Recycling, snap.Time.Add(-time.Hour)),
	}
	for i := range snap.Workers {
		w := &snap.Workers[i].Worker
		m.Workers++
		if w.Wanted == lifecycle.WantedUp {
			m.Wanted++
			if w.State == lifecycle.Up {
				m.Up++
			}
		}
	}
	return m
}

func (s *Server) worker(st supervisor.Status) client.Worker {
	w, p := &st.Worker, &st.Worker.Places[0]
	out := client.Worker{
		Name: st.Spec.Name, Entry: st.Spec.Entry, State: w.State.String(), Wanted: bool(w.Wanted),
		PID: p.PID, Generation: p.Generation, Since: w.Since, NextStart: w.NextStart,
		Executions: p.Executions, Failed: p.Failed, Reports: p.Reported || st.Spec.Type == spec.Task,
		Memory: -1, SoftMemory: int64(st.Spec.SoftMemory), HardMemory: int64(st.Spec.HardMemory), Enforcement: s.o.Enforcement,
		Restarts: w.Restarts, Failures: w.Failures, LastReason: string(w.LastReason), StatusText: p.StatusText, Stuck: p.Stuck,
		OperatorStop: st.OperatorStop, Removed: st.Removed,
	}
	if p.Living() {
		out.Started = p.Started
		if s.o.Memory != nil {
			if n, ok := s.o.Memory(lifecycle.ProcessID{Worker: out.Name, Generation: p.Generation}); ok {
				out.Memory = int64(n)
			}
		}
	} else {
		out.Generation = w.Generation
	}
	for _, e := range p.Running {
		out.Running = append(out.Running, client.Execution{ID: e.ID, Age: time.Since(e.Began)})
	}
	if len(st.Spec.Params) > 0 {
		out.Params = map[string]string{}
		for _, p := range st.Spec.Params {
			out.Params[p.Name] = p.Value
		}
	}
	return out
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

func newKey() []byte {
	key := make([]byte, 32)
	rand.Read(key)
	return key
}

func (s *Server) list(w http.ResponseWriter, req *http.Request) error {
	l, err := s.o.Supervisor.List(req.Context())
	if err != nil {
		return err
	}
	return answer(w, DigestsOf(l, s.key))
}

// DigestsOf tells a list by keyed hashes of its values: two lists can be
// compared key by key, and no secret is told. The client makes its own with the
// same key.
func DigestsOf(l spec.List, key []byte) client.Digests {
	d := client.Digests{Key: key, Manager: map[string]string{}, Workers: make(map[string]map[string]string, len(l.Workers))}
	for _, k := range spec.ManagerKeys {
		d.Manager[k.Name] = digest(key, k.Manager(&l.Manager))
	}
	for i := range l.Workers {
		w := &l.Workers[i]
		m := make(map[string]string, len(spec.Keys))
		for _, k := range spec.Keys {
			if k.Worker != nil {
				m[k.Name] = digest(key, k.Worker(w))
			}
		}
		d.Workers[w.Name] = m
	}
	return d
}

func digest(key []byte, v any) string {
	h := hmac.New(sha256.New, key)
	switch x := v.(type) { // in the order of the names, as spec.Equal compares
	case *[]spec.EnvVar:
		for _, e := range slices.SortedFunc(slices.Values(*x), func(a, b spec.EnvVar) int { return cmp.Compare(a.Name, b.Name) }) {
			fmt.Fprintf(h, "%q=%q,", e.Name, e.Value)
		}
	case *[]spec.Param:
		for _, p := range slices.SortedFunc(slices.Values(*x), func(a, b spec.Param) int { return cmp.Compare(a.Name, b.Name) }) {
			fmt.Fprintf(h, "%q=%q,", p.Name, p.Value)
		}
	default:
		text, _ := json.Marshal(v)
		h.Write(text)
	}
	return base64.RawStdEncoding.EncodeToString(h.Sum(nil)[:12])
}

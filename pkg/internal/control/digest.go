package control

import (
	"cmp"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"

	"github.com/workersd/workersd/pkg/client"
	"github.com/workersd/workersd/pkg/internal/plan"
	"github.com/workersd/workersd/pkg/spec"
)

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
	d := DigestsOf(l, s.key)
	d.MemoryTotal = int64(s.o.MemoryTotal())
	return answer(w, d)
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

// PlanOf is what a reload would do with a list, by the digests of the one in
// force.
func PlanOf(old client.Digests, l spec.List) client.Plan {
	new := DigestsOf(l, old.Key)
	names := make([]string, len(l.Workers))
	for i := range l.Workers {
		names[i] = l.Workers[i].Name
	}
	before := slices.Sorted(maps.Keys(old.Workers)) // their order is not told
	p := plan.Between(before, names, func(i int) (live, restart []string) {
		was, is := old.Workers[names[i]], new.Workers[names[i]]
		return spec.Differing(func(k *spec.Key) bool { return was[k.Name] != is[k.Name] })
	})
	p.Manager = spec.ManagerDiffering(func(k *spec.Key) bool { return old.Manager[k.Name] != new.Manager[k.Name] })
	return wirePlan(p)
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

package control

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/workersd/workersd/pkg/internal/hosttest"
)

// discard is a response that nobody reads.
type discard struct{ http.ResponseWriter }

func (discard) Write(b []byte) (int, error) { return len(b), nil }
func (discard) Header() http.Header         { return http.Header{} }
func (discard) WriteHeader(int)             {}

// BenchmarkStatus5000 is what a `workersctl status` of 5000 workers costs the
// manager.
func BenchmarkStatus5000(b *testing.B) {
	l := list()
	for i := range 5000 {
		l.Workers = append(l.Workers, worker("many", fmt.Sprintf("many@10.0.0.%d,mail", i)))
	}
	r := start(b, l, behave(hosttest.Behaviour{}))
	r.up(5000)
	req := httptest.NewRequestWithContext(b.Context(), "GET", "/v1/status", nil)
	b.ReportAllocs()
	for b.Loop() {
		if err := r.s.status(discard{}, req); err != nil {
			b.Fatal(err)
		}
	}
}

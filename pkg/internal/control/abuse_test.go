package control

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/workersd/workersd/pkg/client"
	"github.com/workersd/workersd/pkg/internal/hosttest"
	"github.com/workersd/workersd/pkg/spec"
)

// alive checks that the server still answers others.
func (r *rig) alive(after string) {
	r.Helper()
	if s, err := r.c.Status(r.Context()); err != nil || len(s.Workers) != 4 {
		r.Errorf("after %s: %v", after, err)
	}
}

func TestGarbage(t *testing.T) {
	r := start(t, queues(), behave(hosttest.Behaviour{}))
	for i, c := range []struct{ what, data, want string }{
		{"nonsense", "\x00\xff\x13garbage\n\n\n", "HTTP/1.1 400"},
		{"TLS", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + strings.Repeat("x", 200) + "\r\n\r\n", "HTTP/1.1 400"},
		{"a notify message", "READY=1\n\nX_WORKERSD_BEGIN=1\n\n", "HTTP/1.1 400"},
		{"huge header", "GET /v1/status HTTP/1.1\r\nHost: w\r\nX: " + strings.Repeat("x", 2*maxHeader) + "\r\n\r\n", "HTTP/1.1 431"},
		{"no host", "GET /v1/status HTTP/1.1\r\n\r\n", "HTTP/1.1 400"},
		{"HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "HTTP/1.1 400"},
	} {
		if got := r.raw(c.data); !strings.HasPrefix(got, c.want) {
			t.Errorf("%s: got %.80q, want %s", c.what, got, c.want)
		}
		r.alive(c.what)
		r.until("it is counted", func() bool {
			s, err := r.c.Status(t.Context())
			return err == nil && s.Manager.Refused == uint64(i+1)
		})
	}
	// Calls that there are not, or not so.
	for _, c := range []struct {
		method, path string
		code         int
		want         string
	}{
		{"GET", "/", 404, `"error":"no such call: GET /"`},
		{"GET", "/v2/status", 404, `"hint":"workersctl and workersd should be of one version"`},
		{"POST", "/v1/status", 404, `no such call: POST /v1/status`},
		{"GET", "/v1/stop?worker=*", 404, `no such call: GET /v1/stop`},
		{"DELETE", "/v1/status", 404, `no such call`},
		{"GET", "/v1/%2e%2e/" + strings.Repeat("x", 5000), 404, `no such call`},
		{"GET", "/v1/status?worker=%zz", 200, `"workers":[`}, // what cannot be decoded is not there
	} {
		code, body := r.get(c.method, c.path)
		if code != c.code || !strings.Contains(body, c.want) || code == 404 && len(body) > 400 {
			t.Errorf("%s %.40s: %d %.200s", c.method, c.path, code, body)
		}
	}
	r.alive("calls that there are not")
	r.up(4)
}

// TestManyNames: all names of a large list can be given to one call, as a shell
// does; of more than that it is said what to do instead.
func TestManyNames(t *testing.T) {
	l := queues()
	var all []string
	for i := range 9000 {
		w := worker("many", fmt.Sprintf("many@10.0.0.1,a-queue-of-some-name#%d", i), func(w *spec.Worker) { w.Enabled = false })
		l.Workers, all = append(l.Workers, w), append(all, w.Name)
	}
	r := start(t, l, behave(hosttest.Behaviour{}))
	if s, err := r.c.Status(t.Context(), all...); err != nil || len(s.Workers) != len(all) {
		t.Errorf("%d of %d workers: %v", len(s.Workers), len(all), err)
	}
	if err := r.c.Events(t.Context(), -1, false, all, func(client.Record) error { return nil }); err != nil {
		t.Errorf("events: %v", err)
	}
	want := `too many workers are named for one call / use patterns such as "queue@*", or several calls`
	if got := refusal(second(r.c.Act(t.Context(), "stop", true, append(append(all, all...), all...)...))); got != want {
		t.Errorf("got %s\nwant %s", got, want)
	}
}

// TestBodies: none is read, and none is waited for.
func TestBodies(t *testing.T) {
	r := start(t, queues(), behave(hosttest.Behaviour{}))
	for what, data := range map[string]string{
		"that does not come":   "POST /v1/stop?worker=* HTTP/1.1\r\nHost: w\r\nContent-Length: 1000\r\n\r\n",
		"that is huge":         "POST /v1/stop?worker=* HTTP/1.1\r\nHost: w\r\nContent-Length: 1000000000\r\n\r\n" + strings.Repeat("x", 1<<20),
		"that is chunked":      "POST /v1/stop?worker=* HTTP/1.1\r\nHost: w\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n",
		"that waits to be had": "POST /v1/stop?worker=* HTTP/1.1\r\nHost: w\r\nExpect: 100-continue\r\nContent-Length: 1000\r\n\r\n",
	} {
		if got := r.raw(data); !strings.HasPrefix(got, "HTTP/1.1 413") || !strings.Contains(got, "no call takes a body") {
			t.Errorf("a body %s: %.200q", what, got)
		}
	}
	r.alive("bodies")
	r.up(4) // and nothing was stopped
}

// TestSlowClients: who does not say what he wants, or does not read what he
// asked for, is let go; the others are answered meanwhile.
func TestSlowClients(t *testing.T) {
	was := writeTimeout
	writeTimeout = 200 * time.Millisecond
	t.Cleanup(func() { writeTimeout = was })
	l := queues()
	for i := range 5000 {
		l.Workers = append(l.Workers, worker("many", fmt.Sprintf("many#%d", i)))
	}
	var closed atomic.Int64
	r := start(t, l, behave(hosttest.Behaviour{}), func(s *Server) {
		s.http.ReadHeaderTimeout = 200 * time.Millisecond
		s.http.ConnState = func(c net.Conn, state http.ConnState) {
			if state == http.StateClosed {
				closed.Add(1)
			}
			s.watch(c, state)
		}
	})

	silent, slow, deaf := r.dial(), r.dial(), r.dial()
	fmt.Fprint(slow, "GET /v1/status HTTP/1.1\r\nHost:")
	fmt.Fprint(deaf, "GET /v1/status HTTP/1.1\r\nHost: w\r\n\r\n") // megabytes, more than a socket holds
	for _, c := range []net.Conn{silent, slow} {
		if got := readAll(t, c); got != "" && !strings.HasPrefix(got, "HTTP/1.1 4") {
			t.Errorf("one that says nothing got %.100q", got)
		}
	}
	if s, err := r.c.Status(t.Context(), "queue@*"); err != nil || len(s.Workers) != 2 {
		t.Errorf("others are not answered: %v", err)
	}
	// The server gives up writing: what comes when it is read at last ends early.
	r.until("all three are let go", func() bool { return closed.Load() == 3 })
	resp, err := http.ReadResponse(bufio.NewReader(deaf), nil)
	if err == nil {
		deaf.SetReadDeadline(time.Now().Add(time.Minute))
		_, err = fmt.Fscanf(resp.Body, "%s\n", new(string))
	}
	if err == nil {
		t.Error("a client that did not read got all")
	}
}

// TestHalfOpen: connections are bounded, and those that wait get their turn.
func TestHalfOpen(t *testing.T) {
	r := start(t, queues(), behave(hosttest.Behaviour{}), func(s *Server) {
		s.maxConns = 4
		s.http.ReadHeaderTimeout = 300 * time.Millisecond
	})
	for range 40 {
		r.dial()
	}
	r.alive("40 half-open connections")
}

// TestManyConnections: a connection that was closed makes room.
func TestManyConnections(t *testing.T) {
	r := start(t, queues(), behave(hosttest.Behaviour{}), func(s *Server) { s.maxConns = 2 })
	for range 50 {
		c := client.New(r.socket)
		if _, err := c.Status(t.Context()); err != nil {
			t.Fatal(err)
		}
		c.Close()
	}
}

// TestShutdownEndsFollowers: the end does not wait for those who follow.
func TestShutdownEndsFollowers(t *testing.T) {
	r := start(t, queues(), behave(hosttest.Behaviour{}))
	r.up(4)
	ended, began := make(chan error, 1), make(chan bool, 1000)
	go func() {
		ended <- r.c.Events(t.Context(), 1, true, nil, func(client.Record) error { began <- true; return nil })
	}()
	<-began
	go r.s.Shutdown(t.Context())
	select {
	case err := <-ended:
		if err != nil {
			t.Errorf("a follower ended with %v", err)
		}
	case <-time.After(time.Minute):
		t.Error("a follower was kept")
	}
}

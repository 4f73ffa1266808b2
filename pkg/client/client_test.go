package client

import (
	"errors"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

func socketDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "w")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func listen(t *testing.T, path string) net.Listener {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func TestSockets(t *testing.T) {
	t.Setenv("WORKERSD_SOCKET", "/x")
	if got := strings.Join(Sockets(), " "); got != "/x" {
		t.Errorf("with WORKERSD_SOCKET: %s", got)
	}
	t.Setenv("WORKERSD_SOCKET", "")
	t.Setenv("XDG_RUNTIME_DIR", "/run/user/7")
	if got := strings.Join(Sockets(), " "); got != "/run/workersd/control.sock /run/user/7/workersd/control.sock" {
		t.Errorf("got %s", got)
	}
	t.Setenv("XDG_RUNTIME_DIR", "")
	t.Setenv("TMPDIR", "/tmp")
	if got := Sockets()[1]; !strings.HasPrefix(got, "/tmp/workersd-") || !strings.HasSuffix(got, "/control.sock") {
		t.Errorf("got %s", got)
	}
}

// What a manager takes by itself is where workersctl looks.
func TestDefaultSocket(t *testing.T) {
	t.Setenv("XDG_RUNTIME_DIR", "/run/user/7")
	t.Setenv("RUNTIME_DIRECTORY", "")
	t.Setenv("WORKERSD_SOCKET", "")
	want := map[bool]string{true: "/run/workersd/control.sock", false: "/run/user/7/workersd/control.sock"}[os.Geteuid() == 0]
	if got := DefaultSocket(); got != want || !slices.Contains(Sockets(), got) {
		t.Errorf("got %s, want %s, of %s", got, want, Sockets())
	}
	t.Setenv("RUNTIME_DIRECTORY", "/run/user/7/workersd:/run/other")
	if got := DefaultSocket(); got != "/run/user/7/workersd/control.sock" {
		t.Errorf("with systemd's RUNTIME_DIRECTORY: %s", got)
	}
	t.Setenv("WORKERSD_SOCKET", "/x")
	if got := DefaultSocket(); got != "/x" {
		t.Errorf("with WORKERSD_SOCKET: %s", got)
	}
}

// TestFind: a socket that a killed manager left hides none where one listens.
func TestFind(t *testing.T) {
	dir := socketDir(t)
	stale, live := filepath.Join(dir, "stale"), filepath.Join(dir, "live")
	l := listen(t, stale)
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	l.Close()
	none := filepath.Join(dir, "none")
	if got := find([]string{none, stale, live}); got != stale {
		t.Errorf("nobody listens: %s", got)
	}
	if got := find([]string{none, live}); got != none {
		t.Errorf("nothing is there: %s", got)
	}
	listen(t, live)
	if got := find([]string{none, stale, live}); got != live {
		t.Errorf("one listens: %s", got)
	}
	if got := find([]string{stale}); got != stale {
		t.Errorf("no choice: %s", got)
	}
}

func TestUnreachable(t *testing.T) {
	dir := socketDir(t)
	_, err := New(filepath.Join(dir, "none")).Status(t.Context())
	var un *Unreachable
	if !errors.As(err, &un) || !errors.Is(err, fs.ErrNotExist) || un.Socket != filepath.Join(dir, "none") {
		t.Errorf("nothing there: %v", err)
	}
	l := listen(t, filepath.Join(dir, "s"))
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	l.Close()
	if _, err = New(filepath.Join(dir, "s")).Status(t.Context()); !errors.As(err, &un) || !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("nobody listens: %v", err)
	}
}

// TestAnswers: refusals, also of something that is no workersd, and records
// one after the other.
func TestAnswers(t *testing.T) {
	l := listen(t, filepath.Join(socketDir(t), "s"))
	answer := func(w http.ResponseWriter, _ *http.Request) {}
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) { answer(w, req) })}
	go srv.Serve(l)
	t.Cleanup(func() { srv.Close() })
	c := New(l.Addr().String())
	defer c.Close()

	answer = func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusConflict)
		w.Write([]byte(`{"error":"no","hint":"try"}`))
	}
	_, err := c.Act(t.Context(), "stop", true, "x")
	var e *Error
	if !errors.As(err, &e) || e.Status != 409 || e.Text != "no" || e.Hint != "try" || e.Error() != "no" {
		t.Errorf("refused: %#v", err)
	}
	answer = func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusBadGateway)
		w.Write([]byte(`<html>`))
	}
	if _, err = c.Show(t.Context(), "x"); !errors.As(err, &e) || e.Text != "502 Bad Gateway" {
		t.Errorf("refused by another program: %#v", err)
	}
	answer = func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusRequestHeaderFieldsTooLarge)
	}
	if _, err = c.Show(t.Context(), "x"); !errors.As(err, &e) || e.Text != "too many workers are named for one call" {
		t.Errorf("more names than the manager takes: %#v", err)
	}
	answer = func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte(`{"workers": 7}`)) }
	if _, err = c.Status(t.Context()); err == nil || !strings.Contains(err.Error(), "gave no whole answer") {
		t.Errorf("an answer of another kind: %v", err)
	}
	var query string
	answer = func(w http.ResponseWriter, req *http.Request) {
		query = req.URL.RawQuery
		w.Write([]byte("{\"seq\":1}\n{\"seq\":2}\n"))
	}
	var seqs []uint64
	if err := c.Events(t.Context(), 5, true, []string{"a#1", "b@*"}, func(r Record) error { seqs = append(seqs, r.Seq); return nil }); err != nil || len(seqs) != 2 {
		t.Errorf("events: %v, %v", seqs, err)
	}
	if query != "follow=true&n=5&worker=a%231&worker=b%40%2A" {
		t.Error(query)
	}
	enough := errors.New("enough")
	if err := c.Events(t.Context(), 5, true, nil, func(Record) error { return enough }); err != enough {
		t.Errorf("a reader who has enough: %v", err)
	}
}

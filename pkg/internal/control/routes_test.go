package control

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/workersd/workersd/pkg/client"
	"github.com/workersd/workersd/pkg/internal/event"
	"github.com/workersd/workersd/pkg/internal/hosttest"
	"github.com/workersd/workersd/pkg/internal/lifecycle"
	"github.com/workersd/workersd/pkg/internal/supervisor"
	"github.com/workersd/workersd/pkg/spec"
)

var update = flag.Bool("update", false, "write the golden parts of testdata")

// TestRoutes prints the table of calls: a change of it is a change of the
// protocol, and is seen in review.
func TestRoutes(t *testing.T) {
	var b strings.Builder
	for _, r := range routes {
		fmt.Fprintf(&b, "%-17s %v\n", r.pattern, r.need)
		if strings.HasPrefix(r.pattern, "POST ") && r.need != act {
			t.Errorf("%s changes something, and who may only look may call it", r.pattern)
		}
	}
	const golden = "testdata/routes"
	if *update {
		if err := os.WriteFile(golden, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil || string(want) != b.String() {
		t.Errorf("%v; routes are now\n%s", err, b.String())
	}
}

// get is a call without the client, for what the client would not send.
func (r *rig) get(method, path string) (int, string) {
	r.Helper()
	h := http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", r.socket)
	}}}
	req, err := http.NewRequestWithContext(r.Context(), method, "http://w"+path, nil)
	if err != nil {
		r.Fatal(err)
	}
	resp, err := h.Do(req)
	if err != nil {
		r.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		r.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

// TestNoSecretIsTold calls everything and looks at each byte that comes back.
func TestNoSecretIsTold(t *testing.T) {
	r := start(t, queues(), behave(hosttest.Behaviour{}))
	r.up(4)
	l := queues()
	l.Workers[0].Environment = []spec.EnvVar{{Name: "PASSWORD", Value: secret + "!"}}
	l.Workers[1].Environment = nil
	r.next.Store(&l)
	for _, rt := range routes {
		method, path, _ := strings.Cut(rt.pattern, " ")
		if path == "/v1/restart" { // what is stopped would refuse it
			if _, err := r.c.Act(t.Context(), "start", true, "*"); err != nil {
				t.Fatal(err)
			}
		}
		code, body := r.get(method, path+"?worker="+url.QueryEscape("queue@10.0.0.1,mail"))
		if code != 200 {
			t.Errorf("%s: %d %s", rt.pattern, code, body)
		}
		if strings.Contains(body, secret) {
			t.Errorf("%s tells the secret: %s", rt.pattern, body)
		}
	}
	if _, body := r.get("GET", "/v1/show?worker=report*"); !strings.Contains(body, `"environment":"PASSWORD=…"`) {
		t.Errorf("show does not name the variable: %s", body)
	}
}

func TestStatusAndShow(t *testing.T) {
	r := start(t, queues(), behave(hosttest.Behaviour{Execution: time.Hour}))
	r.up(4)
	r.until("it works", func() bool { return len(r.state("report#1").Running) == 1 })
	s, err := r.c.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	m := s.Manager
	if m.Version != "v1" || m.PID != 4711 || m.Workers != 4 || m.Wanted != 4 || m.Up != 4 || m.Enforcement != "sampled" || m.Because != "this is a test" || len(m.Files) != 1 {
		t.Errorf("manager %+v", m)
	}
	if got := names(s.Workers); got != "queue@10.0.0.1,mail queue@10.0.0.2,mail report#1 report#2" {
		t.Errorf("workers %s", got)
	}
	w := s.Workers[0]
	if w.State != "up" || !w.Wanted || w.PID == 0 || w.Generation != 1 || w.Started.IsZero() || w.Memory != int64(12*spec.MiB) ||
		w.SoftMemory != int64(200*spec.MiB) || w.HardMemory != int64(300*spec.MiB) || w.Params["ip"] != "10.0.0.1" || w.Keys != nil || w.Log != "" {
		t.Errorf("worker %+v", w)
	}
	for patterns, want := range map[string]string{
		"queue@*": "queue@10.0.0.1,mail queue@10.0.0.2,mail", "report#2": "report#2", "*#[12]": "report#1 report#2",
		"report#2 queue@10.0.0.1,mail": "queue@10.0.0.1,mail report#2", "report#1 report*": "report#1 report#2", "*": names(s.Workers),
	} {
		s, err := r.c.Status(t.Context(), strings.Fields(patterns)...)
		if err != nil || names(s.Workers) != want {
			t.Errorf("%s: %s, %v", patterns, names(s.Workers), err)
		}
		ws, err := r.c.Show(t.Context(), strings.Fields(patterns)...)
		if err != nil || names(ws) != want || ws[0].Log != "terminal" || ws[0].Keys["command"] == "" {
			t.Errorf("show %s: %v, %v", patterns, ws, err)
		}
	}
}

func TestNoWorkerFits(t *testing.T) {
	r := start(t, queues(), behave(hosttest.Behaviour{}))
	for pattern, want := range map[string]string{
		"reprt#1":          `no worker fits "reprt#1" / did you mean report#1 or report#2? workersctl status lists them all`,
		"qeue@*":           `no worker fits "qeue@*" / did you mean 'queue@*'? workersctl status lists them all`,
		"queue":            `no worker fits "queue" / did you mean 'queue@*'? workersctl status lists them all`,
		"report":           `no worker fits "report" / did you mean 'report#*'? workersctl status lists them all`,
		"queue@10.0.0.9,*": `no worker fits "queue@10.0.0.9,*" / did you mean queue@10.0.0.1,mail or queue@10.0.0.2,mail? workersctl status lists them all`,
		"nothing-like-it":  `no worker fits "nothing-like-it" / workersctl status lists them all`,
		"queue@[":          `"queue@[" is no pattern: a [ has no ] behind it / expected a name, or a pattern such as "queue@*"`,
		"":                 `no worker fits "" / workersctl status lists them all`,
	} {
		for what, err := range map[string]error{
			"status": second(r.c.Status(t.Context(), pattern)), "show": second(r.c.Show(t.Context(), pattern)),
			"stop": second(r.c.Act(t.Context(), "stop", true, "report#1", pattern)), "why": second(r.c.Why(t.Context(), pattern)),
			"events": r.c.Events(t.Context(), 0, false, []string{"report#1", pattern}, func(client.Record) error { return nil }),
		} {
			if got := refusal(err); got != want {
				t.Errorf("%s %q: %s\nwant %s", what, pattern, got, want)
			}
		}
	}
	r.up(4) // a stop that does not fit for one of its patterns stopped none
	for _, path := range []string{"show", "start", "stop"} {
		method := map[bool]string{true: "GET", false: "POST"}[path == "show"]
		if code, body := r.get(method, "/v1/"+path); code != 400 || !strings.Contains(body, "no worker was named") {
			t.Errorf("%s of nothing: %d %s", path, code, body)
		}
	}
	if got := refusal(second(r.c.Why(t.Context(), "report*"))); got != `"report*" fits 2 workers, and why is about one / name one, such as report#1` {
		t.Error(got)
	}
	if rs, err := r.c.Why(t.Context(), "report#[2]"); err != nil || len(rs) != 0 {
		t.Errorf("why of a pattern that fits one: %v, %v", rs, err)
	}
}

func second[T any](_ T, err error) error { return err }

func TestVerbs(t *testing.T) {
	r := start(t, queues(), behave(hosttest.Behaviour{StopDelay: 50 * time.Millisecond}))
	r.up(4)
	act := func(verb string, patterns ...string) []client.Worker {
		t.Helper()
		ws, err := r.c.Act(t.Context(), verb, true, patterns...)
		if err != nil {
			t.Fatalf("%s %v: %v", verb, patterns, err)
		}
		return ws
	}
	for _, w := range act("stop", "queue@*") {
		if w.State != "down" || w.Wanted || !w.OperatorStop || w.PID != 0 || w.LastReason != "stopped" {
			t.Errorf("stopped: %+v", w)
		}
	}
	for _, w := range act("stop", "queue@*") { // once more is no error
		if w.State != "down" {
			t.Errorf("stopped twice: %+v", w)
		}
	}
	for _, w := range act("start", "queue@*", "report#1") {
		if want := map[bool]uint64{true: 1, false: 2}[w.Name == "report#1"]; w.State != "up" || w.OperatorStop || w.Generation != want {
			t.Errorf("started: %+v", w)
		}
	}
	before := r.state("report#1")
	if w := act("restart", "report#1")[0]; w.State != "up" || w.PID == before.PID || w.Generation <= before.Generation || w.LastReason != "restarted" {
		t.Errorf("restarted: %+v", w)
	}
	before = r.state("report#2")
	if w := act("kill", "report#2")[0]; w.PID == before.PID {
		t.Errorf("killed: %+v", w)
	}
	r.up(4) // a kill is no stop
	rs, err := r.c.Why(t.Context(), "report#1")
	if err != nil || len(rs) != 1 || rs[0].Reason != event.Restarted {
		t.Errorf("why: %v, %v", rs, err)
	}
}

// TestVerbsWait: a call returns when it is done, or with wait=false at once.
func TestVerbsWait(t *testing.T) {
	r := start(t, list(worker("deaf", "deaf", func(w *spec.Worker) { w.StopTimeout = time.Hour })), behave(hosttest.Behaviour{Deaf: true}))
	r.up(1)
	ws, err := r.c.Act(t.Context(), "stop", false, "deaf")
	if err != nil || ws[0].State != "stopping" {
		t.Errorf("without waiting: %+v, %v", ws, err)
	}
	// A client that leaves gives up the waiting, and not the stop.
	ctx, cancel := context.WithCancel(t.Context())
	left := make(chan error)
	go func() { left <- second(r.c.Act(ctx, "stop", true, "deaf")) }()
	select {
	case err := <-left:
		t.Fatalf("returned while it lives: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	cancel()
	if err := <-left; !errors.Is(err, context.Canceled) {
		t.Errorf("a client that left: %v", err)
	}
	done := make(chan []client.Worker)
	go func() {
		ws, err := r.c.Act(t.Context(), "stop", true, "deaf")
		if err != nil {
			t.Error(err)
		}
		done <- ws
	}()
	if _, err := r.c.Act(t.Context(), "kill", true, "deaf"); err != nil {
		t.Error(err)
	}
	if ws := <-done; len(ws) != 1 || ws[0].State != "down" {
		t.Errorf("stopped: %+v", ws)
	}
}

// A start that fails, or is not ready, is told and not waited for without end.
func TestVerbsThatFail(t *testing.T) {
	slow := worker("slow", "slow", func(w *spec.Worker) { w.Ready, w.Enabled = spec.ReadyNotify, false })
	r := start(t, list(worker("bad", "bad", func(w *spec.Worker) { w.Enabled = false }), slow), func(o supervisor.SpawnOrder) hosttest.Behaviour {
		if o.ID.Worker == "bad" {
			return hosttest.Behaviour{StartError: "there is no such program"}
		}
		return hosttest.Behaviour{ReadyAfter: 100 * time.Millisecond}
	})
	ws, err := r.c.Act(t.Context(), "start", true, "*")
	if err != nil || ws[0].State != "backoff" || ws[0].LastReason != "spawn_failed" || ws[0].NextStart.IsZero() || ws[1].State != "up" {
		t.Errorf("started: %+v, %v", ws, err)
	}
	rs, err := r.c.Why(t.Context(), "bad")
	if err != nil || len(rs) == 0 || rs[0].Kind != event.NotStarted || !strings.Contains(rs[0].Message, "no such program") {
		t.Errorf("why: %v, %v", rs, err)
	}
	r.sup.Shutdown()
	if got := refusal(second(r.c.Act(t.Context(), "start", true, "slow"))); !strings.HasPrefix(got, "the manager is ending") && !strings.HasPrefix(got, "the manager has ended") {
		t.Error(got)
	}
}

// A restart of what is stopped does nothing, and must not look done; a pattern
// restarts those of it that are up.
func TestRestartOfStopped(t *testing.T) {
	r := start(t, queues(), behave(hosttest.Behaviour{}))
	r.up(4)
	act := func(verb string, patterns ...string) ([]client.Worker, error) {
		return r.c.Act(t.Context(), verb, true, patterns...)
	}
	if _, err := act("stop", "queue@*", "report#1"); err != nil {
		t.Fatal(err)
	}
	for pattern, want := range map[string]string{
		"report#1": `worker "report#1" is stopped (workersctl start 'report#1')`,
		"queue@*":  `2 workers were named, and all are stopped (workersctl start 'queue@*')`,
	} {
		var e *client.Error
		if _, err := act("restart", pattern); !errors.As(err, &e) || e.Status != http.StatusConflict || e.Text != want {
			t.Errorf("restart %s: %v, want %s", pattern, err, want)
		}
	}
	before := r.state("report#2")
	ws, err := act("restart", "report#*")
	if err != nil || len(ws) != 2 || ws[0].State != "down" || ws[1].State != "up" || ws[1].Generation <= before.Generation {
		t.Errorf("one of two is up: %+v, %v", ws, err)
	}
}

// Who waits for a start is told when there will be none.
func TestEndWhileWaiting(t *testing.T) {
	deaf := func(name string) spec.Worker {
		return worker(name, name, func(w *spec.Worker) { w.StopTimeout = time.Hour })
	}
	r := start(t, list(deaf("a"), deaf("b")), behave(hosttest.Behaviour{Deaf: true}))
	r.up(2)
	got := make(chan string)
	go func() { got <- refusal(second(r.c.Act(t.Context(), "restart", true, "a"))) }()
	r.until("it is being stopped", func() bool { return r.state("a").State == "stopping" })
	r.sup.Shutdown()
	if text := <-got; text != "the manager is ending / " {
		t.Error(text)
	}
}

// TestStuck: nothing more will happen to it, so that nobody waits.
func TestStuck(t *testing.T) {
	w := supervisor.Status{State: lifecycle.Killing, Generation: 3, Stuck: true}
	for _, v := range []supervisor.Verb{supervisor.Stop, supervisor.Restart, supervisor.Kill} {
		if !reached(v, &w, 3) {
			t.Errorf("%s waits for a process that does not die", v)
		}
	}
}

func TestReloadAndPlan(t *testing.T) {
	r := start(t, queues(), behave(hosttest.Behaviour{}))
	r.up(4)
	refused := `list.toml:3:1: worker "q": unknown key "x" / the old list stays in force`
	for _, dry := range []bool{true, false} {
		if got := refusal(second(r.c.Reload(t.Context(), dry))); got != refused {
			t.Errorf("dry run %v: %s", dry, got)
		}
	}
	l := queues()
	l.Workers[0].Environment = nil
	l.Workers[1].Timeout = time.Minute
	l.Workers = append(l.Workers[:3], worker("new", "new"))
	l.Manager.Title = "another"
	r.next.Store(&l)
	const want = "+ new\n- report#2\n! queue@10.0.0.1,mail restarts: environment\n~ queue@10.0.0.2,mail in place: timeout\n~ [manager] in place: title\n" +
		"1 added, 1 removed, 1 restarted, 1 changed in place, 1 unchanged\n"
	before := r.state("report#1")
	for _, dry := range []bool{true, false} {
		p, err := r.c.Reload(t.Context(), dry)
		if err != nil || p.Text != want || p.Unchanged != 1 || len(p.Changed) != 2 {
			t.Errorf("dry run %v: %+v, %v", dry, p, err)
		}
	}
	r.until("the removed one is gone", func() bool {
		s, err := r.c.Status(t.Context())
		return err == nil && names(s.Workers) == "queue@10.0.0.1,mail queue@10.0.0.2,mail report#1 new"
	})
	if after := r.state("report#1"); after.PID != before.PID {
		t.Errorf("unchanged and restarted: %+v", after)
	}
	if p, err := r.c.Reload(t.Context(), true); err != nil || p.Text != "0 added, 0 removed, 0 restarted, 0 changed in place, 4 unchanged\n" {
		t.Errorf("again: %q, %v", p.Text, err)
	}
}

// TestDigests: equal where spec.Equal is, different where it is not, and of no
// use with another key.
func TestDigests(t *testing.T) {
	r := start(t, queues(), behave(hosttest.Behaviour{}))
	d, err := r.c.Digests(t.Context())
	if err != nil || len(d.Workers) != 4 {
		t.Fatalf("%d workers, %v", len(d.Workers), err)
	}
	l := queues()
	l.Workers[0].Environment = []spec.EnvVar{{Name: "A", Value: "1"}, {Name: "PASSWORD", Value: secret}}
	changed := DigestsOf(l, d.Key)
	for name, keys := range d.Workers {
		for k, sum := range keys {
			if same := changed.Workers[name][k] == sum; same == (name == "queue@10.0.0.1,mail" && k == "environment") {
				t.Errorf("%s %s: same %v", name, k, same)
			}
		}
	}
	l.Workers[1].Environment = []spec.EnvVar{{Name: "PASSWORD", Value: secret}, {Name: "A", Value: "1"}}
	if c := DigestsOf(l, d.Key); c.Workers[l.Workers[0].Name]["environment"] != c.Workers[l.Workers[1].Name]["environment"] {
		t.Error("the order of variables matters")
	}
	if DigestsOf(queues(), newKey()).Manager["title"] == d.Manager["title"] {
		t.Error("the key does not matter")
	}
}

func TestEvents(t *testing.T) {
	r := start(t, queues(), behave(hosttest.Behaviour{}))
	r.up(4)
	read := func(n int, patterns ...string) (out []client.Record) {
		t.Helper()
		if err := r.c.Events(t.Context(), n, false, patterns, func(e client.Record) error { out = append(out, e); return nil }); err != nil {
			t.Fatal(err)
		}
		return out
	}
	all := read(-1)
	if len(all) < 5 || all[0].Kind != event.ManagerStarted {
		t.Errorf("all: %v", all)
	}
	if got := read(2); len(got) != 2 || got[1].Seq != all[len(all)-1].Seq {
		t.Errorf("the last two: %v", got)
	}
	if got := read(0); len(got) != 0 {
		t.Errorf("none: %v", got)
	}
	// The last of a worker are looked for among all, not among the last.
	if got := read(1, "queue@10.0.0.1,mail"); len(got) != 1 || got[0].Worker != "queue@10.0.0.1,mail" {
		t.Errorf("the last one of a worker: %v", got)
	}
	// One that has left the list is still known by its records.
	r.hist.Add(event.Record{Time: time.Now(), Kind: event.Gone, Worker: "left", Message: "is gone"})
	if got := read(-1, "l[e]ft"); len(got) != 1 || got[0].Worker != "left" {
		t.Errorf("of one that left: %v", got)
	}
	if got := read(0, "left"); len(got) != 0 {
		t.Errorf("none of one that left: %v", got)
	}
	if code, body := r.get("GET", "/v1/events?n=many"); code != 400 || !strings.Contains(body, "expected a whole number") {
		t.Errorf("n=many: %d %s", code, body)
	}

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	got := make(chan client.Record)
	ended := make(chan error)
	go func() {
		ended <- r.c.Events(ctx, 1, true, []string{"report*"}, func(e client.Record) error { got <- e; return nil })
	}()
	if e := <-got; !strings.HasPrefix(e.Worker, "report") {
		t.Errorf("the past: %v", e)
	}
	if _, err := r.c.Act(t.Context(), "restart", true, "queue@10.0.0.1,mail", "report#2"); err != nil {
		t.Fatal(err)
	}
	if e := <-got; e.Worker != "report#2" || e.Reason != event.Restarted {
		t.Errorf("the first new one: %v", e)
	}
	go func() {
		for range got {
		}
	}()
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("ended with %v", err)
	}
	close(got)
}

// TestEventsOfASlowReader: it loses records and is told how many.
func TestEventsOfASlowReader(t *testing.T) {
	r := start(t, queues(), behave(hosttest.Behaviour{}))
	r.up(4)
	first, more := make(chan bool), make(chan bool)
	missing := make(chan string, 1)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go r.c.Events(ctx, 1, true, nil, func(e client.Record) error {
		select {
		case first <- true:
			<-more
		default:
		}
		if strings.Contains(e.Message, "records are missing") {
			select {
			case missing <- e.Message:
			default:
			}
		}
		return nil
	})
	<-first
	for i := range 50_000 { // more than its buffer and the socket's hold
		r.hist.Add(event.Record{Seq: uint64(i), Time: time.Now(), Kind: event.Warning, Message: strings.Repeat("x", 200)})
	}
	close(more)
	r.until("it was told", func() bool {
		r.hist.Add(event.Record{Time: time.Now(), Kind: event.Warning, Message: "later"})
		return len(missing) > 0
	})
	if text := <-missing; !strings.HasSuffix(text, "records are missing here: they came faster than they were read") {
		t.Error(text)
	}
}

// TestVerbsOfTasks: a task that has run and waits for its next time is done
// with what was asked; nobody waits for the interval.
func TestVerbsOfTasks(t *testing.T) {
	job := worker("job", "job", func(w *spec.Worker) { w.Type, w.Interval = spec.Task, time.Hour })
	r := start(t, list(job), behave(hosttest.Behaviour{Exits: true}))
	r.until("it waits", func() bool { return r.state("job").State == "waiting" })
	for _, verb := range []string{"start", "restart"} {
		before := r.state("job")
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		ws, err := r.c.Act(ctx, verb, true, "job")
		cancel()
		if err != nil || ws[0].Generation <= before.Generation {
			t.Errorf("%s: generation %d, then %+v, %v", verb, before.Generation, ws, err)
		}
		r.until("it waits again", func() bool { return r.state("job").State == "waiting" })
	}
}

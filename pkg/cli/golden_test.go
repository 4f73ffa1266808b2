package cli

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/workersd/workersd/pkg/client"
	"github.com/workersd/workersd/pkg/internal/event"
)

var update = flag.Bool("update", false, "write the golden parts of testdata")

// golden compares whole outputs with testdata/NAME.txtar, one file of it for
// each command line.
type golden struct {
	*testing.T
	name string
	got  txtar.Archive
}

func (g *golden) add(line, output string) {
	g.got.Files = append(g.got.Files, txtar.File{Name: line, Data: []byte(output)})
}

func (g *golden) compare() {
	g.Helper()
	path := filepath.Join("testdata", g.name+".txtar")
	got := string(txtar.Format(&g.got))
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			g.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		g.Fatal(err)
	}
	if d := cmp.Diff(string(want), got); d != "" {
		g.Errorf("(-want +got)\n%s", d)
	}
}

// lines runs command lines, each a line of text.
func (g *golden) lines(f *fake, lines ...string) {
	g.Helper()
	for _, l := range lines {
		g.add("workersctl "+l, ctl(g.T, f.socket, strings.Fields(l)...))
	}
}

func TestLook(t *testing.T) {
	f := serve(t)
	g := &golden{T: t, name: "look"}
	f.answer["status"] = fleet()
	show := fleet().Workers[:4]
	show[0].Log, show[0].Keys = "journal", map[string]string{"command": `["python3","listen.py"]`, "environment": "PASSWORD=…", "timeout": "30s"}
	f.answer["show"] = show
	f.answer["why"] = ends()
	f.answer["events"] = []client.Record{
		{Seq: 1, Time: ago(time.Minute), Kind: event.ManagerStarted, Message: "started with 8 workers"},
		{Seq: 2, Time: ago(59 * time.Second), Kind: event.Created, Worker: "fails", PID: 12, Generation: 1, Message: "created"},
		{Seq: 3, Time: ago(58 * time.Second), Kind: event.ManagerRefused, Message: "a.toml:1:1: one\na.toml:2:2: two\n"},
		{Seq: 4, Time: ago(57 * time.Second), Kind: event.Gone, Worker: "fails", PID: 12, Generation: 1, Reason: event.Crashed, Message: "is not existed any more: crashed with exit 3"},
		{Seq: 5, Time: ago(56 * time.Second), Kind: event.Warning, Worker: "fails", Message: "says \x1b[31m"},
	}
	g.lines(f, "status", "status fails held#1", "show *", "why queue@10.0.0.1,mail", "why -n 1 queue@10.0.0.1,mail", "events", "events --json -n 2", "status --json fails")
	f.answer["why"] = []client.Record{}
	g.lines(f, "why once")
	quiet := fleet()
	quiet.Manager = client.Manager{PID: 1, Started: ago(3 * time.Second), Now: now, Enforcement: "kernel", Because: "/sys/fs/cgroup/system.slice/workersd.service", Workers: 1, Wanted: 1, Up: 1, Stopping: true}
	quiet.Workers = quiet.Workers[:1]
	f.answer["status"] = quiet
	g.lines(f, "status")
	g.compare()
}

func TestAct(t *testing.T) {
	f := serve(t)
	g := &golden{T: t, name: "act"}
	ws := fleet().Workers
	f.answer["start"], f.answer["stop"], f.answer["restart"], f.answer["kill"] = ws[:1], ws[3:4], ws[:2], ws[5:6]
	f.answer["plan"] = client.Plan{Added: []string{"new"}, Unchanged: 3, Text: "+ new\n1 added, 0 removed, 0 restarted, 0 changed in place, 3 unchanged\n"}
	f.answer["reload"] = f.answer["plan"]
	g.lines(f, "start queue@*", "stop held#1", "restart queue@10.0.0.1,mail queue@10.0.0.2,mail", "kill --no-wait hangs", "stop hangs",
		"reload", "reload --dry-run", "plan", "reload --json")
	f.answer["start"] = ws[:3]
	g.lines(f, "start *", "start --no-wait *")
	f.answer["stop"] = &client.Error{Status: 404, Text: `no worker fits "qeue@*"`, Hint: "did you mean 'queue@*'? workersctl status lists them all"}
	f.answer["restart"] = &client.Error{Status: 403, Text: "permission denied", Hint: "only root and the service's user may do this"}
	f.answer["reload"] = &client.Error{Status: 422, Text: "list.toml:3:1: worker \"q\": unknown key \"x\"\nlist.toml:4:1: worker \"q\": unknown key \"y\"", Hint: "the old list stays in force"}
	g.lines(f, "stop qeue@*", "stop golden_test.go testdata", "restart *", "reload")
	g.add("calls", strings.Join(f.calls, "\n")+"\n")
	g.compare()
}

func TestLogs(t *testing.T) {
	f := serve(t)
	g := &golden{T: t, name: "logs"}
	for _, tool := range []string{"journalctl", "tail"} { // need not be installed here
		path := filepath.Join(filepath.Dir(f.socket), tool)
		if err := os.WriteFile(path, []byte("#!/bin/sh\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", filepath.Dir(f.socket))
	f.answer["show"] = []client.Worker{{Name: "a", Log: "journal"}, {Name: "b#1", Log: "journal"}}
	g.lines(f, "logs *", "logs -f -n 5 *")
	f.answer["show"] = []client.Worker{{Name: "a", Log: "/var/log/a.log"}, {Name: "b", Log: "/var/log/b.log"}}
	g.lines(f, "logs *", "logs --follow --lines 0 *")
	f.answer["show"] = []client.Worker{{Name: "a", Log: "terminal"}}
	g.lines(f, "logs a")
	f.answer["show"] = []client.Worker{{Name: "a", Log: "inherit"}}
	g.lines(f, "logs a")
	f.answer["show"] = []client.Worker{{Name: "a", Log: "journal"}, {Name: "b", Log: "/var/log/b.log"}}
	g.lines(f, "logs *")
	t.Setenv("PATH", "/nonexistent")
	f.answer["show"] = []client.Worker{{Name: "a", Log: "journal"}}
	g.lines(f, "logs a")
	g.compare()
}

func TestUsage(t *testing.T) {
	f := serve(t)
	g := &golden{T: t, name: "usage"}
	g.lines(f, "", "--help", "nonsense", "statsu", "stop", "why", "why a b", "status --nonsense", "stop --help", "check", "notify", "notify READY", "notify READY=1", "notify READY=2", "notify ready=1", "notify STATUS=fine X_WORKERSD_RESULT=fail", "notify X_WORKERSD_END=7 X_WORKERSD_RESULT=bad",
		"logs --json a", "events -n many", "reload now")
	g.compare()
}

func TestUnreachable(t *testing.T) {
	g := &golden{T: t, name: "unreachable"}
	dir := t.TempDir()
	for _, args := range [][]string{{"--socket", dir + "/none", "status"}, {"--socket", dir + "/none", "plan", "../../deploy/examples/queues.toml"}} {
		out := strings.ReplaceAll(ctl(t, "", args...), dir, "DIR")
		g.add("workersctl "+strings.Join(args[2:], " "), out)
	}
	t.Setenv("WORKERSD_SOCKET", dir+"/env")
	g.add("WORKERSD_SOCKET=DIR/env workersctl status", strings.ReplaceAll(ctl(t, "", "status"), dir, "DIR"))
	f := serve(t)
	f.answer["status"] = fleet()
	t.Setenv("WORKERSD_SOCKET", f.socket)
	g.add("WORKERSD_SOCKET=SOCKET workersctl status once", ctl(t, "", "status", "once"))
	g.compare()
}

func TestCheck(t *testing.T) {
	g := &golden{T: t, name: "check"}
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
		return path
	}
	good := write("good.toml", `[worker.queue]
command = ["/bin/sh", "-c", "listen '$0' && exit", "${ip}", "two\nlines 'quoted' \"too\"", ""]
matrix.ip = ["10.0.0.1", "a b"]
environment = { PASSWORD = "hunter2" }
soft_memory_limit = "1.5G"
hard_memory_limit = "none"
[worker.job]
type = "task"
command = ["job"]
enabled = false
`)
	write("good.toml.d/more.toml", "[worker.more]\ncommand = [\"more\"]\n")
	bad := write("bad.toml", "[worker.q]\ncomand = [\"true\"]\nsoft_memory_limit = \"300M\"\nhard_memory_limit = \"200M\"\n")
	one := write("one.toml", "[worker.q]\ncommand = [\"true\"]\nx = 1\n")
	for _, args := range [][]string{{"check", good}, {"check", "--json", good}, {"check", bad}, {"check", one}, {"check", dir + "/none.toml"}} {
		out := ctl(t, "", args...)
		if strings.Contains(out, "hunter2") {
			t.Errorf("%v tells the secret", args)
		}
		g.add("workersctl "+strings.ReplaceAll(strings.Join(args, " "), dir, "DIR"), strings.ReplaceAll(out, dir, "DIR"))
	}
	g.compare()
}

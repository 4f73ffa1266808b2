package manager_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/workersd/workersd/pkg/manager"
	"github.com/workersd/workersd/pkg/spec"
	"github.com/workersd/workersd/pkg/worker"
)

// newManager has all the patience that a busy machine takes.
func newManager(ws ...manager.Worker) *manager.Manager {
	m := manager.New(ws...)
	m.WaitTime = patience
	return m
}

// scenarios are the main functions of programs.
var scenarios = map[string]func(){
	"life": func() {
		m := newManager(manager.Worker{Work: &life{}, Name: "Redis Worker", MaxRequests: 2})
		m.CheckInterval = 5 * time.Second
		m.Start()
	},
	"alike": func() {
		m := newManager(
			manager.Worker{Work: &life{}, CheckPoint: time.Minute},
			manager.Worker{Work: &life{}, CheckPoint: time.Minute},
			manager.Worker{Work: &listen{IP: "10.0.0.1", Queue: "mail"}},
			manager.Worker{Work: &listen{IP: "10.0.0.1", Queue: "a/b"}},
			manager.Worker{Work: &listen{IP: "10.0.0.1", Queue: "mail"}},
		)
		m.Title = "Two of a kind"
		m.Start()
	},
	"timeout": func() {
		newManager(
			manager.Worker{Work: &late{}, Timeout: 200 * time.Millisecond},
			manager.Worker{Work: &deaf{}, Timeout: 200 * time.Millisecond},
		).Start()
	},
	"soft": func() {
		m := newManager(manager.Worker{Work: &eater{untilAsked: true}, Name: "eater", SoftMemoryLimit: 128 * spec.MiB, HardMemoryLimit: 8 * spec.GiB})
		m.CheckInterval = 50 * time.Millisecond
		m.Start()
	},
	"hard": func() {
		m := newManager(manager.Worker{Work: &eater{}, Name: "eater", SoftMemoryLimit: spec.None, HardMemoryLimit: 128 * spec.MiB})
		m.CheckInterval = 50 * time.Millisecond
		m.Start()
	},
	"together": func() {
		var ws []manager.Worker
		for i := range together {
			ws = append(ws, manager.Worker{Work: &rendezvous{N: i}})
		}
		newManager(ws...).Start() // a stop one after another would never end
	},
	"grace": func() {
		m := newManager(manager.Worker{Work: &stubborn{}, Name: "stubborn"})
		m.WaitTime = 300 * time.Millisecond
		m.Start()
	},
	"family": func() {
		m := newManager(
			manager.Worker{Work: &parent{}, Name: "parent"},
			manager.Worker{Work: &stubborn{}, Name: "stubborn"},
		)
		m.WaitTime = 300 * time.Millisecond
		m.Start()
	},
	"environment": func() { // of a grandchild
		fmt.Println("grandchild", os.Getenv("WORKERSD_SELF") == "", os.Getenv("WORKERSD_WORKER"))
		os.Exit(0)
	},
	"panic": func() {
		newManager(manager.Worker{Work: &panics{}}).Start()
	},
	"args": func() {
		a := everything()
		if os.Getenv("WORKERSD_WORKER") != "" {
			// What main computes by now is not what the manager was started with.
			a = &args{Name: a.Name, Tags: map[string]int{"only in this process": 1}}
		}
		a.prefix = "made by main: "
		newManager(manager.Worker{Work: a, Name: "args-${name}"}).Start()
	},
	"edited": func() {
		text, err := os.ReadFile(filepath.Join(os.Getenv("DIR"), "queues"))
		if err != nil {
			panic(err)
		}
		var ws []manager.Worker
		for q := range strings.FieldsSeq(string(text)) {
			ws = append(ws, manager.Worker{Work: &listen{IP: "::1", Queue: q}})
		}
		newManager(ws...).Start()
	},
	"before": func() {
		fmt.Println("main", len(os.Args), "of", os.Getpid())
		os.Args = append(os.Args[:1], "what", "main", "left")
		if err := os.Chdir("sub"); err != nil { // twice would fail
			fmt.Println(err)
			os.Exit(3)
		}
		go func() { select {} }()
		newManager(manager.Worker{Work: &where{}, Log: "${worker}.log", CheckPoint: time.Minute}).Start()
	},
	"bad": func() {
		m := newManager(
			manager.Worker{},
			manager.Worker{Work: &withChannel{}},
			manager.Worker{Work: &life{}, Name: "a/b", MaxRequests: -1, Timeout: -time.Second},
			manager.Worker{Work: &life{}, Name: "x", SoftMemoryLimit: 300 * spec.MiB},
			manager.Worker{Work: &late{}, Name: "x"},
			manager.Worker{Work: &listen{}, Name: "${ip}-${port}"},
			manager.Worker{Work: &listen{IP: "1", Hosts: []string{"a"}}},
			manager.Worker{Work: &listen{IP: "1", Hosts: []string{"b"}}},
			manager.Worker{Work: &listen{IP: strings.Repeat("x", 130)}},
			manager.Worker{Work: &life{}, Log: "logs/${host}"},
			manager.Worker{Work: &life{}, Name: "x-1"},
			manager.Worker{Work: &life{}, Name: "x-1-1", Spec: func(w *spec.Worker) { w.Restart = "sometimes"; w.Nice = 99 }},
			manager.Worker{Work: &args{Name: "big", Raw: make([]byte, 100<<10)}},
			manager.Worker{Work: (*life)(nil)},
			manager.Worker{Work: &listen{IP: "1"}, Name: "x-${ip}"},
		)
		m.CheckInterval, m.WaitTime = -1, -1
		m.Start()
	},
	"none":   func() { manager.New().Start() },
	"stolen": func() { newManager(manager.Worker{Work: &life{}, CheckPoint: time.Minute}).Start() },
}

func say(text ...any) { fmt.Println(append([]any{worker.Generation()}, text...)...) }

// life says what it does.
type life struct{ runs int }

func (l *life) Init(context.Context) error { say("init"); return nil }
func (l *life) Run(context.Context) (bool, error) {
	l.runs++
	say("run", l.runs)
	return true, nil
}
func (l *life) AfterRun(context.Context) error { say("after"); return nil }

// listen is the origin's motive.
type listen struct {
	IP, Queue string
	Hosts     []string
}

func (l *listen) Run(ctx context.Context) (bool, error) {
	say("listens on", l.IP, l.Queue, worker.Name(), worker.Param("queue"))
	<-worker.Stopping(ctx)
	return false, nil
}

type late struct{}

func (*late) Run(ctx context.Context) (bool, error) {
	<-ctx.Done()
	say("late", context.Cause(ctx))
	return true, nil
}
func (*late) AfterRun(context.Context) error { say("late after"); return nil }

type deaf struct{}

func (*deaf) Options() []worker.Option {
	return []worker.Option{worker.AbandonAfter(50 * time.Millisecond)}
}
func (*deaf) Run(context.Context) (bool, error) { select {} }
func (*deaf) AfterRun(context.Context) error    { say("deaf after"); return nil }

// eater takes 160 MB in its execution and keeps them.
type eater struct {
	untilAsked bool
	eaten      [][]byte
}

func (e *eater) Run(ctx context.Context) (bool, error) {
	say("job begins")
	for range 160 {
		b := make([]byte, 1<<20)
		for i := 0; i < len(b); i += 4096 {
			b[i] = 1
		}
		e.eaten = append(e.eaten, b)
	}
	if e.untilAsked {
		<-worker.Stopping(ctx)
		say("asked to leave, goes on")
	} else {
		<-ctx.Done()
	}
	say("job done", len(e.eaten))
	return true, nil
}
func (*eater) AfterRun(context.Context) error { say("eater after"); return nil }

// together workers leave only when all of them were asked to.
const together = 6

type rendezvous struct{ N int }

func (r *rendezvous) Run(ctx context.Context) (bool, error) {
	say("waits")
	<-worker.Stopping(ctx)
	return false, nil
}

func (r *rendezvous) AfterRun(context.Context) error {
	mine := filepath.Join(os.Getenv("DIR"), fmt.Sprint("asked.", r.N))
	if err := os.WriteFile(mine, nil, 0o644); err != nil {
		return err
	}
	for {
		all, err := filepath.Glob(filepath.Join(os.Getenv("DIR"), "asked.*"))
		if err != nil || len(all) == together {
			say("left with the others")
			return err
		}
		time.Sleep(10 * time.Millisecond)
	}
}

type stubborn struct{}

func (*stubborn) Run(context.Context) (bool, error) { say("stubborn"); select {} }

// parent has a child, in a session of its own, that is the same program.
type parent struct{}

func (*parent) Init(context.Context) error {
	c := exec.Command(os.Args[0])
	c.Env = append(os.Environ(), "MANAGER_TEST=environment")
	c.Stdout = os.Stdout
	if err := c.Run(); err != nil {
		return err
	}
	return exec.Command("setsid", "--fork", "sh", "-c", "trap '' TERM; while :; do sleep 0.2; done").Run()
}

func (*parent) Run(ctx context.Context) (bool, error) {
	say("has a child")
	<-worker.Stopping(ctx)
	return false, nil
}

type panics struct{}

func (*panics) Run(context.Context) (bool, error) { panic("index 5 of 3") }
func (*panics) AfterRun(context.Context) error    { say("panics after"); return nil }

// args is a worker with arguments of every kind.
type args struct {
	Name   string
	Count  uint64
	Ratio  float64
	Pause  time.Duration
	At     time.Time
	Addr   netip.Addr
	Raw    []byte
	Tags   map[string]int
	Nested struct{ Hosts []string }
	Maybe  *int
	prefix string
}

func everything() *args {
	n := 7
	a := &args{
		Name: "ü /,@#%", Count: 1<<64 - 1, Ratio: 0.1, Pause: 90 * time.Second, At: time.Date(2026, 11, 25, 1, 2, 3, 4, time.UTC),
		Addr: netip.MustParseAddr("fe80::1"), Raw: []byte{0, 255}, Tags: map[string]int{"a": 1}, Maybe: &n,
	}
	a.Nested.Hosts = []string{"x", "y"}
	return a
}

func (a *args) Run(ctx context.Context) (bool, error) {
	text, err := json.Marshal(a)
	if err != nil {
		return false, err
	}
	say(a.prefix + string(text))
	<-worker.Stopping(ctx)
	return false, nil
}

type where struct{}

func (where) Run(context.Context) (bool, error) {
	dir, err := os.Getwd()
	say("works in", dir)
	return true, err
}

type withChannel struct{ Ready chan int }

func (*withChannel) Run(context.Context) (bool, error) { return true, nil }

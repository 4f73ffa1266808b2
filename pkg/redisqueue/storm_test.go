package redisqueue_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/workersd/workersd/pkg/client"
	"github.com/workersd/workersd/pkg/internal/programtest"
	"github.com/workersd/workersd/pkg/internal/redistest"
	"github.com/workersd/workersd/pkg/redisqueue"
)

func TestMain(m *testing.M) { programtest.Main(m, "pkg/internal/redistest/storm") }

const stormList = `
[manager]
check_interval = "100ms"
[worker.storm]
command = ["storm"]
replicas = 8
max_requests = 100
max_requests_jitter = 50
timeout = "3s"
stop_timeout = "1s"
restart_delay = "1ms"
restart_delay_max = "1ms"
soft_memory_limit = "30M"
hard_memory_limit = "48M"
`

// Messages flow through eight workers under a real manager, whose processes are
// killed, hang, outgrow both limits and are recycled; in the middle the server
// is ended and started again. No message is lost, and one is done twice only
// when its process was killed between the work and the removal.
func TestStorm(t *testing.T) {
	messages, kills := 20_000, 1000
	if testing.Short() {
		messages, kills = 1000, 30
	}
	s := redistest.Start(t)
	st := &storm{t: t, s: s, dir: t.TempDir(), rng: rand.New(rand.NewPCG(3, 4)), done: map[string][]process{}, final: map[process]string{}}
	st.m = programtest.Start(t, programtest.Write(t, stormList),
		"REDIS_URL="+s.URL, "STORM_DIR="+st.dir)
	began := time.Now()

	for i, restarted := 0, false; i < kills; {
		// Kills and messages follow each other, so that kills fall where messages
		// flow. The last tenth flows without: only there a process lives until its
		// timeout.
		due := i * messages * 9 / 10 / kills
		st.push(min(due+200, messages*9/10))
		st.until(due)
		if !restarted && i >= kills/2 {
			restarted = true
			s.Stop()
			time.Sleep(300 * time.Millisecond)
			s.Start()
		}
		if st.kill() {
			i++
		}
	}
	st.push(messages)
	st.until(messages - st.poisoned)
	st.m.Await("nothing waits and nothing is in flight", func() bool {
		left, err := s.Client.Keys(t.Context(), "*").Result()
		if err != nil {
			return false
		}
		for _, k := range left {
			if k != "storm:dead" && !strings.HasSuffix(k, ":tries") {
				return false
			}
		}
		return true
	})
	st.read()
	t.Logf("%d messages, %d kills in %v", messages, kills, time.Since(began).Round(time.Millisecond))
	st.m.Stop()
	st.judge(messages, kills)
}

// process is one life of a worker.
type process struct {
	worker     string
	generation uint64
	pid        int
}

type storm struct {
	t        *testing.T
	s        *redistest.Server
	m        *programtest.Manager
	dir      string
	rng      *rand.Rand
	pushed   int
	poisoned int

	offset int64                // of done that is read
	done   map[string][]process // by whom each message was done, in order
	last   process              // that did a message
	final  map[process]string   // the last message that each did
}

var kinds = []string{"hog", "leak", "hang", "deaf", "poison", "cut", "hog", "leak", "hang", "deaf"}

// push makes the messages so many: one in 100 is an evil one.
func (st *storm) push(n int) {
	p := st.s.Client.Pipeline()
	for ; st.pushed < n; st.pushed++ {
		kind := "plain"
		if st.pushed%100 == 50 {
			kind = kinds[st.pushed/100%len(kinds)]
		}
		if kind == "poison" {
			st.poisoned++
		}
		p.LPush(st.t.Context(), "storm", fmt.Sprintf("%d %s", st.pushed, kind))
	}
	if _, err := p.Exec(st.t.Context()); err != nil {
		st.t.Fatal(err)
	}
}

// until waits until so many messages are done.
func (st *storm) until(n int) {
	st.t.Helper()
	before := -1
	for end := time.Now().Add(programtest.Patience); ; time.Sleep(time.Millisecond) {
		st.read()
		switch {
		case len(st.done) >= n:
			return
		case len(st.done) > before: // it moves on
			before, end = len(st.done), time.Now().Add(programtest.Patience)
		case time.Now().After(end):
			out := st.m.Output()
			st.t.Fatalf("%d of %d messages are done and no more; the last output:\n%s", len(st.done), n, out[max(0, len(out)-6000):])
		}
	}
}

// read takes what the workers wrote since the last time.
func (st *storm) read() {
	st.t.Helper()
	f, err := os.Open(filepath.Join(st.dir, "done"))
	if os.IsNotExist(err) {
		return
	}
	if err != nil {
		st.t.Fatal(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		st.t.Fatal(err)
	}
	b := make([]byte, info.Size()-st.offset)
	if _, err := f.ReadAt(b, st.offset); err != nil && len(b) > 0 {
		st.t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if !strings.HasSuffix(line, "\n") {
			break
		}
		st.offset += int64(len(line))
		var number string
		var p process
		if _, err := fmt.Sscan(line, &number, &p.worker, &p.generation, &p.pid); err != nil {
			st.t.Fatalf("%q: %v", line, err)
		}
		st.done[number] = append(st.done[number], p)
		st.final[p], st.last = number, p
	}
}

// kill ends one process by SIGKILL: the one that has just done a message, the
// one that was started last, or any. It reports whether that was its end.
func (st *storm) kill() bool {
	st.t.Helper()
	p := st.last
	switch st.rng.IntN(3) {
	case 0:
		for _, r := range st.m.Records() {
			if r.Kind == "created" {
				p = process{r.Worker, r.Generation, r.PID}
			}
		}
	case 1:
		w := st.m.Worker(fmt.Sprintf("storm#%d", 1+st.rng.IntN(8)))
		p = process{w.Name, w.Generation, w.PID}
	}
	if p.pid == 0 {
		return false
	}
	fd, err := unix.PidfdOpen(p.pid, 0)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	if !st.m.Ours(p.pid) || unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0) != nil {
		return false
	}
	end := st.m.AwaitRecord(fmt.Sprintf("the end of %v", p), func(r client.Record) bool {
		return r.Kind == "gone" && r.Worker == p.worker && r.Generation == p.generation
	})
	return end.Reason == "killed"
}

// judge looks at what was done, and by whom, and how those ended.
func (st *storm) judge(messages, kills int) {
	t := st.t
	ends, reasons := map[process]client.Record{}, map[string]int{}
	for _, r := range st.m.Records() {
		if r.Kind == "gone" {
			ends[process{r.Worker, r.Generation, r.PID}] = r
			reasons[string(r.Reason)]++
		}
	}
	lost, twice := 0, 0
	dead := st.dead()
	for i := range messages {
		number := fmt.Sprint(i)
		by := st.done[number]
		if len(by) == 0 && !dead[number] {
			t.Errorf("message %s is lost", number)
			lost++
		}
		for _, p := range by[:max(len(by)-1, 0)] {
			twice++
			if ends[p].Reason != "killed" || st.final[p] != number {
				t.Errorf("message %s was done by %v and again, although that ended by %q and did message %s last",
					number, p, ends[p].Reason, st.final[p])
			}
		}
	}
	if len(dead) != st.poisoned {
		t.Errorf("%d messages are dead, want the %d that kill their process", len(dead), st.poisoned)
	}
	for _, r := range []string{"killed", "timeout", "max_requests", "soft_memory", "hard_memory"} {
		if reasons[r] == 0 && !testing.Short() {
			t.Errorf("no process ended by %s: this shows less than it should (%v)", r, reasons)
		}
	}
	// Workers wait for Redis, they do not leave because of it.
	for _, r := range []string{"crashed", "finished", "watchdog", "lost", "spawn_failed"} {
		if reasons[r] > 0 {
			t.Errorf("%d processes ended by %s", reasons[r], r)
		}
	}
	if reasons["killed"] < kills {
		t.Errorf("%d processes were killed, want %d", reasons["killed"], kills)
	}
	if twice == 0 {
		t.Error("no message was done twice, and some cut their process off before the removal: this shows nothing")
	}
	t.Logf("%d lost, %d done twice after a kill between work and removal, %d given up; ends: %v", lost, twice, len(dead), reasons)
}

// dead are the numbers of the messages that were given up.
func (st *storm) dead() map[string]bool {
	all := map[string]bool{}
	for _, e := range st.s.List("storm:dead") {
		d, err := redisqueue.ParseDead(e)
		if err != nil {
			st.t.Fatal(err)
		}
		number, kind, _ := strings.Cut(d.Text(), " ")
		if all[number] = true; kind != "poison" || d.Tries != 25 ||
			d.Reason != "its process ended in the middle of it, at the last of 25 tries" {
			st.t.Errorf("given up: %+v", d)
		}
	}
	return all
}

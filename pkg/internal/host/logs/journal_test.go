package logs

import (
	"bufio"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// journald stands for the real one: it takes streams and reads them.
type journald struct {
	path string
	l    net.Listener
	wg   sync.WaitGroup

	mu      sync.Mutex
	streams []string // the whole text of each, once it has ended
	open    int
}

func newJournald(t *testing.T) *journald {
	t.Helper()
	dir, err := os.MkdirTemp("", "w")
	if err != nil {
		t.Fatal(err)
	}
	j := &journald{path: filepath.Join(dir, "stdout")}
	if j.l, err = net.Listen("unix", j.path); err != nil {
		t.Fatal(err)
	}
	go func() {
		for {
			c, err := j.l.Accept()
			if err != nil {
				return
			}
			j.mu.Lock()
			j.open++
			j.mu.Unlock()
			j.wg.Go(func() {
				b, _ := io.ReadAll(bufio.NewReader(c))
				c.Close()
				j.mu.Lock()
				defer j.mu.Unlock()
				j.streams = append(j.streams, string(b))
				j.open--
			})
		}
	}()
	t.Cleanup(func() {
		j.l.Close()
		j.wg.Wait()
		os.RemoveAll(dir)
	})
	return j
}

// all waits until n streams have ended.
func (j *journald) all(t *testing.T, n int) []string {
	t.Helper()
	until(t, fmt.Sprintf("%d streams have ended", n), func() bool { j.mu.Lock(); defer j.mu.Unlock(); return len(j.streams) >= n })
	j.mu.Lock()
	defer j.mu.Unlock()
	return append([]string(nil), j.streams...)
}

// The header is that of sd_journal_stream_fd(3); behind it is what the worker
// writes, with calls that wait.
func TestJournalStream(t *testing.T) {
	j := newJournald(t)
	var told problems
	h := begin(t, Options{Auto: Journal, JournalSocket: j.path, Unit: "workersd.service", Problem: told.tell})
	o := open(t, h, worker("queue@a", ""))
	if o.Target != Journal || o.Identifier != "queue@a" || o.Stdout != o.Stderr {
		t.Errorf("%+v", o)
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(o.Stdout.Fd()), &st); err != nil {
		t.Fatal(err)
	}
	if want := fmt.Sprintf("JOURNAL_STREAM=%d:%d", st.Dev, st.Ino); len(o.Env) != 1 || o.Env[0] != want {
		t.Errorf("environment %q, want %s", o.Env, want)
	}
	if flags, err := unix.FcntlInt(o.Stdout.Fd(), unix.F_GETFL, 0); err != nil || flags&unix.O_NONBLOCK != 0 {
		t.Errorf("the worker's writes do not wait: flags %x, %v", flags, err)
	}
	write(t, o.Stdout, "<3>bad\nno end")
	o.Close()
	finish(t, h)
	if got, want := j.all(t, 1)[0], "queue@a\nworkersd.service\n6\n1\n0\n0\n0\n<3>bad\nno end"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if len(told.all()) != 0 {
		t.Errorf("told %q", told.all())
	}
}

// The stream of a worker goes from one process to the next. What one has wrote
// last is not held back, and what it did to the stream is not the next one's.
func TestJournalStreamIsKept(t *testing.T) {
	j := newJournald(t)
	var told problems
	h := begin(t, Options{Auto: Journal, JournalSocket: j.path, Problem: told.tell})
	first := open(t, h, worker("q@1", ""))
	write(t, first.Stdout, "no end")
	if err := unix.SetNonblock(int(first.Stdout.Fd()), true); err != nil {
		t.Fatal(err)
	}
	first.Close()
	first.Gone()
	second := open(t, h, worker("q@1", ""))
	if flags, err := unix.FcntlInt(second.Stdout.Fd(), unix.F_GETFL, 0); err != nil || flags&unix.O_NONBLOCK != 0 {
		t.Errorf("the worker's writes do not wait: flags %x, %v", flags, err)
	}
	if second.Env[0] != first.Env[0] {
		t.Errorf("environment %q, then %q", first.Env, second.Env)
	}
	write(t, second.Stdout, "second")

	// Its successor under overlap has another, which is the worker's from then on;
	// the older one ends with its process.
	third := open(t, h, worker("q@1", ""))
	if third.Env[0] == second.Env[0] {
		t.Errorf("two processes share %q", third.Env)
	}
	second.Close()
	second.Gone()
	const head = "q@1\n\n6\n1\n0\n0\n0\n"
	if got, want := j.all(t, 1)[0], head+"no end\nsecond"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	write(t, third.Stdout, "third")
	third.Close()
	third.Gone()
	fourth := open(t, h, worker("q@1", ""))
	if fourth.Env[0] != third.Env[0] {
		t.Errorf("environment %q, then %q", third.Env, fourth.Env)
	}

	// One that a process has ended is not handed on.
	unix.Shutdown(int(fourth.Stdout.Fd()), unix.SHUT_WR)
	fourth.Close()
	fourth.Gone()
	j.all(t, 2)
	fifth := open(t, h, worker("q@1", ""))
	write(t, fifth.Stdout, "fifth\n")
	fifth.Close()
	finish(t, h)
	fifth.Gone() // too late
	got := j.all(t, 3)[1:]
	if want := []string{head + "third\n", head + "fifth\n"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if len(told.all()) != 0 {
		t.Errorf("told %q", told.all())
	}
	if n := len(h.journal.own); n != 0 || h.journal.sweep != nil {
		t.Errorf("%d streams are kept at the end", n)
	}
}

// The stream of a worker that does not come again is closed after a while.
func TestIdleJournalStreamIsClosed(t *testing.T) {
	j := newJournald(t)
	h := begin(t, Options{Auto: Journal, JournalSocket: j.path})
	for _, w := range []string{"q@0", "q@1", "q@2"} {
		o := open(t, h, worker(w, ""))
		o.Close()
		if w != "q@2" {
			o.Gone()
		}
	}
	h.journal.mu.Lock()
	h.journal.own["q@0"].idle = time.Now().Add(-keepIdle)
	h.journal.own["q@1"].idle = time.Now().Add(-keepIdle + time.Hour)
	h.journal.mu.Unlock()
	h.journal.closeIdle()
	j.all(t, 1)
	h.journal.mu.Lock()
	if n, again := len(h.journal.own), h.journal.sweep != nil; n != 2 || !again {
		t.Errorf("%d streams are kept, want 2; looked at again: %v", n, again)
	}
	h.journal.mu.Unlock()
}

// Past the limit the workers of an entry share a stream; it is said once, places
// are given back, and nothing is kept of a worker that is gone.
func TestJournalStreamsAreShared(t *testing.T) {
	j := newJournald(t)
	var told problems
	h := begin(t, Options{Auto: Journal, JournalSocket: j.path, Problem: told.tell})
	h.journal.most = 3
	gone := map[string][]func(){}
	id := func(name string) string {
		o := open(t, h, worker(name, ""))
		defer o.Close()
		write(t, o.Stdout, name+"\n")
		if shares := o.Identifier != name; shares != (o.Gone == nil) {
			t.Errorf("%s writes as %s: there is something to give back: %v", name, o.Identifier, o.Gone != nil)
		}
		gone[name] = append(gone[name], o.Gone)
		return o.Identifier
	}
	for i, want := range []string{"q@0", "q@1", "q@2", "q", "q"} {
		if got := id(fmt.Sprint("q@", i)); got != want {
			t.Errorf("worker %d writes as %s, want %s", i, got, want)
		}
	}
	if got := id("q@1"); got != "q@1" { // its next process, beside the old one
		t.Errorf("it had a stream of its own, and now writes as %s", got)
	}
	if said := told.all(); len(said) != 1 || !strings.Contains(said[0], "3 workers have a stream of their own") {
		t.Errorf("told %q", said)
	}
	gone["q@1"][0]()
	if got := id("q@4"); got != "q" {
		t.Errorf("one process of q@1 is left, and yet q@4 writes as %s", got)
	}
	gone["q@1"][1]()
	gone["q@0"][0]()
	if got := id("q@3"); got != "q@3" {
		t.Errorf("a place is free, and yet it writes as %s", got)
	}
	if h.journal.own["q@1"] != nil || h.journal.own["q@0"] == nil {
		t.Errorf("not the stream that was idle longest gave way: %v are left", slices.Sorted(maps.Keys(h.journal.own)))
	}
	finish(t, h)
	if n := len(h.journal.own); n != 0 {
		t.Errorf("%d workers are remembered", n)
	}
	n := 0
	for _, s := range j.all(t, 6) {
		n += strings.Count(s, "\nq@")
	}
	if n != 8 {
		t.Errorf("%d lines arrived, want 8", n)
	}
}

// A journald that was started again is found again, by shared streams too.
func TestJournaldStartedAgain(t *testing.T) {
	j := newJournald(t)
	var told problems
	h := begin(t, Options{Auto: Journal, JournalSocket: j.path, Problem: told.tell})
	h.journal.most = 0
	open(t, h, worker("q@1", "")).Close()
	h.journal.mu.Lock()
	fd := h.journal.shared["q"]
	h.journal.mu.Unlock()
	unix.Shutdown(fd, unix.SHUT_WR)
	j.all(t, 1)
	o := open(t, h, worker("q@2", ""))
	write(t, o.Stdout, "heard\n")
	o.Close()
	finish(t, h)
	if all := j.all(t, 2); !strings.HasSuffix(all[1], "\nheard\n") {
		t.Errorf("streams %q", all)
	}
}

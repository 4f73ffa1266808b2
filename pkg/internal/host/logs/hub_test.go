package logs

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/workersd/workersd/pkg/spec"
)

// problems collects what an administrator is told.
type problems struct {
	mu   sync.Mutex
	said []string
}

func (p *problems) tell(worker string, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.said = append(p.said, worker+": "+err.Error())
}

func (p *problems) all() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]string(nil), p.said...)
}

// terminalLines collects what the terminal is given.
type terminalLines struct {
	mu    sync.Mutex
	lines []string
	bytes int
}

func (l *terminalLines) take(worker string, line []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, worker+": "+string(line))
	l.bytes += len(line)
}

// begin makes a hub and checks at the end that it has left nothing behind.
func begin(t *testing.T, o Options) *Hub {
	t.Helper()
	if o.Lines == nil {
		o.Lines = func(string, []byte) {}
	}
	fds, goroutines := openFiles(), runtime.NumGoroutine()
	h, err := NewHub(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel() // a test that failed may still hold an output
		h.Shutdown(ctx)
		for deadline := time.Now().Add(20 * time.Second); openFiles() > fds || runtime.NumGoroutine() > goroutines; time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("%d descriptors before, %d after; %d goroutines before, %d after", fds, openFiles(), goroutines, runtime.NumGoroutine())
			}
		}
	})
	return h
}

func openFiles() (n int) {
	entries, _ := os.ReadDir("/proc/self/fd")
	for _, e := range entries {
		if to, _ := os.Readlink("/proc/self/fd/" + e.Name()); !strings.HasPrefix(to, "anon_inode:") && !strings.HasPrefix(to, "/proc/") {
			n++
		}
	}
	return n
}

func worker(name, log string) *spec.Worker {
	return &spec.Worker{Name: name, Entry: strings.Split(name, "@")[0], Log: log, LogMaxSize: spec.None, LogBackups: 5}
}

func open(t *testing.T, h *Hub, w *spec.Worker) Output {
	t.Helper()
	o, err := h.Open(w, os.Geteuid(), os.Getegid())
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// write is what a worker does: writes that wait, in pieces of any size.
func write(t *testing.T, f *os.File, text string) {
	t.Helper()
	if _, err := f.WriteString(text); err != nil {
		t.Error(err)
	}
}

func finish(t *testing.T, h *Hub) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := h.Shutdown(ctx); err != nil {
		t.Fatal(err)
	}
}

func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("does not become true: %s", what)
		}
	}
}

// Lines of many workers stay whole, in order, and each has its worker's name,
// however they were cut when they were written.
func TestLinesStayWhole(t *testing.T) {
	const workers, lines = 20, 2000
	var out terminalLines
	h := begin(t, Options{Auto: Terminal, Lines: out.take})
	var wg sync.WaitGroup
	for i := range workers {
		o := open(t, h, worker(fmt.Sprint("w", i), spec.LogAuto))
		wg.Go(func() {
			defer o.Close()
			var b bytes.Buffer
			for n := range lines {
				fmt.Fprintf(&b, "%d-%d-%s\n", i, n, strings.Repeat("x", n%300))
			}
			for step := 1; b.Len() > 0; step = step*7%1021 + 1 {
				write(t, o.Stdout, string(b.Next(step)))
			}
		})
	}
	wg.Wait()
	finish(t, h)
	next := make([]int, workers)
	for _, l := range out.lines {
		var name string
		var i, n int
		fmt.Sscanf(strings.ReplaceAll(l, "-", " "), "%s %d %d", &name, &i, &n)
		if want := fmt.Sprintf("w%d: %d-%d-%s", i, i, next[i], strings.Repeat("x", next[i]%300)); l != want {
			t.Fatalf("got %.80q, want %.80q", l, want)
		}
		next[i]++
	}
	for i, n := range next {
		if n != lines {
			t.Errorf("worker %d: %d lines, want %d", i, n, lines)
		}
	}
}

// 50 MB without a line end, beside a worker that wants to be heard, and memory
// that does not grow with it.
func TestEndlessLine(t *testing.T) {
	const size = 50 << 20
	var long, pieces, most int
	heard := make(chan struct{})
	h := begin(t, Options{Auto: Terminal, Lines: func(w string, line []byte) {
		if w == "other" {
			close(heard)
			return
		}
		long += len(line)
		most = max(most, len(line))
		if strings.HasSuffix(string(line), Continues) {
			long -= len(Continues)
			pieces++
		}
	}})
	o := open(t, h, worker("long", spec.LogAuto))
	other := open(t, h, worker("other", spec.LogAuto))
	done := make(chan struct{})
	go func() {
		defer close(done)
		chunk := strings.Repeat("x", 1<<20)
		for range size >> 20 {
			write(t, o.Stdout, chunk)
		}
		o.Close()
	}()
	write(t, other.Stdout, "here\n")
	<-heard
	other.Close()
	<-done
	finish(t, h)
	if long != size || pieces < size>>18 || most > 2*maxLine+len(Continues) {
		t.Errorf("%d bytes in %d pieces of at most %d, want %d", long, pieces, most, size)
	}
}

// A million lines arrive all, though the reader is slower: the writer waits.
func TestBackPressure(t *testing.T) {
	const lines = 1_000_000
	var n atomic.Int64
	hold := make(chan struct{})
	var once sync.Once
	h := begin(t, Options{Auto: Terminal, Lines: func(string, []byte) {
		once.Do(func() { <-hold })
		n.Add(1)
	}})
	o := open(t, h, worker("w", spec.LogAuto))
	var written atomic.Int64
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer o.Close()
		block := strings.Repeat("a line of a worker\n", 1000)
		for range lines / 1000 {
			write(t, o.Stdout, block)
			written.Add(1000)
		}
	}()
	// Held up, it can write what pipe and buffers take, and no more.
	last := int64(-1)
	until(t, "the writer waits", func() bool {
		time.Sleep(20 * time.Millisecond)
		now := written.Load()
		still := now == last && now > 0
		last = now
		return still
	})
	if last*19 > 4*sinkLimit {
		t.Errorf("%d bytes were taken while nobody read", last*19)
	}
	close(hold)
	<-done
	finish(t, h)
	if n.Load() != lines {
		t.Errorf("%d of %d lines arrived", n.Load(), lines)
	}
}

// Thousands of outputs take no goroutine and no thread each.
func TestManyOutputs(t *testing.T) {
	var limit unix.Rlimit
	unix.Getrlimit(unix.RLIMIT_NOFILE, &limit)
	workers := int(min(2000, limit.Cur/3))
	var out terminalLines
	h := begin(t, Options{Auto: Terminal, Lines: out.take})
	goroutines := runtime.NumGoroutine()
	tasks, _ := os.ReadDir("/proc/self/task")
	outs := make([]Output, workers)
	for i := range outs {
		outs[i] = open(t, h, worker(fmt.Sprint("w", i), spec.LogAuto))
		write(t, outs[i].Stdout, "begins ")
	}
	now, _ := os.ReadDir("/proc/self/task")
	if n := runtime.NumGoroutine() - goroutines; n > 5 {
		t.Errorf("%d goroutines more with %d outputs", n, workers)
	}
	// System calls that take long are worth a thread, too: a few, on any machine.
	if n := len(now) - len(tasks); n > workers/2 {
		t.Errorf("%d threads more with %d outputs", n, workers)
	}
	for i := range outs {
		write(t, outs[i].Stdout, "ends\n")
		outs[i].Close()
	}
	finish(t, h)
	if len(out.lines) != workers {
		t.Errorf("%d lines of %d workers", len(out.lines), workers)
	}
}

// Shutdown does not wait longer than it may for a process that holds its pipe,
// and what it has written by then has arrived, a last line without an end too.
func TestShutdownWithAHeldPipe(t *testing.T) {
	var out terminalLines
	h := begin(t, Options{Auto: Terminal, Lines: out.take})
	o := open(t, h, worker("w", spec.LogAuto))
	defer o.Close()
	write(t, o.Stdout, "one\ntwo")
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if err := h.Shutdown(ctx); err == nil || !strings.Contains(err.Error(), "1 outputs were still held by a process") {
		t.Errorf("error %v", err)
	}
	if got := strings.Join(out.lines, "|"); got != "w: one|w: two" {
		t.Errorf("lines %q", got)
	}
	if _, err := unix.Write(int(o.Stdout.Fd()), []byte("x")); err != syscall.EPIPE {
		t.Errorf("a write afterwards: %v, want %v", err, syscall.EPIPE)
	}
	if _, err := h.Open(worker("late", spec.LogAuto), 0, 0); err == nil {
		t.Error("an output was opened after the end")
	}
}

func TestInherit(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	h := begin(t, Options{Auto: Journal, JournalSocket: "/nowhere/journal", Stdout: w, Stderr: w})
	o := open(t, h, worker("w", spec.LogInherit))
	write(t, o.Stderr, "said\n")
	o.Close()
	w.Close()
	b := make([]byte, 10)
	if n, _ := r.Read(b); string(b[:n]) != "said\n" || o.Target != Inherit || o.Env != nil {
		t.Errorf("%q, %v, %q", b[:n], o.Target, o.Env)
	}
}

// Without journald the output goes to ours, and that is said once.
func TestJournalIsNotThere(t *testing.T) {
	var told problems
	var out terminalLines
	h := begin(t, Options{Auto: Terminal, JournalSocket: filepath.Join(t.TempDir(), "j"), Problem: told.tell, Lines: out.take})
	for i := range 3 {
		o := open(t, h, worker(fmt.Sprint("w", i), spec.LogJournal))
		if o.Target != Terminal {
			t.Errorf("it goes to %v", o.Target)
		}
		write(t, o.Stdout, "x\n")
		o.Close()
	}
	finish(t, h)
	if len(out.lines) != 3 || len(told.all()) != 1 || !strings.Contains(told.all()[0], "w0: journal: ") {
		t.Errorf("lines %q, told %q", out.lines, told.all())
	}
}

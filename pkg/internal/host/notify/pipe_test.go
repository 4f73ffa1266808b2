package notify

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/workersd/workersd/pkg/internal/lifecycle"
)

func openPipe(t *testing.T, h *Hub, id lifecycle.ProcessID) *os.File {
	t.Helper()
	s, err := h.Open(id, os.Geteuid(), true)
	if err == nil {
		err = h.Listen(id)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Pipe.Close() })
	return s.Pipe
}

func write(t *testing.T, f *os.File, s string) {
	t.Helper()
	if _, err := f.WriteString(s); err != nil {
		t.Fatal(err)
	}
}

func TestPipeLinesAreMessages(t *testing.T) {
	const g = 7
	began := func(id string) lifecycle.Event { return lifecycle.ExecutionBegan{Generation: g, ID: id} }
	ended := func(id string, r lifecycle.Result) lifecycle.Event {
		return lifecycle.ExecutionEnded{Generation: g, ID: id, Result: r}
	}
	for name, c := range map[string]struct {
		writes  []string
		want    []lifecycle.Event
		garbage uint64
	}{
		"one a line":          {[]string{"READY=1\nX_WORKERSD_BEGIN=1\n"}, []lifecycle.Event{lifecycle.Ready{Generation: g}, began("1")}, 0},
		"empty lines between": {[]string{"READY=1\n\n\nSTOPPING=1\n\n"}, []lifecycle.Event{lifecycle.Ready{Generation: g}, lifecycle.SaidStopping{Generation: g}}, 0},
		"byte by byte":        {strings.Split("X_WORKERSD_BEGIN=1\n", ""), []lifecycle.Event{began("1")}, 0},
		"result after end":    {[]string{"X_WORKERSD_END=1\nX_WORKERSD_RESULT=fail\n"}, []lifecycle.Event{ended("1", lifecycle.Fail)}, 0},
		"result before end":   {[]string{"X_WORKERSD_RESULT=skip\nX_WORKERSD_END=1\n"}, []lifecycle.Event{ended("1", lifecycle.Skip)}, 0},
		"end without result":  {[]string{"X_WORKERSD_END=1\nX_WORKERSD_BEGIN=2\n"}, []lifecycle.Event{ended("1", lifecycle.OK), began("2")}, 0},
		"a bad line spoils only itself": {
			[]string{"READY=1\nnoise\nSTOPPING=1\n"}, []lifecycle.Event{lifecycle.Ready{Generation: g}, lifecycle.SaidStopping{Generation: g}}, 1,
		},
		"an endless line is one piece of garbage": {
			[]string{strings.Repeat("x", 3000), strings.Repeat("x", 30000), "\nREADY=1\n"}, []lifecycle.Event{lifecycle.Ready{Generation: g}}, 1,
		},
		"a last line without its end": {[]string{"READY=1\nSTOPPING=1", ""}, []lifecycle.Event{lifecycle.Ready{Generation: g}, lifecycle.SaidStopping{Generation: g}}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			col := newCollector()
			h := start(t, Options{Deliver: col.deliver})
			id := process("node")
			p := openPipe(t, h, id)
			for _, w := range c.writes {
				if w == "" {
					p.Close()
					continue
				}
				write(t, p, w)
			}
			if d := cmp.Diff(c.want, col.await(t, id, len(c.want))); d != "" {
				t.Errorf("events (-want +got):\n%s", d)
			}
			if refused, garbage := h.Counters(id); refused != 0 || garbage != c.garbage {
				t.Errorf("refused %d, garbage %d, expected 0 and %d", refused, garbage, c.garbage)
			}
		})
	}
}

// Messages keep together and in order however the reads fall.
func TestPipeInMasses(t *testing.T) {
	const n = 20_000
	c := newCollector()
	h := start(t, Options{Deliver: c.deliver})
	id := process("node")
	p := openPipe(t, h, id)
	want := make([]lifecycle.Event, 0, 2*n)
	for i := range n {
		write(t, p, fmt.Sprintf("X_WORKERSD_BEGIN=%d\nX_WORKERSD_END=%d\nX_WORKERSD_RESULT=fail\n", i, i))
		want = append(want,
			lifecycle.ExecutionBegan{Generation: 7, ID: fmt.Sprint(i)},
			lifecycle.ExecutionEnded{Generation: 7, ID: fmt.Sprint(i), Result: lifecycle.Fail})
	}
	if d := cmp.Diff(want, c.await(t, id, 2*n)); d != "" {
		t.Errorf("events (-want +got):\n%.2000s", d)
	}
	if _, garbage := h.Counters(id); garbage != 0 {
		t.Errorf("garbage %d, expected none", garbage)
	}
}

func TestPipeWhoseWritersAreGoneIsLetGo(t *testing.T) {
	c := newCollector()
	h := start(t, Options{Deliver: c.deliver})
	before := openFiles(t)
	for i := range 20 {
		id := process(fmt.Sprint("w", i))
		p := openPipe(t, h, id)
		write(t, p, "READY=1\n")
		p.Close()
		c.await(t, id, 1)
		h.Drain(id)
		// The socket stays until Close; the pipe has nobody left.
		if got, want := openFiles(t), before+i+1; got > want {
			t.Fatalf("%d descriptors are open after %d pipes ended, expected %d", got, i+1, want)
		}
	}
}

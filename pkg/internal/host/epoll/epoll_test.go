package epoll

import (
	"os"
	"testing"
)

// rig is a poller over pipes; token 1 is the one that a test rings itself.
type rig struct {
	*Poller
	t    *testing.T
	bell *os.File
}

func newRig(t *testing.T) *rig {
	t.Helper()
	p, err := New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	r := &rig{Poller: p, t: t}
	from, to := r.pipe()
	if err := p.Add(from, 1); err != nil {
		t.Fatal(err)
	}
	r.bell = to
	return r
}

func (r *rig) pipe() (from int, to *os.File) {
	r.t.Helper()
	read, to, err := os.Pipe()
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { read.Close(); to.Close() })
	return int(read.Fd()), to
}

func (r *rig) write(to *os.File) {
	r.t.Helper()
	if _, err := to.Write([]byte("x")); err != nil {
		r.t.Fatal(err)
	}
}

// told counts how often a token is told until the bell has rung ten times: what
// is told again and again is told each time.
func (r *rig) told(token uint64) (n int) {
	r.t.Helper()
	for range 10 {
		for rung := false; !rung; {
			if err := r.Wait(func(got uint64) {
				switch got {
				case 1:
					rung = true
				case token:
					n++
				default:
					r.t.Errorf("token %d was told", got)
				}
			}); err != nil {
				r.t.Fatal(err)
			}
		}
	}
	return n
}

// A descriptor that is paused is not told of, however much there is to read; its
// end is told once and not again and again. Resumed it is as before.
func TestPause(t *testing.T) {
	const token = 1<<40 + 7
	r := newRig(t)
	r.write(r.bell) // rings for ever
	from, to := r.pipe()
	if err := r.Add(from, token); err != nil {
		t.Fatal(err)
	}
	r.write(to)
	if n := r.told(token); n < 9 {
		t.Errorf("told %d times of 10 that there is something to read", n)
	}
	r.Pause(from, token)
	r.write(to)
	if n := r.told(token); n != 0 {
		t.Errorf("told %d times while it is paused", n)
	}
	to.Close()
	if n := r.told(token); n > 1 {
		t.Errorf("its end is told %d times while it is paused", n)
	}
	r.Resume(from, token)
	if n := r.told(token); n < 9 {
		t.Errorf("told %d times of 10 after it was resumed", n)
	}
	r.Remove(from)
	if n := r.told(token); n != 0 {
		t.Errorf("told %d times after it was removed", n)
	}
}

// Who was not added is neither by a pause nor by its end.
func TestPauseOfAStranger(t *testing.T) {
	r := newRig(t)
	r.write(r.bell)
	from, to := r.pipe()
	r.write(to)
	r.Pause(from, 7)
	r.Resume(from, 7)
	if n := r.told(7); n != 0 {
		t.Errorf("told %d times", n)
	}
	if err := r.Add(from, 7); err != nil {
		t.Error(err)
	}
	r.Close()
	r.Pause(from, 7)
	r.Resume(from, 7)
}

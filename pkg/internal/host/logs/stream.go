package logs

import (
	"bytes"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/workersd/workersd/pkg/spec"
)

const (
	// maxLine is the longest line that is kept together.
	maxLine = 64 << 10
	// readSize is what a pipe holds (pipe(7)).
	readSize = 64 << 10
	// gather is how long writers of many small pieces are left alone, so that one
	// wake-up reads many of them; their pipes are made larger, so that they need not
	// wait. It is not used for a piece now and then.
	gather = time.Millisecond
	often  = 2 * time.Millisecond
	small  = readSize / 2
	block  = 4 << 10 // what a writer hands over that does not write by lines
	roomy  = 256 << 10
)

// stream is our end of one process's pipe. Its fields belong to the loop, save
// fd, which the sink's mu guards.
type stream struct {
	token   uint64
	worker  string
	sink    *sink
	fd      int    // -1 once it is closed
	roomy   bool   // its pipe was made larger
	partial []byte // a line whose end has not come yet; nil if there is none
}

// pipe makes an output that the hub reads.
func (h *Hub) pipe(w *spec.Worker, k *sink, uid, gid int, t Target) (Output, error) {
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
		h.release(k)
		return Output{}, fmt.Errorf("worker %s: output: %w", w.Name, err)
	}
	unix.SetNonblock(p[0], true) // only our end: the worker's calls wait
	// A worker that opens /dev/stdout anew must be allowed to.
	if uid != os.Geteuid() || gid != os.Getegid() {
		unix.Fchown(p[1], uid, gid)
	}
	f := os.NewFile(uintptr(p[1]), "output of "+w.Name)
	s := &stream{worker: w.Name, sink: k, fd: p[0]}
	h.mu.Lock()
	h.next++
	s.token = h.next
	h.streams[s.token] = s
	closed := h.closed
	h.mu.Unlock()
	err := os.ErrClosed
	if !closed {
		err = h.poller.Add(p[0], s.token) // s.fd is the loop's from now on
	}
	if err != nil {
		f.Close()
		h.end(s)
		return Output{}, fmt.Errorf("worker %s: output: %w", w.Name, err)
	}
	return Output{Stdout: f, Stderr: f, Target: t}, nil
}

// inherit hands on copies of the manager's own output.
func (h *Hub) inherit() (Output, error) {
	out, err := duplicate(h.options.Stdout)
	if err != nil {
		return Output{}, err
	}
	errOut, err := duplicate(h.options.Stderr)
	if err != nil {
		out.Close()
		return Output{}, err
	}
	o := Output{Stdout: out, Stderr: errOut, Target: Inherit}
	// The manager's own variable holds for the worker too, if it names what the
	// worker is given.
	if v := streamVariable(errOut); len(v) == 1 && v[0] == "JOURNAL_STREAM="+os.Getenv("JOURNAL_STREAM") {
		o.Env = v
	}
	return o, nil
}

func duplicate(f *os.File) (*os.File, error) {
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return nil, fmt.Errorf("logs: the manager's own %s: %w", f.Name(), err)
	}
	return os.NewFile(uintptr(fd), f.Name()), nil
}

// loop reads all pipes in turn, one block of each at a time.
func (h *Hub) loop() {
	defer close(h.done)
	buf := make([]byte, readSize)
	var got int
	var last time.Time
	hurry := false // the round before was a moment ago
	ready := func(token uint64) {
		h.mu.Lock()
		s := h.streams[token]
		h.mu.Unlock()
		if s == nil {
			return
		}
		n := h.read(s, buf)
		got += n
		if hurry && n >= block && !s.roomy {
			s.widen()
		}
	}
	for {
		got = 0
		if h.poller.Wait(ready) != nil {
			return // closed
		}
		now := time.Now()
		if hurry = now.Sub(last) < often; hurry && got < small {
			// Not time.Sleep: the network poller may make twice as much of it.
			unix.Nanosleep(&unix.Timespec{Nsec: int64(gather)}, nil)
			now = time.Now()
		}
		last = now
	}
}

// widen gives the pipe more room. Where it is refused (pipe(7),
// pipe-user-pages-soft) the worker waits sometimes.
func (s *stream) widen() {
	s.roomy = true
	if s.fd >= 0 {
		unix.FcntlInt(uintptr(s.fd), unix.F_SETPIPE_SZ, roomy)
	}
}

// read moves one block of s to its sink.
func (h *Hub) read(s *stream, buf []byte) int {
	if s.sink.pause(s) {
		return 0
	}
	n, err := s.readBlock(buf)
	switch {
	case err == unix.EAGAIN:
		return 0
	case err != nil || n == 0:
		h.end(s)
		return 0
	}
	s.take(buf[:n])
	return n
}

func (s *stream) readBlock(buf []byte) (int, error) {
	for {
		n, err := unix.Read(s.fd, buf)
		if err != unix.EINTR {
			return n, err
		}
	}
}

// take hands whole lines on and keeps the rest. It looks at line ends only as
// far as it must, at the end of the block.
func (s *stream) take(b []byte) {
	i := bytes.LastIndexByte(b, '\n') + 1
	if i > 0 {
		s.sink.add(s, s.partial, b[:i], false)
		s.partial = nil
	}
	if i == len(b) {
		return
	}
	s.partial = append(s.partial, b[i:]...)
	if len(s.partial) >= maxLine {
		s.sink.add(s, s.partial, nil, true)
		s.partial = nil
	}
}

// end closes s, and hands on a last line without a line end.
func (h *Hub) end(s *stream) {
	if len(s.partial) > 0 {
		s.sink.add(s, s.partial, nil, false)
		s.partial = nil
	}
	s.sink.mu.Lock()
	if s.fd >= 0 {
		h.poller.Remove(s.fd)
		unix.Close(s.fd)
		s.fd = -1
	}
	s.sink.mu.Unlock()
	h.mu.Lock()
	delete(h.streams, s.token)
	h.mu.Unlock()
	h.release(s.sink)
	h.change()
}

// closeStreams takes what lies in the pipes and closes them, after the loop.
func (h *Hub) closeStreams() int {
	h.mu.Lock()
	var all []*stream
	for _, s := range h.streams {
		all = append(all, s)
	}
	h.mu.Unlock()
	buf := make([]byte, readSize)
	for _, s := range all {
		// One pipe's worth: a process that goes on writing cannot hold us up.
		if n, err := s.readBlock(buf); err == nil && n > 0 {
			s.take(buf[:n])
		}
		h.end(s)
	}
	return len(all)
}

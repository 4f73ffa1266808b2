package logs

import (
	"sync"
	"sync/atomic"

	"github.com/workersd/workersd/pkg/spec"
)

// sinkLimit of bytes wait for a target that does not take them; then the pipes
// that lead to it are not read, and those who write to them wait.
const sinkLimit = 256 << 10

// sink is a target that several streams may share: a file, or the terminal. It
// is written by a goroutine that lives only while there is something to write,
// so that a target that hangs holds up nobody else.
type sink struct {
	hub     *Hub
	consume func(*batch) // writes; may block
	file    *file        // nil for the terminal
	streams atomic.Int32 // changed under hub.mu

	mu      sync.Mutex // guards what follows, and the fd of its streams
	pending *batch     // nil if empty
	writing bool
	paused  []*stream
	midLine uint64 // token of the stream whose last piece has no line end
}

// batch is a run of bytes to be written.
type batch struct {
	data  []byte
	spans []span
}

// span says whose the bytes are, up to end.
type span struct {
	worker string
	end    int
	more   bool // the line goes on in a later piece
}

var batches = sync.Pool{New: func() any { return new(batch) }}

// add takes two pieces of one stream, which end a line unless more.
func (k *sink) add(s *stream, a, b []byte, more bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.pending == nil {
		k.pending = batches.Get().(*batch)
	}
	p := k.pending
	if k.midLine != 0 && k.midLine != s.token && k.file != nil {
		// Another stream's endless line stands there: begin a new one.
		p.data = append(p.data, '\n')
	}
	k.midLine = 0
	if more {
		k.midLine = s.token
	}
	p.data = append(append(p.data, a...), b...)
	if n := len(p.spans); n > 0 && p.spans[n-1].worker == s.worker && !p.spans[n-1].more {
		p.spans[n-1].end, p.spans[n-1].more = len(p.data), more
	} else {
		p.spans = append(p.spans, span{s.worker, len(p.data), more})
	}
	if !k.writing {
		k.writing = true
		go k.write()
	}
}

// pause reports whether the sink is full. Then s is not read until it is not; it
// may be asked again meanwhile, because the poller tells of its end all the same.
func (k *sink) pause(s *stream) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.pending == nil || len(k.pending.data) < sinkLimit {
		return false
	}
	k.hub.poller.Pause(s.fd, s.token)
	k.paused = append(k.paused, s)
	return true
}

// write writes until nothing is pending.
func (k *sink) write() {
	for {
		k.mu.Lock()
		p := k.pending
		k.pending = nil
		for i, s := range k.paused {
			if s.fd >= 0 {
				k.hub.poller.Resume(s.fd, s.token)
			}
			k.paused[i] = nil
		}
		k.paused = k.paused[:0]
		k.writing = p != nil
		k.mu.Unlock()
		if p == nil {
			k.hub.reap(k)
			k.hub.change()
			return
		}
		k.consume(p)
		p.reset()
		batches.Put(p)
	}
}

func (p *batch) reset() {
	clear(p.spans)
	p.data, p.spans = p.data[:0], p.spans[:0]
}

func (k *sink) idle() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return !k.writing
}

// file finds or opens the log file of w, and counts one stream more.
func (h *Hub) file(w *spec.Worker) (*sink, error) {
	h.mu.Lock()
	if k := h.files[w.Log]; k != nil {
		k.streams.Add(1)
		k.file.limit(w)
		h.mu.Unlock()
		return k, nil
	}
	h.mu.Unlock()
	f := newFile(w, h.open, h.options.Problem)
	// Opened before it is shared: a file system that hangs holds up this worker.
	if err := f.first(); err != nil {
		return nil, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if k := h.files[w.Log]; k != nil {
		f.close()
		k.streams.Add(1)
		return k, nil
	}
	k := &sink{hub: h, file: f, consume: func(p *batch) { f.write(p.data) }}
	k.streams.Add(1)
	h.files[w.Log] = k
	return k, nil
}

// release counts one stream less, and lets go of a file that nobody writes to.
func (h *Hub) release(k *sink) {
	if k.file == nil {
		return
	}
	h.mu.Lock()
	k.streams.Add(-1)
	h.mu.Unlock()
	h.reap(k)
}

// reap closes the file of k if no stream and no byte is left for it.
func (h *Hub) reap(k *sink) {
	if k.file == nil || k.streams.Load() > 0 {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if k.streams.Load() > 0 || !k.idle() || h.files[k.file.path] != k {
		return
	}
	delete(h.files, k.file.path)
	go k.file.close() // may wait for the disk
}

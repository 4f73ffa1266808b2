package notify

import (
	"bytes"

	"golang.org/x/sys/unix"

	"github.com/workersd/workersd/pkg/sdnotify"
)

// lines makes messages of what comes through a pipe. Each line is a message;
// a RESULT and the END next to it are one. A line that is too long is garbage
// once, however long it is.
type lines struct {
	rest     []byte // the beginning of a message whose end has not come yet
	skipping bool   // inside a line that is too long
}

// held reports whether a whole line waits for the one that may belong to it.
func (l *lines) held() bool {
	return len(l.rest) > 0 && l.rest[len(l.rest)-1] == '\n'
}

// readPipe delivers one block of src, whose endpoint is locked. It reports
// whether there may be more.
func (h *Hub) readPipe(r *reader, src *source) bool {
	l := &src.lines
	// What is kept is bounded by feed, so that there is always room to read.
	b := append(r.data[:0], l.rest...)
	var n int
	var err error
	for {
		n, err = unix.Read(src.fd, r.data[len(b):])
		if err != unix.EINTR {
			break
		}
	}
	if err == unix.EAGAIN {
		h.feed(r, src.ep, l, b, true)
		return false
	}
	if err != nil || n == 0 {
		h.feed(r, src.ep, l, append(b, '\n'), true)
		src.close(h)
		return false
	}
	more := len(b)+n == len(r.data)
	h.feed(r, src.ep, l, r.data[:len(b)+n], !more)
	return more
}

// feed delivers the messages in b and keeps the rest. drained says that the
// pipe was empty after b: writes of up to PIPE_BUF bytes come in one piece, so
// an END without its RESULT has none.
func (h *Hub) feed(r *reader, ep *endpoint, l *lines, b []byte, drained bool) {
	if l.skipping {
		i := bytes.IndexByte(b, '\n')
		if i < 0 {
			l.rest = l.rest[:0]
			return
		}
		b, l.skipping = b[i+1:], false
	}
	for {
		m, rest, ok := nextMessage(b, drained)
		if !ok {
			break
		}
		b = rest
		if len(m) == 0 {
			continue
		}
		if err := r.message.Parse(m); err != nil {
			h.garbage(ep, err)
			continue
		}
		h.deliver(ep, &r.message)
	}
	if len(b) >= sdnotify.MaxMessage {
		h.garbage(ep, errTooLong)
		l.skipping, b = true, nil
	}
	if len(b) == 0 {
		l.rest = nil
		return
	}
	l.rest = append(l.rest[:0], b...)
}

// nextMessage cuts the first message off b, if its end is there.
func nextMessage(b []byte, drained bool) (message, rest []byte, ok bool) {
	i := bytes.IndexByte(b, '\n')
	if i < 0 {
		return nil, b, false
	}
	first, second := b[:i], b[i+1:]
	other := partner(first)
	if other == nil {
		return first, second, true
	}
	j := bytes.IndexByte(second, '\n')
	switch {
	case j >= 0 && bytes.HasPrefix(second, other):
		return b[:i+1+j], second[j+1:], true
	case j < 0 && !drained:
		return nil, b, false
	}
	return first, second, true
}

var (
	endKey    = []byte("X_WORKERSD_END=")
	resultKey = []byte("X_WORKERSD_RESULT=")
)

// partner is the key that belongs to the same message as line, if any.
func partner(line []byte) []byte {
	switch {
	case bytes.HasPrefix(line, endKey):
		return resultKey
	case bytes.HasPrefix(line, resultKey):
		return endKey
	}
	return nil
}

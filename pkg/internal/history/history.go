package history

import (
	"cmp"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/workersd/workersd/pkg/internal/event"
)

// What is kept in memory, and how much waits for a slow disk.
const (
	recentRecords  = 4096
	deathsPerName  = 16
	waitingForDisk = 8192
)

// maxNames bounds the workers whose deaths are kept: lists change, and so do
// names. More than a list can hold; another number in tests.
var maxNames = 20_000

// closeTime is what a disk that hangs may cost the end of the manager.
const closeTime = 5 * time.Second

// History is the reader of records that remembers. Add is called by the
// supervisor's loop; all else by any goroutine.
type History struct {
	mu     sync.Mutex // guards all below
	recent []event.Record
	next   int // where the next record goes in recent
	deaths map[string][]event.Record
	subs   map[*Subscription]struct{}
	// recycled is of records of any manager, as far as they are on disk.
	recycled tally
	lost     uint64 // records that no disk took, since that was told last

	generation uint64 // the highest that Open has read

	file *appender // nil: memory only
	// queue takes records to the disk's goroutine; Close closes it. Its buffer
	// is what a slow disk may hold up before records are lost for it.
	queue chan event.Record
	done  chan struct{}
}

// Open reads what an earlier manager left in dir, which is made where it is
// missing; "" keeps everything in memory. Problem is told how many records
// could not be read back, once when the disk takes no records, once when it does
// again, and how many are missing then.
func Open(dir string, problem func(string)) (*History, error) {
	h := &History{
		recent: make([]event.Record, 0, 64), deaths: map[string][]event.Record{}, subs: map[*Subscription]struct{}{},
		done: make(chan struct{}),
	}
	if dir == "" {
		close(h.done)
		return h, nil
	}
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return nil, fmt.Errorf("state directory: %w", err)
	}
	f, err := openAppender(filepath.Join(dir, "history"), func(r event.Record) {
		h.generation = max(h.generation, r.Generation)
		h.keep(r)
	})
	if err != nil {
		return nil, fmt.Errorf("state directory: %w", err)
	}
	if f.skipped > 0 {
		problem(fmt.Sprintf("records of the history could not be read back, and are left out: %d, in %s or %s.1", f.skipped, f.path, filepath.Base(f.path)))
	}
	f.cut = func(r event.Record) {
		problem(fmt.Sprintf("a record is too long for the history, and so its texts are cut there: %s, of %s (of further ones nothing is said)", r.Kind, cmp.Or(r.Worker, "the manager")))
	}
	h.file = f
	h.queue = make(chan event.Record, waitingForDisk)
	go h.write(h.queue, problem)
	return h, nil
}

// Generation is the highest that an earlier manager has written about.
func (h *History) Generation() uint64 { return h.generation }

// Add takes one record. It never waits for the disk.
func (h *History) Add(r event.Record) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.keep(r)
	for s := range h.subs {
		s.offer(r)
	}
	if h.queue != nil {
		select {
		case h.queue <- r:
		default:
			h.lost++
		}
	}
}

// keep is called with mu held, or before anybody else has h.
func (h *History) keep(r event.Record) {
	if len(h.recent) < recentRecords {
		h.recent = append(h.recent, r)
	} else {
		h.recent[h.next] = r
		h.next = (h.next + 1) % recentRecords
	}
	if r.Kind == event.Recycling && r.Time.Unix() >= 0 {
		h.recycled.add(r.Time)
	}
	if r.Kind == event.Gone || r.Kind == event.NotStarted {
		d := append(h.deaths[r.Worker], r)
		if len(d) > deathsPerName {
			d = append(d[:0:0], d[1:]...)
		}
		h.deaths[r.Worker] = d
		if len(h.deaths) > maxNames {
			h.forget()
		}
	}
}

// forget drops the tenth of the names whose last death is longest ago.
func (h *History) forget() {
	names := slices.Collect(maps.Keys(h.deaths))
	last := func(name string) time.Time { d := h.deaths[name]; return d[len(d)-1].Time }
	slices.SortFunc(names, func(a, b string) int { return last(a).Compare(last(b)) })
	for _, name := range names[:len(names)/10+1] {
		delete(h.deaths, name)
	}
}

// write is the disk's goroutine. It has the queue from the beginning: Close
// takes it out of h, perhaps before this has run at all.
func (h *History) write(queue <-chan event.Record, problem func(string)) {
	defer close(h.done)
	bad := false
	for r := range queue {
		err := h.file.append(r)
		switch {
		case err != nil && !bad:
			bad = true
			problem(fmt.Sprintf("the history takes no more records: %v (they are kept in memory)", err))
		case err == nil && bad:
			bad = false
			problem("the history takes records again")
		}
		switch {
		case err != nil:
			h.mu.Lock()
			h.lost++
			h.mu.Unlock()
		case len(queue) == 0: // it has caught up: no more are being lost
			h.tellLost(problem)
		}
	}
	h.tellLost(problem)
	h.file.close()
}

// tellLost says how many records the files lack, whether the disk was too slow
// or took none: who counts ends in them must know.
func (h *History) tellLost(problem func(string)) {
	h.mu.Lock()
	n := h.lost
	h.lost = 0
	h.mu.Unlock()
	if n > 0 {
		problem(fmt.Sprintf("the history lacks %d of the records: the disk did not take them", n))
	}
}

// Close writes what waits and ends; a disk that hangs is not waited for. Add
// must not be called any more.
func (h *History) Close() {
	h.mu.Lock()
	q := h.queue
	h.queue = nil
	for s := range h.subs {
		s.close()
		delete(h.subs, s)
	}
	h.mu.Unlock()
	if q != nil {
		close(q)
	}
	late := time.NewTimer(closeTime)
	defer late.Stop()
	select {
	case <-h.done:
	case <-late.C:
	}
}

// Recent are the last n records, oldest first; n <= 0: all that are kept.
func (h *History) Recent(n int) []event.Record {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.recentLocked(n)
}

func (h *History) recentLocked(n int) []event.Record {
	out := make([]event.Record, 0, len(h.recent))
	out = append(out, h.recent[h.next:]...)
	out = append(out, h.recent[:h.next]...)
	if n > 0 && len(out) > n {
		out = out[len(out)-n:]
	}
	return out
}

// Deaths are the last ends and failed starts of one worker, oldest first.
func (h *History) Deaths(worker string) []event.Record {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]event.Record(nil), h.deaths[worker]...)
}

// Recycled is how often workers were recycled in the hour before now.
func (h *History) Recycled(now time.Time) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.recycled.lastHour(now)
}

// Subscription is a reader that follows. A reader that is too slow loses
// records and is told how many; nobody waits for it.
type Subscription struct {
	h    *History
	C    chan event.Record // closed by Cancel or Close; buffered for a slow reader
	mu   sync.Mutex        // guards lost and over
	lost int
	over bool
}

// Subscribe gives the last n records and then every new one.
func (h *History) Subscribe(n int) ([]event.Record, *Subscription) {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := &Subscription{h: h, C: make(chan event.Record, 1024)}
	h.subs[s] = struct{}{}
	if n == 0 {
		return nil, s
	}
	return h.recentLocked(n), s
}

// offer is called with the history's mu held, so it never runs beside close.
func (s *Subscription) offer(r event.Record) {
	select {
	case s.C <- r:
	default:
		s.mu.Lock()
		s.lost++
		s.mu.Unlock()
	}
}

// Lost takes the number of records that were lost since it was asked last.
func (s *Subscription) Lost() (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n, s.lost = s.lost, 0
	return n
}

// Cancel ends the subscription.
func (s *Subscription) Cancel() {
	s.h.mu.Lock()
	defer s.h.mu.Unlock()
	if _, ok := s.h.subs[s]; ok {
		delete(s.h.subs, s)
		s.close()
	}
}

func (s *Subscription) close() {
	if !s.over {
		s.over = true
		close(s.C)
	}
}

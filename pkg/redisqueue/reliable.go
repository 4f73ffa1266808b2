package redisqueue

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/workersd/workersd/pkg/worker"
)

// Reliable is a worker that loses no message: see the package documentation.
func Reliable(o Options) worker.Worker {
	return &reliable{conn: conn{given: o}, held: map[string]int{}, doubt: map[string]int{}, unread: true}
}

type reliable struct {
	conn

	// moving is held for reading from before a message enters or leaves the
	// in-flight list until held says so, and for writing while the list is
	// compared with held.
	moving sync.RWMutex

	mu      sync.Mutex     // protects what follows
	held    map[string]int // messages in the list of which we know, and how often
	pending []string       // of them: to be done next, oldest first
	putOff  []string       // of them: failed and to be tried again, oldest first
	passes  int            // how many new ones may go before what is put off
	unread  bool           // the list may hold messages that are not in held
	doubt   map[string]int // tries that may have been counted without having begun
	unsure  []*removal     // whose answer was lost
	marks   []*removal     // by mark; nil is free
}

// mostPutOff bounds what one worker keeps from the others by putting it off: no
// new message goes before so many.
const mostPutOff = 16

// Run does one message: one of the in-flight list first, else a new one; of those
// that were put off one, and a new one, by turns.
func (r *reliable) Run(ctx context.Context) (bool, error) {
	message, isNew, err := r.next(ctx)
	switch {
	case err == nil:
		return r.do(ctx, message, isNew)
	case errors.Is(err, redis.Nil):
		r.back(ctx)
	default:
		r.gone(ctx, err)
	}
	return false, nil
}

// next is the message to do, and whether it is new or was in the in-flight list
// before; redis.Nil says that there is none.
func (r *reliable) next(ctx context.Context) (message string, isNew bool, err error) {
	if err := r.settle(ctx); err != nil {
		return "", false, err
	}
	if err := r.reread(ctx); err != nil {
		return "", false, err
	}
	if m, ok := r.takeFirst(&r.pending); ok {
		return m, false, nil
	}
	if r.pass() {
		if m, err := r.takeNew(ctx, 0); !errors.Is(err, redis.Nil) {
			return m, true, err
		}
	}
	if m, ok := r.takeFirst(&r.putOff); ok {
		return m, false, nil
	}
	m, err := r.takeNew(ctx, r.opt.Wait)
	return m, true, err
}

// takeNew moves a message into the in-flight list; where there is none it waits
// that long, and says redis.Nil.
func (r *reliable) takeNew(ctx context.Context, wait time.Duration) (string, error) {
	r.moving.RLock()
	defer r.moving.RUnlock()
	call, cancel := bounded(ctx, wait)
	defer cancel()
	var move *redis.StringCmd
	if wait > 0 {
		move = r.rdb.BLMove(call, r.opt.Queue, r.opt.InFlight, "RIGHT", "LEFT", wait)
	} else { // BLMOVE would wait for ever
		move = r.rdb.LMove(call, r.opt.Queue, r.opt.InFlight, "RIGHT", "LEFT")
	}
	m, err := move.Result()
	r.mu.Lock()
	defer r.mu.Unlock()
	if err == nil {
		r.held[m]++
	} else if !errors.Is(err, redis.Nil) {
		r.unread = true // the answer that was lost may have been a message
	}
	return m, err
}

// takeFirst takes the oldest of pending or putOff.
func (r *reliable) takeFirst(of *[]string) (string, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(*of) == 0 {
		return "", false
	}
	m := (*of)[0]
	*of = (*of)[1:]
	return m, true
}

// pass uses one turn that a new message has before what is put off.
func (r *reliable) pass() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.passes == 0 {
		return false
	}
	r.passes--
	return len(r.putOff) < mostPutOff
}

// again keeps a message that could not be begun, to be done after what waits
// already, but before new ones.
func (r *reliable) again(message string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.pending = append(r.pending, message)
}

// delay keeps a message that failed, to be tried after one new message: one that
// fails for ever must not stop the queue.
func (r *reliable) delay(message string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.putOff = append(r.putOff, message)
	r.passes++
}

// reread puts what the list holds and we do not know of into pending: what an
// earlier process left, or an answer that never arrived.
func (r *reliable) reread(ctx context.Context) error {
	r.mu.Lock()
	unread := r.unread
	r.mu.Unlock()
	if !unread {
		return nil
	}
	r.moving.Lock()
	defer r.moving.Unlock()
	call, cancel := bounded(ctx, 0)
	defer cancel()
	list, err := r.rdb.LRange(call, r.opt.InFlight, 0, -1).Result()
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.unread {
		return nil // another goroutine was here first
	}
	// One that is equal to a message whose removal is unsure would be taken for
	// that: then the list is read once more when it is settled.
	r.unread = r.anyLostLocked()
	known, found := maps.Clone(r.held), 0
	for i := len(list) - 1; i >= 0; i-- { // new ones enter at the left
		m := list[i]
		if known[m] > 0 {
			known[m]--
			continue
		}
		found++
		r.held[m]++
		r.pending = append(r.pending, m)
	}
	if found > 0 {
		r.opt.Log.Info("messages were in flight; they are done first",
			slog.String("list", r.opt.InFlight), slog.Int("messages", found))
	}
	return nil
}

// How long a process that leaves waits for Redis to remove what is done, below
// the stop_timeout that a worker has unless it is set; and how often it asks.
const (
	leaving      = 8 * time.Second
	leavingPause = 100 * time.Millisecond
)

// AfterRun removes what is done, and closes the connection.
func (r *reliable) AfterRun(ctx context.Context) error {
	err := r.settle(ctx)
	for end := time.Now().Add(leaving); err != nil && time.Now().Before(end); err = r.settle(ctx) {
		time.Sleep(leavingPause)
	}
	if err != nil {
		err = fmt.Errorf("a message that is done may still be in %s, and will be done again: %w", r.opt.InFlight, err)
	}
	return errors.Join(err, r.close())
}

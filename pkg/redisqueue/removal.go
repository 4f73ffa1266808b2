package redisqueue

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"

	"github.com/redis/go-redis/v9"
)

// removal takes one message out of the in-flight list, exactly once: an answer
// can be lost after Redis did it, and a second LREM would then take an equal
// message that came later. So each removal leaves its token at its mark, in the
// same transaction; one whose answer was lost looks there first. There are no
// more marks than removals at a time.
type removal struct {
	message string
	dead    []byte // goes to the dead list with it
	mark    int
	token   string
	lost    bool // the answer: held counts the message, the list may not
}

// finish removes a message, now or, when Redis is gone, before the next one.
func (r *reliable) finish(ctx context.Context, m *removal) {
	r.mu.Lock()
	m.token = rand.Text()
	for m.mark = 0; m.mark < len(r.marks) && r.marks[m.mark] != nil; m.mark++ {
	}
	if m.mark == len(r.marks) {
		r.marks = append(r.marks, nil)
	}
	r.marks[m.mark] = m
	r.mu.Unlock()
	if err := r.remove(ctx, m); err != nil {
		r.opt.Log.Warn("a message is done but not yet removed", slog.String("list", r.opt.InFlight), slog.Any("error", err))
		r.mu.Lock()
		r.unsure = append(r.unsure, m)
		r.mu.Unlock()
	}
}

// settle carries out the removals whose answers were lost, unless they were done.
func (r *reliable) settle(ctx context.Context) error {
	for {
		r.mu.Lock()
		if len(r.unsure) == 0 {
			r.mu.Unlock()
			return nil
		}
		m := r.unsure[0]
		r.unsure = r.unsure[1:]
		r.mu.Unlock()
		if err := r.settleOne(ctx, m); err != nil {
			r.mu.Lock()
			r.unsure = append(r.unsure, m)
			r.mu.Unlock()
			return err
		}
	}
}

func (r *reliable) settleOne(ctx context.Context, m *removal) error {
	call, cancel := bounded(ctx, 0)
	defer cancel()
	token, err := r.rdb.HGet(call, r.triesKey(), m.field()).Result()
	if err != nil && !errors.Is(err, redis.Nil) {
		return err
	}
	if token != m.token {
		return r.remove(ctx, m)
	}
	r.moving.RLock()
	defer r.moving.RUnlock()
	r.removed(m)
	return nil
}

func (m *removal) field() string { return "removed:" + strconv.Itoa(m.mark) }

func (r *reliable) remove(ctx context.Context, m *removal) error {
	r.moving.RLock()
	defer r.moving.RUnlock()
	// The work is done: a timeout that is over meanwhile must not hinder this.
	call, cancel := bounded(context.WithoutCancel(ctx), 0)
	defer cancel()
	if m.dead != nil {
		// A transaction does not end at a command that fails, so that of these
		// the message would be removed and be nowhere: redis.io, Transactions.
		if kind, err := r.rdb.Type(call, r.opt.Dead).Result(); err != nil {
			return err
		} else if kind != "list" && kind != "none" {
			return misfit{fmt.Errorf("%s is a %s, where the dead list should be: rename it, or set another one", r.opt.Dead, kind)}
		}
	}
	f, key := field(m.message), r.triesKey()
	_, err := r.rdb.TxPipelined(call, func(p redis.Pipeliner) error {
		if m.dead != nil {
			p.LPush(call, r.opt.Dead, m.dead)
		}
		p.LRem(call, r.opt.InFlight, 1, m.message)
		p.HDel(call, key, f, f+":error")
		p.HSet(call, key, m.field(), m.token)
		return nil
	})
	if err == nil {
		r.removed(m)
	} else {
		r.mu.Lock()
		m.lost = true // before the list can be compared with held
		r.mu.Unlock()
	}
	return err
}

// anyLostLocked reports whether it is unknown of a message that held counts if the
// list has it.
func (r *reliable) anyLostLocked() bool {
	return slices.ContainsFunc(r.marks, func(m *removal) bool { return m != nil && m.lost })
}

// removed books that the list does not hold the message any more.
func (r *reliable) removed(m *removal) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.marks[m.mark] = nil
	delete(r.doubt, m.message)
	if r.held[m.message]--; r.held[m.message] <= 0 {
		delete(r.held, m.message)
	}
}

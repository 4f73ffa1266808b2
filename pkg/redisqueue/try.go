package redisqueue

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"strconv"

	"github.com/redis/go-redis/v9"

	"github.com/workersd/workersd/pkg/worker"
)

// do begins a try of the message, does it, and books what came of it. One that
// was in the list before may have had all its tries; a new one had none.
func (r *reliable) do(ctx context.Context, message string, isNew bool) (bool, error) {
	var tries int
	var last string
	var err error
	if !isNew && r.opt.MaxTries > 0 {
		tries, last, err = r.tried(ctx, message)
	}
	over := r.opt.MaxTries > 0 && tries >= r.allowed(message)
	if err == nil && !over {
		tries, err = r.try(ctx, message)
	}
	if err != nil {
		r.again(message)
		r.gone(ctx, err)
		return false, nil
	}
	r.back(ctx)
	if over {
		r.giveUp(ctx, message, tries, reasonOf(last, tries))
		return false, nil
	}
	worker.Begin(ctx, "")
	err = r.opt.Handle(ctx, message)
	var never neverError
	switch {
	case err == nil:
		r.finish(ctx, &removal{message: message})
		return true, nil
	case errors.As(err, &never):
		r.giveUp(ctx, message, tries, err.Error())
		return true, err
	}
	r.failed(ctx, message, err)
	r.delay(message)
	return true, err
}

// allowed is how many tries a message has: equal ones that we hold are counted
// together.
func (r *reliable) allowed(message string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.opt.MaxTries * max(r.held[message], 1)
}

func (r *reliable) triesKey() string { return r.opt.InFlight + ":tries" }

// field is the name of a message in the hash of tries, whatever its length.
func field(message string) string {
	sum := sha256.Sum256([]byte(message))
	return hex.EncodeToString(sum[:16])
}

// tried tells how many tries of the message began, without those that may not
// have, and the error that the last one reported, if it came so far. To ask is no
// try: a process that is killed while it gives the message up leaves the count as
// it is.
func (r *reliable) tried(ctx context.Context, message string) (tries int, last string, err error) {
	call, cancel := bounded(ctx, 0)
	defer cancel()
	f := field(message)
	got, err := r.rdb.HMGet(call, r.triesKey(), f, f+":error").Result()
	if err != nil {
		return 0, "", err
	}
	if n, ok := got[0].(string); ok {
		if tries, err = strconv.Atoi(n); err != nil {
			return 0, "", misfit{fmt.Errorf("%s: field %s is no number of tries: %w", r.triesKey(), f, err)}
		}
	}
	last, _ = got[1].(string)
	r.mu.Lock()
	defer r.mu.Unlock()
	return max(tries-r.doubt[message], 0), last, nil
}

// try counts one more try of the message before its work begins, and forgets the
// error of the last one.
func (r *reliable) try(ctx context.Context, message string) (tries int, err error) {
	call, cancel := bounded(ctx, 0)
	defer cancel()
	f, key := field(message), r.triesKey()
	var n *redis.IntCmd
	_, err = r.rdb.TxPipelined(call, func(p redis.Pipeliner) error {
		n = p.HIncrBy(call, key, f, 1)
		p.HDel(call, key, f+":error")
		return nil
	})
	if err != nil {
		r.mu.Lock()
		r.doubt[message]++
		r.mu.Unlock()
		return 0, err
	}
	return int(n.Val()), nil
}

func reasonOf(last string, tries int) string {
	if last == "" {
		return fmt.Sprintf("its process ended in the middle of it, at the last of %d tries", tries)
	}
	return fmt.Sprintf("failed at the last of %d tries: %s", tries, last)
}

// failed remembers the error for the dead list. Without Redis it is only logged,
// as every error of an execution is.
func (r *reliable) failed(ctx context.Context, message string, err error) {
	call, cancel := bounded(context.WithoutCancel(ctx), 0) // the timeout may be over
	defer cancel()
	f, key := field(message), r.triesKey()
	var later laterError
	if errors.As(err, &later) {
		err = r.rdb.HIncrBy(call, key, f, -1).Err()
	} else {
		err = r.rdb.HSet(call, key, f+":error", err.Error()).Err()
	}
	if err != nil {
		r.opt.Log.Warn("the failure of a message could not be booked", slog.String("list", r.opt.InFlight), slog.Any("error", err))
	}
}

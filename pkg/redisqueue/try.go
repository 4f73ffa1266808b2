package redisqueue

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"

	"github.com/redis/go-redis/v9"

	"github.com/workersd/workersd/pkg/worker"
)

// do begins a try of the message, does it, and books what came of it.
func (r *reliable) do(ctx context.Context, message string) (bool, error) {
	tries, last, err := r.try(ctx, message)
	if err != nil {
		r.again(message)
		r.gone(ctx, err)
		return false, nil
	}
	r.back(ctx)
	if r.opt.MaxTries > 0 && tries > r.allowed(message) {
		r.giveUp(ctx, message, tries-1, reasonOf(last, tries-1))
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
	r.again(message)
	return true, err
}

// allowed is how many tries may have been counted for a message: equal ones that
// we hold are counted together, and what may not have begun is forgiven.
func (r *reliable) allowed(message string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.opt.MaxTries*max(r.held[message], 1) + r.doubt[message]
}

func (r *reliable) triesKey() string { return r.opt.InFlight + ":tries" }

// field is the name of a message in the hash of tries, whatever its length.
func field(message string) string {
	sum := sha256.Sum256([]byte(message))
	return hex.EncodeToString(sum[:16])
}

// try counts one more try of the message before its work begins, and tells the
// error that the last one reported, if it came so far.
func (r *reliable) try(ctx context.Context, message string) (tries int, last string, err error) {
	call, cancel := bounded(ctx, 0)
	defer cancel()
	f, key := field(message), r.triesKey()
	var n *redis.IntCmd
	var text *redis.StringCmd
	_, err = r.rdb.TxPipelined(call, func(p redis.Pipeliner) error {
		n = p.HIncrBy(call, key, f, 1)
		text = p.HGet(call, key, f+":error")
		p.HDel(call, key, f+":error")
		return nil
	})
	if err != nil && !errors.Is(err, redis.Nil) {
		r.mu.Lock()
		r.doubt[message]++
		r.mu.Unlock()
		return 0, "", err
	}
	return int(n.Val()), text.Val(), nil
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

package redisqueue

import (
	"context"
	"errors"

	"github.com/redis/go-redis/v9"

	"github.com/workersd/workersd/pkg/worker"
)

// Simple is a worker that takes messages with BRPOP.
func Simple(o Options) worker.Worker { return &simple{conn{given: o}} }

type simple struct{ conn }

// Run waits for one message and does it.
func (s *simple) Run(ctx context.Context) (bool, error) {
	wait, cancel := bounded(ctx, s.opt.Wait)
	defer cancel()
	popped, err := s.rdb.BRPop(wait, s.opt.Wait, s.opt.Queue).Result()
	if err != nil && !errors.Is(err, redis.Nil) {
		s.gone(ctx, err)
		return false, nil
	}
	s.back(ctx)
	if err != nil {
		return false, nil // nothing came
	}
	worker.Begin(ctx, "")
	return true, s.opt.Handle(ctx, popped[1])
}

// AfterRun closes the connection.
func (s *simple) AfterRun(context.Context) error { return s.close() }

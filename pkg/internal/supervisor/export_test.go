package supervisor

import (
	"context"

	"github.com/workersd/workersd/pkg/internal/lifecycle"
)

// Whole is a worker with its whole value.
type Whole struct {
	Status
	Worker lifecycle.Worker
}

// Whole is all workers at one moment; none after the end.
func (s *Supervisor) Whole(ctx context.Context) (all []Whole, err error) {
	err = s.call(ctx, func() {
		for _, sl := range s.order {
			if !sl.gone {
				all = append(all, Whole{sl.status(), sl.w})
			}
		}
	})
	return all, err
}

package daemon

import (
	"context"
	"fmt"

	"github.com/workersd/workersd/pkg/internal/history"
)

// stopKeeper writes down which workers an operator stopped. The loop tells it
// and does not wait for the disk; only the last word counts.
type stopKeeper struct {
	latest chan []string // buffer of 1
	done   chan struct{}
}

func (d *daemon) keepStops(to history.Stops) *stopKeeper {
	k := &stopKeeper{latest: make(chan []string, 1), done: make(chan struct{})}
	go func() {
		defer close(k.done)
		for names := range k.latest {
			if err := to.Save(names); err != nil {
				d.log.Error(fmt.Sprintf("which workers an operator stopped cannot be kept: %v", err))
			}
		}
	}()
	return k
}

// tell is for the loop alone: it takes back what is not written yet.
func (k *stopKeeper) tell(names []string) {
	select {
	case <-k.latest:
	default:
	}
	k.latest <- names
}

// close is called when the loop has ended, and waits no longer than ctx.
func (k *stopKeeper) close(ctx context.Context) {
	close(k.latest)
	select {
	case <-k.done:
	case <-ctx.Done():
	}
}

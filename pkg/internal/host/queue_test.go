package host

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"
)

// Orders for one worker keep their order; a worker whose order hangs holds up
// no other, nor the end for ever.
func TestQueues(t *testing.T) {
	q := newQueues()
	hang, hangs := make(chan struct{}), make(chan struct{})
	q.add("hung", func() { close(hangs); <-hang })
	q.add("hung", func() { t.Error("what waits behind an order that hangs was carried out after the end") })
	<-hangs
	var mu sync.Mutex
	got := map[string][]int{}
	var done sync.WaitGroup
	for i := range 1000 {
		for _, w := range []string{"a", "b"} {
			done.Add(1)
			q.add(w, func() {
				defer done.Done()
				mu.Lock()
				got[w] = append(got[w], i)
				mu.Unlock()
			})
		}
	}
	done.Wait()
	for w, order := range got {
		if len(order) != 1000 || !slices.IsSorted(order) {
			t.Errorf("%s: %v", w, order)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
	defer cancel()
	q.close(ctx)
	q.add("late", func() { t.Error("an order was taken after the end") })
	close(hang)
	<-q.idle
}

func TestQueuesCloseWaits(t *testing.T) {
	q := newQueues()
	began, end := make(chan struct{}), make(chan struct{})
	over := false
	q.add("a", func() { close(began); <-end; over = true })
	<-began
	go close(end)
	q.close(context.Background())
	if !over {
		t.Error("it did not wait for the order")
	}
	newQueues().close(context.Background())
}

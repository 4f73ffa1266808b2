package host

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"
)

// Orders for one worker keep their order; a worker whose order hangs holds up
// no other, nor the end for ever.
func TestQueues(t *testing.T) {
	q := newQueues(nil)
	hang, hangs := make(chan struct{}), make(chan struct{})
	q.add("hung", queued{do: func() { close(hangs); <-hang }})
	q.add("hung", queued{do: func() { t.Error("what waits behind an order that hangs was carried out after the end") }})
	<-hangs
	var mu sync.Mutex
	got := map[string][]int{}
	var done sync.WaitGroup
	for i := range 1000 {
		for _, w := range []string{"a", "b"} {
			done.Add(1)
			q.add(w, queued{do: func() {
				defer done.Done()
				mu.Lock()
				got[w] = append(got[w], i)
				mu.Unlock()
			}})
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
	q.add("late", queued{do: func() { t.Error("an order was taken after the end") }})
	close(hang)
	<-q.idle
}

// However many workers have orders, few are carried out at a time; those that
// hang do not count.
func TestQueuesBound(t *testing.T) {
	q := newQueues(nil)
	end := make(chan struct{})
	for i := range 3 * ordersAtATime {
		began := make(chan struct{})
		q.add(fmt.Sprint("hung", i), queued{do: func() { close(began); <-end }})
		if i < ordersAtATime {
			<-began
		}
	}
	if n := q.room.Free(); n != 0 {
		t.Errorf("there is room for %d more orders while %d are carried out", n, ordersAtATime)
	}
	went := make(chan struct{})
	q.add("goes", queued{do: func() { close(went) }})
	<-went
	close(end)
	q.close(context.Background())
	if n := q.room.Free(); n != ordersAtATime {
		t.Errorf("there is room for %d orders afterwards, want %d", n, ordersAtATime)
	}
}

// What waits for another order takes no room from it, and nothing is waited for at
// the end.
func TestQueuesWait(t *testing.T) {
	ending := make(chan struct{})
	q := newQueues(ending)
	first := make(chan struct{})
	var after sync.WaitGroup
	for i := range 3 * ordersAtATime {
		after.Add(1)
		q.add(fmt.Sprint("waits", i), queued{after: first, do: after.Done})
		q.add(fmt.Sprint("never", i), queued{after: make(chan struct{}), do: func() { t.Error("it was not waited for") }})
	}
	q.add("first", queued{do: func() {
		if n := q.room.Free(); n != ordersAtATime-1 {
			t.Errorf("there is room for %d more orders, want %d", n, ordersAtATime-1)
		}
		close(first)
	}})
	after.Wait()
	close(ending)
	q.close(context.Background())
}

func TestQueuesCloseWaits(t *testing.T) {
	q := newQueues(nil)
	began, end := make(chan struct{}), make(chan struct{})
	over := false
	q.add("a", queued{do: func() { close(began); <-end; over = true }})
	<-began
	go close(end)
	q.close(context.Background())
	if !over {
		t.Error("it did not wait for the order")
	}
	newQueues(nil).close(context.Background())
}

package backlog

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// Nobody waits for a writer that hangs, not even the end. What it writes then are
// the first items, in order, and then how many are missing.
func TestNobodyWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const most, items = 100, 1000
		hangs := make(chan struct{})
		var written, dropped []int
		q := New(most, func(i int) {
			<-hangs
			written = append(written, i)
		}, func(n int) { dropped = append(dropped, n) })
		for i := range items {
			q.Put(i)
			if i == 0 {
				synctest.Wait() // this one is being written, and waits no more
			}
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		q.Close(ctx)
		if len(written) != 0 {
			t.Errorf("%d are written: nothing hung", len(written))
		}
		close(hangs)
		q.Close(context.Background())
		if len(written) != most+1 || !slices.IsSorted(written) || written[most] != most {
			t.Errorf("written: %v", written)
		}
		if !slices.Equal(dropped, []int{items - most - 1}) {
			t.Errorf("dropped: %v, want %d", dropped, items-most-1)
		}
		q.Put(0) // too late, and no panic
	})
}

// What was dropped is told each time, and counted once.
func TestDroppedIsToldEachTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		turn := make(chan struct{})
		var dropped []int
		q := New(1, func(int) { <-turn }, func(n int) { dropped = append(dropped, n) })
		for _, more := range []int{2, 5} {
			q.Put(0)
			synctest.Wait()
			for range 1 + more {
				q.Put(0)
			}
			for range 2 {
				turn <- struct{}{}
			}
			synctest.Wait()
		}
		q.Close(context.Background())
		if !slices.Equal(dropped, []int{2, 5}) {
			t.Errorf("dropped: %v, want 2 and 5", dropped)
		}
	})
}

// A burst is no reason to keep its room, nor is what was written kept.
func TestNoRoomIsKept(t *testing.T) {
	q := New(4096, func(*[1000]byte) {}, func(int) {})
	for range 4096 {
		q.Put(new([1000]byte))
	}
	q.Close(context.Background())
	if room := cap(q.waiting); room > kept {
		t.Errorf("room for %d items is kept", room)
	}
	for _, item := range q.waiting[:cap(q.waiting)] {
		if item != nil {
			t.Error("an item is kept")
		}
	}
}

package room

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := New(2)
		var inside, most atomic.Int32
		for range 10 {
			go func() {
				leave := r.Enter()
				defer leave()
				if n := inside.Add(1); n > most.Load() {
					most.Store(n)
				}
				time.Sleep(HungAfter / 2)
				inside.Add(-1)
			}()
			synctest.Wait()
		}
		time.Sleep(time.Hour)
		if most.Load() != 2 || r.Free() != 2 {
			t.Errorf("%d were inside of a room for 2, %d are free in the end", most.Load(), r.Free())
		}
		begin := time.Now()
		hung := []func(){r.Enter(), r.Enter()}
		r.Enter()()
		if waited := time.Since(begin); waited != HungAfter {
			t.Errorf("the place of one that hangs was given on after %v, want %v", waited, HungAfter)
		}
		for _, leave := range hung { // late: its place is another's
			leave()
		}
		if r.Free() != 2 {
			t.Errorf("%d are free in the end, want 2", r.Free())
		}
	})
}

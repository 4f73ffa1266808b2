package room

import (
	"sync"
	"time"
)

// HungAfter is how long one may be inside before it is taken for hung, and
// another may go in for it.
const HungAfter = 250 * time.Millisecond

// Room has places for some.
type Room struct{ free chan struct{} }

// New makes a room for n at a time, 1 at least.
func New(n int) *Room {
	r := &Room{make(chan struct{}, n)}
	for range n {
		r.free <- struct{}{}
	}
	return r
}

// Enter waits for a place, in the order of those who wait, and returns what is
// to be called once, to leave it.
func (r *Room) Enter() (leave func()) {
	<-r.free
	give := sync.OnceFunc(func() { r.free <- struct{}{} })
	hung := time.AfterFunc(HungAfter, give)
	return func() {
		hung.Stop()
		give()
	}
}

// Free is how many may go in at once.
func (r *Room) Free() int { return len(r.free) }

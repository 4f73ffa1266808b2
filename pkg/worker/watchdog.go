package worker

import (
	"time"

	"github.com/workersd/workersd/pkg/sdnotify"
)

// watch pings the watchdog until the returned function is called.
func (l *loop) watch() (end func()) {
	if l.env.watchdog <= 0 {
		return func() {}
	}
	// Closed by end, so that no ping leaves after it; unbuffered, only closed.
	quit, gone := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(gone)
		t := time.NewTicker(max(l.env.watchdog/2, time.Millisecond))
		defer t.Stop()
		for {
			if l.alive(time.Now()) {
				l.tell(sdnotify.Watchdog)
			}
			select {
			case <-t.C:
			case <-quit:
				return
			}
		}
	}()
	return func() {
		close(quit)
		<-gone
	}
}

// alive reports whether every slot moves on, or is judged by its timeout.
func (l *loop) alive(now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	judged := map[*slot]bool{}
	for e := range l.running {
		judged[e.slot] = e.id != "" && l.timeout > 0
	}
	for _, s := range l.slots {
		if s.left || s.resting || judged[s] {
			continue
		}
		if now.Sub(s.progress) >= l.env.watchdog {
			return false
		}
	}
	return true
}

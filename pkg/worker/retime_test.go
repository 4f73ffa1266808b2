package worker

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"testing/synctest"
	"time"
)

// A reload changes the timeout of a process that has the old one in its
// environment: a stop is judged by the new one.
func TestStopAfterReloadOfTimeout(t *testing.T) {
	const stop = 10 * time.Second
	for name, c := range map[string]struct {
		before, now time.Duration // now < 0: nothing was changed
		work, want  time.Duration
		timedOut    bool
	}{
		"unchanged":                 {before: 5 * time.Second, now: -1, work: time.Minute, want: stop, timedOut: true},
		"raised, done in time":      {before: 5 * time.Second, now: time.Minute, work: 20 * time.Second, want: 20 * time.Second},
		"raised, and outlived, too": {before: 5 * time.Second, now: 30 * time.Second, work: time.Minute, want: 30 * time.Second, timedOut: true},
		"taken away":                {before: 5 * time.Second, now: 0, work: time.Minute, want: time.Minute},
		"lowered":                   {before: time.Minute, now: 5 * time.Second, work: time.Minute, want: stop, timedOut: true},
		"set":                       {before: 0, now: 5 * time.Second, work: time.Minute, want: stop, timedOut: true},
		"set, and not yet outlived": {before: 0, now: 15 * time.Second, work: time.Minute, want: 15 * time.Second, timedOut: true},
	} {
		t.Run(name, func(t *testing.T) {
			socket := filepath.Join(t.TempDir(), "1")
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				began := time.Now()
				l, _, _ := testLoop(t, environment{worker: "q", timeout: c.before, socket: socket}, Func(func(ctx context.Context) (bool, error) {
					select {
					case <-ctx.Done():
						return false, ctx.Err()
					case <-time.After(c.work):
						return true, nil
					}
				}))
				time.AfterFunc(stop, func() {
					if c.now >= 0 {
						if err := os.WriteFile(socket+".timeout", strconv.AppendInt(nil, c.now.Microseconds(), 10), 0o600); err != nil {
							t.Error(err)
						}
					}
					cancel()
				})
				if err := l.run(ctx); errors.Is(err, ErrTimeout) != c.timedOut || time.Since(began) != c.want {
					t.Errorf("error %v after %v, want timeout %v after %v", err, time.Since(began), c.timedOut, c.want)
				}
			})
		})
	}
}

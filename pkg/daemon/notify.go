package daemon

import (
	"context"
	"fmt"
	"time"

	"github.com/workersd/workersd/pkg/internal/event"
	"github.com/workersd/workersd/pkg/internal/host/systemd"
	"github.com/workersd/workersd/pkg/internal/lifecycle"
	"github.com/workersd/workersd/pkg/internal/supervisor"
)

// How often systemd is told how the workers are, and how much time is asked for
// at a time while they start or drain. EXTEND_TIMEOUT_USEC moves the service's
// watchdog as well (FACTS §13): so never more than WatchdogSec.
const (
	statusEvery = 2 * time.Second
	extendBy    = 15 * time.Second
)

// tellSystemd tells that the manager is ready, alive and how its workers are,
// always by way of the loop: a loop that hangs tells nothing, and systemd acts.
func (d *daemon) tellSystemd(ctx context.Context) {
	if !d.systemd.Enabled() {
		return
	}
	every := statusEvery
	watchdog := systemd.WatchdogInterval()
	if watchdog > 0 {
		every = min(every, watchdog/3)
	}
	extend := extension()
	d.systemd.Extend(extend)
	tick := time.NewTicker(every)
	defer tick.Stop()
	first := d.sup.FirstRound()
	for {
		select {
		case <-ctx.Done():
			return
		case <-first:
			first = nil
			d.systemd.Ready()
		case <-tick.C:
		}
		snap, err := d.sup.Snapshot(ctx)
		if err != nil {
			continue
		}
		d.systemd.Watchdog()
		d.systemd.Status(d.statusText(snap))
		if first != nil || snap.Stopping {
			d.systemd.Extend(extend)
		}
	}
}

// extension is how much time is asked for at once.
func extension() time.Duration {
	if watchdog := systemd.WatchdogInterval(); watchdog > 0 {
		return min(extendBy, watchdog)
	}
	return extendBy
}

// serving reports whether READY=1 was said, and STOPPING=1 was not.
func (d *daemon) serving() bool {
	select {
	case <-d.sup.FirstRound():
		return !d.ending.Load()
	default:
		return false
	}
}

func (d *daemon) statusText(snap supervisor.Snapshot) string {
	up, wanted, backoff := 0, 0, 0
	for i := range snap.Workers {
		w := &snap.Workers[i].Worker
		if w.Wanted == lifecycle.WantedUp {
			wanted++
		}
		switch {
		case snap.Stopping && !w.Idle(), w.State == lifecycle.Up:
			up++
		case w.State == lifecycle.Backoff:
			backoff++
		}
	}
	switch {
	case snap.Stopping && up == 1:
		return "stopping, 1 worker still drains"
	case snap.Stopping:
		return fmt.Sprintf("stopping, %d workers still drain", up)
	}
	text := fmt.Sprintf("%d of %d up, %d recycled in the last hour", up, wanted, d.history.Count(event.Recycling, snap.Time.Add(-time.Hour)))
	if backoff > 0 {
		text += fmt.Sprintf(", %d backing off", backoff)
	}
	if snap.Manager.Title != "" {
		text = snap.Manager.Title + ": " + text
	}
	return text
}

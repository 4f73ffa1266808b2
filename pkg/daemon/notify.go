package daemon

import (
	"context"
	"fmt"
	"time"

	"github.com/workersd/workersd/pkg/internal/host/systemd"
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
	every, watchdog := statusEvery, systemd.WatchdogInterval()
	if watchdog > 0 {
		every = min(every, watchdog/4)
	}
	extend := extension()
	d.systemd.Extend(extend)
	tick := time.NewTicker(every)
	defer tick.Stop()
	first, said, alive := d.sup.FirstRound(), "", time.Time{}
	for {
		select {
		case <-ctx.Done():
			return
		case <-first:
			first = nil
			d.systemd.Ready()
		case <-tick.C:
		}
		now, err := d.sup.Counts(ctx)
		if err != nil {
			continue
		}
		// Half of the interval is what sd_watchdog_enabled(3) advises.
		if watchdog > 0 && time.Since(alive) > watchdog/2-every {
			d.systemd.Watchdog()
			alive = time.Now()
		}
		if text := d.statusText(now); text != said {
			d.systemd.Status(text)
			said = text
		}
		if first != nil || now.Stopping {
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

func (d *daemon) statusText(now supervisor.Counts) string {
	switch {
	case now.Stopping && now.Living == 1:
		return "stopping, 1 worker still drains"
	case now.Stopping:
		return fmt.Sprintf("stopping, %d workers still drain", now.Living)
	}
	text := fmt.Sprintf("%d of %d up, %d recycled in the last hour", now.Up, now.Wanted, d.history.Recycled(now.Time))
	if now.Backoff > 0 {
		text += fmt.Sprintf(", %d backing off", now.Backoff)
	}
	if now.Title != "" {
		text = now.Title + ": " + text
	}
	return text
}

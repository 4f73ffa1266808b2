package daemon

import (
	"context"
	"fmt"
	"time"

	"github.com/workersd/workersd/pkg/internal/host/systemd"
	"github.com/workersd/workersd/pkg/internal/supervisor"
)

// Systemd is told how the workers are when something has happened, and what
// happens soon after is told together. EXTEND_TIMEOUT_USEC moves the service's
// watchdog as well: so never more than WatchdogSec is asked for at a time while
// workers start or drain.
const (
	statusEvery = 2 * time.Second // at most, and as long as time is asked for
	statusOften = time.Minute     // at least: an hour passes by itself
	extendBy    = 15 * time.Second
)

// tellSystemd tells that the manager is ready, alive and how its workers are,
// always by way of the loop: a loop that hangs tells nothing, and systemd acts.
// A pool in which nothing happens costs no more than the watchdog.
func (d *daemon) tellSystemd(ctx context.Context) {
	if !d.systemd.Enabled() {
		return
	}
	soon, often := statusEvery, statusOften
	watchdog := systemd.WatchdogInterval()
	if watchdog > 0 { // half of it is what sd_watchdog_enabled(3) advises
		soon, often = min(soon, watchdog/4), min(often, watchdog/2)
	}
	extend := extension()
	d.systemd.Extend(extend)
	timer := time.NewTimer(soon)
	defer timer.Stop()
	first, happened, said, last := d.sup.FirstRound(), d.happened, "", time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-first:
			first = nil
			d.systemd.Ready()
		case <-happened:
			happened = nil
			timer.Reset(soon - time.Since(last))
			continue
		case <-timer.C:
		}
		last, happened = time.Now(), d.happened
		timer.Reset(often)
		now, err := d.sup.Counts(ctx)
		if err != nil {
			continue
		}
		if watchdog > 0 {
			d.systemd.Watchdog()
		}
		if text := d.statusText(now); text != said {
			d.systemd.Status(text)
			said = text
		}
		if first != nil || now.Stopping {
			d.systemd.Extend(extend)
			timer.Reset(soon)
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

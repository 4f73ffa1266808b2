package daemon

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// echo is how long after the first another signal to end is taken for the same:
// timeout(1) sends each to the process and to its group, some terminals likewise.
const echo = 100 * time.Millisecond

// listen takes signals from before the first worker until the program has
// ended: one that falls before or behind the loop must not kill the manager,
// which then has output and history to bring home. The channel has room for what
// comes before somebody reads it.
func listen() <-chan os.Signal {
	sigs := make(chan os.Signal, 16)
	signal.Notify(sigs, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	return sigs
}

// signals does what the manager is told by them: SIGTERM and SIGINT end it,
// again at once; SIGHUP reads the list again. A list on a disk that hangs holds
// up the reloads behind it, and no signal to end.
func (d *daemon) signals(ctx context.Context, sigs <-chan os.Signal) {
	hups := make(chan struct{}, 1) // one covers all that come before it is taken
	go d.reloads(ctx, hups)
	var told time.Time // when we were told to end
	for {
		select {
		case <-ctx.Done():
			return
		case s := <-sigs:
			if time.Since(told) < echo && !told.IsZero() {
				continue
			}
			if s == syscall.SIGHUP && !d.hungUp() {
				select {
				case hups <- struct{}{}:
				default:
				}
				continue
			}
			told = time.Now()
			d.ending.Store(true)
			d.systemd.Stopping()
			d.systemd.Extend(extension())
			d.sup.Shutdown()
		}
	}
}

// reloads reads the list again for each SIGHUP, one after the other.
func (d *daemon) reloads(ctx context.Context, hups <-chan struct{}) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-hups:
			if _, err := d.reload(ctx); err != nil {
				d.log.Debug(fmt.Sprintf("reload: %v", err)) // the record has said it
			}
		}
	}
}

// keepWithoutReader lets manager and guard outlive whoever reads their output.
// Without it a write to a closed pipe on descriptor 1 or 2 ends a Go program
// (package os/signal). Notified, not ignored: workers would inherit that.
func keepWithoutReader() { signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE) }

// hungUp reports whether SIGHUP means what it meant first: the terminal is gone.
func (d *daemon) hungUp() bool {
	if d.service {
		return false
	}
	// A terminal that is gone answers EIO; what never was one, ENOTTY.
	for _, f := range []*os.File{os.Stdin, d.o.Stdout, d.o.Stderr} {
		if terminalGone(f) {
			return true
		}
	}
	return false
}

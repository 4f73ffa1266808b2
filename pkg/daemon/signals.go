package daemon

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

// signals does what the manager is told by them: SIGTERM and SIGINT end it,
// again at once; SIGHUP reads the list again.
func (d *daemon) signals(ctx context.Context) {
	sigs := make(chan os.Signal, 16)
	signal.Notify(sigs, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer signal.Stop(sigs)
	for {
		select {
		case <-ctx.Done():
			return
		case s := <-sigs:
			if s == syscall.SIGHUP && !d.hungUp() {
				if _, err := d.reload(ctx); err != nil {
					d.log.Debug(fmt.Sprintf("reload: %v", err)) // the record has said it
				}
				continue
			}
			d.ending.Store(true)
			d.systemd.Stopping()
			d.systemd.Extend(extension())
			d.sup.Shutdown()
		}
	}
}

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

package systemd

import (
	"context"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"

	"github.com/workersd/workersd/pkg/sdnotify"
)

// maxQueued messages wait for a service manager that does not read. The kinds
// that repeat replace each other, so that only the transitions add up.
const maxQueued = 32

// Notifier tells systemd how the manager is (sd_notify(3)). Without
// $NOTIFY_SOCKET it says nothing. No method waits: a goroutine of its own
// sends, because a service manager that hangs must not hold up the workers.
type Notifier struct {
	send func(state string) error
	log  *slog.Logger

	mu      sync.Mutex // guards what follows
	queue   []string
	sending bool
	failed  bool          // of the sending goroutine
	idle    chan struct{} // closed when the queue is empty; nil while it is
}

// NewNotifier is a Notifier for $NOTIFY_SOCKET. Trouble with it is logged once.
func NewNotifier(log *slog.Logger) *Notifier {
	n := &Notifier{log: log}
	if os.Getenv("NOTIFY_SOCKET") != "" {
		n.send = func(state string) error {
			_, err := daemon.SdNotify(false, state)
			return err
		}
	}
	return n
}

// Enabled reports whether somebody listens.
func (n *Notifier) Enabled() bool { return n.send != nil }

// Ready says that the manager is up, or that a reload has ended.
func (n *Notifier) Ready() { n.say(daemon.SdNotifyReady) }

// Reloading says that a reload begins, with the time systemd wants for it.
func (n *Notifier) Reloading() { n.say(daemon.SdNotifyReloading + "\n" + sdnotify.Monotonic()) }

// Stopping says that the end has begun.
func (n *Notifier) Stopping() { n.say(daemon.SdNotifyStopping) }

// Watchdog says that the manager is alive.
func (n *Notifier) Watchdog() { n.say(daemon.SdNotifyWatchdog) }

// Status is the line that `systemctl status` shows.
func (n *Notifier) Status(text string) { n.say(sdnotify.Status(text)) }

// Extend asks for d more, from now on, for the start or the stop. It moves the
// service's watchdog too, so ask for no more than that.
func (n *Notifier) Extend(d time.Duration) { n.say(sdnotify.ExtendTimeout(d)) }

// WatchdogInterval is how often systemd wants to hear Watchdog at least; 0 if
// it does not.
func WatchdogInterval() time.Duration {
	d, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		return 0
	}
	return d
}

// Flush waits until all that was said is sent.
func (n *Notifier) Flush(ctx context.Context) error {
	n.mu.Lock()
	idle := n.idle
	n.mu.Unlock()
	if idle == nil {
		return nil
	}
	select {
	case <-idle:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (n *Notifier) say(state string) {
	if n.send == nil {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if key, _, _ := strings.Cut(state, "="); repeats(key) {
		n.queue = slices.DeleteFunc(n.queue, func(s string) bool { return strings.HasPrefix(s, key+"=") })
	}
	if len(n.queue) >= maxQueued {
		n.queue = slices.Delete(n.queue, 0, 1)
	}
	n.queue = append(n.queue, state)
	if !n.sending {
		n.sending, n.idle = true, make(chan struct{})
		go n.work()
	}
}

// repeats reports whether a later message of this kind makes an earlier one
// useless.
func repeats(key string) bool {
	return key == "STATUS" || key == "WATCHDOG" || key == "EXTEND_TIMEOUT_USEC"
}

// work sends until the queue is empty.
func (n *Notifier) work() {
	for {
		n.mu.Lock()
		if len(n.queue) == 0 {
			n.sending, n.queue = false, nil
			close(n.idle)
			n.idle = nil
			n.mu.Unlock()
			return
		}
		state := n.queue[0]
		n.queue = slices.Delete(n.queue, 0, 1)
		n.mu.Unlock()
		err := n.send(state)
		if err != nil && !n.failed && n.log != nil {
			n.log.Error("systemd does not take notifications", "socket", os.Getenv("NOTIFY_SOCKET"), "error", err)
		}
		n.failed = err != nil
	}
}

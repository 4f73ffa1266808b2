//go:build workersd_hang

package daemon

import (
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
)

// In this build, which is never released, the loop stands still for ever at the
// first record after SIGUSR2. So the tests in the VM show what systemd's
// watchdog does about it.

var hang = func() *atomic.Bool {
	var asked atomic.Bool
	sigs := make(chan os.Signal, 1)
	signal.Notify(sigs, syscall.SIGUSR2)
	go func() {
		<-sigs
		asked.Store(true)
	}()
	return &asked
}()

func mayHang() {
	if hang.Load() {
		select {}
	}
}

package daemon

import (
	"log/slog"
	"os"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/workersd/workersd/pkg/internal/event"
	"github.com/workersd/workersd/pkg/internal/history"
	"github.com/workersd/workersd/pkg/internal/host/systemd"
	"github.com/workersd/workersd/pkg/internal/hosttest"
	"github.com/workersd/workersd/pkg/internal/supervisor"
)

// A reload that hangs, on a list whose disk does not answer, holds up no signal
// to end.
func TestEndWhileAReloadHangs(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	d := &daemon{service: true, log: log, systemd: systemd.NewNotifier(log), happened: make(chan struct{}, 1)}
	h := hosttest.New(t, func(supervisor.SpawnOrder) hosttest.Behaviour { return hosttest.Behaviour{} })
	defer h.Close()
	d.sup = supervisor.New(supervisor.Options{Host: h, Record: func(event.Record) {}})
	ended := make(chan error, 1)
	go func() { ended <- d.sup.Run() }()

	d.reloading.Lock()
	defer d.reloading.Unlock()
	sigs := make(chan os.Signal, 16)
	for range 3 {
		sigs <- syscall.SIGHUP
	}
	sigs <- syscall.SIGTERM
	go d.signals(t.Context(), sigs)
	select {
	case err := <-ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(time.Minute):
		t.Fatal("it does not end")
	}
}

// Only the last word of an operator counts, and the loop waits for no disk.
func TestStopsAreKept(t *testing.T) {
	dir := t.TempDir()
	d := &daemon{log: slog.New(slog.DiscardHandler)}
	stops := history.Stops{Path: dir + "/stopped"}
	k := d.keepStops(stops)
	for _, names := range [][]string{{"a"}, {"a", "b"}, {}, {"c"}} {
		k.tell(names)
	}
	k.close(t.Context())
	if got := stops.Load(); !slices.Equal(got, []string{"c"}) {
		t.Errorf("kept %q, want c alone", got)
	}
}

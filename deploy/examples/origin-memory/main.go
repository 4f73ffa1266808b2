// Command origin-memory has workers that need more memory than they may have:
// the origin's second example. Its limits were 5 and 10 MB; a Go program needs
// about as much before it has done anything, so here they are ten times that.
package main

import (
	"context"
	"log/slog"
	"strconv"
	"time"

	"github.com/workersd/workersd/pkg/manager"
	"github.com/workersd/workersd/pkg/spec"
)

// Worker only says that it is there.
type Worker struct{}

func (Worker) Run(context.Context) (bool, error) {
	slog.Info("running")
	time.Sleep(time.Second)
	return true, nil
}

// NewWorker keeps Count numbers of each execution as text. A million of them are
// some 35 MB.
type NewWorker struct {
	Count int

	kept [][]string
}

func (w *NewWorker) Run(context.Context) (bool, error) {
	var s []string
	for i := range w.Count {
		s = append(s, strconv.Itoa(i))
	}
	w.kept = append(w.kept, s)
	slog.Info("result", "count", len(s))
	time.Sleep(time.Second)
	return true, nil
}

func (w *NewWorker) AfterRun(context.Context) error {
	slog.Info("leaving", "executions", len(w.kept))
	return nil
}

func main() {
	m := manager.New(
		manager.Worker{Work: Worker{}, MaxRequests: 2},
		// Passes the soft limit: its execution is finished, then it is replaced.
		manager.Worker{
			Work: &NewWorker{Count: 1_000_000}, MaxRequests: 10, Timeout: 5 * time.Second,
			SoftMemoryLimit: 50 * spec.MiB, HardMemoryLimit: 200 * spec.MiB, Log: "new_worker.log",
		},
		// Passes the hard limit before it is done: it is killed.
		manager.Worker{
			Work: &NewWorker{Count: 50_000_000}, MaxRequests: 10, Timeout: time.Minute,
			SoftMemoryLimit: 50 * spec.MiB, HardMemoryLimit: 100 * spec.MiB,
		},
	)
	m.CheckInterval = time.Second
	m.Start()
}

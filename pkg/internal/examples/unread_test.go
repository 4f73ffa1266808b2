package examples_test

import (
	"context"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/workersd/workersd/pkg/client"
	"github.com/workersd/workersd/pkg/internal/programtest"
)

// A log that nobody reads (a pager, a held terminal) holds up nothing: workers
// are started again, the manager answers, and ends when it is told to.
func TestLogThatNobodyReads(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	list := programtest.Write(t, `
[worker.short]
command = ["/bin/true"]
restart_delay = "1ms"
restart_delay_max = "1ms"
replicas = 10
`)
	socket := filepath.Join(t.TempDir(), "s")
	cmd := programtest.Command("workersd", "--config", list, "--no-cgroup", "--socket", socket)
	cmd.Stderr = w
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	w.Close()
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	defer cmd.Process.Kill() // the guard: the manager ends with it

	c := client.New(socket)
	ctx, cancel := context.WithTimeout(t.Context(), programtest.Patience)
	defer cancel()
	// A line or more for each; a pipe takes 64 KiB.
	for restarts := 0; restarts < 2000; time.Sleep(20 * time.Millisecond) {
		st, err := c.Status(ctx)
		if ctx.Err() != nil {
			t.Fatalf("it does not answer, or starts nothing: %d restarts, %v", restarts, err)
		}
		restarts = 0
		if err == nil {
			for _, w := range st.Workers {
				restarts += w.Restarts
			}
		}
	}
	cmd.Process.Signal(syscall.SIGTERM)
	select {
	case err := <-ended:
		if err != nil {
			t.Errorf("it ended with %v", err)
		}
	case <-ctx.Done():
		t.Error("it does not end")
	}
}

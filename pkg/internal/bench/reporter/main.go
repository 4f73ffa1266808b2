// Command reporter is a worker that does nothing but report executions.
package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/workersd/workersd/pkg/worker"
)

// dir is where the benchmark and its workers leave each other word.
var dir = os.Getenv("BENCH_DIR")

func main() {
	if os.Getenv("BENCH_MODE") == "recycle" {
		worker.Main(recycle{})
	}
	n, err := strconv.Atoi(os.Getenv("BENCH_EXECUTIONS"))
	if err != nil {
		fmt.Fprintln(os.Stderr, "BENCH_EXECUTIONS:", err)
		os.Exit(1)
	}
	worker.Main(&flood{left: n}, worker.BeginLater())
}

// flood reports so many executions as fast as it can, then rests.
type flood struct {
	left  int
	began time.Time
}

func (f *flood) Run(ctx context.Context) (bool, error) {
	if f.began.IsZero() {
		for {
			if _, err := os.Stat(filepath.Join(dir, "go")); err == nil {
				break
			}
			time.Sleep(5 * time.Millisecond)
		}
		f.began = time.Now()
	}
	if f.left == 0 {
		note("done."+worker.Name(), strconv.FormatInt(int64(time.Since(f.began)), 10))
		<-worker.Stopping(ctx)
		return false, nil
	}
	f.left--
	worker.Begin(ctx, "")
	return true, nil
}

// recycle tells when it is ready and when its execution is done.
type recycle struct{}

func (recycle) Init(context.Context) error { note(stamp("ready")); return nil }

func (recycle) Run(context.Context) (bool, error) { note(stamp("end")); return true, nil }

func stamp(what string) (name, text string) {
	var t unix.Timespec
	unix.ClockGettime(unix.CLOCK_MONOTONIC, &t)
	return fmt.Sprintf("%s.%d", what, worker.Generation()), strconv.FormatInt(t.Nano(), 10)
}

// note leaves a file that is there with all of its text or not at all.
func note(name, text string) {
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
		panic(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		panic(err)
	}
}

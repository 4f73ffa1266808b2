// Package bench_test measures what executions cost, with real programs.
package bench_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/workersd/workersd/pkg/internal/programtest"
)

func TestMain(m *testing.M) { programtest.Main(m, "pkg/internal/bench/reporter") }

// executions of one round, by all workers together.
const executions = 100_000

// BenchmarkExecutions reports 100 000 executions to a manager, BEGIN and END
// each, and shows what one worker reports in a second and what the manager used
// for all of them. No execution may be lost.
func BenchmarkExecutions(b *testing.B) {
	for _, workers := range []int{1, 100} {
		b.Run(fmt.Sprintf("%d_workers", workers), func(b *testing.B) {
			var rate, cpu []float64
			for b.Loop() {
				r, c := flood(b, workers, executions/workers)
				rate, cpu = append(rate, r), append(cpu, c)
			}
			b.ReportMetric(median(rate), "executions/s")
			b.ReportMetric(median(cpu), "manager-ms/100k")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// flood lets each worker report n executions. It gives how many all of them
// reported in a second, and the manager's CPU in milliseconds.
func flood(b *testing.B, workers, n int) (rate, cpu float64) {
	b.Helper()
	dir := b.TempDir()
	m := programtest.Start(b, programtest.Write(b, fmt.Sprintf(`
[manager]
check_interval = "1h"
[worker.w]
command = ["reporter"]
replicas = %d
ready = "notify"
start_timeout = "5m"
`, workers)), "BENCH_DIR="+dir, "BENCH_EXECUTIONS="+strconv.Itoa(n))
	m.Await("all are up", func() bool {
		st, err := m.Client.Status(b.Context())
		return err == nil && st.Manager.Up == workers
	})
	pid := m.PID()
	before, began := used(b, pid), time.Now()
	if err := os.WriteFile(filepath.Join(dir, "go"), nil, 0o600); err != nil {
		b.Fatal(err)
	}
	m.Await("all have reported", func() bool {
		done, err := filepath.Glob(filepath.Join(dir, "done.*"))
		return err == nil && len(slices.DeleteFunc(done, func(s string) bool { return strings.HasSuffix(s, ".new") })) == workers
	})
	took := time.Since(began)
	if workers == 1 {
		took = time.Duration(number(b, filepath.Join(dir, "done.w#1")))
	}
	counted := 0
	m.Await("all are counted", func() bool {
		st, err := m.Client.Status(b.Context())
		counted = 0
		for _, w := range st.Workers {
			counted += w.Executions
		}
		return err == nil && counted >= workers*n
	})
	after := used(b, pid)
	if counted != workers*n {
		b.Errorf("%d executions are counted of %d", counted, workers*n)
	}
	m.Stop()
	return float64(workers*n) / took.Seconds(), float64(after-before) / 1e6
}

// BenchmarkRecycle is the time from the end of the last allowed execution to
// the next generation being ready, and, as its floor, the time that the program
// itself takes from fork to ready.
func BenchmarkRecycle(b *testing.B) {
	const generations = 200
	for b.Loop() {
		dir := b.TempDir()
		floor := starts(b, dir, 50)
		m := programtest.Start(b, programtest.Write(b, `
[worker.w]
command = ["reporter"]
max_requests = 1
ready = "notify"
`), "BENCH_DIR="+dir, "BENCH_MODE=recycle")
		m.Await("there were many generations", func() bool {
			_, err := os.Stat(filepath.Join(dir, fmt.Sprintf("ready.%d", generations+1)))
			return err == nil
		})
		m.Stop()
		var all []float64
		for g := 1; g <= generations; g++ {
			end := number(b, filepath.Join(dir, fmt.Sprintf("end.%d", g)))
			ready := number(b, filepath.Join(dir, fmt.Sprintf("ready.%d", g+1)))
			all = append(all, float64(ready-end)/1e6)
		}
		slices.Sort(all)
		b.ReportMetric(all[len(all)/2], "ms")
		b.ReportMetric(all[len(all)*99/100], "ms-p99")
		b.ReportMetric(floor, "floor-ms")
		b.ReportMetric(0, "ns/op")
	}
}

// starts is the median time from fork to ready without a manager, in milliseconds.
func starts(b *testing.B, dir string, n int) float64 {
	b.Helper()
	var all []float64
	for range n {
		cmd := programtest.Command("reporter")
		cmd.Env = append(os.Environ(), "BENCH_DIR="+dir, "BENCH_MODE=recycle", "WORKERSD_MAX_REQUESTS=1")
		var t unix.Timespec
		unix.ClockGettime(unix.CLOCK_MONOTONIC, &t)
		if err := cmd.Run(); err != nil {
			b.Fatal(err)
		}
		all = append(all, float64(number(b, filepath.Join(dir, "ready.0"))-t.Nano())/1e6)
	}
	return median(all)
}

// used is the CPU time of all threads of a process, in nanoseconds.
func used(b *testing.B, pid int) int64 {
	b.Helper()
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	if err != nil || len(tasks) == 0 {
		b.Fatalf("process %d has no schedstat: %v", pid, err)
	}
	var sum int64
	for _, t := range tasks {
		text, err := os.ReadFile(t)
		if err != nil {
			continue // a thread that ended; Go ends few
		}
		first, _, _ := strings.Cut(string(text), " ")
		n, err := strconv.ParseInt(first, 10, 64)
		if err != nil {
			b.Fatal(err)
		}
		sum += n
	}
	return sum
}

func number(b *testing.B, path string) int64 {
	b.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		b.Fatal(err)
	}
	n, err := strconv.ParseInt(string(text), 10, 64)
	if err != nil {
		b.Fatalf("%s: %v", path, err)
	}
	return n
}

func median(v []float64) float64 {
	slices.Sort(v)
	return v[len(v)/2]
}

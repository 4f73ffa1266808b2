package main

import (
	"bufio"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

func fatal(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "bench: "+format+"\n", args...)
	os.Exit(1)
}

func main() {
	if len(os.Args) > 2 {
		switch os.Args[1] {
		case "floor":
			n, err := strconv.Atoi(os.Args[2])
			if err != nil {
				fatal("floor: %v", err)
			}
			floor(n, os.Args[3:])
			return
		case "copy":
			copyFloor(os.Args[3:], os.Args[2])
			return
		}
	}
	n := flag.Int("n", 500, "workers")
	rounds := flag.Int("rounds", 3, "rounds; medians are printed")
	idle := flag.Duration("idle", 10*time.Second, "how long to watch an idle pool")
	only := flag.String("only", "", "comma separated names of contenders")
	flag.Parse()

	var present []contender
	for _, c := range contenders {
		if *only != "" && c.name != "floor" && !slices.Contains(strings.Split(*only, ","), c.name) {
			continue
		}
		if why := c.missing(); why != "" {
			fmt.Printf("left out: %s: %s\n", c.name, why)
			continue
		}
		present = append(present, c)
	}
	results := map[string][]result{}
	for round := range *rounds {
		for _, c := range present {
			fmt.Fprintf(os.Stderr, "round %d of %d: %s\n", round+1, *rounds, c.name)
			r, err := measure(c, *n, *idle)
			if err != nil {
				fatal("%s: %v", c.name, err)
			}
			results[c.name] = append(results[c.name], r)
		}
	}
	report(present, results, *n, *idle)
}

// result is one round of one contender.
type result struct {
	start, startCPU, oneBack, allBack, stop, idleCPU time.Duration
	pss, threads                                     int
}

// run is a contender at work; its workers write their pid into a FIFO when they start.
type run struct {
	cmd  *exec.Cmd
	pids chan int
}

func measure(c contender, n int, idle time.Duration) (r result, err error) {
	dir, err := os.MkdirTemp("", "bench")
	if err != nil {
		return r, err
	}
	defer os.RemoveAll(dir)
	fifo := filepath.Join(dir, "pids")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		return r, err
	}
	f, err := os.OpenFile(fifo, os.O_RDWR, 0)
	if err != nil {
		return r, err
	}
	defer f.Close()
	argv, err := c.command(dir, n, "echo $$ >"+fifo+"; exec sleep 1000000")
	if err != nil {
		return r, err
	}
	w := run{cmd: exec.Command(argv[0], argv[1:]...), pids: make(chan int, 4*n)}
	go func() {
		for s := bufio.NewScanner(f); s.Scan(); {
			if pid, err := strconv.Atoi(s.Text()); err == nil {
				w.pids <- pid
			}
		}
	}()
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		return r, err
	}
	defer log.Close()
	w.cmd.Stdout, w.cmd.Stderr = log, log
	begin := time.Now()
	if err := w.cmd.Start(); err != nil {
		return r, err
	}
	root := w.cmd.Process.Pid
	defer killFamily(root)
	alive, err := w.collect(n)
	if err != nil {
		tail, _ := os.ReadFile(log.Name())
		return r, fmt.Errorf("%w\n%s", err, tail[max(0, len(tail)-2000):])
	}
	r.start, r.startCPU = time.Since(begin), cpu(root)
	time.Sleep(1500 * time.Millisecond) // runit and supervisord brake what dies young
	r.pss, r.threads = pss(root), threads(root)
	before := cpu(root)
	time.Sleep(idle)
	r.idleCPU = cpu(root) - before

	var one []time.Duration
	for i := range 9 {
		t := time.Now()
		syscall.Kill(alive[i], syscall.SIGKILL)
		again, err := w.collect(1)
		if err != nil {
			return r, fmt.Errorf("one back: %w", err)
		}
		one = append(one, time.Since(t))
		alive[i] = again[0]
	}
	slices.Sort(one)
	r.oneBack = one[len(one)/2]
	time.Sleep(1500 * time.Millisecond)

	t := time.Now()
	for _, pid := range alive {
		syscall.Kill(pid, syscall.SIGKILL)
	}
	if alive, err = w.collect(n); err != nil {
		return r, fmt.Errorf("all back: %w", err)
	}
	r.allBack = time.Since(t)
	time.Sleep(500 * time.Millisecond)

	t = time.Now()
	w.cmd.Process.Signal(c.stop)
	for _, pid := range alive {
		for syscall.Kill(pid, 0) == nil {
			if st, err := readStat(pid); err != nil || st.comm != "sleep" {
				break
			}
			time.Sleep(200 * time.Microsecond)
		}
	}
	r.stop = time.Since(t)
	w.cmd.Wait()
	return r, nil
}

func (w run) collect(n int) ([]int, error) {
	pids := make([]int, 0, n)
	limit := time.After(3 * time.Minute)
	for len(pids) < n {
		select {
		case pid := <-w.pids:
			pids = append(pids, pid)
		case <-limit:
			return pids, fmt.Errorf("only %d of %d workers started in three minutes", len(pids), n)
		}
	}
	return pids, nil
}

// killFamily ends what a contender left, by pid.
func killFamily(root int) {
	for _, s := range family(root) {
		syscall.Kill(s.pid, syscall.SIGKILL)
	}
}

func report(cs []contender, results map[string][]result, n int, idle time.Duration) {
	type column struct {
		name string
		get  func(result) float64
		unit string
	}
	ms := func(f func(result) time.Duration) func(result) float64 {
		return func(r result) float64 { return float64(f(r)) / 1e6 }
	}
	columns := []column{
		{fmt.Sprintf("start %d", n), ms(func(r result) time.Duration { return r.start }), "ms"},
		{"CPU of it", ms(func(r result) time.Duration { return r.startCPU }), "ms"},
		{"one back", ms(func(r result) time.Duration { return r.oneBack }), "ms"},
		{"all back", ms(func(r result) time.Duration { return r.allBack }), "ms"},
		{"stop", ms(func(r result) time.Duration { return r.stop }), "ms"},
		{fmt.Sprintf("idle CPU %v", idle), ms(func(r result) time.Duration { return r.idleCPU }), "ms"},
		{"PSS/worker", func(r result) float64 { return float64(r.pss) / float64(n) }, "KiB"},
		{"threads", func(r result) float64 { return float64(r.threads) }, ""},
	}
	median := func(name string, get func(result) float64) float64 {
		var v []float64
		for _, r := range results[name] {
			v = append(v, get(r))
		}
		slices.Sort(v)
		return v[len(v)/2]
	}
	fmt.Printf("\n| %d workers |", n)
	for _, c := range cs {
		fmt.Printf(" %s |", c.name)
	}
	fmt.Printf("\n|---|%s\n", strings.Repeat("---|", len(cs)))
	for _, col := range columns {
		fmt.Printf("| %s |", col.name)
		base := median("floor", col.get)
		for _, c := range cs {
			v := median(c.name, col.get)
			fmt.Printf(" %.4g %s", v, col.unit)
			if c.name != "floor" && base > 0 {
				fmt.Printf(" (%.2f×)", v/base)
			}
			fmt.Print(" |")
		}
		fmt.Println()
	}
}

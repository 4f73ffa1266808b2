package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// journal ends a measure of logs where they go to journald: what it has taken
// is counted there, once it takes no more.
func (b *bench) journal(p *pool, before time.Duration, begin time.Time) error {
	b.r.time(p.c, logWall, time.Since(begin))
	p.settle()
	b.r.time(p.c, logCPU, p.cpu()-before)
	taken := -1
	for still := 0; taken < b.lines && still < 5; time.Sleep(2 * time.Second) {
		out, err := exec.Command("journalctl", "--quiet", "--output=cat", "--identifier=w@0", fmt.Sprintf("--since=@%d", begin.Unix())).Output()
		if err != nil {
			return fmt.Errorf("journalctl: %w", err)
		}
		n := bytes.Count(out, []byte("a line as long as most lines are"))
		if still++; n > taken {
			taken, still = n, 0
		}
	}
	b.r.note(p.c, logLost, float64(b.lines-taken))
	return nil
}

// managerCPU is what the manager has used by now, to the microsecond: it has a
// cgroup of its own.
func managerCPU() (time.Duration, bool) {
	text, err := os.ReadFile("/sys/fs/cgroup/system.slice/" + serviceName + "/manager/cpu.stat")
	if err != nil {
		return 0, false
	}
	var usec int64
	_, err = fmt.Sscanf(string(text), "usage_usec %d", &usec)
	return time.Duration(usec) * time.Microsecond, err == nil
}

// Growing workers take memory at this rate, a MiB at a time.
const (
	growRate = 200 // MiB per second
	growSoft = 100 << 20
)

// soft is a worker that passes its soft limit: how long until its handler runs,
// and how far above the limit it is then. It measures itself, and is recycled
// again and again.
func (b *bench) soft(c contender) error {
	p, err := prepare(c, 1)
	if err != nil {
		return err
	}
	defer p.close()
	self, err := os.Executable()
	if err != nil {
		return err
	}
	grow := filepath.Join(p.l.dir, "grow")
	if err := os.Symlink(self, grow); err != nil {
		return err
	}
	report := filepath.Join(p.l.dir, "report")
	p.l.script = fmt.Sprintf("exec %s grow %s", grow, report)
	p.l.soft = "100M"
	if err := p.start(); err != nil {
		return err
	}
	const times = 15
	var text []byte
	for limit := time.Now().Add(patience); bytes.Count(text, []byte("\n")) < times; time.Sleep(100 * time.Millisecond) {
		if text, _ = os.ReadFile(report); time.Now().After(limit) {
			return fmt.Errorf("only %d of %d workers were told: %s", bytes.Count(text, []byte("\n")), times, p.output())
		}
	}
	for l := range strings.Lines(string(text)) {
		var late, over float64
		if _, err := fmt.Sscan(l, &late, &over); err != nil {
			return fmt.Errorf("report %q: %w", l, err)
		}
		b.r.note(c, softWall, late)
		b.r.note(c, softOver, over)
	}
	return nil
}

// growUntilTold is the growing worker; it returns only what went wrong. It sees itself pass the limit by its own
// memory.current, and appends to the report: milliseconds from there to the
// signal, KiB above the limit then.
func growUntilTold(report string) error {
	own, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return err
	}
	path := "/sys/fs/cgroup" + strings.TrimSpace(strings.TrimPrefix(string(own), "0::")) + "/memory.current"
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	told := make(chan os.Signal, 1)
	signal.Notify(told, syscall.SIGTERM)
	var passed atomic.Int64 // since start; 0: not yet
	start := time.Now()
	go func() {
		<-told
		at := time.Since(start)
		over := current(fd) - growSoft
		if p := passed.Load(); p != 0 { // else it is on its way from one page to the next
			at -= time.Duration(p)
		} else {
			at = 0
		}
		f, err := os.OpenFile(report, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
		if err == nil {
			fmt.Fprintf(f, "%f %d\n", at.Seconds()*1000, over>>10)
		}
		os.Exit(0)
	}()
	const step = 1 << 20
	for taken := 1; taken <= 2*growSoft/step; taken++ {
		mem, err := unix.Mmap(-1, 0, step, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
		if err != nil {
			return err
		}
		for i := 0; i < step; i += 4096 {
			mem[i] = 1
			if i%(64<<10) == 0 && passed.Load() == 0 && current(fd) >= growSoft {
				passed.Store(int64(time.Since(start)))
			}
		}
		time.Sleep(time.Until(start.Add(time.Duration(taken) * time.Second / growRate)))
	}
	return fmt.Errorf("%d MiB were taken, and nobody told", 2*growSoft/step)
}

func current(fd int) int {
	var buf [32]byte
	n, err := unix.Pread(fd, buf[:], 0)
	if err != nil {
		return 0
	}
	v, _ := strconv.Atoi(strings.TrimSpace(string(buf[:n])))
	return v
}

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/workersd/workersd/pkg/client"
)

// patience is how long anything may take before the run is given up.
const patience = 3 * time.Minute

// pool is a contender at work. Its workers write their pid into a FIFO when
// they start.
type pool struct {
	c     contender
	l     load
	cmd   *exec.Cmd
	root  int // pid of the manager
	log   *os.File
	fifo  *os.File
	pids  chan int
	ended chan struct{} // closed when cmd has ended
	alive []int
	us    []int         // the manager and its helpers
	wall  time.Duration // until the last worker ran
}

// open starts a contender with n workers that sleep, and waits until they run.
func open(c contender, n int) (*pool, error) {
	p, err := prepare(c, n)
	if err != nil {
		return nil, err
	}
	p.l.script = "echo $$ >" + p.fifo.Name() + "; exec sleep 1000000"
	begin := time.Now()
	if err := p.start(); err == nil {
		p.alive, err = p.collect(n)
		p.wall = time.Since(begin)
		if err == nil {
			return p, nil
		}
		err = fmt.Errorf("%w\n%s", err, p.output())
		p.close()
		return nil, err
	}
	p.close()
	return nil, err
}

// prepare makes what a contender needs; close gives it back.
func prepare(c contender, n int) (*pool, error) {
	dir, err := os.MkdirTemp(runDir(), "bench")
	if err != nil {
		return nil, err
	}
	p := &pool{c: c, l: load{dir: dir, n: n}, pids: make(chan int, 4*n+16), ended: make(chan struct{})}
	if c.unit {
		p.l.log = "journal"
	}
	fifo := filepath.Join(dir, "pids")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		return nil, err
	}
	if p.fifo, err = os.OpenFile(fifo, os.O_RDWR, 0); err != nil {
		return nil, err
	}
	if p.log, err = os.Create(filepath.Join(dir, "log")); err != nil {
		return nil, err
	}
	go func() {
		for s := bufio.NewScanner(p.fifo); s.Scan(); {
			if pid, err := strconv.Atoi(s.Text()); err == nil {
				p.pids <- pid
			}
		}
	}()
	return p, nil
}

// runDir is for sockets, FIFOs and what else supervisors have in /run: in memory,
// as that is. "" is the place of all temporary files.
func runDir() string {
	const shm = "/dev/shm"
	if st, err := os.Stat(shm); err == nil && st.IsDir() {
		return shm
	}
	return ""
}

func (p *pool) start() error {
	argv, err := p.c.command(p.l)
	if err != nil {
		return err
	}
	p.cmd = exec.Command(argv[0], argv[1:]...)
	p.cmd.Stdout, p.cmd.Stderr = p.log, p.log
	if err := p.cmd.Start(); err != nil {
		return err
	}
	p.root = p.cmd.Process.Pid
	if !p.c.unit {
		go func() {
			p.cmd.Wait()
			close(p.ended)
		}()
		return nil
	}
	if err := p.cmd.Wait(); err != nil { // until READY=1
		return fmt.Errorf("%s: %w\n%s", strings.Join(argv, " "), err, p.output())
	}
	out, err := exec.Command("systemctl", "show", "--property=MainPID", "--value", serviceName).Output()
	if err != nil {
		return err
	}
	p.root, err = strconv.Atoi(strings.TrimSpace(string(out)))
	return err
}

// output is the end of what the contender wrote.
func (p *pool) output() string {
	b, _ := os.ReadFile(p.log.Name())
	if p.c.unit {
		b, _ = exec.Command("journalctl", "--no-pager", "--lines=20", "--unit="+serviceName).Output()
	}
	return string(b[max(0, len(b)-2000):])
}

// collect waits for n workers to start.
func (p *pool) collect(n int) ([]int, error) {
	pids := make([]int, 0, n)
	limit := time.After(patience)
	for len(pids) < n {
		select {
		case pid := <-p.pids:
			pids = append(pids, pid)
		case <-p.ended:
			return pids, errors.New("it has ended")
		case <-limit:
			return pids, fmt.Errorf("only %d of %d workers started in %v", len(pids), n, patience)
		}
	}
	return pids, nil
}

// settle waits until the manager has nothing more to do than it ever has.
func (p *pool) settle() {
	for last, still := p.cpu(), 0; still < 3; {
		time.Sleep(100 * time.Millisecond)
		now := p.cpu()
		if now-last < 5*time.Millisecond {
			still++
		}
		last = now
	}
}

// managers are the manager and its helpers, by pid; they are looked for again
// when one of them has ended.
func (p *pool) managers() []int {
	for _, pid := range p.us {
		if _, err := readStat(pid); err != nil {
			p.us = nil
		}
	}
	if p.us == nil {
		p.us = family(p.root)
	}
	return p.us
}

func (p *pool) cpu() (sum time.Duration) {
	if p.c.unit {
		if d, ok := managerCPU(); ok {
			return d
		}
	}
	for _, pid := range p.managers() {
		sum += cpuOf(pid)
	}
	return sum
}

// memory is the proportional set size of the managers in KiB.
func (p *pool) memory() (sum int) {
	for _, pid := range p.managers() {
		sum += pss(pid)
	}
	return sum
}

func (p *pool) threads() (sum int) {
	for _, pid := range p.managers() {
		if s, err := readStat(pid); err == nil {
			sum += s.threads
		}
	}
	return sum
}

// stop ends the contender as its users do and waits until no worker is left.
func (p *pool) stop() (time.Duration, error) {
	begin := time.Now()
	if err := syscall.Kill(p.root, p.c.stop); err != nil {
		return 0, err
	}
	for _, pid := range p.alive {
		for isWorker(pid) {
			if time.Since(begin) > patience {
				return 0, errors.New("a worker outlives the stop")
			}
			time.Sleep(200 * time.Microsecond)
		}
	}
	return time.Since(begin), nil
}

// close ends what is left, by pid, and removes what was made.
func (p *pool) close() {
	if p.root > 0 {
		for _, pid := range family(p.root) {
			syscall.Kill(pid, syscall.SIGKILL)
		}
	}
	for _, pid := range p.alive {
		if isWorker(pid) {
			syscall.Kill(pid, syscall.SIGKILL)
		}
	}
	if p.c.unit {
		exec.Command("systemctl", "stop", serviceName).Run()
		exec.Command("systemctl", "reset-failed", serviceName).Run()
	} else if p.root > 0 {
		<-p.ended
	}
	for len(p.pids) > 0 { // of workers that were started again meanwhile
		if pid := <-p.pids; isWorker(pid) {
			syscall.Kill(pid, syscall.SIGKILL)
		}
	}
	removeLeaves(p.root)
	p.fifo.Close()
	p.log.Close()
	os.RemoveAll(p.l.dir)
}

// control is the control socket of a workersd.
func (p *pool) control() *client.Client { return client.New(filepath.Join(p.l.dir, "s")) }

// quiet is the CPU of fn beyond what the manager needs anyway, which is idle
// per second.
func (p *pool) quiet(idle time.Duration, fn func() error) (time.Duration, error) {
	begin, before := time.Now(), p.cpu()
	err := fn()
	used := p.cpu() - before
	return max(0, used-time.Duration(time.Since(begin).Seconds()*float64(idle))), err
}

// reload changes the few workers of the second entry, and says how many workers
// were started for it.
func (p *pool) reload(ctx context.Context, c *client.Client) (touched int, err error) {
	if _, err := writeList(p.l, 1); err != nil {
		return 0, err
	}
	if _, err := c.Reload(ctx, false); err != nil {
		return 0, err
	}
	if _, err := p.collect(changed); err != nil {
		return 0, err
	}
	time.Sleep(200 * time.Millisecond) // for those that were not to be touched
	return changed + len(p.pids), nil
}

// status asks for all workers once.
func (p *pool) status(ctx context.Context, c *client.Client) error {
	st, err := c.Status(ctx)
	if err == nil && st.Manager.Up != p.l.n {
		err = fmt.Errorf("status tells of %d workers up, not of %d", st.Manager.Up, p.l.n)
	}
	return err
}

package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"
)

// results are the figures of each round, by contender and measure. Times are in
// milliseconds, sizes in KiB.
type results map[string]map[measure][]float64

func (r results) note(c contender, m measure, v float64) {
	if r[c.name] == nil {
		r[c.name] = map[measure][]float64{}
	}
	r[c.name][m] = append(r[c.name][m], v)
}

func (r results) time(c contender, m measure, d time.Duration) { r.note(c, m, d.Seconds()*1000) }

func median(v []float64) float64 {
	if len(v) == 0 {
		return -1
	}
	v = slices.Sorted(slices.Values(v))
	return v[len(v)/2]
}

// bench is one run.
type bench struct {
	size, large, starts, lines int
	idle                       time.Duration
	r                          results
}

// round measures one contender once.
func (b *bench) round(c contender, first bool) error {
	for _, step := range []struct {
		name string
		when bool
		do   func(contender) error
	}{
		{"one", first || c.judged, b.one},
		{"life", true, b.life},
		{"start", b.starts > 0, b.start},
		{"logs", b.lines > 0 && (c.logs || c.unit), b.logs},
		{"large", b.large > 0 && c.judged, b.scale},
		{"soft limit", c.unit && first, b.soft},
	} {
		if !step.when {
			continue
		}
		begin := time.Now()
		if err := step.do(c); err != nil {
			return fmt.Errorf("%s: %s: %w", c.name, step.name, err)
		}
		fmt.Fprintf(os.Stderr, "  %s: %s, %v\n", c.name, step.name, time.Since(begin).Round(time.Second))
	}
	return nil
}

// one is the manager of a single worker.
func (b *bench) one(c contender) error {
	p, err := open(c, 1)
	if err != nil {
		return err
	}
	defer p.close()
	p.settle()
	time.Sleep(1200 * time.Millisecond)
	b.r.note(c, memoryOne, float64(p.memory()))
	return nil
}

// life is a pool from its start to its stop.
func (b *bench) life(c contender) error {
	p, err := open(c, b.size)
	if err != nil {
		return err
	}
	defer p.close()
	p.settle()
	b.r.time(c, startWall, p.wall)
	b.r.time(c, cpuPerWorker, p.cpu()/time.Duration(b.size))
	// runit and supervisord brake what dies young, after a second.
	time.Sleep(1200 * time.Millisecond)
	all := float64(p.memory())
	b.r.note(c, memory, all/float64(b.size))
	if one := b.r[c.name][memoryOne]; len(one) > 0 && b.size > 1 {
		b.r.note(c, memoryEach, (all-one[len(one)-1])/float64(b.size-1))
	}
	b.r.note(c, threads, float64(p.threads()))
	idle, err := b.rest(p, idleCPU)
	if err != nil {
		return err
	}
	if err := b.killOne(p); err != nil {
		return err
	}
	time.Sleep(1200 * time.Millisecond)
	if err := b.killAll(p); err != nil {
		return err
	}
	p.settle()
	if c.needs == "workersd" {
		if err := b.control(p, idle, reloadCPU, statusCPU, touched); err != nil {
			return err
		}
	}
	d, err := p.stop()
	b.r.time(c, stopWall, d)
	return err
}

// rest watches an idle pool; it returns the CPU that it needs in a second. The
// others need it once: they are not judged.
func (b *bench) rest(p *pool, m measure) (perSecond time.Duration, err error) {
	if b.idle == 0 || !p.c.judged && len(b.r[p.c.name][m]) > 0 {
		return 0, nil
	}
	before := p.cpu()
	time.Sleep(b.idle) // a floor too: what has slept is slower afterwards
	used := p.cpu() - before
	b.r.time(p.c, m, used)
	return time.Duration(float64(used) / b.idle.Seconds()), nil
}

// killOne measures kill to successor, again and again, for ten seconds at most.
func (b *bench) killOne(p *pool) error {
	var took []float64
	for i, begin := 0, time.Now(); i < 31 && i < b.size && (i < 5 || time.Since(begin) < 10*time.Second); i++ {
		t := time.Now()
		syscall.Kill(p.alive[i], syscall.SIGKILL)
		again, err := p.collect(1)
		if err != nil {
			return fmt.Errorf("one killed: %w", err)
		}
		took = append(took, time.Since(t).Seconds()*1000)
		p.alive[i] = again[0]
		time.Sleep(20 * time.Millisecond) // each alone
	}
	b.r.note(p.c, killWall, median(took))
	return nil
}

func (b *bench) killAll(p *pool) (err error) {
	t := time.Now()
	for _, pid := range p.alive {
		syscall.Kill(pid, syscall.SIGKILL)
	}
	if p.alive, err = p.collect(b.size); err != nil {
		return fmt.Errorf("all killed: %w", err)
	}
	b.r.time(p.c, allWall, time.Since(t))
	return nil
}

// control measures a reload that changes five workers, and a status.
func (b *bench) control(p *pool, idle time.Duration, reload, status, touch measure) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	c := p.control()
	defer c.Close()
	n := 0
	d, err := p.quiet(idle, func() (err error) { n, err = p.reload(ctx, c); return err })
	if err != nil {
		return fmt.Errorf("reload: %w", err)
	}
	b.r.time(p.c, reload, d)
	b.r.note(p.c, touch, float64(n))
	if d, err = p.quiet(idle, func() error { return p.status(ctx, c) }); err != nil {
		return fmt.Errorf("status: %w", err)
	}
	b.r.time(p.c, status, d)
	return nil
}

// start is nothing but a start.
func (b *bench) start(c contender) error {
	p, err := open(c, b.starts)
	if err != nil {
		return err
	}
	defer p.close()
	p.settle()
	b.r.time(c, startCPU, p.cpu())
	return nil
}

// scale is a large pool, ten times the size.
func (b *bench) scale(c contender) error {
	p, err := open(c, b.large)
	if err != nil {
		return err
	}
	defer p.close()
	p.settle()
	b.r.time(c, cpuPerWorkerLarge, p.cpu()/time.Duration(b.large))
	if small := b.r[c.name][cpuPerWorker]; len(small) > 0 {
		b.r.note(c, scaleCPU, (p.cpu()/time.Duration(b.large)).Seconds()*1000/small[len(small)-1])
	}
	time.Sleep(time.Second)
	all := float64(p.memory())
	b.r.note(c, memoryLarge, all/float64(b.large))
	if small := b.r[c.name][memory]; len(small) > 0 && b.large > b.size {
		b.r.note(c, memoryMore, (all-small[len(small)-1]*float64(b.size))/float64(b.large-b.size))
	}
	b.r.note(c, threadsLarge, float64(p.threads()))
	if c.needs != "workersd" {
		return nil
	}
	idle, err := b.rest(p, idleCPULarge)
	if err != nil {
		return err
	}
	return b.control(p, idle, reloadCPULarge, statusCPULarge, touchedLarge)
}

// lineLength is that of each line with its end.
const lineLength = 100

// logs is one worker that writes many lines, in blocks as stdio does.
func (b *bench) logs(c contender) error {
	p, err := prepare(c, 1)
	if err != nil {
		return err
	}
	defer p.close()
	self, err := os.Executable()
	if err != nil {
		return err
	}
	lines := filepath.Join(p.l.dir, "lines") // its name tells it from a manager
	if err := os.Symlink(self, lines); err != nil {
		return err
	}
	disk, err := os.MkdirTemp("", "bench")
	if err != nil {
		return err
	}
	defer os.RemoveAll(disk)
	out := filepath.Join(disk, "out")
	if !c.unit {
		p.l.log = out
	}
	p.l.script = fmt.Sprintf("read go <%s/go; %s lines %d; echo $$ >%s; exec sleep 1000000", p.l.dir, lines, b.lines, p.fifo.Name())
	if err := syscall.Mkfifo(filepath.Join(p.l.dir, "go"), 0o600); err != nil {
		return err
	}
	if err := p.start(); err != nil {
		return err
	}
	gate, err := os.OpenFile(filepath.Join(p.l.dir, "go"), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer gate.Close()
	p.settle()
	begin, before := time.Now(), p.cpu()
	if _, err := gate.WriteString("\n"); err != nil {
		return err
	}
	if p.alive, err = p.collect(1); err != nil {
		return err
	}
	if c.unit {
		return b.journal(p, before, begin)
	}
	for last := int64(-1); ; time.Sleep(5 * time.Millisecond) { // until it has all, or no more comes
		st, err := os.Stat(out)
		if err != nil {
			return err
		}
		if st.Size() >= int64(b.lines)*lineLength || st.Size() == last && time.Since(begin) > 20*time.Second {
			break
		}
		last = st.Size()
	}
	b.r.time(c, logWall, time.Since(begin))
	p.settle()
	b.r.time(c, logCPU, p.cpu()-before)
	lost, err := lostLines(out, b.lines)
	b.r.note(c, logLost, float64(lost))
	return err
}

// line is the i-th, and whole only with all of it.
func line(i int) []byte {
	return fmt.Appendf(nil, "%09d%*s\n", i, lineLength-10, "a line as long as most lines are")
}

// writeLines is the worker.
func writeLines(w io.Writer, n int) error {
	block := make([]byte, 0, 4096+lineLength)
	for i := range n {
		block = append(block, line(i)...)
		if len(block) >= 4096 {
			if _, err := w.Write(block[:4096]); err != nil {
				return err
			}
			block = append(block[:0], block[4096:]...)
		}
	}
	_, err := w.Write(block)
	return err
}

// lostLines counts those of n that are not in a file, whole and in their order.
func lostLines(path string, n int) (lost int, err error) {
	data, err := os.ReadFile(path)
	next := 0
	for l := range bytes.Lines(data) {
		if next < n && bytes.Equal(l, line(next)) {
			next++
		}
	}
	return n - next, err
}

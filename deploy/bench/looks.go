package main

import (
	"fmt"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// looks are three at the memory of each process in its first second, which is
// what watching for a limit takes where the kernel does not. A worker that grows
// fast is found by no fewer; that nobody looks later is in the floor's favour.
type looks struct{ at []chan look }

type look struct {
	pid int
	due time.Time
}

// lookAfter is when they are made; up to a quarter later, so that those of many
// are made together.
var lookAfter = []time.Duration{50 * time.Millisecond, 250 * time.Millisecond, time.Second}

func newLooks() *looks {
	l := &looks{}
	for _, after := range lookAfter {
		c := make(chan look, 1<<14)
		l.at = append(l.at, c)
		go func() {
			var buf [256]byte
			for next := range c {
				if late := time.Until(next.due); late > 0 {
					time.Sleep(late + after/4)
				}
				control(unix.AT_FDCWD, fmt.Sprintf("/proc/%d/statm", next.pid), unix.O_RDONLY, func(fd int) error {
					_, err := unix.Read(fd, buf[:])
					return err
				})
			}
		}()
	}
	return l
}

func (l *looks) begin(*syscall.ProcAttr) (started func(pid int), err error) { return l.started, nil }

func (l *looks) started(pid int) {
	now := time.Now()
	for i, after := range lookAfter {
		l.at[i] <- look{pid, now.Add(after)}
	}
}

func (l *looks) ended(int) {}
func (l *looks) close()    {}

// Command storm is a queue worker to which all happens that can: its messages
// say what. It writes down each message that it did, and nothing else of it
// survives.
package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/workersd/workersd/pkg/redisqueue"
	"github.com/workersd/workersd/pkg/worker"
)

func main() {
	worker.Main(redisqueue.Reliable(redisqueue.Options{
		Queue: "storm", Handle: handle, MaxTries: 25,
	}), worker.AbandonAfter(300*time.Millisecond))
}

// handle does a message, "NUMBER KIND". What goes wrong goes wrong at its first
// try only, but for poison.
func handle(ctx context.Context, message string) error {
	number, kind, _ := strings.Cut(message, " ")
	if kind == "poison" {
		syscall.Kill(os.Getpid(), syscall.SIGKILL)
	}
	if kind != "plain" && first(number) {
		switch kind {
		case "hog": // until somebody kills it
			b := grow(64)
			<-ctx.Done()
			b[0]++
			select {}
		case "leak": // above the soft limit, and done all the same
			b := grow(25)
			time.Sleep(300 * time.Millisecond)
			b[0]++
		case "hang":
			<-ctx.Done()
			return context.Cause(ctx)
		case "deaf":
			select {}
		case "cut": // between the work and the removal
			if err := book(number); err != nil {
				return err
			}
			syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {}
		}
	}
	time.Sleep(500 * time.Microsecond)
	return book(number)
}

var dir = os.Getenv("STORM_DIR")

func first(number string) bool {
	f, err := os.OpenFile(filepath.Join(dir, "first."+number), os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return false
	}
	f.Close()
	return true
}

func grow(mb int) []byte {
	b := make([]byte, mb<<20)
	for i := 0; i < len(b); i += 4096 {
		b[i] = 1
		if i%(1<<20) == 0 {
			time.Sleep(5 * time.Millisecond) // as a leak grows, not as a burst
		}
	}
	return b
}

var log *os.File

// book writes a line at once, so that it is there or not: O_APPEND and one write(2).
func book(number string) (err error) {
	if log == nil {
		if log, err = os.OpenFile(filepath.Join(dir, "done"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600); err != nil {
			return redisqueue.Later(err)
		}
	}
	_, err = fmt.Fprintf(log, "%s %s %d %d\n", number, worker.Name(), worker.Generation(), os.Getpid())
	return err
}

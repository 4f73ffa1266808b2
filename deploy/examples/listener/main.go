// Command listener stands for a queue listener in the examples: it waits for
// messages that it makes up, and works on each for a moment. What goes wrong
// with real ones can be asked for: --leak, --hang, --crash.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/workersd/workersd/pkg/worker"
)

type listener struct {
	host, queue        string
	leak, hang, crash  int
	pause, work        time.Duration
	messages, leakedMB int
	leaked             [][]byte
}

func (l *listener) Run(ctx context.Context) (bool, error) {
	select { // the queue
	case <-time.After(l.pause):
	case <-worker.Stopping(ctx):
		return false, nil
	}
	worker.Begin(ctx, fmt.Sprintf("message-%d", l.messages+1))
	l.messages++
	switch {
	case l.messages == l.crash:
		return false, errors.Join(errCrash, fmt.Errorf("message %d cannot be read", l.messages))
	case l.messages == l.hang:
		fmt.Printf("message %d: waiting for an answer that never comes\n", l.messages)
		select {} // as a call without a timeout does
	case l.leak > 0:
		b := make([]byte, l.leak<<20)
		for i := range b {
			b[i] = byte(i)
		}
		l.leaked = append(l.leaked, b)
		l.leakedMB += l.leak
	}
	select { // the work itself
	case <-time.After(l.work):
	case <-ctx.Done():
		return false, context.Cause(ctx)
	}
	fmt.Printf("message %d of %s on %s done\n", l.messages, l.queue, l.host)
	return true, nil
}

var errCrash = errors.New("the listener gives up")

func main() {
	l := &listener{}
	flag.StringVar(&l.host, "host", "localhost", "host of the queue")
	flag.StringVar(&l.queue, "queue", "queue", "its name")
	flag.DurationVar(&l.pause, "pause", 2*time.Second, "between two messages")
	flag.DurationVar(&l.work, "work", 0, "on each")
	flag.IntVar(&l.leak, "leak", 0, "keep so many MB of each message")
	flag.IntVar(&l.hang, "hang", 0, "hang at this message")
	flag.IntVar(&l.crash, "crash", 0, "leave with exit code 3 at this message")
	flag.Parse()
	slog.SetDefault(slog.New(slog.NewTextHandler(os.Stdout, nil)))
	worker.Main(worker.Func(func(ctx context.Context) (bool, error) {
		done, err := l.Run(ctx)
		if errors.Is(err, errCrash) {
			fmt.Println(err)
			os.Exit(3)
		}
		return done, err
	}), worker.BeginLater())
}

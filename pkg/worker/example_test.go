package worker_test

import (
	"context"
	"fmt"
	"time"

	"github.com/workersd/workersd/pkg/worker"
)

// MyWork is the first worker of the documentation.
type MyWork struct{ said int }

func (m *MyWork) Run(context.Context) (bool, error) {
	m.said++
	fmt.Println("running", m.said)
	return true, nil
}

// The smallest worker. Its main function is
//
//	func main() { worker.Main(&MyWork{}, worker.CheckPoint(time.Second)) }
//
// Run is the same for programs that have more to do than this.
func Example() {
	err := worker.Run(context.Background(), &MyWork{},
		worker.MaxRequests(2), worker.CheckPoint(time.Millisecond))
	fmt.Println("left:", err)
	// Output:
	// running 1
	// running 2
	// left: <nil>
}

// Orders opens something at the start, closes it at the end, and sometimes finds
// nothing to do.
type Orders struct{ todo []string }

func (o *Orders) Init(context.Context) error {
	fmt.Println("open")
	o.todo = []string{"socks", "", "shoes"}
	return nil
}

func (o *Orders) Run(ctx context.Context) (bool, error) {
	next := o.todo[0]
	o.todo = o.todo[1:]
	if next == "" {
		return false, nil // nothing was there: not counted
	}
	fmt.Printf("execution %s: %s\n", worker.ID(ctx), next)
	return true, nil
}

func (o *Orders) AfterRun(context.Context) error {
	fmt.Println("close")
	return nil
}

// A worker with all three methods.
func ExampleRun() {
	if err := worker.Run(context.Background(), &Orders{}, worker.MaxRequests(2)); err != nil {
		fmt.Println(err)
	}
	// Output:
	// open
	// execution 1: socks
	// execution 3: shoes
	// close
}

// A function is a worker too, and a context that is cancelled asks it to leave.
func ExampleFunc() {
	ctx, cancel := context.WithCancel(context.Background())
	err := worker.Run(ctx, worker.Func(func(context.Context) (bool, error) {
		fmt.Println("once")
		cancel()
		return true, nil
	}))
	fmt.Println(err)
	// Output:
	// once
	// <nil>
}

// An execution that outlives its timeout has its context cancelled; then the
// process leaves, so that a new one can begin.
func ExampleTimeout() {
	err := worker.Run(context.Background(), worker.Func(func(ctx context.Context) (bool, error) {
		<-ctx.Done()
		fmt.Println("cancelled:", context.Cause(ctx))
		return false, nil
	}), worker.Timeout(10*time.Millisecond))
	fmt.Println("left:", err)
	// Output:
	// cancelled: execution timed out: context deadline exceeded
	// left: execution timed out: context deadline exceeded
}

// A worker that waits inside of Run begins its execution when it has work, so
// that its timeout does not run while it waits.
func ExampleBegin() {
	queue := make(chan string, 1)
	queue <- "mail"
	err := worker.Run(context.Background(), worker.Func(func(ctx context.Context) (bool, error) {
		select {
		case m := <-queue:
			worker.Begin(ctx, m)
			fmt.Println(worker.ID(ctx))
			return true, nil
		case <-worker.Stopping(ctx):
			return false, nil
		}
	}), worker.BeginLater(), worker.MaxRequests(1))
	fmt.Println(err)
	// Output:
	// 1:mail
	// <nil>
}

// Several executions at once; Run must be fit for that.
func ExampleParallel() {
	together := make(chan string)
	err := worker.Run(context.Background(), worker.Func(func(ctx context.Context) (bool, error) {
		select { // one hands over, the other takes
		case together <- worker.ID(ctx):
		case <-together:
			fmt.Println("two at once")
		}
		return true, nil
	}), worker.Parallel(2), worker.MaxRequests(2))
	fmt.Println(err)
	// Output:
	// two at once
	// <nil>
}

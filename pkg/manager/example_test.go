package manager_test

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/workersd/workersd/pkg/manager"
	"github.com/workersd/workersd/pkg/spec"
)

type MyWork struct{}

func (MyWork) Run(context.Context) (bool, error) {
	slog.Info("running")
	time.Sleep(time.Second)
	return true, nil
}

// The smallest program; what stands here is its main function.
func Example() {
	manager.New(manager.Worker{Work: MyWork{}}).Start()
}

// Listen waits for messages of one queue on one host.
type Listen struct {
	IP, Queue string

	open bool // unexported: no argument
}

func (l *Listen) Init(context.Context) error {
	l.open = true
	return nil
}

func (l *Listen) Run(context.Context) (bool, error) {
	fmt.Printf("message of %s on %s, open: %v\n", l.Queue, l.IP, l.open)
	time.Sleep(100 * time.Millisecond)
	return true, nil
}

func (l *Listen) AfterRun(context.Context) error {
	fmt.Println("closed")
	return nil
}

// Many workers that differ in their arguments alone, with limits.
func Example_arguments() {
	m := &manager.Manager{Title: "Mail queues", CheckInterval: 5 * time.Second}
	for _, ip := range []string{"10.0.0.1", "10.0.0.2"} {
		for _, queue := range []string{"mail", "report"} {
			m.Workers = append(m.Workers, manager.Worker{
				Work:            &Listen{IP: ip, Queue: queue},
				MaxRequests:     2,
				Timeout:         30 * time.Second,
				SoftMemoryLimit: 200 * spec.MiB,
				HardMemoryLimit: 300 * spec.MiB,
			})
		}
	}
	m.Start()
}

// What no field is for is set in the worker as the supervisor knows it.
func ExampleWorker_spec() {
	manager.New(manager.Worker{
		Work: MyWork{},
		Name: "quiet",
		Log:  "${worker}.log",
		Spec: func(w *spec.Worker) {
			w.Nice = 10
			w.MaxLifetime = 24 * time.Hour
			w.LogBackups = 2
		},
	}).Start()
}

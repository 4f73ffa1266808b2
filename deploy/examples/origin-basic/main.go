// Command origin-basic is the smallest program with a worker and its manager:
// the origin's first example.
package main

import (
	"context"
	"log/slog"
	"time"

	"github.com/workersd/workersd/pkg/manager"
)

type MyWork struct{}

func (MyWork) Run(context.Context) (bool, error) {
	slog.Info("running")
	time.Sleep(time.Second)
	return true, nil
}

func main() {
	manager.New(manager.Worker{Work: MyWork{}}).Start()
}

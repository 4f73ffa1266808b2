// Command redis-reliable prints the messages of the Redis list redis_queue. It
// moves each into an in-flight list of its own with BLMOVE, and removes it with
// LREM when it is done, so that none is lost.
package main

import (
	"context"
	"fmt"

	"github.com/workersd/workersd/pkg/redisqueue"
	"github.com/workersd/workersd/pkg/worker"
)

func main() {
	worker.Main(redisqueue.Reliable(redisqueue.Options{
		Queue: "redis_queue", // of the server in $REDIS_URL
		Handle: func(_ context.Context, message string) error {
			fmt.Println(message)
			return nil
		},
	}))
}

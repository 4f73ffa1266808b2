// Command redis-simple takes messages from the Redis list redis_queue with
// BRPOP and prints them.
package main

import (
	"context"
	"fmt"

	"github.com/workersd/workersd/pkg/redisqueue"
	"github.com/workersd/workersd/pkg/worker"
)

func main() {
	worker.Main(redisqueue.Simple(redisqueue.Options{
		Queue: "redis_queue", // of the server in $REDIS_URL
		Handle: func(_ context.Context, message string) error {
			fmt.Println(message)
			return nil
		},
	}))
}

// Command workersd keeps the workers of one worker list alive.
package main

import (
	"os"

	"github.com/workersd/workersd/pkg/daemon"
)

func main() { os.Exit(daemon.Main(os.Args[1:])) }

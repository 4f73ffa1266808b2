// Command workersctl shows and steers the workers of a workersd.
package main

import (
	"os"

	"github.com/workersd/workersd/pkg/cli"
)

func main() { os.Exit(cli.Main(os.Args[1:])) }

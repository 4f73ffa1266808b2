package daemon

import (
	"errors"
	"flag"
	"fmt"
	"os"

	"github.com/workersd/workersd/pkg/internal/host/guard"
	"github.com/workersd/workersd/pkg/internal/host/process"
)

// Main is the program workersd; it returns the exit code.
func Main(args []string) int {
	process.TrampolineMain() // does not return in a trampoline
	o, err := parseArgs(args, os.Stdout, os.Stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return ExitOK
	case err != nil:
		return ExitUsage
	}
	return Run(o)
}

// Run is one manager from its start to its end; it returns the exit code.
//
// In a terminal the calling process becomes the guard, and the
// manager is the same program executed again with the same arguments, which
// reaches Run a second time. So it is called early in main, by a program that
// has started nothing yet.
func Run(o Options) int {
	process.TrampolineMain()
	if o.Stdout == nil {
		o.Stdout = os.Stdout
	}
	if o.Stderr == nil {
		o.Stderr = os.Stderr
	}
	keepWithoutReader()
	d := &daemon{o: o, service: os.Getenv("NOTIFY_SOCKET") != "", happened: make(chan struct{}, 1)}
	if !d.service && !guard.Guarded() {
		// What can be seen to be wrong is said before a second process is made.
		if o.List == nil {
			if _, _, err := d.load(); err != nil {
				fmt.Fprintln(o.Stderr, err)
				return ExitBadList
			}
		}
		return d.guard()
	}
	return d.run()
}

// guard executes the program again, as it was started, and stays its parent.
func (d *daemon) guard() int {
	args := d.o.Args
	if args == nil {
		args = os.Args
	}
	if d.o.Dir != "" {
		if err := os.Chdir(d.o.Dir); err != nil {
			fmt.Fprintf(d.o.Stderr, "workersd: the directory that it was started in: %v\n", err)
			return ExitFailed
		}
	}
	return guard.Run(args)
}

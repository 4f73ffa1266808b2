package daemon

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/workersd/workersd/pkg/client"
	"github.com/workersd/workersd/pkg/spec"
)

// Version is set by the build.
var Version = "unknown"

// Exit codes of the program; 78 is EX_CONFIG of sysexits.h.
const (
	ExitOK      = 0
	ExitFailed  = 1
	ExitUsage   = 2
	ExitBadList = 78
)

// Options are what the program is started with.
type Options struct {
	// Config is the path of the worker list; List is one made by the program
	// itself, in its place (a manager and its workers in one binary).
	Config string
	List   *spec.List

	Socket     string // control socket; see client.DefaultSocket
	StateDir   string // history and generations; "" keeps them in memory only
	CgroupRoot string // a delegated cgroup that cannot be found by itself
	NoScope    bool   // in a terminal, do not ask systemd for a scope
	NoCgroup   bool   // do not use cgroups at all: limits are sampled
	Verbose    bool

	// Log takes what the manager has to say; nil: journald under systemd, stderr
	// elsewhere.
	Log            *slog.Logger
	Stdout, Stderr *os.File // nil: the process's own

	// Args and Dir are what the program was started with, for executing it again
	// below the guard; nil and "": os.Args and the working directory.
	Args []string
	Dir  string
}

// FromEnvironment are the options of a program that was given none.
func FromEnvironment() Options {
	return Options{Socket: client.DefaultSocket(), StateDir: firstDir(os.Getenv("STATE_DIRECTORY"))}
}

// errUsage is an error that the usage text was printed for.
var errUsage = errors.New("usage")

const usage = `usage: workersd --config FILE [options]

Keeps the workers of the worker list FILE alive. In a terminal Ctrl-C ends
them all; under systemd it is a service of Type=notify.

  --config FILE       the worker list; FILE.d/*.toml is read with it
  --socket PATH       control socket (default %s; also: WORKERSD_SOCKET)
  --state-dir DIR     keep history and generations there (default: what systemd
                      gives, else in memory)
  --cgroup-root PATH  a delegated cgroup v2 to work in
  --no-scope          in a terminal, do not ask systemd for a scope
  --no-cgroup         no cgroups: memory limits are sampled
  --verbose           log more
  --version
`

func parseArgs(args []string, stdout, stderr io.Writer) (Options, error) {
	o := FromEnvironment()
	unset := o.Socket
	f := flag.NewFlagSet("workersd", flag.ContinueOnError)
	f.SetOutput(io.Discard) // said below, where it belongs
	f.StringVar(&o.Config, "config", "", "")
	f.StringVar(&o.Socket, "socket", o.Socket, "")
	f.StringVar(&o.StateDir, "state-dir", o.StateDir, "")
	f.StringVar(&o.CgroupRoot, "cgroup-root", "", "")
	f.BoolVar(&o.NoScope, "no-scope", false, "")
	f.BoolVar(&o.NoCgroup, "no-cgroup", false, "")
	f.BoolVar(&o.Verbose, "verbose", false, "")
	version := f.Bool("version", false, "")
	if err := f.Parse(args); errors.Is(err, flag.ErrHelp) {
		fmt.Fprintf(stdout, usage, unset)
		return o, err
	} else if err != nil {
		fmt.Fprintf(stderr, "workersd: %v\n", err)
		fmt.Fprintf(stderr, usage, unset)
		return o, errUsage
	}
	switch {
	case *version:
		fmt.Fprintf(stdout, "workersd %s\n", Version)
		return o, flag.ErrHelp
	case f.NArg() > 0:
		fmt.Fprintf(stderr, "workersd: unexpected argument %q (the worker list goes behind --config)\n", f.Arg(0))
		return o, errUsage
	case o.Config == "":
		fmt.Fprintln(stderr, "workersd: no worker list: say --config FILE")
		return o, errUsage
	}
	abs, err := filepath.Abs(o.Config)
	if err != nil {
		fmt.Fprintf(stderr, "workersd: %v\n", err)
		return o, errUsage
	}
	o.Config = abs
	return o, nil
}

// firstDir takes the first of a list as systemd sets it (systemd.exec(5)).
func firstDir(s string) string {
	dir, _, _ := strings.Cut(s, ":")
	return dir
}

package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/workersd/workersd/pkg/client"
)

// Exit codes of workersctl.
const (
	ExitOK          = 0
	ExitFailed      = 1
	ExitUsage       = 2
	ExitUnreachable = 3
)

// app is one call of workersctl.
type app struct {
	out, err io.Writer
	color    bool
	socket   string
	json     bool
}

// usageError is a wrong call.
type usageError struct{ error }

// silent is a failure of which everything is said already.
var silent = errors.New("")

// Main runs workersctl and returns its exit code.
func Main(args []string) int {
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer cancel()
	return Run(ctx, args, os.Stdout, os.Stderr)
}

// Run is Main with its surroundings given.
func Run(ctx context.Context, args []string, out, errOut io.Writer) int {
	a := &app{out: out, err: errOut}
	if f, ok := out.(*os.File); ok {
		a.color = wantsColor(f)
	}
	root := a.root()
	root.SetArgs(args)
	root.SetOut(out)
	root.SetErr(errOut)
	return a.code(root.ExecuteContext(ctx))
}

// code says what went wrong, and what to do, and gives the exit code.
func (a *app) code(err error) int {
	var (
		un    *client.Unreachable
		ce    *client.Error
		usage usageError
	)
	switch {
	case err == nil:
		return ExitOK
	case errors.Is(err, silent):
		return ExitFailed
	case errors.As(err, &un):
		fmt.Fprintf(a.err, "workersctl: %v\n", un)
		fmt.Fprintln(a.err, "hint: is workersd running (systemctl status workersd)? --socket PATH or WORKERSD_SOCKET names another")
		return ExitUnreachable
	case errors.As(err, &ce):
		fmt.Fprintf(a.err, "workersctl: %s\n", ce.Text)
		if ce.Hint != "" {
			fmt.Fprintf(a.err, "hint: %s\n", ce.Hint)
		}
		return ExitFailed
	case errors.As(err, &usage):
		fmt.Fprintf(a.err, "workersctl: %v\n", err)
		return ExitUsage
	case errors.Is(err, context.Canceled):
		return 128 + int(syscall.SIGINT)
	}
	fmt.Fprintf(a.err, "workersctl: %v\n", err)
	return ExitFailed
}

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use: "workersctl", Short: "shows and steers the workers of workersd",
		SilenceUsage: true, SilenceErrors: true,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, args []string) error { return cmd.Help() },
	}
	root.CompletionOptions.HiddenDefaultCmd = true
	root.PersistentFlags().StringVar(&a.socket, "socket", "", "control socket of the manager")
	root.PersistentFlags().BoolVar(&a.json, "json", false, "print JSON")
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	root.AddCommand(a.status(), a.show(), a.verb("start", "start workers, also those an operator stopped"),
		a.verb("stop", "stop workers and keep them down until they are started"), a.verb("restart", "replace the processes of workers"),
		a.verb("kill", "end workers' processes with SIGKILL; they are started again"),
		a.reload(), a.plan(), a.logs(), a.events(), a.why(), a.check(), a.notify())
	for _, c := range root.Commands() {
		wrapArgs(c)
	}
	return root
}

// wrapArgs makes a wrong number of arguments a wrong call, with its usage.
func wrapArgs(c *cobra.Command) {
	inner := c.Args
	c.Args = func(cmd *cobra.Command, args []string) error {
		if inner == nil {
			return nil
		}
		if err := inner(cmd, args); err != nil {
			return usageError{fmt.Errorf("%w\nusage: %s", err, cmd.UseLine())}
		}
		return nil
	}
}

func (a *app) client() *client.Client {
	if a.socket == "" {
		a.socket = client.Find()
	}
	return client.New(a.socket)
}

// print writes v as JSON, or lets a person's form be written.
func (a *app) print(v any, person func()) error {
	if !a.json {
		person()
		return nil
	}
	enc := json.NewEncoder(a.out)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

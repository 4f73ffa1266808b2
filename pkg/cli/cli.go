package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/workersd/workersd/pkg/client"
	"github.com/workersd/workersd/pkg/internal/control"
	"github.com/workersd/workersd/pkg/internal/near"
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
	out    *output
	err    io.Writer
	color  bool
	socket string
	json   bool
	args   []string // patterns that were given
	now    func() time.Time
	exec   func(argv0 string, argv, env []string) error
}

// output remembers that not all could be written: a full disk behind a
// redirection must not look like success.
type output struct {
	w   io.Writer
	err error
}

func (o *output) Write(b []byte) (int, error) {
	n, err := o.w.Write(b)
	if err != nil && o.err == nil {
		o.err = err
	}
	return n, err
}

// usageError is a wrong call.
type usageError struct{ error }

// errSilent is a failure of which everything is said already.
var errSilent = errors.New("")

// Main runs workersctl and returns its exit code.
func Main(args []string) int {
	ctx, stop := untilSignal(context.Background())
	defer stop()
	return Run(ctx, args, os.Stdout, os.Stderr)
}

// signaled is the cause of the end of a context.
type signaled syscall.Signal

func (s signaled) Error() string { return "ended by " + syscall.Signal(s).String() }

// untilSignal gives a context that a signal to end ends, and is the cause of. A
// second signal ends the process at once, as it would without us.
func untilSignal(parent context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(parent)
	signals := make(chan os.Signal, 1) // a second one finds no handler
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	stop := func() {
		signal.Stop(signals)
		cancel(nil)
	}
	go func() {
		select {
		case s := <-signals:
			signal.Stop(signals)
			cancel(signaled(s.(syscall.Signal)))
		case <-ctx.Done():
		}
	}()
	return ctx, stop
}

// Run is Main with its surroundings given.
func Run(ctx context.Context, args []string, out, errOut io.Writer) int {
	return newApp(out, errOut).run(ctx, args)
}

func newApp(out, errOut io.Writer) *app {
	a := &app{out: &output{w: out}, err: errOut, now: time.Now, exec: syscall.Exec}
	if f, ok := out.(*os.File); ok {
		a.color = wantsColor(f)
	}
	return a
}

func (a *app) run(ctx context.Context, args []string) int {
	root := a.root()
	root.SetArgs(args)
	root.SetOut(a.out)
	root.SetErr(a.err)
	err := root.ExecuteContext(ctx)
	if cause := context.Cause(ctx); cause != nil && errors.Is(err, context.Canceled) {
		err = cause
	}
	if err == nil && a.out.err != nil {
		err = fmt.Errorf("not all could be written: %w", a.out.err)
	}
	return a.code(err)
}

// code says what went wrong, and what to do, and gives the exit code.
func (a *app) code(err error) int {
	var (
		un    *client.Unreachable
		ce    *client.Error
		usage usageError
		sig   signaled
	)
	switch {
	case err == nil:
		return ExitOK
	case errors.Is(err, errSilent):
		return ExitFailed
	case errors.As(err, &un) && errors.Is(un, os.ErrPermission):
		fmt.Fprintf(a.err, "workersctl: permission denied at %s\n", un.Socket)
		fmt.Fprintf(a.err, "hint: root, the service's user and members of group %s may connect (sudo workersctl …)\n", control.Group)
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
		if ce.Status == http.StatusNotFound && a.expanded() {
			fmt.Fprintln(a.err, "hint: quote a pattern, or the shell puts names of files in its place: 'queue@*'")
		}
		return ExitFailed
	case errors.As(err, &usage):
		fmt.Fprintf(a.err, "workersctl: %v\n", err)
		return ExitUsage
	case errors.As(err, &sig):
		return 128 + int(sig)
	case errors.Is(err, context.Canceled):
		return 128 + int(syscall.SIGINT)
	}
	fmt.Fprintf(a.err, "workersctl: %v\n", err)
	return ExitFailed
}

// expanded reports whether what was given are names of files.
func (a *app) expanded() bool {
	return slices.ContainsFunc(a.args, func(arg string) bool {
		_, err := os.Lstat(arg)
		return arg != "" && err == nil
	})
}

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use: "workersctl", Short: "shows and steers the workers of workersd",
		SilenceUsage: true, SilenceErrors: true,
		Args: unknownCommand,
		RunE: func(cmd *cobra.Command, args []string) error { return cmd.Help() },
	}
	root.PersistentFlags().StringVar(&a.socket, "socket", "", "control socket of the manager (also: WORKERSD_SOCKET)")
	root.PersistentFlags().BoolVar(&a.json, "json", false, "print JSON")
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usageError{fmt.Errorf("%w\nusage: %s", err, cmd.UseLine())}
	})
	root.AddCommand(a.status(), a.show(), a.verb("start", "start workers, also those an operator stopped"),
		a.verb("stop", "stop workers and keep them down until they are started"), a.verb("restart", "replace the processes of workers"),
		a.verb("kill", "end workers' processes with SIGKILL; they are started again"),
		a.reload(), a.plan(), a.logs(), a.events(), a.why(), a.check(), a.notify())
	for _, c := range root.Commands() {
		a.wrapArgs(c)
	}
	return root
}

// unknownCommand names the command that was meant.
func unknownCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	text := fmt.Sprintf("unknown command %q", args[0])
	var known []string
	for _, c := range cmd.Commands() {
		known = append(known, c.Name())
	}
	if words := near.Words(args[0], known, 2); len(words) > 0 {
		text += " (did you mean " + strings.Join(words, " or ") + "?)"
	}
	return usageError{errors.New(text + "\nworkersctl --help lists the commands")}
}

// wrapArgs makes a wrong number of arguments a wrong call, with its usage.
func (a *app) wrapArgs(c *cobra.Command) {
	inner := c.Args
	c.Args = func(cmd *cobra.Command, args []string) error {
		a.args = args
		if inner == nil {
			return nil
		}
		if err := inner(cmd, args); err != nil {
			_, what, _ := strings.Cut(cmd.Use, " ")
			return usageError{fmt.Errorf("expected %s, got %s\nusage: %s", cmp.Or(what, "no argument"), count(len(args), "argument"), cmd.UseLine())}
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
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

// names completes the names of workers, where a manager answers.
func (a *app) names(cmd *cobra.Command, args []string, begin string) ([]string, cobra.ShellCompDirective) {
	ctx, cancel := context.WithTimeout(cmd.Context(), 2*time.Second)
	defer cancel()
	s, err := a.client().Status(ctx)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var out []string
	for _, w := range s.Workers {
		if strings.HasPrefix(w.Name, begin) && !slices.Contains(args, w.Name) {
			out = append(out, w.Name)
		}
	}
	return out, cobra.ShellCompDirectiveNoFileComp
}

// lists completes worker lists.
func lists(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	return []string{"toml"}, cobra.ShellCompDirectiveFilterFileExt
}

package cli

import (
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"github.com/workersd/workersd/pkg/client"
)

func (a *app) verb(name, short string) *cobra.Command {
	var noWait bool
	c := &cobra.Command{
		Use: name + " PATTERN...", Short: short, Args: cobra.MinimumNArgs(1), ValidArgsFunction: a.names,
		RunE: func(cmd *cobra.Command, args []string) error {
			ws, err := a.client().Act(cmd.Context(), name, !noWait, args...)
			if err != nil {
				return err
			}
			err = a.print(ws, func() { a.printWorkers(ws, a.now()) })
			if err == nil && !noWait && slices.ContainsFunc(ws, func(w client.Worker) bool { return notDone(name, w) }) {
				what := map[bool]string{true: "not all came up", false: "not all ended: SIGKILL was sent, and what is stuck hangs in the kernel"}[name == "start" || name == "restart"]
				fmt.Fprintf(a.err, "workersctl: %s\nhint: workersctl why WORKER says why\n", what)
				return errSilent
			}
			return err
		},
	}
	c.Flags().BoolVar(&noWait, "no-wait", false, "do not wait until it is done")
	return c
}

// notDone reports whether a worker is not as it was asked for. A successor that
// does not come up leaves the process that it should follow in its place.
func notDone(verb string, w client.Worker) bool {
	switch verb {
	case "start", "restart":
		return w.Stuck || w.State == "backoff" || w.Failures > 0 && !w.NextStart.IsZero()
	}
	return w.Stuck
}

func (a *app) reload() *cobra.Command {
	var dry bool
	c := &cobra.Command{
		Use: "reload", Short: "make the manager read its list again", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			p, err := a.client().Reload(cmd.Context(), dry)
			if err != nil {
				return err
			}
			return a.print(p, func() { a.printPlan(p) })
		},
	}
	c.Flags().BoolVar(&dry, "dry-run", false, "only say what would change")
	return c
}

func (a *app) printPlan(p client.Plan) { fmt.Fprint(a.out, p.Text) }

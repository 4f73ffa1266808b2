package cli

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/workersd/workersd/pkg/client"
)

func (a *app) verb(name, short string) *cobra.Command {
	var noWait bool
	c := &cobra.Command{
		Use: name + " PATTERN...", Short: short, Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ws, err := a.client().Act(cmd.Context(), name, !noWait, args...)
			if err != nil {
				return err
			}
			failed := false
			err = a.print(ws, func() {
				rows := [][]string{{"NAME", "STATE", "PID", "GEN", "UPTIME", "EXECS", "MEMORY", "RESTARTS", "LAST"}}
				for _, w := range ws {
					rows = append(rows, a.row(w, time.Now()))
				}
				a.table(rows, func(row int) string {
					if row == 0 {
						return ""
					}
					return stateColor(ws[row-1])
				})
			})
			for _, w := range ws {
				failed = failed || !noWait && (name == "start" || name == "restart") && w.State == "backoff"
			}
			if err == nil && failed {
				fmt.Fprintf(a.err, "workersctl: not all came up\nhint: workersctl why WORKER says why\n")
				return silent
			}
			return err
		},
	}
	c.Flags().BoolVar(&noWait, "no-wait", false, "do not wait until it is done")
	return c
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

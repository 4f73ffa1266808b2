package cli

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/workersd/workersd/pkg/client"
)

func (a *app) events() *cobra.Command {
	var follow bool
	var n int
	c := &cobra.Command{
		Use: "events [PATTERN...]", Short: "what happened", Args: cobra.ArbitraryArgs, ValidArgsFunction: a.names,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.client().Events(cmd.Context(), n, follow, args, func(r client.Record) error {
				if a.json {
					return json.NewEncoder(a.out).Encode(r)
				}
				_, err := fmt.Fprintln(a.out, clean(recordLine(r)))
				return err
			})
		},
	}
	c.Flags().BoolVarP(&follow, "follow", "f", false, "go on with what happens from now on")
	c.Flags().IntVarP(&n, "lines", "n", -1, "how many of the past; -1: all that are kept")
	return c
}

func recordLine(r client.Record) string {
	var b strings.Builder
	b.WriteString(r.Time.Local().Format("2006-01-02 15:04:05.000"))
	if r.Worker != "" {
		b.WriteByte(' ')
		b.WriteString(r.Worker)
	}
	if r.PID != 0 {
		fmt.Fprintf(&b, " %d", r.PID)
	}
	b.WriteByte(' ')
	b.WriteString(strings.ReplaceAll(strings.TrimRight(r.Message, "\n"), "\n", "; "))
	if r.Reason != "" { // as it stands in the log of the manager
		b.WriteString(" reason=" + string(r.Reason))
	}
	return b.String()
}

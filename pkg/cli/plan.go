package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode"

	"github.com/spf13/cobra"

	"github.com/workersd/workersd/pkg/client"
	"github.com/workersd/workersd/pkg/internal/config"
	"github.com/workersd/workersd/pkg/internal/control"
	"github.com/workersd/workersd/pkg/internal/host/procmem"
	"github.com/workersd/workersd/pkg/spec"
)

func (a *app) plan() *cobra.Command {
	return &cobra.Command{
		Use: "plan [FILE]", Short: "what a reload would do, with the manager's list or with FILE", Args: cobra.MaximumNArgs(1), ValidArgsFunction: lists,
		RunE: func(cmd *cobra.Command, args []string) error {
			var p client.Plan
			var err error
			if len(args) == 0 {
				p, err = a.client().Reload(cmd.Context(), true)
			} else {
				p, err = a.planFile(cmd.Context(), args[0])
			}
			if err != nil {
				return err
			}
			return a.print(p, func() { a.printPlan(p) })
		},
	}
}

// planFile compares a file, which the server never sees, with the list in
// force, whose values the client never sees.
func (a *app) planFile(ctx context.Context, file string) (client.Plan, error) {
	old, err := a.client().Digests(ctx)
	if err != nil {
		return client.Plan{}, err
	}
	// A manager that does not tell its memory is of another version.
	total := cmp.Or(spec.Bytes(old.MemoryTotal), procmem.Total())
	l, err := loadList(file, config.Options{MemoryTotal: total})
	if err != nil {
		return client.Plan{}, a.listErrors(err)
	}
	return control.PlanOf(old, l), nil
}

// loadList reads any list: who may write it matters to who acts on it.
func loadList(file string, o config.Options) (spec.List, error) {
	o.AnyOwner = true
	return config.Load(file, o)
}

// listErrors prints the errors of a list, a line each.
func (a *app) listErrors(err error) error {
	var es config.Errors
	if !errors.As(err, &es) {
		return err
	}
	for _, e := range es {
		fmt.Fprintln(a.err, e.Error())
	}
	fmt.Fprintf(a.err, "workersctl: %s\n", count(len(es), "error"))
	return errSilent
}

// checked is what `check --json` prints of a worker.
type checked struct {
	Name    string   `json:"name"`
	Entry   string   `json:"entry"`
	Type    string   `json:"type"`
	Command []string `json:"command"`
	Soft    int64    `json:"soft_memory_limit_bytes"`
	Hard    int64    `json:"hard_memory_limit_bytes"`
	Enabled bool     `json:"enabled"`
}

func (a *app) check() *cobra.Command {
	return &cobra.Command{
		Use: "check FILE", Short: "the expanded list, or its errors; needs no manager", Args: cobra.ExactArgs(1), ValidArgsFunction: lists,
		RunE: func(cmd *cobra.Command, args []string) error {
			percent := false
			total := procmem.Total()
			l, err := loadList(args[0], config.Options{MemoryTotal: total, Percentage: func() { percent = true }})
			if err != nil {
				return a.listErrors(err)
			}
			out := make([]checked, len(l.Workers))
			t := table{head: []string{"NAME", "TYPE", "SOFT", "HARD", "COMMAND"}, right: "SOFT HARD"}
			for i, w := range l.Workers {
				out[i] = checked{w.Name, w.Entry, string(w.Type), w.Command, int64(w.SoftMemory), int64(w.HardMemory), w.Enabled}
				command := quoted(w.Command)
				if !w.Enabled {
					command += "  (not enabled)"
				}
				t.add("", w.Name, string(w.Type), w.SoftMemory.String(), w.HardMemory.String(), command)
			}
			return a.print(out, func() {
				t.write(a.out, false)
				fmt.Fprintf(a.out, "\n%s in %s: no errors\n", count(len(l.Workers), "worker"), strings.Join(l.Files, ", "))
				if percent {
					fmt.Fprintf(a.out, "percentages are of %v: this machine's memory, or the least limit above this process (the service's may be less)\n", total)
				}
			})
		},
	}
}

// quoted is a command as one could type it in bash.
func quoted(args []string) string {
	out := make([]string, len(args))
	for i, s := range args {
		switch {
		case strings.ContainsFunc(s, unicode.IsControl):
			q := strconv.Quote(s)
			s = "$'" + strings.ReplaceAll(strings.ReplaceAll(q[1:len(q)-1], `\"`, `"`), "'", `\'`) + "'"
		case s == "" || strings.ContainsAny(s, " \"'\\$`|&;<>()*?[]#~!{}"):
			s = "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
		}
		out[i] = s
	}
	return strings.Join(out, " ")
}

package cli

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/workersd/workersd/pkg/client"
)

func (a *app) logs() *cobra.Command {
	var follow bool
	var n int
	c := &cobra.Command{
		Use: "logs PATTERN", Short: "what workers wrote", Args: cobra.ExactArgs(1), ValidArgsFunction: a.names,
		RunE: func(cmd *cobra.Command, args []string) error {
			if a.json { // what runs in our place knows nothing of it
				return usageError{errors.New("logs has no --json: it shows what workers wrote, as it is")}
			}
			ws, err := a.client().Show(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			run, err := reader(ws, n, follow)
			if err != nil {
				return err
			}
			path, err := exec.LookPath(run[0])
			if err != nil {
				return fmt.Errorf("%s is needed to read it: %w", run[0], err)
			}
			return a.exec(path, run, os.Environ())
		},
	}
	c.Flags().BoolVarP(&follow, "follow", "f", false, "go on with what is written from now on")
	c.Flags().IntVarP(&n, "lines", "n", 100, "how many of the past")
	return c
}

// reader is the command that shows what workers wrote.
func reader(ws []client.Worker, n int, follow bool) (run []string, err error) {
	for _, w := range ws {
		target := w.Log
		if strings.HasPrefix(target, "/") {
			target = "files"
		}
		first := run == nil
		switch {
		case target == "journal" && first:
			run = []string{"journalctl", "--no-pager", "-o", "cat", "-n", strconv.Itoa(n)}
			if follow {
				run = append(run, "-f")
			}
		case target == "files" && first:
			run = []string{"tail", "-n", strconv.Itoa(n)}
			if follow {
				run = append(run, "-F")
			}
		case target != "journal" && target != "files":
			return nil, fmt.Errorf("the output of %s goes to the manager's own (%s): look there", w.Name, w.Log)
		}
		switch {
		case (target == "journal") != (run[0] == "journalctl"):
			return nil, fmt.Errorf("%s and %s write to different places (name workers of one at a time)", ws[0].Name, w.Name)
		case target == "journal":
			run = append(run, "-t", w.Name)
		case !slices.Contains(run, w.Log): // several may write one file
			run = append(run, w.Log)
		}
	}
	return run, nil
}

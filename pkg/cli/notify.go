package cli

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/workersd/workersd/pkg/sdnotify"
)

func (a *app) notify() *cobra.Command {
	return &cobra.Command{
		Use: "notify KEY=VALUE...", Short: "for workers: tells the manager something", Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			for _, kv := range args {
				if k, _, ok := strings.Cut(kv, "="); !ok || k == "" {
					return usageError{fmt.Errorf("%q: expected KEY=VALUE, such as READY=1 or X_WORKERSD_BEGIN=7", kv)}
				}
			}
			// The manager drops what is no message, and tells nobody here.
			message := strings.Join(args, "\n")
			if err := new(sdnotify.Message).Parse([]byte(message)); err != nil {
				return usageError{fmt.Errorf("%w (see deploy/examples/PROTOCOL.md)", err)}
			}
			return sendNotify(cmd.Context(), message)
		},
	}
}

// handledIn is what a manager is given to handle a message, as systemd-notify(1)
// gives it.
const handledIn = 5 * time.Second

// sendNotify needs a manager that listens: a notify into nothing is a mistake
// of whoever typed it. It waits until the message was handled: whose a sender is
// can be looked up only while it is there. A manager that is slow has the message
// all the same.
func sendNotify(ctx context.Context, message string) error {
	n, err := sdnotify.FromEnvironment()
	if err != nil {
		return err
	}
	if n == nil {
		return fmt.Errorf("no NOTIFY_SOCKET in the environment: notify is for workers (see deploy/examples/PROTOCOL.md)")
	}
	defer n.Close()
	if err := n.Send(message); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, handledIn)
	defer cancel()
	n.Barrier(ctx)
	return nil
}

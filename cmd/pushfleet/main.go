// Command pushfleet sends Apple push notifications from a durable queue.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

// version is set by the linker.
var version = "dev"

// Exit codes.
const (
	exitFailed = 1
	exitUsage  = 2
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	// The first signal asks to stop; with the default handling back in place the
	// second one ends the process.
	context.AfterFunc(ctx, stop)
	os.Exit(run(ctx, os.Args[1:]))
}

// run is main without the process.
func run(ctx context.Context, args []string) int {
	root := newRoot()
	started := false
	noteStart(root, &started)
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	switch {
	case err == nil:
		return 0
	case errors.Is(err, errReported):
		return exitFailed
	}
	fmt.Fprintln(root.ErrOrStderr(), "pushfleet:", err)
	var usage *usageError
	if !started || errors.As(err, &usage) {
		fmt.Fprintln(root.ErrOrStderr(), "see: pushfleet --help")
		return exitUsage
	}
	return exitFailed
}

// noteStart sets started when a command begins its work: cobra's own complaints,
// about flags and arguments, all come before that.
func noteStart(cmd *cobra.Command, started *bool) {
	if work := cmd.RunE; work != nil {
		cmd.RunE = func(cmd *cobra.Command, args []string) error {
			*started = true
			return work(cmd, args)
		}
	}
	for _, sub := range cmd.Commands() {
		noteStart(sub, started)
	}
}

// errReported is returned by commands that have said already what went wrong.
var errReported = errors.New("reported")

// usageError is a wrong use that only a command itself can see.
type usageError struct{ text string }

func (e *usageError) Error() string { return e.text }

func usagef(format string, args ...any) error { return &usageError{fmt.Sprintf(format, args...)} }

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "pushfleet",
		Short: "Send Apple push notifications from a durable queue",
		Long: `pushfleet sends Apple push notifications from a durable queue: producers publish
jobs to NATS JetStream, a fleet of identical workers sends them to APNs, and what
APNs answers keeps the set of device tokens in Redis true.`,
		Example: `  pushfleet demo                       # everything in one process, nothing to install
  pushfleet worker --config fleet.yaml # take jobs and send
  pushfleet send --app shop --token 8f3a… --title "Shipped"
  pushfleet send --server https://push.example.com --api-key-file key --app shop --user ada --title "Hi"`,
		Version:       version,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.SetFlagErrorFunc(flagError)
	root.SetVersionTemplate("pushfleet {{.Version}}\n")
	g := &globals{}
	g.register(root)
	root.PersistentPreRunE = func(cmd *cobra.Command, _ []string) error { return g.decide(cmd) }
	root.AddCommand(
		newDemo(g), newDev(g), newWorker(g), newAPI(g), newSim(g), newSend(g), newDevice(g), newKey(g), newFuse(g), newCampaign(g), newExplain(g), newDeadLetter(g), newFleetShow(g),
		newDoctor(g), newBench(), newConfig(g), newSchema(), newProbe(), newVersion(),
	)
	completeFlags(root, g)
	return root
}

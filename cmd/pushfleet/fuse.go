package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/user"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/pushfleet/pushfleet/api"
	"github.com/pushfleet/pushfleet/device"
)

func newFuse(g *globals) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "fuse",
		Short: "Show and reset fuses",
		Long: `A fuse trips when many device tokens that worked before are rejected as if they
were wrong: then the app's environment or topic is set wrong, not the device tokens.
While it is tripped nothing is sent there, nothing is quarantined or removed, and what
was rejected waits to be sent again. Mend the setting, then reset the fuse.`,
		Args: cobra.NoArgs,
	}
	cmd.AddCommand(newFuseList(g), audited(g, "fuse.reset", newFuseReset(g)))
	return cmd
}

func newFuseList(g *globals) *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "Show which fuses are tripped",
		Example: "  pushfleet fuse list\n  pushfleet fuse list --output json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := oneOfOutputs(output); err != nil {
				return err
			}
			return withFuses(cmd.Context(), g, func(ctx context.Context, fuses fuseDesk) error {
				list, err := fuses.list(ctx)
				if err != nil {
					return err
				}
				return printFuses(list, output, cmd.OutOrStdout())
			})
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "table", "table or json")
	return cmd
}

func printFuses(list []api.Fuse, output string, out io.Writer) error {
	if output == "json" {
		enc := json.NewEncoder(out)
		enc.SetIndent("", "  ")
		return enc.Encode(list)
	}
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "APP\tENVIRONMENT\tSTATE\tLAST TRIPPED\tREJECTED\tLAST RESET")
	for _, f := range list {
		state, tripped, rejected, reset := "closed", "-", "-", "-"
		if f.Tripped {
			state = "TRIPPED"
		}
		if f.TrippedAt != nil {
			tripped = f.TrippedAt.UTC().Format(time.DateTime)
			rejected = fmt.Sprintf("%d of %d", f.Rejected, f.Sent)
		}
		if f.ResetAt != nil {
			reset = f.ResetAt.UTC().Format(time.DateTime) + " by " + f.ResetBy
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", f.App, f.Environment, state, tripped, rejected, reset)
	}
	return w.Flush()
}

func newFuseReset(g *globals) *cobra.Command {
	var app, environment string
	cmd := &cobra.Command{
		Use:   "reset",
		Short: "Reset a fuse: send again",
		Long: `reset closes a fuse after its cause is mended. What was rejected meanwhile is sent;
if the cause is still there, it trips again, and nothing is lost.`,
		Example: "  pushfleet fuse reset --app shop --environment production",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return resetFuse(cmd.Context(), g, app, environment, cmd.OutOrStdout())
		},
	}
	cmd.Flags().StringVar(&app, "app", "", "app, as configured (required)")
	cmd.Flags().StringVar(&environment, "environment", "", "production or sandbox (default: the app's)")
	return cmd
}

func resetFuse(ctx context.Context, g *globals, app, environment string, out io.Writer) error {
	if app == "" {
		return usagef("--app is needed")
	}
	env, err := device.ParseEnvironment(environment)
	if err != nil {
		return usagef("--environment: %v", err)
	}
	return withFuses(ctx, g, func(ctx context.Context, fuses fuseDesk) error {
		if env, err = fuses.environment(ctx, app, env); err != nil {
			return err
		}
		g.about(env.String())
		was, err := fuses.reset(ctx, app, env)
		if err != nil {
			return err
		}
		if !was {
			return fmt.Errorf("the fuse of %s, %s is not tripped", app, env)
		}
		fmt.Fprintf(out, "reset the fuse of %s, %s\n", app, env)
		return nil
	})
}

// operator names who runs the command, for those who read it later.
func operator() string {
	name := "somebody"
	if u, err := user.Current(); err == nil {
		name = u.Username
	}
	if host, err := os.Hostname(); err == nil {
		name += "@" + host
	}
	return name
}

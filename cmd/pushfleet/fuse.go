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
	"go.uber.org/zap"

	"github.com/pushfleet/pushfleet/api"
	"github.com/pushfleet/pushfleet/config"
	"github.com/pushfleet/pushfleet/device"
	"github.com/pushfleet/pushfleet/feedback"
	"github.com/pushfleet/pushfleet/stream"
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
			cfg, err := g.load()
			if err != nil {
				return err
			}
			nc, streams, err := connectNATS(cmd.Context(), cfg, "fuse", zap.NewNop())
			if err != nil {
				return err
			}
			defer nc.Close()
			fuses, err := streams.Fuses(cmd.Context())
			if err != nil {
				return err
			}
			return printFuses(fusesOf(cfg, fuses), output, cmd.OutOrStdout())
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "table", "table or json")
	return cmd
}

// fusesOf returns a fuse for each app and environment that is configured, and
// whatever else has tripped before.
func fusesOf(cfg *config.Config, entries []stream.Fuse) []api.Fuse {
	apps := make(map[string]device.Environment, len(cfg.Apps))
	for name, app := range cfg.Apps {
		apps[name] = app.Environment
	}
	return api.FusesOf(entries, apps)
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
	cfg, err := g.load()
	if err != nil {
		return err
	}
	if err := knownApp(cfg, app); err != nil {
		return err
	}
	if env == device.EnvironmentUnset {
		env = cfg.Apps[app].Environment
	}
	g.about(env.String())
	nc, streams, err := connectNATS(ctx, cfg, "fuse", zap.NewNop())
	if err != nil {
		return err
	}
	defer nc.Close()
	set, client, err := connectRedis(cfg.Redis)
	if err != nil {
		return err
	}
	defer client.Close()
	fuse := feedback.NewFuse(feedback.FuseConfig{Streams: streams, Store: set, Name: "fuse reset"})
	was, err := fuse.Reset(ctx, app, env, operator())
	if err != nil {
		return err
	}
	if !was {
		return fmt.Errorf("the fuse of %s, %s is not tripped", app, env)
	}
	fmt.Fprintf(out, "reset the fuse of %s, %s\n", app, env)
	return nil
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

package main

import (
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/pushfleet/pushfleet/device"
	"github.com/pushfleet/pushfleet/job"
)

// completeFlags tells the shell what flags of cmd, and of those below it, may be: the
// apps that are configured, and what there is a fixed choice of.
func completeFlags(cmd *cobra.Command, g *globals) {
	lanes := []string{job.Transactional.String(), job.Bulk.String()}
	environments := []string{device.Production.String(), device.Sandbox.String()}
	cmd.NonInheritedFlags().VisitAll(func(f *pflag.Flag) {
		var complete cobra.CompletionFunc
		switch {
		case f.Name == "app":
			complete = g.completeApps
		case f.Name == "lane":
			complete = cobra.FixedCompletions(lanes, cobra.ShellCompDirectiveNoFileComp)
		case f.Name == "environment":
			complete = cobra.FixedCompletions(environments, cobra.ShellCompDirectiveNoFileComp)
		case f.Name == "output" && (f.Usage == "table or json" || f.Usage == "text or json"):
			complete = cobra.FixedCompletions(strings.Split(f.Usage, " or "), cobra.ShellCompDirectiveNoFileComp)
		default:
			return
		}
		_ = cmd.RegisterFlagCompletionFunc(f.Name, complete) // the flag exists, and nobody else completes it
	})
	for _, sub := range cmd.Commands() {
		completeFlags(sub, g)
	}
}

// completionPatience is how long the shell waits for the API's answer.
const completionPatience = 2 * time.Second

// completeApps lists the apps that are configured, or that the API key is for; what cannot
// be read has none.
func (g *globals) completeApps(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	if g.decide(cmd) != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	if g.throughAPI() {
		return g.completeOwnApps(cmd.Context()), cobra.ShellCompDirectiveNoFileComp
	}
	cfg, err := g.load()
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return slices.Sorted(maps.Keys(cfg.Apps)), cobra.ShellCompDirectiveNoFileComp
}

func (g *globals) completeOwnApps(ctx context.Context) []string {
	d, err := g.openDoor()
	if err != nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, completionPatience)
	defer cancel()
	list, err := d.apps(ctx)
	if err != nil {
		return nil
	}
	return names(list)
}

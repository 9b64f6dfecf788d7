package main

import (
	"maps"
	"slices"
	"strings"

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

// completeApps lists the apps that are configured; a configuration that cannot be read
// has none.
func (g *globals) completeApps(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	cfg, err := g.load()
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return slices.Sorted(maps.Keys(cfg.Apps)), cobra.ShellCompDirectiveNoFileComp
}

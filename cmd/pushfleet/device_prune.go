package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"

	"github.com/spf13/cobra"

	"github.com/pushfleet/pushfleet/config"
	"github.com/pushfleet/pushfleet/store"
)

// pruning is one run of `device prune`.
type pruning struct {
	app, unseenFor string
	dryRun, yes    bool
}

func newDevicePrune(g *globals, app *string) *cobra.Command {
	var p pruning
	cmd := &cobra.Command{
		Use:   "prune",
		Short: "Remove devices that were not registered for long",
		Long: `prune removes device tokens whose last registration is longer ago than
--unseen-for. That is right where the app registers at every launch: who has not
started it for so long has another device, or none of the app. What it removes is
remembered for 30 days, and comes back with device restore --reason pruned.

It counts first, by the month of the last registration, and asks. To have the
workers do it all the time, set apps.<app>.prune_after.`,
		Example: `  pushfleet device prune --app shop --unseen-for 270d --dry-run
  pushfleet device prune --app shop --unseen-for 270d --yes`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			p.app = *app
			if p.unseenFor == "" {
				return usagef("--unseen-for is needed, such as 270d")
			}
			g.about(chosen(choice{"unseen-for", p.unseenFor}))
			return withStore(cmd.Context(), g, p.app, func(ctx context.Context, _ *config.Config, set *store.Store) error {
				return p.run(ctx, set, cmd.InOrStdin(), cmd.OutOrStdout(), cmd.ErrOrStderr())
			})
		},
	}
	f := cmd.Flags()
	f.StringVar(&p.unseenFor, "unseen-for", "", "not registered for so long, such as 270d (required)")
	f.BoolVar(&p.dryRun, "dry-run", false, "only count them")
	f.BoolVar(&p.yes, "yes", false, "do not ask")
	return cmd
}

func (p *pruning) run(ctx context.Context, set *store.Store, in io.Reader, out, progress io.Writer) error {
	long, err := parseLong(p.unseenFor)
	if err != nil {
		return usagef("--unseen-for: %v", err)
	}
	now, err := set.Now(ctx)
	if err != nil {
		return err
	}
	before := now.Add(-long)
	months := make(map[string]int)
	total := 0
	err = scanAll(ctx, set, p.app, "look", progress, func(entries []store.Entry) error {
		for _, e := range entries {
			if store.Stale(e, before) {
				months[e.Record.Registered().UTC().Format("2006-01")]++
				total++
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, month := range slices.Sorted(maps.Keys(months)) {
		fmt.Fprintf(out, "%10d  last registered in %s\n", months[month], month)
	}
	fmt.Fprintf(out, "%10d  device tokens of %s to remove\n", total, p.app)
	if p.dryRun || total == 0 {
		return nil
	}
	if err := confirm(in, progress, p.yes, "Remove them?"); err != nil {
		return err
	}
	removed := 0
	err = scanAll(ctx, set, p.app, "prune", progress, func(entries []store.Entry) error {
		n, err := set.Prune(ctx, p.app, entries, before)
		removed += n
		return err
	})
	fmt.Fprintf(out, "removed %d device tokens; pushfleet device restore --reason pruned brings them back\n", removed)
	return err
}

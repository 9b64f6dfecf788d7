package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/pushfleet/pushfleet/api"
	"github.com/pushfleet/pushfleet/campaign"
	"github.com/pushfleet/pushfleet/device"
	"github.com/pushfleet/pushfleet/store"
	"github.com/pushfleet/pushfleet/worker"
)

func newCampaignList(g *globals) *cobra.Command {
	var app, output string
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List the campaigns of an app, the newest first",
		Example: "  pushfleet campaign list --app shop\n  pushfleet campaign list --output json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := oneOfOutputs(output); err != nil {
				return err
			}
			return withCampaigns(cmd.Context(), g, app, func(ctx context.Context, c *campaigns) error {
				list, more, err := c.list(ctx)
				if err != nil {
					return err
				}
				if more {
					fmt.Fprintln(cmd.ErrOrStderr(), "there are more: --config lists all")
				}
				return printCampaigns(cmd.OutOrStdout(), list, output)
			})
		},
	}
	appFlag(cmd, &app)
	cmd.Flags().StringVarP(&output, "output", "o", "table", "table or json")
	return cmd
}

func printCampaigns(out io.Writer, list []api.CampaignSummary, output string) error {
	if output == "json" {
		return printJSON(out, list)
	}
	if len(list) == 0 {
		fmt.Fprintln(out, "no campaigns")
		return nil
	}
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "ID\tSTATE\tSTARTS\tRATE\tDEVICES")
	for i := range list {
		st := &list[i]
		rate := "-"
		if st.Rate > 0 {
			rate = fmt.Sprint(st.Rate)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%d\n", st.ID, st.State, timeText(st.StartAt), rate, st.Devices)
	}
	if err := w.Flush(); err != nil {
		return fmt.Errorf("print campaigns: %w", err)
	}
	return nil
}

func newCampaignShow(g *globals) *cobra.Command {
	var app, output string
	var watch bool
	cmd := &cobra.Command{
		Use:   "show ID",
		Short: "Show where a campaign stands, and its counts",
		Long: `show prints where a campaign stands and what became of its recipients: each is counted
once. With --watch it follows the campaign, with speed and time left, until it has ended:
a bar on a terminal, else a line every few seconds; with --output json an object a line.
Ctrl-C leaves, and changes nothing.`,
		Example: "  pushfleet campaign show --app shop spring-sale\n  pushfleet campaign show --app shop spring-sale --watch",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := oneOfOutputs(output); err != nil {
				return err
			}
			return withCampaigns(cmd.Context(), g, app, func(ctx context.Context, c *campaigns) error {
				s := &campaignShow{campaigns: c, id: args[0]}
				if watch {
					left, err := s.watch(ctx, output, cmd.OutOrStdout(), cmd.ErrOrStderr())
					if err != nil || left || output == "json" {
						return err
					}
				}
				return s.print(ctx, cmd.OutOrStdout(), output)
			})
		},
	}
	appFlag(cmd, &app)
	cmd.Flags().StringVarP(&output, "output", "o", "table", "table or json")
	cmd.Flags().BoolVarP(&watch, "watch", "w", false, "follow it until it has ended")
	return cmd
}

// campaignShow shows one campaign.
type campaignShow struct {
	*campaigns
	id string
}

func (s *campaignShow) print(ctx context.Context, out io.Writer, output string) error {
	st, err := s.get(ctx, s.id)
	if err != nil {
		return err
	}
	counts := &st.Counts
	if output == "json" {
		return printJSON(out, st)
	}
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	row := func(name string, value any) { fmt.Fprintf(w, "%s\t%v\n", name, value) }
	row("campaign", st.ID)
	row("app", s.app)
	row("state", st.State)
	row("rate", rateText(st.Rate))
	for _, when := range []struct {
		name string
		at   *time.Time
	}{{"created", &st.CreatedAt}, {"starts", st.StartAt}, {"started", st.StartedAt}, {"ended", st.EndedAt}} {
		if when.at != nil {
			row(when.name, timeText(when.at))
		}
	}
	if st.Parent != "" {
		row("run of", st.Parent)
	}
	row("devices", st.Devices)
	row("looked at", counts.Devices)
	row("remaining", counts.Remaining)
	row("matched", counts.Matched)
	for _, result := range []string{"accepted", "rejected", "skipped", "suppressed", "expired", "unknown", "failed"} {
		if n := counts.Results[result]; n > 0 || result == "accepted" {
			row(result, n)
		}
	}
	row("removed", counts.Removed)
	row("quarantined", counts.Quarantine)
	row("duplicates", counts.Duplicates)
	for _, r := range counts.Reasons {
		row("  "+r.Result+": "+r.Reason, r.Count)
	}
	if err := w.Flush(); err != nil {
		return fmt.Errorf("print campaign: %w", err)
	}
	return nil
}

// previewSamples is how many renderings a dry run shows.
const previewSamples = 5

// previewCampaign says what a campaign would do.
func previewCampaign(ctx context.Context, g *globals, f campaignCreateFlags, def *campaign.Campaign, out, talk io.Writer) error {
	if err := def.Check(time.Now()); err != nil {
		return err
	}
	if g.throughAPI() { // of a file, which nobody is asked for
		return previewFile(ctx, &f, def, out, talk)
	}
	cfg, err := g.load()
	if err != nil {
		return err
	}
	app, err := appOf(cfg, f.app)
	if err != nil {
		return err
	}
	if err := askFleet(ctx, cfg, app); err != nil {
		return err
	}
	if def.Recipients != nil {
		return previewFile(ctx, &f, def, out, talk)
	}
	return withTotals(cfg, func(set *store.Store) error {
		var bar *bar
		p, err := worker.NewPreview(ctx, worker.PreviewConfig{
			App: app, Campaign: def, Campaigns: set, Zones: new(device.Zones), Now: time.Now(), Samples: previewSamples,
			Progress: func(done, of int64) {
				if bar == nil {
					bar = newBar(talk, int(of), "reading", "devices", f.output == "json")
				}
				bar.add(int(done) - bar.done)
			},
		})
		if err != nil {
			return err
		}
		if bar != nil {
			bar.finish()
		}
		if f.output == "json" {
			return printJSON(out, previewOf(p))
		}
		return printPreview(out, p)
	})
}

// shownPreview is a dry run in JSON. Samples have no device token in them.
type shownPreview struct {
	Devices    int64            `json:"devices"`
	Matched    int64            `json:"matched"`
	Now        int64            `json:"now"`
	Later      int64            `json:"later"`
	FirstLater *time.Time       `json:"first_later,omitempty"`
	LastLater  *time.Time       `json:"last_later,omitempty"`
	Skipped    map[string]int64 `json:"skipped"`
	Longest    int              `json:"longest_bytes"`
	Limit      int              `json:"limit_bytes"`
	Samples    []shownSample    `json:"samples"`
}

type shownSample struct {
	Locale  string `json:"locale,omitempty"`
	Payload string `json:"payload"`
}

func (s *shownSample) print(out io.Writer) {
	fmt.Fprintf(out, "\n%s:\n%s\n", cmp.Or(s.Locale, "no locale"), s.Payload)
}

func previewOf(p *worker.Preview) shownPreview {
	shown := shownPreview{
		Devices: p.Devices, Matched: p.Matched, Now: p.Now, Later: p.Later, Skipped: p.Skipped, Longest: p.Longest, Limit: p.Limit, Samples: []shownSample{},
	}
	if p.Later > 0 {
		shown.FirstLater, shown.LastLater = &p.FirstLater, &p.LastLater
	}
	for _, s := range p.Samples {
		shown.Samples = append(shown.Samples, shownSample{s.Locale, string(s.Payload)})
	}
	return shown
}

func printPreview(out io.Writer, p *worker.Preview) error {
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	row := func(name string, value any) { fmt.Fprintf(w, "%s\t%v\n", name, value) }
	row("devices looked at", p.Devices)
	row("matched", p.Matched)
	row("sent to at the start", p.Now)
	row("sent to later", p.Later)
	if p.Later > 0 {
		row("  from", p.FirstLater.Local().Format(time.DateTime))
		row("  to", p.LastLater.Local().Format(time.DateTime))
	}
	for _, reason := range p.Reasons() {
		row("skipped: "+reason, p.Skipped[reason])
	}
	row("longest payload", fmt.Sprintf("%d of %d bytes", p.Longest, p.Limit))
	if err := w.Flush(); err != nil {
		return fmt.Errorf("print preview: %w", err)
	}
	for _, s := range previewOf(p).Samples {
		s.print(out)
	}
	if p.Matched == 0 {
		fmt.Fprintln(out, strings.TrimSpace(`
nobody is in the audience: tags, locales and the like are those that devices were
registered with ("pushfleet device show")`))
	}
	return nil
}

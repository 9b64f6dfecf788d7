package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"github.com/pushfleet/pushfleet/api"
	"github.com/pushfleet/pushfleet/campaign"
	"github.com/pushfleet/pushfleet/config"
	"github.com/pushfleet/pushfleet/job"
	"github.com/pushfleet/pushfleet/stream"
)

func newCampaign(g *globals) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "campaign",
		Short: "Create, follow and steer campaigns",
		Long: `A campaign is one message to an audience: all devices of an app, those that its rules
choose, or the recipients of a file. docs/campaigns.md says what can be in one, and
"pushfleet schema campaign" prints it.`,
		Args: cobra.NoArgs,
	}
	cmd.AddCommand(audited(g, "campaign.create", newCampaignCreate(g)), newCampaignList(g), newCampaignShow(g))
	for _, s := range []struct{ use, short string }{
		{changePause, "Send nothing more of a campaign until it is resumed"},
		{changeResume, "Let a paused campaign go on with the rest"},
	} {
		cmd.AddCommand(audited(g, "campaign."+s.use, newCampaignSteer(g, s.use, s.short)))
	}
	cmd.AddCommand(audited(g, "campaign.pace", newCampaignPace(g)), audited(g, "campaign.cancel", newCampaignCancel(g)),
		audited(g, "campaign.delete", newCampaignDelete(g)))
	return cmd
}

// fleetKnows refuses an app that no worker knows, where the configuration has no apps
// to go by. While no worker runs, nobody can tell.
func fleetKnows(ctx context.Context, cfg *config.Config, streams *stream.Streams, app string) error {
	if len(cfg.Apps) > 0 {
		return nil // the configuration has it: see appOf
	}
	present, err := streams.Present(ctx)
	if err != nil || len(present) == 0 {
		return err
	}
	known := make(map[string]bool)
	for i := range present {
		for _, name := range present[i].Apps {
			known[name] = true
		}
	}
	if !known[app] {
		return usagef("--app: no worker knows %q; they know: %s", app, strings.Join(slices.Sorted(maps.Keys(known)), ", "))
	}
	return nil
}

// askFleet is fleetKnows for a command that needs no JetStream otherwise.
func askFleet(ctx context.Context, cfg *config.Config, app string) error {
	if len(cfg.Apps) > 0 {
		return nil
	}
	nc, streams, err := connectNATS(ctx, cfg, "campaign", zap.NewNop())
	if err != nil {
		return err
	}
	defer nc.Close()
	return fleetKnows(ctx, cfg, streams, app)
}

// appOf is the app that is named, or else the only one. One that the configuration
// does not have is refused, if it has any.
func appOf(cfg *config.Config, named string) (string, error) {
	if named == "" && len(cfg.Apps) == 1 {
		for only := range cfg.Apps {
			return only, nil
		}
	}
	if named == "" {
		if len(cfg.Apps) > 0 {
			return "", usagef("--app: must be given; configured: %s", appNames(cfg))
		}
		return "", usagef("--app: must be given where no app is configured")
	}
	return named, knownApp(cfg, named)
}

func appFlag(cmd *cobra.Command, app *string) {
	cmd.Flags().StringVar(app, "app", "", "the app (default: the only one that is configured)")
}

// campaignCreateFlags are the flags of campaign create.
type campaignCreateFlags struct {
	app, file, recipients, report string
	dryRun                        bool
	output                        string
}

func newCampaignCreate(g *globals) *cobra.Command {
	var f campaignCreateFlags
	cmd := &cobra.Command{
		Use:   "create",
		Short: "Create a campaign from a file, or say what it would do",
		Long: `create reads a campaign from a file, in YAML or JSON, and creates it. The same campaign
can be created again: its id makes sure that there is one.

With --recipients it is sent to the lines of a file: CSV with a header (token or user, and
a column for each variable) or one JSON object a line ({"token": "…", "variables": {…}}).
Lines that cannot be used are told in --report, and the rest is sent; so is a line that
names somebody again. An interrupted run goes on where it was when it is started again
with the same file.

With --dry-run nothing is created: the audience or the file is read, and it is said how
many devices or lines would be sent to, who would be skipped and why, how long the longest
payload is, and what some of them look like.`,
		Example: `  pushfleet campaign create --app shop -f spring.yaml
  pushfleet campaign create --app shop -f spring.yaml --dry-run
  pushfleet campaign create --app shop -f vouchers.yaml --recipients people.csv --report bad.csv`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if f.file == "" {
				return usagef("-f: must name the campaign's file, or - for standard input")
			}
			if err := oneOfOutputs(f.output); err != nil {
				return err
			}
			def, err := readCampaign(f.file, cmd.InOrStdin())
			if err != nil {
				return err
			}
			defer func() { err = def.place(err) }()
			g.about(def.ID)
			switch {
			case def.Recipients == nil && f.recipients != "":
				return usagef("--recipients: the campaign has an audience; give it recipients instead")
			case def.Recipients != nil && f.recipients == "":
				return usagef("--recipients: must name the file that the campaign is for")
			}
			if err := f.needsConfig(g, def.Campaign); err != nil {
				return err
			}
			if f.dryRun {
				return previewCampaign(cmd.Context(), g, f, def.Campaign, cmd.OutOrStdout(), cmd.ErrOrStderr())
			}
			return withCampaigns(cmd.Context(), g, f.app, func(ctx context.Context, c *campaigns) error {
				if c.cfg != nil {
					traced, end, err := traceCommand(ctx, c.cfg, "campaign", "pushfleet campaign create")
					if err != nil {
						return err
					}
					defer end()
					ctx = traced
				}
				return f.create(ctx, c, def.Campaign, cmd.OutOrStdout(), cmd.ErrOrStderr())
			})
		},
	}
	appFlag(cmd, &f.app)
	fl := cmd.Flags()
	fl.StringVarP(&f.file, "file", "f", "", "the campaign, YAML or JSON; - for standard input")
	fl.StringVar(&f.recipients, "recipients", "", "file of recipients, CSV or JSON lines")
	fl.StringVar(&f.report, "report", "", "CSV file that lines which cannot be used are told in: line, reason")
	fl.BoolVar(&f.dryRun, "dry-run", false, "create nothing, say what it would do")
	fl.StringVarP(&f.output, "output", "o", "table", "table or json")
	return cmd
}

// needsConfig refuses what the API has no door for.
func (f *campaignCreateFlags) needsConfig(g *globals, def *campaign.Campaign) error {
	switch {
	case !g.throughAPI():
		return nil
	case def.Recipients != nil && !f.dryRun:
		return usagef("--recipients: needs --config: a file's recipients are handed in straight to JetStream, where an interrupted run can go on")
	case def.Recipients == nil && f.dryRun:
		return usagef("--dry-run: needs --config: it reads the audience from the token set")
	default:
		return nil
	}
}

// definition is a campaign as a file has it.
type definition struct {
	*campaign.Campaign
	yaml *config.Document // nil: it is JSON
}

// maxDefinition is the longest file, in bytes, with comments and all that YAML does not
// need.
const maxDefinition = 4 * campaign.MaxBytes

// readCampaign reads a definition, JSON or YAML.
func readCampaign(file string, stdin io.Reader) (*definition, error) {
	data, err := readUpTo(file, stdin, maxDefinition)
	if err != nil {
		return nil, fmt.Errorf("read campaign: %w", err)
	}
	d := new(definition)
	if text := bytes.TrimSpace(data); len(text) == 0 || text[0] != '{' {
		if d.yaml, err = config.JSONOfYAML(file, data); err != nil {
			return nil, fmt.Errorf("campaign:\n%w", err)
		}
		data = d.yaml.JSON
	}
	if d.Campaign, err = campaign.Parse(data); err != nil {
		return nil, d.place(err)
	}
	return d, nil
}

// readUpTo reads a file, or standard input where it is called -. What is longer is an
// error: a part of it would be another campaign.
func readUpTo(file string, stdin io.Reader, limit int64) ([]byte, error) {
	src := stdin
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return nil, err //nolint:wrapcheck // it names the file
		}
		defer f.Close()
		src = f
	}
	data, err := io.ReadAll(io.LimitReader(src, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = fmt.Errorf("%s has more than %d bytes", file, limit)
	}
	return data, err //nolint:wrapcheck // it names the file
}

// place says of what is wrong with the campaign where that was written, line by line.
func (d *definition) place(err error) error {
	err = invalidOf(err)
	var wrong *job.Invalid
	if d.yaml == nil || !errors.As(err, &wrong) {
		return err
	}
	var placed config.Invalid
	for _, p := range wrong.Problems {
		at := d.yaml.At(p.Path)
		at.Message = p.Message
		placed.Problems = append(placed.Problems, at)
	}
	slices.SortStableFunc(placed.Problems, func(a, b config.Problem) int { return cmp.Compare(a.Line, b.Line) })
	if wrong.More > 0 {
		return fmt.Errorf("campaign:\n%w\nand %d more", &placed, wrong.More)
	}
	return fmt.Errorf("campaign:\n%w", &placed)
}

// create creates a campaign and says what is there now.
func (f *campaignCreateFlags) create(ctx context.Context, c *campaigns, def *campaign.Campaign, out, talk io.Writer) (err error) {
	var made api.CreatedCampaign
	if def.Recipients == nil {
		made, err = c.create(ctx, def)
	} else {
		made, err = f.createFromFile(ctx, c, def, talk)
	}
	if err != nil {
		return err
	}
	if f.output == "json" {
		return printJSON(out, made.CampaignSummary)
	}
	verb := "is there already"
	if made.Created {
		verb = "is created"
	}
	fmt.Fprintf(out, "campaign %s of %s %s: %s, starts %s\n", made.ID, c.app, verb, made.State, timeText(made.StartAt))
	return nil
}

// timeText is a time for people; - where there is none.
func timeText(t *time.Time) string {
	if t == nil {
		return "-"
	}
	return t.Local().Format(time.DateTime)
}

// newCampaignSteer makes one of the commands that change a campaign's state.
func newCampaignSteer(g *globals, use, short string) *cobra.Command {
	var app string
	cmd := &cobra.Command{
		Use:     use + " ID",
		Short:   short,
		Example: "  pushfleet campaign " + use + " --app shop spring-sale",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			g.about(args[0])
			return withCampaigns(cmd.Context(), g, app, func(ctx context.Context, c *campaigns) error {
				st, err := c.change(ctx, args[0], campaignChange{verb: use})
				if err != nil {
					return err
				}
				fmt.Fprintf(cmd.OutOrStdout(), "campaign %s of %s is %s\n", st.ID, c.app, st.State)
				return nil
			})
		},
	}
	appFlag(cmd, &app)
	return cmd
}

func newCampaignPace(g *globals) *cobra.Command {
	var app string
	cmd := &cobra.Command{
		Use:     "pace ID RATE",
		Short:   "Change how many notifications per second the whole fleet sends of a campaign",
		Long:    "pace changes the rate of a campaign, in notifications per second over the whole fleet.\n0 lifts it. It is in force at every worker within two seconds.",
		Example: "  pushfleet campaign pace --app shop spring-sale 5000\n  pushfleet campaign pace --app shop spring-sale 0",
		Args:    cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			rate, err := strconv.Atoi(args[1])
			if err != nil || rate < 0 {
				return usagef("RATE: must be a number of notifications per second, or 0 for none, got %q", args[1])
			}
			g.about(args[0], zap.Int("rate", rate))
			return withCampaigns(cmd.Context(), g, app, func(ctx context.Context, c *campaigns) error {
				st, err := c.change(ctx, args[0], campaignChange{verb: changePace, rate: rate})
				if err != nil {
					return err
				}
				fmt.Fprintf(cmd.OutOrStdout(), "campaign %s of %s: %s\n", st.ID, c.app, rateText(st.Rate))
				return nil
			})
		},
	}
	appFlag(cmd, &app)
	return cmd
}

func rateText(rate int) string {
	if rate == 0 {
		return "as fast as it goes"
	}
	return fmt.Sprintf("%d notifications per second", rate)
}

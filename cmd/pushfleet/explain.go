package main

import (
	"context"
	"fmt"
	"io"
	"net/url"
	"time"

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"github.com/pushfleet/pushfleet/config"
	"github.com/pushfleet/pushfleet/device"
	"github.com/pushfleet/pushfleet/explain"
	"github.com/pushfleet/pushfleet/internal/remote"
	"github.com/pushfleet/pushfleet/job"
	"github.com/pushfleet/pushfleet/store"
)

type explainFlags struct {
	app, campaign, job, lane string
	user, install, token     string
	since                    time.Duration
	output                   string
}

func newExplain(g *globals) *cobra.Command {
	var f explainFlags
	cmd := &cobra.Command{
		Use:   "explain",
		Short: "Say what became of a device in a campaign or in a job, and why",
		Long: `explain says, for a device token, an installation or each device of a user, whether it
was in a campaign or in a job, when, what was decided and why, and what APNs said.

It goes by the campaign's entry, by the device as it is registered now, and by
OUTCOMES, which keeps a week. Of a campaign to an audience it reads the one range that
the device is in; a campaign to a file and the jobs of a lane are searched.`,
		Example: `  pushfleet explain --app shop --campaign spring-sale --user ada
  pushfleet explain --app shop --campaign spring-sale --token 8f3a…
  pushfleet explain --app shop --job order-4711-shipped --user ada --since 48h --output json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			q, err := f.question(time.Now())
			if err != nil {
				return err
			}
			if g.throughAPI() {
				return f.ask(cmd.Context(), g, q, cmd.OutOrStdout(), cmd.ErrOrStderr())
			}
			return withStore(cmd.Context(), g, f.app, func(ctx context.Context, cfg *config.Config, set *store.Store) error {
				return f.run(ctx, cfg, set, q, cmd.OutOrStdout(), cmd.ErrOrStderr())
			})
		},
	}
	fl := cmd.Flags()
	fl.StringVar(&f.app, "app", "", "app, as configured (required)")
	fl.StringVar(&f.campaign, "campaign", "", "id of the campaign")
	fl.StringVar(&f.job, "job", "", "id of the job")
	fl.StringVar(&f.lane, "lane", "transactional", "lane of the job: transactional or bulk")
	fl.StringVar(&f.user, "user", "", "each device of this user")
	fl.StringVar(&f.install, "install", "", "the device of this installation of the app")
	fl.StringVar(&f.token, "token", "", "device token in hex")
	fl.DurationVar(&f.since, "since", explain.DefaultSince, "how far back to search for a job")
	fl.StringVarP(&f.output, "output", "o", "text", "text or json")
	_ = cmd.MarkFlagRequired("app") // the flag exists: it was defined above
	cmd.MarkFlagsMutuallyExclusive("campaign", "job")
	cmd.MarkFlagsOneRequired("campaign", "job")
	cmd.MarkFlagsMutuallyExclusive("user", "install", "token")
	cmd.MarkFlagsOneRequired("user", "install", "token")
	return cmd
}

// question is what the flags ask.
func (f *explainFlags) question(now time.Time) (*explain.Question, error) {
	q := &explain.Question{App: f.app, Campaign: f.campaign, Job: f.job, User: f.user, Install: f.install, Now: now}
	var err error
	if q.Lane, err = job.ParseLane(f.lane); err != nil {
		return nil, usagef("--lane: %v", err)
	}
	if f.token != "" {
		if q.Token, err = device.ParseToken(f.token); err != nil {
			return nil, usagef("--token: %v", err)
		}
	}
	switch {
	case f.campaign+f.job == "":
		return nil, usagef("--campaign, --job: must not be empty")
	case f.user+f.install+f.token == "":
		return nil, usagef("--user, --install, --token: must not be empty")
	case f.since <= 0:
		return nil, usagef("--since: must be above 0, got %s", f.since)
	case f.output != "text" && f.output != "json":
		return nil, usagef("--output: must be text or json, got %q", f.output)
	}
	if f.job != "" {
		q.Since = now.Add(-f.since)
	}
	return q, nil
}

func (f *explainFlags) run(ctx context.Context, cfg *config.Config, set *store.Store, q *explain.Question, out, talk io.Writer) error {
	nc, streams, err := connectNATS(ctx, cfg, "explain", zap.NewNop())
	if err != nil {
		return err
	}
	defer nc.Close()
	var b *bar
	e := &explain.Explainer{Streams: streams, Set: set, Searched: func(left uint64) {
		if b == nil {
			b = newBar(talk, int(left)+1, "searching", "messages of OUTCOMES", f.output == "json")
		}
		b.add(1)
	}}
	x, err := e.Explain(ctx, q)
	if b != nil {
		b.finish()
	}
	if err != nil {
		return err
	}
	return f.print(out, x)
}

// ask has the API look, which does not search for as long as it takes.
func (f *explainFlags) ask(ctx context.Context, g *globals, q *explain.Question, out, talk io.Writer) error {
	d, err := g.openDoor()
	if err != nil {
		return err
	}
	query := make(url.Values)
	for name, value := range map[string]string{"campaign": q.Campaign, "job": q.Job, "user": q.User, "install": q.Install} {
		if value != "" {
			query.Set(name, value)
		}
	}
	if !q.Token.IsZero() {
		query.Set("token", q.Token.Hex())
	}
	if q.Job != "" {
		query.Set("lane", q.Lane.String())
		query.Set("since", f.since.String())
	}
	var x explain.Explanation
	err = d.get(ctx, &x, query, inApp(q.App, "explain")...)
	if remote.Is(err, "unknown_campaign") {
		return noCampaign(q.App, q.Campaign)
	}
	if err != nil {
		return err
	}
	if until := x.SearchedUntil; until != nil {
		fmt.Fprintf(talk, "the search took too long and ended %s: what was told later is not in it; a smaller --since begins later, and --config searches it all\n", explain.Instant(*until))
	}
	return f.print(out, &x)
}

func (f *explainFlags) print(out io.Writer, x *explain.Explanation) error {
	if f.output == "json" {
		return printJSON(out, x)
	}
	printExplanation(out, x)
	return nil
}

func printExplanation(out io.Writer, x *explain.Explanation) {
	fmt.Fprintln(out, printable(x.Text))
	for i := range x.Devices {
		d := &x.Devices[i]
		fmt.Fprintf(out, "%s: %s\n", printable(d.Name()), printable(d.Text))
		for j := range d.Told[:max(0, len(d.Told)-1)] {
			fmt.Fprintf(out, "  before: %s\n", printable(d.Told[j].Sentence()))
		}
	}
}

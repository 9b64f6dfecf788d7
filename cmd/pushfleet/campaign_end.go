package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/pushfleet/pushfleet/api"
)

// ending is one run of `campaign cancel` or `campaign delete`.
type ending struct {
	id  string
	yes bool
}

func newCampaignCancel(g *globals) *cobra.Command {
	return newCampaignEnding(g, &cobra.Command{
		Use:   "cancel ID",
		Short: "End a campaign: the rest is never sent",
		Long: `cancel ends a campaign for ever: within two seconds no worker sends any more of it, and
what was not sent is not sent later either. It asks first; pause can be undone.`,
		Example: "  pushfleet campaign cancel --app shop spring-sale\n  pushfleet campaign cancel --app shop spring-sale --yes",
	}, (*campaigns).askCancel)
}

func newCampaignDelete(g *globals) *cobra.Command {
	return newCampaignEnding(g, &cobra.Command{
		Use:   "delete ID",
		Short: "Forget a campaign that has ended",
		Long: `delete forgets a campaign that has ended and is closed, which workers see to within a
minute: its definition, state and counts cannot be looked up any more. It makes room
for new ones; campaigns go by themselves 30 days after their end. It asks first.

The id stays used for 90 days: a request to create the campaign that comes once more
does not send all of it again.`,
		Example: "  pushfleet campaign delete --app shop spring-sale\n  pushfleet campaign delete --app shop spring-sale --yes",
	}, (*campaigns).askDelete)
}

// newCampaignEnding makes a command of one that asks before it does what cannot be
// undone.
func newCampaignEnding(g *globals, cmd *cobra.Command, do func(c *campaigns, ctx context.Context, e *ending, in io.Reader, out, talk io.Writer) error) *cobra.Command {
	var app string
	var e ending
	cmd.Args = cobra.ExactArgs(1)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		e.id = args[0]
		g.about(e.id)
		return withCampaigns(cmd.Context(), g, app, func(ctx context.Context, c *campaigns) error {
			return do(c, ctx, &e, cmd.InOrStdin(), cmd.OutOrStdout(), cmd.ErrOrStderr())
		})
	}
	appFlag(cmd, &app)
	cmd.Flags().BoolVar(&e.yes, "yes", false, "do not ask")
	return cmd
}

func (c *campaigns) askCancel(ctx context.Context, e *ending, in io.Reader, out, talk io.Writer) error {
	found, err := c.get(ctx, e.id)
	if err != nil {
		return err
	}
	st := &found.CampaignSummary
	if !ended(st) { // else there is nothing to ask
		if err := confirm(in, talk, e.yes, c.sentence(st)+" Cancel it, for ever?"); err != nil {
			return err
		}
	}
	changed, err := c.change(ctx, e.id, campaignChange{verb: changeCancel})
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "campaign %s of %s is %s\n", changed.ID, c.app, changed.State)
	return nil
}

func (c *campaigns) askDelete(ctx context.Context, e *ending, in io.Reader, out, talk io.Writer) error {
	found, err := c.get(ctx, e.id)
	if err != nil {
		return err
	}
	st := &found.CampaignSummary
	if st.Closed { // else it is refused
		if err := confirm(in, talk, e.yes, c.sentence(st)+" Delete it, with its counts?"); err != nil {
			return err
		}
	}
	if err := c.remove(ctx, e.id); err != nil {
		return err
	}
	fmt.Fprintf(out, "campaign %s of %s is deleted\n", st.ID, c.app)
	return nil
}

// ended reports whether a campaign has been cancelled or is done.
func ended(s *api.CampaignSummary) bool { return statusOf(s).Ended() }

// sentence says what is about to be ended.
func (c *campaigns) sentence(st *api.CampaignSummary) string {
	s := fmt.Sprintf("campaign %s of %s: %s", st.ID, c.app, st.State)
	switch {
	case st.EndedAt != nil:
		s += " since " + timeText(st.EndedAt)
	case st.StartedAt != nil:
		s += ", started " + timeText(st.StartedAt)
	case st.StartAt != nil:
		s += ", starts " + timeText(st.StartAt)
	}
	if st.Devices > 0 {
		s += fmt.Sprintf(", %d devices", st.Devices)
	}
	return s + "."
}

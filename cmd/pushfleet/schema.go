package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/pushfleet/pushfleet/campaign"
	"github.com/pushfleet/pushfleet/job"
)

func newSchema() *cobra.Command {
	schemas := map[string]func() []byte{"job": job.Schema, "campaign": campaign.Schema, "outcome": job.OutcomeSchema, "webhook": job.WebhookSchema}
	return &cobra.Command{
		Use:       "schema {job|campaign|outcome|webhook}",
		Short:     "Print the JSON Schema of a job, a campaign, outcomes or a POST to a webhook",
		Example:   "  pushfleet schema job > job.schema.json",
		Args:      cobra.MatchAll(cobra.ExactArgs(1), cobra.OnlyValidArgs),
		ValidArgs: []string{"job", "campaign", "outcome", "webhook"},
		RunE: func(cmd *cobra.Command, args []string) error {
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "%s\n", schemas[args[0]]())
			return err
		},
	}
}

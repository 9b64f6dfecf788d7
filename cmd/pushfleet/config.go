package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/pushfleet/pushfleet/config"
)

func newConfig(g *globals) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "config",
		Short: "Check the configuration, or print an example of it",
		Args:  cobra.NoArgs,
	}
	cmd.AddCommand(
		&cobra.Command{
			Use:   "check",
			Short: "Read the configuration and report every problem at once",
			Long: `check reads the configuration file and the PUSHFLEET_… environment, opens every
file that they name, loads each app's credential, and reports every problem with
its line and column. It connects to nothing.`,
			Example: "  pushfleet config check --config pushfleet.yaml",
			Args:    cobra.NoArgs,
			RunE: func(cmd *cobra.Command, _ []string) error {
				cfg, err := g.load()
				if err != nil {
					return err
				}
				if err := errors.Join(cfg.CheckFiles(), checkCredentials(cfg)); err != nil {
					return fmt.Errorf("configuration:\n%w", err)
				}
				fmt.Fprintf(cmd.OutOrStdout(), "configuration is good: %d apps (%s)\n", len(cfg.Apps), appNames(cfg))
				return nil
			},
		},
		&cobra.Command{
			Use:     "example",
			Short:   "Print a configuration file with every key explained",
			Example: "  pushfleet config example > pushfleet.yaml",
			Args:    cobra.NoArgs,
			RunE: func(cmd *cobra.Command, _ []string) error {
				_, err := cmd.OutOrStdout().Write(config.Example())
				return err
			},
		},
	)
	return cmd
}

// checkCredentials loads what is to be proven to APNs with.
func checkCredentials(cfg *config.Config) error {
	var errs []error
	for name, app := range cfg.Apps {
		for i, cred := range app.Credentials {
			if _, err := loadCredential(cred); err != nil {
				errs = append(errs, fmt.Errorf("apps.%s, credential %d: %w", name, i+1, err))
			}
		}
	}
	return errors.Join(errs...)
}

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/pushfleet/pushfleet/api"
)

func newKey(g *globals) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "key",
		Short: "Create, list and revoke API keys",
		Args:  cobra.NoArgs,
	}
	cmd.AddCommand(audited(g, "key.create", newKeyCreate(g)), newKeyList(g), audited(g, "key.revoke", newKeyRevoke(g)))
	return cmd
}

func newKeyCreate(g *globals) *cobra.Command {
	var cfg api.KeyConfig
	var scopes []string
	var output string
	cmd := &cobra.Command{
		Use:   "create",
		Short: "Create an API key and print it, once",
		Long: `create makes an API key and prints it on standard output. It is kept nowhere: only
a hash of it is, so nobody can print it again.

Scopes: send (hand in notifications), devices (register, read and remove devices),
campaigns, read (read everything), admin (all of these).`,
		Example: `  pushfleet key create --app shop --scope devices --name "shop backend"
  pushfleet key create --all-apps --scope admin`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			for _, sc := range scopes {
				cfg.Scopes = append(cfg.Scopes, api.Scope(sc))
			}
			if err := oneOfOutputs(output); err != nil {
				return err
			}
			if err := cfg.Validate(); err != nil {
				return usagef("%v", err)
			}
			return withKeys(cmd.Context(), g, func(ctx context.Context, keys keyDesk) error {
				made, err := keys.create(ctx, &cfg)
				if err != nil {
					return err
				}
				if output == "json" {
					return printJSON(cmd.OutOrStdout(), made)
				}
				fmt.Fprintln(cmd.OutOrStdout(), made.Key)
				fmt.Fprintf(cmd.ErrOrStderr(), "created API key %s; it is not shown again\n", made.ID)
				return nil
			})
		},
	}
	f := cmd.Flags()
	f.StringVar(&cfg.Name, "name", "", "what it is for, for people")
	f.StringSliceVar(&scopes, "scope", nil, "what it may do; repeat for more (required)")
	f.StringSliceVar(&cfg.Apps, "app", nil, "app that it is good for, as configured; repeat for more")
	f.BoolVar(&cfg.AllApps, "all-apps", false, "good for all apps, also later ones")
	f.StringVarP(&output, "output", "o", "table", "table or json")
	return cmd
}

func newKeyList(g *globals) *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List API keys, also revoked ones",
		Example: "  pushfleet key list\n  pushfleet key list --output json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := oneOfOutputs(output); err != nil {
				return err
			}
			return withKeys(cmd.Context(), g, func(ctx context.Context, keys keyDesk) error {
				list, err := keys.list(ctx)
				if list == nil && err != nil {
					return err
				}
				if output == "json" {
					if printErr := printJSON(cmd.OutOrStdout(), list); printErr != nil {
						return printErr
					}
				} else {
					printKeys(cmd.OutOrStdout(), list)
				}
				return err // about those that could not be read
			})
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "table", "table or json")
	return cmd
}

func newKeyRevoke(g *globals) *cobra.Command {
	return &cobra.Command{
		Use:     "revoke ID",
		Short:   "Revoke an API key, for good",
		Long:    fmt.Sprintf("revoke makes an API key worthless everywhere within %s.", api.KeyAge),
		Example: "  pushfleet key revoke 6vqz3hkx2mmb7c4y",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			// Whoever pastes the whole key means that one.
			id := strings.TrimPrefix(args[0], "pf_")
			id, _, _ = strings.Cut(id, "_")
			g.about(id)
			return withKeys(cmd.Context(), g, func(ctx context.Context, keys keyDesk) error {
				ok, err := keys.revoke(ctx, id)
				if err != nil {
					return err
				}
				if !ok {
					return fmt.Errorf("there is no API key %s", id)
				}
				fmt.Fprintf(cmd.OutOrStdout(), "revoked API key %s; in force within %s\n", id, api.KeyAge)
				return nil
			})
		},
	}
}

func printKeys(out io.Writer, keys []api.APIKey) {
	if len(keys) == 0 {
		fmt.Fprintln(out, "no API keys")
		return
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "ID\tNAME\tSCOPES\tAPPS\tCREATED\tREVOKED")
	for i := range keys {
		k := &keys[i]
		apps, revoked := strings.Join(k.Apps, ","), "-"
		if k.AllApps {
			apps = "(all)"
		}
		if k.RevokedAt != nil {
			revoked = k.RevokedAt.Format(time.DateTime)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n",
			k.ID, k.Name, strings.Join(k.Scopes, ","), apps, k.CreatedAt.Format(time.DateTime), revoked)
	}
	_ = w.Flush() // to the terminal
}

func oneOfOutputs(output string) error {
	if output != "table" && output != "json" {
		return usagef("--output: must be table or json, got %q", output)
	}
	return nil
}

func printJSON(out io.Writer, v any) error {
	enc := json.NewEncoder(out)
	enc.SetIndent("", "  ")
	if err := enc.Encode(v); err != nil {
		return fmt.Errorf("print: %w", err)
	}
	return nil
}

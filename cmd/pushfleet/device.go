package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/pushfleet/pushfleet/config"
	"github.com/pushfleet/pushfleet/device"
	"github.com/pushfleet/pushfleet/store"
)

func newDevice(g *globals) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "device",
		Short: "Register, show and remove device tokens, one or all of them",
		Args:  cobra.NoArgs,
	}
	var app string
	cmd.PersistentFlags().StringVar(&app, "app", "", "app, as configured (required)")
	cmd.AddCommand(newDeviceRegister(g, &app), newDeviceShow(g, &app), newDeviceRemove(g, &app),
		newDeviceExport(g, &app), audited(g, "device.import", newDeviceImport(g, &app)),
		audited(g, "device.restore", newDeviceRestore(g, &app)), audited(g, "device.prune", newDevicePrune(g, &app)))
	return cmd
}

func newDeviceRegister(g *globals, app *string) *cobra.Command {
	var r device.Registration
	var previous, env, kind string
	cmd := &cobra.Command{
		Use:   "register TOKEN",
		Short: "Register a device token, or register it again",
		Long: `register stores a device token, as an app's backend does at every launch of the
app. With --previous, or with an --install that had another token, the new token
replaces the old one.`,
		Example: `  pushfleet device register --app shop --user ada --install i-17 8f3a…
  pushfleet device register --app shop --previous 8f3a… 77c0…`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var err error
			if r.Token, err = device.ParseToken(args[0]); err != nil {
				return usagef("%v", err)
			}
			if previous != "" {
				if r.PreviousToken, err = device.ParseToken(previous); err != nil {
					return usagef("--previous: %v", err)
				}
			}
			if r.Environment, err = device.ParseEnvironment(env); err != nil {
				return usagef("--environment: %v", err)
			}
			if r.Kind, err = device.ParseKind(kind); err != nil {
				return usagef("--kind: %v", err)
			}
			return withDevices(cmd.Context(), g, *app, func(ctx context.Context, devices deviceDesk) error {
				generation, err := devices.register(ctx, &r)
				if err != nil {
					return err
				}
				fmt.Fprintf(cmd.OutOrStdout(), "registered %s (%s, %s), generation %d\n", r.Token, r.Environment, r.Kind, generation)
				return nil
			})
		},
	}
	f := cmd.Flags()
	f.StringVar(&previous, "previous", "", "device token that this one replaces")
	f.StringVar(&r.User, "user", "", "the customer's id of the user; none detaches the user")
	f.StringVar(&r.InstallID, "install", "", "the customer's id of this installation of the app")
	f.StringVar(&env, "environment", "", "production or sandbox (default: the app's)")
	f.StringVar(&kind, "kind", "alert", "kind of device token: "+strings.Join(device.KindNames(), ", "))
	f.StringVar(&r.Locale, "locale", "", "locale, such as de-AT")
	f.StringVar(&r.Timezone, "timezone", "", "time zone, such as Europe/Vienna")
	f.StringVar(&r.AppVersion, "app-version", "", "version of the app")
	f.StringSliceVar(&r.Tags, "tag", nil, "tag; repeat for more")
	f.StringToStringVar(&r.Attributes, "attribute", nil, "attribute, name=value; repeat for more")
	return cmd
}

func newDeviceShow(g *globals, app *string) *cobra.Command {
	var output, user string
	cmd := &cobra.Command{
		Use:     "show [TOKEN]",
		Short:   "Show what is known of a device token, or of a user's",
		Example: "  pushfleet device show --app shop 8f3a…\n  pushfleet device show --app shop --user ada --output json",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := oneOfOutputs(output); err != nil {
				return err
			}
			if (len(args) == 1) == (user != "") {
				return usagef("give a device token or --user")
			}
			var t device.Token
			if user == "" {
				var err error
				if t, err = device.ParseToken(args[0]); err != nil {
					return usagef("%v", err)
				}
			}
			return withDevices(cmd.Context(), g, *app, func(ctx context.Context, devices deviceDesk) error {
				list, err := devices.known(ctx, t, user)
				if err != nil {
					return err
				}
				return printDevices(list, output, cmd.OutOrStdout())
			})
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "table", "table or json")
	cmd.Flags().StringVar(&user, "user", "", "show the devices of this user")
	return cmd
}

func printDevices(list []device.Description, output string, out io.Writer) error {
	if output == "json" {
		enc := json.NewEncoder(out)
		enc.SetIndent("", "  ")
		return enc.Encode(list)
	}
	if len(list) == 0 {
		fmt.Fprintln(out, "no devices")
	}
	for _, d := range list {
		fmt.Fprintf(out, "%s  %s %s, %s", d.Token, d.Environment, d.Kind, d.State)
		if d.Reason != "" {
			fmt.Fprintf(out, " since %s: %s", d.ChangedAt.Format(time.DateTime), d.Reason)
		}
		fmt.Fprintln(out)
		for _, line := range [][2]string{
			{"user", d.User},
			{"install", d.InstallID},
			{"locale", d.Locale},
			{"time zone", d.Timezone},
			{"app version", d.AppVersion},
			{"tags", strings.Join(d.Tags, ", ")},
		} {
			if line[1] != "" {
				fmt.Fprintf(out, "  %-12s %s\n", line[0], line[1])
			}
		}
		if d.RegisteredAt != nil {
			fmt.Fprintf(out, "  %-12s %s (generation %d)\n", "registered", d.RegisteredAt.Format(time.DateTime), d.Generation)
		}
	}
	return nil
}

func newDeviceRemove(g *globals, app *string) *cobra.Command {
	return &cobra.Command{
		Use:     "remove TOKEN",
		Short:   "Remove a device token: nothing is sent to it until it is registered again",
		Example: "  pushfleet device remove --app shop 8f3a…",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			t, err := device.ParseToken(args[0])
			if err != nil {
				return usagef("%v", err)
			}
			return withDevices(cmd.Context(), g, *app, func(ctx context.Context, devices deviceDesk) error {
				if err := devices.remove(ctx, t); err != nil {
					return err
				}
				fmt.Fprintf(cmd.OutOrStdout(), "removed %s\n", t)
				return nil
			})
		},
	}
}

// withStore opens the token set for a command.
func withStore(ctx context.Context, g *globals, app string, do func(context.Context, *config.Config, *store.Store) error) error {
	if app == "" {
		return usagef("--app is needed")
	}
	cfg, err := g.load()
	if err != nil {
		return err
	}
	if err := knownApp(cfg, app); err != nil {
		return err
	}
	set, client, err := connectRedis(cfg.Redis)
	if err != nil {
		return err
	}
	defer client.Close()
	return do(ctx, cfg, set)
}

func appNames(cfg *config.Config) string {
	return strings.Join(slices.Sorted(maps.Keys(cfg.Apps)), ", ")
}

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/pushfleet/pushfleet/config"
	"github.com/pushfleet/pushfleet/device"
	"github.com/pushfleet/pushfleet/internal/strictjson"
	"github.com/pushfleet/pushfleet/store"
)

// scanStep is how many buckets are looked at at a time: some thousand devices.
const scanStep = 64

// neverRegistered stands, among reasons, for device tokens that were never
// registered: the token set remembers only that they are dead.
const neverRegistered = "never-registered"

// restoreReasons are the reasons that are restored unless others are named.
var restoreReasons = []device.Reason{
	device.ReasonOther, device.Unregistered, device.ExpiredToken, device.BadDeviceToken, device.DeviceTokenNotForTopic,
}

// restoring is one run of `device restore`.
type restoring struct {
	app, since, until, state string
	reasons                  []string
	dryRun, yes              bool

	from, to time.Time
	states   []device.State
	wanted   map[device.Reason]bool
	never    bool
}

func newDeviceRestore(g *globals, app *string) *cobra.Command {
	var r restoring
	cmd := &cobra.Command{
		Use:   "restore",
		Short: "Undo removals and quarantines of some time",
		Long: `restore makes device tokens live again that were removed or quarantined in some
time, after a mistake: a wrong key or environment, or a day on which APNs was wrong.
Removed ones are remembered for 30 days.

What APNs said before counts no more; if it says so again, the device token goes
again. Replaced, deleted and pruned device tokens come back only if their reason is
named, and none does whose install has another live one. Those that were never
registered, and are only remembered as dead, are forgotten with --reason
never-registered. Doing it twice does no harm.`,
		Example: `  pushfleet device restore --app shop --since 2026-11-24T08:00:00Z --dry-run
  pushfleet device restore --app shop --since 3h --reason BadDeviceToken
  pushfleet device restore --app shop --since 7d --reason pruned --yes`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			r.app = *app
			if err := r.check(time.Now()); err != nil {
				return err
			}
			g.about(chosen(choice{"since", r.since}, choice{"until", r.until}, choice{"state", r.state}, choice{"reason", strings.Join(r.reasons, ",")}))
			return withStore(cmd.Context(), g, r.app, func(ctx context.Context, _ *config.Config, set *store.Store) error {
				return r.run(ctx, set, cmd.InOrStdin(), cmd.OutOrStdout(), cmd.ErrOrStderr())
			})
		},
	}
	f := cmd.Flags()
	f.StringVar(&r.since, "since", "", "removed or quarantined since: a time, or so long ago, such as 2026-11-24T08:00:00Z, 3h or 2d (required)")
	f.StringVar(&r.until, "until", "", "and before this time (default: now)")
	f.StringSliceVar(&r.reasons, "reason", nil, "only for these reasons, with commas between (default: those of APNs)")
	f.StringVar(&r.state, "state", "", "only removed or quarantined ones (default: both)")
	f.BoolVar(&r.dryRun, "dry-run", false, "only count them")
	f.BoolVar(&r.yes, "yes", false, "do not ask")
	return cmd
}

func (r *restoring) check(now time.Time) (err error) {
	if r.since == "" {
		return usagef("--since is needed")
	}
	if r.from, err = parseWhen(r.since, now); err != nil {
		return usagef("--since: %v", err)
	}
	if r.until != "" {
		if r.to, err = parseWhen(r.until, now); err != nil {
			return usagef("--until: %v", err)
		}
		if !r.from.Before(r.to) {
			return usagef("--until: must be after --since")
		}
	}
	switch r.state {
	case "":
		r.states = []device.State{device.Quarantined, device.Removed}
	case "quarantined":
		r.states = []device.State{device.Quarantined}
	case "removed":
		r.states = []device.State{device.Removed}
	default:
		return usagef("--state: must be removed or quarantined, got %q", r.state)
	}
	r.wanted = make(map[device.Reason]bool)
	if len(r.reasons) == 0 {
		for _, reason := range restoreReasons {
			r.wanted[reason] = true
		}
	}
	for _, name := range r.reasons {
		reason := device.ReasonOf(name)
		switch {
		case name == neverRegistered:
			r.never = true
		case reason == device.ReasonOther && name != device.ReasonOther.String():
			return usagef("--reason: unknown reason %q: there are %s, %s", name, strings.Join(device.ReasonNames(), ", "), neverRegistered)
		default:
			r.wanted[reason] = true
		}
	}
	return nil
}

// takes reports whether an entry is to be restored, and under which name it is
// counted.
func (r *restoring) takes(e store.Entry) (string, bool) {
	at := time.UnixMilli(e.Record.ChangedAt)
	if !e.Known || !slices.Contains(r.states, e.Record.State) || at.Before(r.from) || !r.to.IsZero() && !at.Before(r.to) {
		return "", false
	}
	if e.Record.RegisteredAt == 0 {
		return neverRegistered, r.never
	}
	return e.Record.Reason.String() + ", " + e.Record.State.String(), r.wanted[e.Record.Reason]
}

func (r *restoring) run(ctx context.Context, set *store.Store, in io.Reader, out, progress io.Writer) error {
	counts := make(map[string]int)
	total := 0
	err := scanAll(ctx, set, r.app, "look", progress, func(entries []store.Entry) error {
		for _, e := range entries {
			if name, ok := r.takes(e); ok {
				counts[name]++
				total++
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(counts)) {
		fmt.Fprintf(out, "%10d  %s\n", counts[name], name)
	}
	fmt.Fprintf(out, "%10d  device tokens of %s to restore\n", total, r.app)
	if r.dryRun || total == 0 {
		return nil
	}
	if err := confirm(in, progress, r.yes, "Restore them?"); err != nil {
		return err
	}
	var done store.Restored
	err = scanAll(ctx, set, r.app, "restore", progress, func(entries []store.Entry) error {
		var list []store.Entry
		for _, e := range entries {
			if _, ok := r.takes(e); ok {
				list = append(list, e)
			}
		}
		part, err := set.Restore(ctx, r.app, list)
		done.Live, done.Forgotten = done.Live+part.Live, done.Forgotten+part.Forgotten
		done.Superseded, done.Changed = done.Superseded+part.Superseded, done.Changed+part.Changed
		return err
	})
	fmt.Fprintf(out, "restored %d device tokens\n", done.Live)
	for _, more := range []struct {
		n    int
		what string
	}{
		{done.Forgotten, "forgot %d that were never registered\n"},
		{done.Superseded, "left %d whose install has another live device token\n"},
		{done.Changed, "left %d that have changed meanwhile\n"},
	} {
		if more.n > 0 {
			fmt.Fprintf(out, more.what, more.n)
		}
	}
	return err
}

// scanAll looks at all buckets of an app.
func scanAll(ctx context.Context, set *store.Store, app, what string, progress io.Writer, each func([]store.Entry) error) error {
	buckets, err := set.Buckets(ctx, app)
	if err != nil {
		return err
	}
	total, err := set.Count(ctx, app)
	if err != nil {
		return err
	}
	b := newBar(progress, int(total), what, "devices", false)
	var entries []store.Entry
	for from := 0; from < buckets; from += scanStep {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if entries, err = set.ScanBuckets(ctx, app, buckets, from, min(from+scanStep, buckets), entries[:0]); err != nil {
			return err
		}
		if err := each(entries); err != nil {
			return err
		}
		b.add(len(entries))
	}
	b.finish()
	return nil
}

// confirm asks on a terminal whether to go on; elsewhere it needs --yes.
func confirm(in io.Reader, out io.Writer, yes bool, question string) error {
	if yes {
		return nil
	}
	if f, ok := in.(*os.File); !ok || !term.IsTerminal(int(f.Fd())) {
		return usagef("there is no terminal to ask at: give --yes")
	}
	fmt.Fprintf(out, "%s [y/N] ", question)
	answer, err := bufio.NewReader(in).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("read the answer: %w", err)
	}
	switch strings.ToLower(strings.TrimSpace(answer)) {
	case "y", "yes":
		return nil
	default:
		return errors.New("nothing was done")
	}
}

// parseWhen reads a time, or how long before now, such as 3h or 2d.
func parseWhen(s string, now time.Time) (time.Time, error) {
	if d, err := parseLong(s); err == nil {
		return now.Add(-d), nil
	}
	if t, err := time.Parse(time.RFC3339, s); err == nil {
		return t, nil
	}
	if t, err := time.Parse(time.DateOnly, s); err == nil {
		return t, nil // midnight, UTC
	}
	return time.Time{}, fmt.Errorf("must be a time such as 2026-11-24T08:00:00Z or 2026-11-24, or so long ago, such as 3h or 2d, got %q", s)
}

// parseLong reads a duration of at least a second, also in days: 270d.
func parseLong(s string) (time.Duration, error) {
	d, ok := strictjson.ParseLong(s)
	if !ok {
		return 0, fmt.Errorf("must be a duration such as 36h or 270d, got %q", s)
	}
	return d, nil
}

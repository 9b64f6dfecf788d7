package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"github.com/pushfleet/pushfleet/config"
	"github.com/pushfleet/pushfleet/store"
	"github.com/pushfleet/pushfleet/stream"
)

func newDoctor(g *globals) *cobra.Command {
	var app, output string
	var skip []string
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Check everything that a fleet needs, and say what to do",
		Long: `doctor looks at the configuration, NATS and the streams, Redis, the clocks, and the
credentials of each app, and says what it found and what to do about it. It makes and
changes nothing; with each credential it sends a notification to a device token that
cannot exist, which APNs must answer with BadDeviceToken.

It ends with 0 if nothing has failed (warnings may be there), with 1 if something has,
and with 2 if it was called wrongly.`,
		Example: "  pushfleet doctor --config pushfleet.yaml\n  pushfleet doctor --app shop --output json\n  pushfleet doctor --skip apns",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if output != "table" && output != "json" {
				return usagef("--output: must be table or json, got %q", output)
			}
			for _, s := range skip {
				if !slices.Contains(doctorParts(), s) {
					return usagef("--skip: must be some of %s, got %q", strings.Join(doctorParts(), ", "), s)
				}
			}
			found, err := diagnose(cmd.Context(), g, app, skip)
			if err != nil {
				return err
			}
			if err := printFindings(found, output, cmd.OutOrStdout()); err != nil {
				return err
			}
			if slices.ContainsFunc(found, func(f finding) bool { return f.State == isFailed }) {
				return errReported
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&app, "app", "", "look at this app only")
	cmd.Flags().StringSliceVar(&skip, "skip", nil, "what to leave out: "+strings.Join(doctorParts(), ", "))
	cmd.Flags().StringVarP(&output, "output", "o", "table", "table or json")
	return cmd
}

func doctorParts() []string { return []string{"nats", "redis", "apns"} }

// Each check has checkTime to answer.
const checkTime = 15 * time.Second

// The states of a finding.
const (
	isOK      = "ok"
	isWarning = "warning" // it works, and will not for ever, or not as it should
	isFailed  = "failed"
)

// finding is what one check found.
type finding struct {
	State  string `json:"state"`
	Name   string `json:"name"`
	Found  string `json:"found"`
	Remedy string `json:"remedy,omitempty"` // what to do; empty if it is ok
}

func ok(name, format string, args ...any) finding {
	return finding{State: isOK, Name: name, Found: fmt.Sprintf(format, args...)}
}

func warning(name, remedy, format string, args ...any) finding {
	return finding{State: isWarning, Name: name, Found: fmt.Sprintf(format, args...), Remedy: remedy}
}

func failed(name, remedy, format string, args ...any) finding {
	return finding{State: isFailed, Name: name, Found: fmt.Sprintf(format, args...), Remedy: remedy}
}

// check looks at one thing, or at several that go together, until ctx ends.
type check func(ctx context.Context) []finding

// together runs checks at once, each for checkTime at most, and returns what all of
// them found, in their order.
func together(ctx context.Context, checks ...check) []finding {
	found := make([][]finding, len(checks))
	var wg sync.WaitGroup
	for i, c := range checks {
		wg.Go(func() {
			ctx, cancel := context.WithTimeoutCause(ctx, checkTime, fmt.Errorf("no answer within %s", checkTime))
			defer cancel()
			found[i] = c(ctx)
		})
	}
	wg.Wait()
	return slices.Concat(found...)
}

// doctor looks at what a fleet of a configuration needs. It is safe for concurrent
// use.
type doctor struct {
	cfg  *config.Config
	apps []string // those that are looked at, in order
	now  func() time.Time
}

// newDoctorOf returns a doctor of all apps.
func newDoctorOf(cfg *config.Config) *doctor {
	return &doctor{cfg: cfg, apps: slices.Sorted(maps.Keys(cfg.Apps)), now: time.Now}
}

// diagnose looks at everything but what is skipped. The error is about a wrong use.
func diagnose(ctx context.Context, g *globals, app string, skip []string) ([]finding, error) {
	cfg, err := g.load()
	if err != nil {
		return badConfig(err), nil
	}
	d := newDoctorOf(cfg)
	if app != "" {
		if err := knownApp(cfg, app); err != nil {
			return nil, err
		}
		d.apps = []string{app}
	}
	found := []finding{ok("configuration", "%d apps: %s", len(cfg.Apps), appNames(cfg))}
	if len(cfg.Apps) == 0 {
		found[0] = failed("configuration", "Name the apps under apps; pushfleet config example shows how.", "no app is configured")
	}
	if err := cfg.CheckFiles(); err != nil {
		found = badConfig(err)
	}
	var checks []check
	for _, part := range []struct {
		name  string
		check check
	}{{"nats", d.dialQueue}, {"redis", d.dialRedis}, {"apns", d.credentials}} {
		if !slices.Contains(skip, part.name) {
			checks = append(checks, part.check)
		}
	}
	return append(found, together(ctx, checks...)...), nil
}

// badConfig makes a finding of each problem with the configuration.
func badConfig(err error) []finding {
	const remedy = "Mend it; docs/configuration.md has every key."
	var invalid *config.Invalid
	if !errors.As(err, &invalid) {
		return []finding{failed("configuration", remedy, "%v", err)}
	}
	var found []finding
	for _, p := range invalid.Problems {
		found = append(found, failed("configuration", remedy, "%v", p))
	}
	return found
}

// running looks, cheaply, at what a process works with: it asks nothing of APNs.
// streams returns nil while there are none.
func (d *doctor) running(streams func() *stream.Streams, set *store.Store) check {
	return func(ctx context.Context) []finding {
		return together(ctx, func(ctx context.Context) []finding {
			s := streams()
			if s == nil {
				return []finding{failed("nats", remedyNATS, "there is no connection yet")}
			}
			look, err := s.Inspector(ctx)
			if err != nil {
				return []finding{badServer(err)}
			}
			return d.queue(ctx, look)
		}, func(ctx context.Context) []finding { return d.redis(ctx, set) })
	}
}

// dialQueue connects to NATS and looks at it.
func (d *doctor) dialQueue(ctx context.Context) []finding {
	nc, err := dialNATS(ctx, d.cfg, "doctor", zap.NewNop())
	if err != nil {
		return []finding{failed("nats", remedyNATS, "%v", err)}
	}
	defer nc.Close()
	look, err := stream.Inspect(ctx, nc)
	if err != nil {
		return []finding{badServer(err)}
	}
	return d.queue(ctx, look)
}

// dialRedis connects to Redis and looks at it.
func (d *doctor) dialRedis(ctx context.Context) []finding {
	set, client, err := connectRedis(d.cfg.Redis)
	if err != nil {
		return []finding{failed("redis", remedyRedis, "%v", err)}
	}
	defer client.Close()
	return d.redis(ctx, set)
}

// Clocks that differ by more than clockOff are worth mending; by more than clockWrong
// sends go wrong, since jobs expire by one clock and provider tokens by another.
const (
	clockOff   = 2 * time.Second
	clockWrong = time.Minute
)

// judgeClock compares another clock with ours, which was read when it was asked.
func judgeClock(name string, theirs, ours time.Time) finding {
	const remedy = "Run NTP (chrony or systemd-timesyncd) on both machines: expiry, schedules and provider tokens go by these clocks."
	ahead := theirs.Sub(ours)
	off := ahead.Abs()
	word := "ahead of"
	if ahead < 0 {
		word = "behind"
	}
	switch {
	case off >= clockWrong:
		return failed(name, remedy, "it is %s %s this machine's", off.Round(time.Millisecond), word)
	case off >= clockOff:
		return warning(name, remedy, "it is %s %s this machine's", off.Round(time.Millisecond), word)
	default:
		return ok(name, "within %s of this machine's", clockOff)
	}
}

func printFindings(found []finding, output string, out io.Writer) error {
	if output == "json" {
		enc := json.NewEncoder(out)
		enc.SetIndent("", "  ")
		return enc.Encode(found)
	}
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "STATE\tCHECK\tFOUND")
	for _, f := range found {
		state := f.State
		if state == isFailed {
			state = "FAILED"
		}
		// A problem may have lines of its own, which would break the table.
		fmt.Fprintf(w, "%s\t%s\t%s\n", state, f.Name, strings.ReplaceAll(f.Found, "\n", "; "))
		if f.Remedy != "" {
			fmt.Fprintf(w, "\t\t-> %s\n", f.Remedy)
		}
	}
	return w.Flush()
}

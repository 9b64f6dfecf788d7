package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/pushfleet/pushfleet/job"
	"github.com/pushfleet/pushfleet/overview"
)

func newFleetShow(g *globals) *cobra.Command {
	var app, output string
	var watch bool
	cmd := &cobra.Command{
		Use:   "fleet",
		Short: "Show what the fleet does now",
		Long: `fleet shows the workers and what each does, how fast the fleet sends, what waits,
devices and fuses, and why something is not sent. It listens to the workers and asks
JetStream and Redis, or the API (--server), which tells the same.

Rates and times are of the last 5 seconds; P50 and P99 are how long APNs takes to answer.
With --watch it shows all anew every second; with --output json too, an object a line.`,
		Example: "  pushfleet fleet\n  pushfleet fleet --watch\n  pushfleet fleet --app shop --output json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := oneOfOutputs(output); err != nil {
				return err
			}
			return runFleetShow(cmd.Context(), g, app, output, watch, cmd.OutOrStdout())
		},
	}
	cmd.Flags().StringVar(&app, "app", "", "only this app (default: all)")
	cmd.Flags().StringVarP(&output, "output", "o", "table", "table or json")
	cmd.Flags().BoolVarP(&watch, "watch", "w", false, "show it every second, until interrupted")
	return cmd
}

func runFleetShow(ctx context.Context, g *globals, app, output string, watch bool, out io.Writer) error {
	return withFleet(ctx, g, app, func(ctx context.Context, desk fleetDesk) error {
		if watch {
			return watchFleet(ctx, desk, output, out)
		}
		f, err := desk.fleet(ctx)
		if err != nil {
			return err
		}
		return printFleet(out, f, output)
	})
}

// watchFleet shows each picture until ctx ends.
func watchFleet(ctx context.Context, desk fleetDesk, output string, out io.Writer) error {
	file, ok := out.(*os.File)
	redraw := ok && output != "json" && term.IsTerminal(int(file.Fd()))
	err := desk.follow(ctx, func(f *overview.Fleet) (err error) {
		switch {
		case output == "json":
			err = json.NewEncoder(out).Encode(f)
		case redraw:
			var page strings.Builder // at once, so that it does not flicker
			if err = printFleet(&page, f, output); err == nil {
				_, err = fmt.Fprint(out, "\x1b[H\x1b[2J", page.String())
			}
		default:
			if err = printFleet(out, f, output); err == nil {
				_, err = fmt.Fprintln(out)
			}
		}
		if err != nil {
			return fmt.Errorf("print fleet: %w", err)
		}
		return nil
	})
	if ctx.Err() != nil {
		return nil //nolint:nilerr // whoever watches leaves
	}
	return err
}

func printFleet(out io.Writer, f *overview.Fleet, output string) error {
	if output == "json" {
		return printJSON(out, f)
	}
	fmt.Fprintf(out, "%s\n\n", f.At.Format("2006-01-02 15:04:05 MST"))
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "APP\tPER SECOND\tP50\tP99\tTRANSACTIONAL\tBULK\tOLDEST\tDEVICES\tQUARANTINED\tREMOVED\tFUSE")
	for _, name := range slices.Sorted(maps.Keys(f.Apps)) {
		a := f.Apps[name]
		fmt.Fprintf(w, "%s\t%.1f\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", name, a.PerSecond, millis(a.P50), millis(a.P99),
			waits(&a, job.Transactional), waits(&a, job.Bulk), oldest(&a), devicesOf(&a), fusesText(a.Fuses))
	}
	fmt.Fprintln(w)
	fmt.Fprintln(w, "WORKER\tAPP\tCONNECTIONS\tIN FLIGHT\tPER SECOND\tP50\tP99\tACCEPTED\tREJECTED\tFAILED\tUP\tVERSION")
	var notes []string
	for i := range f.Workers {
		notes = append(notes, printWorker(w, &f.Workers[i], f.At)...)
	}
	if len(f.Workers) == 0 {
		fmt.Fprintln(w, "none")
	}
	if err := w.Flush(); err != nil {
		return fmt.Errorf("print fleet: %w", err)
	}
	for _, u := range f.Unknown {
		notes = append(notes, "not known: "+u)
	}
	if len(notes) > 0 {
		fmt.Fprintf(out, "\n%s\n", strings.Join(notes, "\n"))
	}
	return nil
}

// printWorker prints a line for each app of a worker, and returns what there is to say of it.
func printWorker(w io.Writer, worker *overview.FleetWorker, at time.Time) (notes []string) {
	up := "-"
	if worker.Since != nil {
		up = at.Sub(*worker.Since).Round(time.Second).String()
	}
	if worker.Problem != "" {
		notes = append(notes, worker.Name+": "+worker.Problem)
	}
	for _, name := range slices.Sorted(maps.Keys(worker.Apps)) {
		a := worker.Apps[name]
		fmt.Fprintf(w, "%s\t%s\t%d of %d\t%d\t%.1f\t%s\t%s\t%d\t%d\t%d\t%s\t%s\n", worker.Name, name, a.Connections, a.Wanted, a.InFlight,
			a.PerSecond, millis(a.P50), millis(a.P99), a.Accepted, a.Rejected, a.Failed, up, worker.Version)
		if a.Held != "" {
			notes = append(notes, worker.Name+", "+name+": "+a.Held)
		}
	}
	return notes
}

func millis(ms *float64) string {
	if ms == nil {
		return "-"
	}
	return strconv.FormatFloat(*ms, 'f', 0, 64) + " ms"
}

func waits(a *overview.FleetApp, lane job.Lane) string {
	if l, ok := a.Backlog[lane.String()]; ok {
		return strconv.FormatInt(l.Notifications, 10)
	}
	return "-"
}

// oldest is for how long the oldest job of an app has waited.
func oldest(a *overview.FleetApp) string {
	var ms int64
	for _, l := range a.Backlog {
		ms = max(ms, l.OldestMS)
	}
	if ms == 0 {
		return "-"
	}
	return (time.Duration(ms) * time.Millisecond).Round(100 * time.Millisecond).String()
}

func devicesOf(a *overview.FleetApp) string {
	if a.Devices == nil {
		return "-\t-\t-"
	}
	about := ""
	if a.Devices.Estimated {
		about = "~"
	}
	return fmt.Sprintf("%s%d\t%s%d\t%s%d", about, a.Devices.Active, about, a.Devices.Quarantined, about, a.Devices.Removed)
}

func fusesText(fuses []overview.FleetFuse) string {
	var tripped []string
	for _, f := range fuses {
		if f.Tripped {
			tripped = append(tripped, f.Environment+" TRIPPED")
		}
	}
	if len(fuses) == 0 {
		return "-"
	}
	if len(tripped) == 0 {
		return "closed"
	}
	return strings.Join(tripped, ", ")
}

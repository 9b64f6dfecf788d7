package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// benchCampaignFlags are the flags of bench campaign.
type benchCampaignFlags struct {
	only          []string
	rounds        int
	n             int // devices of the campaigns whose CPU is measured
	apns2N        int
	devices       int // of the large campaign, and those beside which others are measured
	transactional time.Duration
	pairs         int
	pauses        int
	nominal       int // devices of the campaign that is only divided
	natsServer    string
	cpuProfile    string
	json          bool
}

// The parts of bench campaign.
const (
	partCPU           = "cpu"
	partBig           = "big"
	partTransactional = "transactional"
	partExpand        = "expand"
	partPause         = "pause"
)

func campaignParts() []string {
	return []string{partCPU, partBig, partTransactional, partExpand, partPause}
}

func newBenchCampaign() *cobra.Command {
	var f benchCampaignFlags
	cmd := &cobra.Command{
		Use:   "campaign",
		Short: "Campaigns: their cost, their speed, and what they leave to others",
		Long: `campaign measures one "pushfleet worker" on campaigns. nats-server, redis-server (with
the append-only file of docker-compose.yml), the simulator and the worker are processes
of their own. Every device was accepted before, as in a fleet that has run for a day.

  cpu            CPU of the whole worker for each notification of a campaign to all, by
                 apns2's alone, in rounds that take turns; then the same with two variables
                 of each device rendered. APNs calls one device in a hundred dead (410);
                 each is removed by that, and registers again before the next campaign.
                 The worker and apns2 have one core, all else the other.
  big            one campaign to --devices, the worker sharing all cores with the rest: the
                 time from its creation until it is done, and the memory of each process.
  transactional  p99 of jobs for one device, 100 a second, with 20 ms of latency at APNs,
                 from publishing until the outcome is stored: alone, beside a campaign
                 paced to half of the highest rate, and beside an unpaced one, in turn.
  expand         dividing an audience of a hundred million: the time from the campaign's
                 creation to the first notification, and the size of the queue with all its
                 ranges. The buckets are simulated: the layout is that of so many devices,
                 and something between the worker and Redis answers how many there are in a
                 bucket. Only the buckets of the first ranges hold devices. All ranges are
                 published by the worker; then the campaign is cancelled.
  pause          the time from the acknowledgement of a pause to the last notification at
                 the simulator, the longest of --pauses at full speed.

A part fails unless each of its campaigns ends with the counts that the simulator has,
nothing twice, and, where nothing else is sent, what was received is what was to be sent,
by a hash over every field and body.`,
		Example: `  pushfleet bench campaign
  pushfleet bench campaign --only big --devices 10000000 --json
  pushfleet bench campaign --only transactional --transactional 10s`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			r, err := benchmarkCampaign(cmd.Context(), f, cmd.ErrOrStderr())
			if err != nil {
				return err
			}
			return r.print(cmd.OutOrStdout(), f.json)
		},
	}
	fl := cmd.Flags()
	fl.StringSliceVar(&f.only, "only", campaignParts(), "parts to run")
	fl.IntVar(&f.rounds, "rounds", 5, "rounds of cpu")
	fl.IntVar(&f.n, "n", 300_000, "devices of cpu")
	fl.IntVar(&f.apns2N, "apns2-n", 30_000, "notifications of apns2 alone each round")
	fl.IntVar(&f.devices, "devices", 1_000_000, "devices of big, transactional and pause")
	fl.DurationVar(&f.transactional, "transactional", time.Minute, "how long transactional jobs are measured, each time")
	fl.IntVar(&f.pairs, "pairs", 3, "rounds of transactional")
	fl.IntVar(&f.pauses, "pauses", 20, "pauses")
	fl.IntVar(&f.nominal, "expand-devices", 100_000_000, "devices of expand")
	fl.StringVar(&f.natsServer, "nats-server", "", "the nats-server program (default: the one on PATH)")
	fl.StringVar(&f.cpuProfile, "cpuprofile", "", "write a CPU profile of the worker of cpu")
	fl.BoolVar(&f.json, "json", false, "print one JSON object and nothing else")
	return cmd
}

// benchCampaignResult has medians over the rounds. CPU is in seconds per 100,000
// notifications, memory the most that a process had. Parts that were not run are
// left out.
type benchCampaignResult struct {
	Parts []string `json:"parts"`
	Cores int      `json:"cores"`

	*campaignCPU
	*campaignBig
	*campaignTransactional
	*campaignExpand
	*campaignPause
}

func (f *benchCampaignFlags) check() error {
	for _, part := range f.only {
		if !slices.Contains(campaignParts(), part) {
			return usagef("--only: must be some of %s, got %q", strings.Join(campaignParts(), ", "), part)
		}
	}
	switch {
	case len(f.only) == 0:
		return usagef("--only: must be some of %s", strings.Join(campaignParts(), ", "))
	case f.rounds < 1 || f.rounds > 100:
		return usagef("--rounds: must be 1 to 100, got %d", f.rounds)
	case f.n < 1000 || f.n > 10_000_000:
		return usagef("--n: must be 1000 to 10,000,000, got %d", f.n)
	case f.apns2N < 1:
		return usagef("--apns2-n: must be at least 1, got %d", f.apns2N)
	case f.devices < 1000 || f.devices > 100_000_000:
		return usagef("--devices: must be 1000 to 100,000,000, got %d", f.devices)
	case f.transactional < time.Second:
		return usagef("--transactional: must be at least 1s, got %s", f.transactional)
	case f.pairs < 1 || f.pauses < 1:
		return usagef("--pairs and --pauses: must be at least 1, got %d and %d", f.pairs, f.pauses)
	case f.nominal < 1_000_000 || f.nominal > 1_000_000_000:
		return usagef("--expand-devices: must be 1,000,000 to 1,000,000,000, got %d", f.nominal)
	}
	return nil
}

// campaignBench is one run of bench campaign.
type campaignBench struct {
	flags benchCampaignFlags
	dir   string
	talk  io.Writer
}

func (c *campaignBench) sayf(format string, args ...any) {
	if !c.flags.json {
		fmt.Fprintf(c.talk, format+"\n", args...)
	}
}

func benchmarkCampaign(ctx context.Context, f benchCampaignFlags, talk io.Writer) (*benchCampaignResult, error) {
	if err := f.check(); err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "pushfleet-bench-")
	if err != nil {
		return nil, fmt.Errorf("make directory: %w", err)
	}
	defer os.RemoveAll(dir)
	c := &campaignBench{flags: f, dir: dir, talk: talk}
	r := &benchCampaignResult{Cores: runtime.NumCPU()}
	for _, part := range campaignParts() {
		if slices.Contains(f.only, part) {
			r.Parts = append(r.Parts, part)
		}
	}
	if slices.Contains(f.only, partCPU) {
		if r.campaignCPU, err = c.cpu(ctx); err != nil {
			return nil, fmt.Errorf("cpu: %w", err)
		}
	}
	if err := c.besideOthers(ctx, r); err != nil {
		return nil, err
	}
	if slices.Contains(f.only, partExpand) {
		if r.campaignExpand, err = c.expand(ctx); err != nil {
			return nil, fmt.Errorf("expand: %w", err)
		}
	}
	return r, nil
}

// besideOthers runs the parts in which the worker shares all cores with the rest:
// they share one token set.
func (c *campaignBench) besideOthers(ctx context.Context, r *benchCampaignResult) (err error) {
	f := &c.flags
	if !slices.ContainsFunc(f.only, func(part string) bool { return part != partCPU && part != partExpand }) {
		return nil
	}
	rig, err := c.rig("all", -1, -1)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rig.stop()) }()
	if err := rig.open(ctx, c, f.devices, bareDevice, ""); err != nil {
		return err
	}
	if slices.Contains(f.only, partBig) {
		if r.campaignBig, err = c.big(ctx, rig); err != nil {
			return fmt.Errorf("big: %w", err)
		}
	}
	if slices.Contains(f.only, partTransactional) {
		if r.campaignTransactional, err = c.transactional(ctx, rig); err != nil {
			return fmt.Errorf("transactional: %w", err)
		}
	}
	if slices.Contains(f.only, partPause) {
		if r.campaignPause, err = c.pause(ctx, rig); err != nil {
			return fmt.Errorf("pause: %w", err)
		}
	}
	return nil
}

// rig makes one of a fleet that is not started yet.
func (c *campaignBench) rig(name string, core, others int) (*campaignRig, error) {
	dir := filepath.Join(c.dir, name)
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make directory: %w", err)
	}
	return &campaignRig{benchFleet: benchFleet{dir: dir, core: core, others: others}}, nil
}

func (r *benchCampaignResult) print(out io.Writer, asJSON bool) error {
	if asJSON {
		if err := json.NewEncoder(out).Encode(r); err != nil {
			return fmt.Errorf("print result: %w", err)
		}
		return nil
	}
	fmt.Fprintf(out, "\n%-58s %10s   %s\n", fmt.Sprintf("%d cores", r.Cores), "measured", "goal")
	line := func(what string, format string, measured any, goal string) {
		fmt.Fprintf(out, "%-58s %10s   %s\n", what, fmt.Sprintf(format, measured), goal)
	}
	if m := r.campaignCPU; m != nil {
		line("worker, CPU s / 100,000", "%.3f", m.CPU, "")
		line("worker with two variables, CPU s / 100,000", "%.3f", m.RenderedCPU, "")
		line("apns2 alone, CPU s / 100,000", "%.2f", m.APNs2CPU, "")
		line(fmt.Sprintf("worker / apns2, CPU (%.4f to %.4f)", m.Spread.Min, m.Spread.Max), "%.4f", m.Ratio, "<= 0.03")
		line(fmt.Sprintf("with two variables / apns2, CPU (%.4f to %.4f)", m.RenderedSpread.Min, m.RenderedSpread.Max), "%.4f", m.RenderedRatio, "<= 0.05")
	}
	if m := r.campaignBig; m != nil {
		line(fmt.Sprintf("%d devices, seconds until the campaign is done", m.Devices), "%.1f", m.Seconds, "<= 30 for ten million")
		line("seconds until the last notification", "%.1f", m.SentSeconds, "")
		line("memory of worker, MB", "%.0f", m.WorkerRSSMB, "<= 100")
		line("memory of redis-server, MB", "%.0f", m.RedisRSSMB, "")
		line("memory of nats-server, MB", "%.0f", m.NATSRSSMB, "")
	}
	if m := r.campaignTransactional; m != nil {
		line(fmt.Sprintf("transactional p99 alone, ms (%d samples at least)", m.Samples), "%.1f", m.AloneP99, "")
		line(fmt.Sprintf("beside a campaign at %d/s, ms", m.Rate), "%.1f", m.PacedP99, "")
		line("beside an unpaced one, ms", "%.1f", m.UnpacedP99, "")
		line(fmt.Sprintf("with campaign / alone, p99 (%.2f to %.2f)", m.Spread.Min, m.Spread.Max), "%.2f", m.Ratio, "<= 1.5")
	}
	if m := r.campaignExpand; m != nil {
		line(fmt.Sprintf("%d devices, seconds to the first notification", m.NominalDevices), "%.2f", m.FirstSendSeconds, "<= 1")
		line(fmt.Sprintf("queue of %d ranges, MB", m.Ranges), "%.1f", m.QueueMB, "<= 25")
		line("seconds until all ranges are published", "%.1f", m.ExpandSeconds, "")
	}
	if m := r.campaignPause; m != nil {
		line(fmt.Sprintf("last notification after a pause, ms (longest of %d)", m.Pauses), "%.0f", m.MaxMS, "<= 2000")
		line("the same, median", "%.0f", m.MedianMS, "")
	}
	return nil
}

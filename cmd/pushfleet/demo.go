package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/spf13/cobra"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/pushfleet/pushfleet/apns/apnstest"
	"github.com/pushfleet/pushfleet/campaign"
	"github.com/pushfleet/pushfleet/config"
	"github.com/pushfleet/pushfleet/device"
	"github.com/pushfleet/pushfleet/job"
	"github.com/pushfleet/pushfleet/store"
	"github.com/pushfleet/pushfleet/stream"
)

func newDemo(g *globals) *cobra.Command {
	var f demoFlags
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Show the main job: register devices, send a campaign to all, remove the dead ones",
		Long: `demo runs JetStream, an in-memory token set, the APNs simulator and a worker in one
process, registers simulated devices of which some are dead, sends a campaign to all
of them, each with a text of its own, and prints what became of them twice: as the
fleet counted it, and as the simulator did. It fails if the two differ. Nothing needs
to be installed, and nothing is left.`,
		Example: "  pushfleet demo\n  pushfleet demo --devices 20000 --json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if f.devices < 1 || f.devices > 10_000_000 {
				return usagef("--devices: must be from 1 to 10,000,000, got %d", f.devices)
			}
			d := &demo{flags: f, out: cmd.OutOrStdout(), talk: cmd.ErrOrStderr(), globals: g}
			return d.run(cmd.Context())
		},
	}
	fl := cmd.Flags()
	fl.IntVar(&f.devices, "devices", 100_000, "how many devices")
	fl.BoolVar(&f.json, "json", false, "print one JSON object and nothing else")
	fl.Uint64Var(&f.seed, "seed", 1, "which device tokens: the same seed gives the same")
	return cmd
}

type demoFlags struct {
	devices int
	json    bool
	seed    uint64
}

// demoSummary is what demo prints with --json. Durations are in the unit that
// the name says.
type demoSummary struct {
	Devices     int     `json:"devices"`
	Accepted    int     `json:"accepted"`
	Removed     int     `json:"removed"`
	Quarantined int     `json:"quarantined"`
	Failed      int     `json:"failed"` // any other end
	Duplicates  int     `json:"duplicates"`
	Seconds     float64 `json:"seconds"` // of sending
	PerSecond   float64 `json:"per_second"`
	P50Ms       int64   `json:"p50_ms"` // from the campaign's start to accept
	P99Ms       int64   `json:"p99_ms"`

	Simulator     demoLedger `json:"simulator"` // the same, by its ledger
	RegisterTime  float64    `json:"register_seconds"`
	DifferencesAt []string   `json:"differences"` // empty: fleet and simulator agree
}

// demoLedger is the simulator's side.
type demoLedger struct {
	Accepted   int `json:"accepted"`
	Dead       int `json:"dead"`
	Suspicious int `json:"suspicious"`
	Duplicates int `json:"duplicates"`
}

type demo struct {
	flags     demoFlags
	out, talk io.Writer
	globals   *globals

	local   *local
	cfg     *config.Config
	streams *stream.Streams
	nc      *nats.Conn
	set     *store.Store
}

func (d *demo) sayf(format string, args ...any) {
	if !d.flags.json {
		fmt.Fprintf(d.talk, format+"\n", args...)
	}
}

func (d *demo) run(ctx context.Context) (err error) {
	dir, err := os.MkdirTemp("", "pushfleet-demo-")
	if err != nil {
		return fmt.Errorf("make directory: %w", err)
	}
	defer os.RemoveAll(dir)
	d.local, err = startLocal(dir, localPorts{}, apnstest.Config{
		DeadShare: 0.01, BadShare: 0.002, WrongTopicShare: 0.001, Ledger: apnstest.LedgerHash,
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.local.stop()) }()
	d.sayf("JetStream at %s, APNs simulator at %s; device tokens are in memory (miniredis), and gone at the end", d.local.nats.URL(), d.local.sim.URL())
	if d.cfg, err = d.local.config(); err != nil {
		return err
	}
	log, err := d.logger()
	if err != nil {
		return err
	}
	if d.nc, d.streams, err = connectNATS(ctx, d.cfg, "demo", log); err != nil {
		return err
	}
	defer d.nc.Close()
	set, client, err := connectRedis(d.cfg.Redis)
	if err != nil {
		return err
	}
	defer client.Close()
	d.set = set
	fleet, err := newFleet(d.cfg, d.streams, d.set, nil, log, newRegistry())
	if err != nil {
		return err
	}
	work, stopWork := context.WithCancel(ctx)
	stopped := make(chan error, 1)
	go func() {
		err := fleet.run(work)
		stopWork()
		stopped <- err
	}()
	summary, err := d.show(work)
	stopWork()
	if err = errors.Join(err, <-stopped); err != nil {
		return err
	}
	return d.print(summary)
}

func (d *demo) logger() (*zap.Logger, error) {
	cfg := d.cfg.Log
	cfg.Level = "error"
	if d.globals.logLevel != "" {
		cfg.Level = d.globals.logLevel
	}
	return logger(cfg)
}

// show does the main job and counts it twice.
func (d *demo) show(ctx context.Context) (*demoSummary, error) {
	s := &demoSummary{Devices: d.flags.devices}
	tokens := demoTokens(d.flags.seed, d.flags.devices)
	began := time.Now()
	if err := d.register(ctx, tokens); err != nil {
		return nil, err
	}
	s.RegisterTime = time.Since(began).Seconds()
	sent, err := d.send(ctx)
	if err != nil {
		return nil, err
	}
	s.Seconds = sent.took.Seconds()
	s.PerSecond = float64(d.flags.devices) / s.Seconds
	s.P50Ms, s.P99Ms = sent.percentile(50), sent.percentile(99)
	if err := d.countFleet(ctx, s, &sent.campaign, tokens); err != nil {
		return nil, err
	}
	if err := d.countSimulator(ctx, s); err != nil {
		return nil, err
	}
	s.compare()
	return s, nil
}

func demoTokens(seed uint64, n int) []device.Token {
	random := rand.New(rand.NewPCG(seed, 0)) //nolint:gosec // device tokens of nobody
	tokens := make([]device.Token, n)
	var raw [32]byte
	for i := range tokens {
		for j := range raw {
			raw[j] = byte(random.Uint32())
		}
		tokens[i] = device.TokenFromRaw(string(raw[:]))
	}
	return tokens
}

// Where the simulated devices are, and who has them.
var (
	demoPlaces = []struct{ locale, timezone string }{
		{"de-AT", "Europe/Vienna"}, {"en-US", "America/New_York"}, {"de-CH", "Europe/Zurich"}, {"ja-JP", "Asia/Tokyo"},
	}
	demoNames = []string{"Ada", "Grace", "Barbara", "Katherine", ""}
)

func (d *demo) register(ctx context.Context, tokens []device.Token) error {
	bar := newBar(d.talk, len(tokens), "registering", "devices", d.flags.json)
	defer bar.finish()
	number := 0
	for batch := range slices.Chunk(tokens, 8192) {
		regs := make([]device.Registration, len(batch))
		for i, t := range batch {
			at := demoPlaces[number%len(demoPlaces)]
			regs[i] = device.Registration{Token: t, Environment: device.Production, Locale: at.locale, Timezone: at.timezone}
			if name := demoNames[number%len(demoNames)]; name != "" {
				regs[i].Attributes = map[string]string{"first_name": name}
			}
			number++
		}
		if _, err := d.set.RegisterMany(ctx, demoApp, regs); err != nil {
			return err
		}
		bar.add(len(batch))
	}
	return nil
}

// demoCampaign is what the demo sends.
func demoCampaign() *campaign.Campaign {
	return &campaign.Campaign{
		ID: "demo", Audience: campaign.Audience{All: true},
		Content: job.Job{Notification: &job.Notification{
			Title: "Hello {{attributes.first_name|there}}", Body: "This is the demo of pushfleet, for {{timezone}}.",
		}},
		Localizations: map[string]*job.Notification{"de": {
			Title: "Hallo {{attributes.first_name|Du}}", Body: "Das ist die Vorführung von pushfleet, für {{timezone}}.",
		}},
	}
}

// demoSent is a campaign that has ended.
type demoSent struct {
	campaign campaign.Status
	took     time.Duration // from before it was created until all was told
	accepted []demoAccepted
}

// demoAccepted are notifications that were told of at once.
type demoAccepted struct {
	at time.Time
	n  int
}

// percentile returns within how many milliseconds from the campaign's start so many
// percent of what was accepted were.
func (s *demoSent) percentile(percent int) int64 {
	slices.SortFunc(s.accepted, func(a, b demoAccepted) int { return a.at.Compare(b.at) })
	all := 0
	for _, a := range s.accepted {
		all += a.n
	}
	before := all * percent / 100
	for _, a := range s.accepted {
		if before -= a.n; before < 0 {
			return a.at.Sub(s.campaign.StartedAt).Milliseconds()
		}
	}
	return 0
}

// send creates the campaign and follows it until it has ended and all that was told
// of it is seen.
func (d *demo) send(ctx context.Context) (*demoSent, error) {
	st, err := campaign.NewStatus(demoApp, demoCampaign(), time.Now())
	if err != nil {
		return nil, fmt.Errorf("make the campaign: %w", err)
	}
	bar := newBar(d.talk, d.flags.devices, "sending", "notifications", d.flags.json)
	defer bar.finish()
	running, end := context.WithCancel(ctx)
	defer end()
	sent := &demoSent{}
	var g errgroup.Group
	g.Go(func() (err error) {
		defer end()
		sent.campaign, err = d.awaitEnd(running, st.ID)
		return err
	})
	began := time.Now()
	if _, _, err = d.streams.CreateCampaign(ctx, st); err == nil {
		err = d.follow(ctx, running, func(o *job.Outcomes) {
			sent.took = time.Since(began)
			for i := range o.Jobs {
				sent.accepted = append(sent.accepted, demoAccepted{o.At, len(o.Jobs[i].Accepted)})
				bar.add(len(o.Jobs[i].Accepted) + len(o.Jobs[i].Others))
			}
		})
	}
	if err != nil {
		end()
		return nil, errors.Join(err, g.Wait())
	}
	return sent, g.Wait()
}

// awaitEnd returns a campaign when it has ended.
func (d *demo) awaitEnd(ctx context.Context, id string) (end campaign.Status, err error) {
	watching, stop := context.WithCancel(ctx)
	defer stop()
	err = d.streams.WatchCampaigns(watching, func(st campaign.Status, _ uint64) {
		if st.ID == id && st.Ended() {
			end = st
			stop()
		}
	}, func(uint64) {})
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		return end, fmt.Errorf("wait for the campaign's end: %w", err)
	}
	return end, nil
}

// follow calls each with all that is told of the demo's app until running ends, and
// returns when it has seen that too which had been told by then.
func (d *demo) follow(ctx, running context.Context, each func(*job.Outcomes)) error {
	js, err := jetstream.New(d.nc)
	if err != nil {
		return fmt.Errorf("open jetstream: %w", err)
	}
	c, err := js.OrderedConsumer(ctx, stream.Outcomes, jetstream.OrderedConsumerConfig{FilterSubjects: []string{stream.AppOutcomes(demoApp)}})
	if err != nil {
		return fmt.Errorf("follow outcomes: %w", err)
	}
	it, err := c.Messages()
	if err != nil {
		return fmt.Errorf("follow outcomes: %w", err)
	}
	defer it.Stop()
	var seen, last uint64
	for waiting := running; waiting == running || seen < last; {
		msg, err := it.Next(jetstream.NextContext(waiting))
		if err != nil && waiting == running && running.Err() != nil && ctx.Err() == nil {
			waiting = ctx
			if last, err = d.streams.LastOutcome(ctx); err != nil {
				return err
			}
			continue
		}
		if err != nil {
			return fmt.Errorf("follow outcomes: %w", err)
		}
		meta, err := msg.Metadata()
		if err != nil {
			return fmt.Errorf("follow outcomes: %w", err)
		}
		o, err := job.ParseOutcomes(msg.Data())
		if err != nil {
			return fmt.Errorf("read outcomes: %w", err)
		}
		each(o)
		seen = meta.Sequence.Stream
	}
	return nil
}

// countFleet counts by the fleet's own books: the campaign's totals, and the token
// set.
func (d *demo) countFleet(ctx context.Context, s *demoSummary, st *campaign.Status, tokens []device.Token) error {
	if err := d.awaitRecorder(ctx); err != nil {
		return err
	}
	totals, err := d.set.CampaignTotals(ctx, demoApp, st.ID, st.Ranges)
	if err != nil {
		return err
	}
	settled := 0
	for _, n := range totals.Counts {
		settled += int(n)
	}
	s.Accepted, s.Duplicates = int(totals.Counts[string(job.Accepted)]), int(totals.Duplicates)
	for batch := range slices.Chunk(tokens, 8192) {
		entries, err := d.set.Lookup(ctx, demoApp, batch, nil)
		if err != nil {
			return err
		}
		for _, e := range entries {
			switch e.Record.State {
			case device.Removed:
				s.Removed++
			case device.Quarantined:
				s.Quarantined++
			case device.Live:
			}
		}
	}
	s.Failed = s.Devices - s.Accepted - s.Removed - s.Quarantined
	if settled != s.Devices {
		s.DifferencesAt = append(s.DifferencesAt, fmt.Sprintf("settled %d of %d recipients", settled, s.Devices))
	}
	if st.State != campaign.Done || int(totals.Matched) != s.Devices {
		s.DifferencesAt = append(s.DifferencesAt, fmt.Sprintf("the campaign is %s, and %d of %d devices matched", st.State, totals.Matched, s.Devices))
	}
	return nil
}

// awaitRecorder waits until every outcome is applied.
func (d *demo) awaitRecorder(ctx context.Context) error {
	last, err := d.streams.LastOutcome(ctx)
	if err != nil {
		return err
	}
	c, err := d.streams.RecorderConsumer(ctx)
	if err != nil {
		return err
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		floor, err := c.AckFloor(ctx)
		if err != nil || floor >= last {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("wait for the recorder: %w", context.Cause(ctx))
		}
	}
}

// countSimulator counts by the simulator's ledger, over its admin interface.
func (d *demo) countSimulator(ctx context.Context, s *demoSummary) error {
	body, err := askSim(ctx, http.MethodGet, d.local.admin+"/stats", "")
	if err != nil {
		return err
	}
	var stats apnstest.Stats
	if err := json.Unmarshal(body, &stats); err != nil {
		return fmt.Errorf("read simulator's stats: %w", err)
	}
	s.Simulator = demoLedger{
		Accepted: int(stats.Accepted), Duplicates: int(stats.Duplicates),
		Dead:       int(stats.Reasons["Unregistered"] + stats.Reasons["ExpiredToken"]),
		Suspicious: int(stats.Reasons["BadDeviceToken"] + stats.Reasons["DeviceTokenNotForTopic"]),
	}
	return nil
}

// compare notes where fleet and simulator differ.
func (s *demoSummary) compare() {
	for _, c := range []struct {
		what       string
		fleet, sim int
	}{
		{"accepted", s.Accepted, s.Simulator.Accepted},
		{"removed", s.Removed, s.Simulator.Dead},
		{"quarantined", s.Quarantined, s.Simulator.Suspicious},
		{"duplicates", s.Duplicates, s.Simulator.Duplicates},
		{"failed", s.Failed, 0},
	} {
		if c.fleet != c.sim {
			s.DifferencesAt = append(s.DifferencesAt, fmt.Sprintf("%s: fleet %d, simulator %d", c.what, c.fleet, c.sim))
		}
	}
}

func (d *demo) print(s *demoSummary) error {
	if d.flags.json {
		if s.DifferencesAt == nil {
			s.DifferencesAt = []string{}
		}
		if err := json.NewEncoder(d.out).Encode(s); err != nil {
			return fmt.Errorf("print summary: %w", err)
		}
	} else {
		fmt.Fprintf(d.out, `
              fleet  simulator
accepted   %8d   %8d
removed    %8d   %8d   (410: dead)
quarantine %8d   %8d   (400: bad, or of another topic)
failed     %8d
duplicates %8d   %8d

%d devices registered in %.1f s, sent to in %.1f s: %.0f/s
start to accept: p50 %d ms, p99 %d ms (the campaign starts for all at once)
`, s.Accepted, s.Simulator.Accepted, s.Removed, s.Simulator.Dead, s.Quarantined, s.Simulator.Suspicious,
			s.Failed, s.Duplicates, s.Simulator.Duplicates,
			s.Devices, s.RegisterTime, s.Seconds, s.PerSecond, s.P50Ms, s.P99Ms)
	}
	if len(s.DifferencesAt) > 0 {
		for _, diff := range s.DifferencesAt {
			fmt.Fprintln(d.talk, "differs:", diff)
		}
		return errReported
	}
	return nil
}

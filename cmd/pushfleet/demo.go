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

	"github.com/pushfleet/pushfleet/apns/apnstest"
	"github.com/pushfleet/pushfleet/config"
	"github.com/pushfleet/pushfleet/device"
	"github.com/pushfleet/pushfleet/job"
	"github.com/pushfleet/pushfleet/producer"
	"github.com/pushfleet/pushfleet/store"
	"github.com/pushfleet/pushfleet/stream"
)

func newDemo(g *globals) *cobra.Command {
	var f demoFlags
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Show the main job: register devices, send to all, remove the dead ones",
		Long: `demo runs JetStream, an in-memory token set, the APNs simulator and a worker in one
process, registers simulated devices of which some are dead, sends to all of them,
and prints what became of them twice: as the fleet counted it, and as the simulator
did. It fails if the two differ. Nothing needs to be installed, and nothing is left.`,
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
	P50Ms       int64   `json:"p50_ms"` // from enqueue to accept
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
	fleet, err := newFleet(d.cfg, d.streams, d.set, log, newRegistry())
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
	began = time.Now()
	ids, latencies, err := d.send(ctx, tokens)
	if err != nil {
		return nil, err
	}
	s.Seconds = time.Since(began).Seconds()
	s.PerSecond = float64(d.flags.devices) / s.Seconds
	slices.Sort(latencies)
	if n := len(latencies); n > 0 {
		s.P50Ms, s.P99Ms = latencies[n/2], latencies[n*99/100]
	}
	if err := d.countFleet(ctx, s, ids, tokens); err != nil {
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

func (d *demo) register(ctx context.Context, tokens []device.Token) error {
	bar := newBar(d.talk, len(tokens), "registering", "devices", d.flags.json)
	defer bar.finish()
	for batch := range slices.Chunk(tokens, 8192) {
		regs := make([]device.Registration, len(batch))
		for i, t := range batch {
			regs[i] = device.Registration{Token: t, Environment: device.Production}
		}
		if _, err := d.set.RegisterMany(ctx, demoApp, regs); err != nil {
			return err
		}
		bar.add(len(batch))
	}
	return nil
}

// send sends to all device tokens in jobs of a thousand, and returns the ids of
// the jobs, and the milliseconds from enqueue to accept of each notification.
func (d *demo) send(ctx context.Context, tokens []device.Token) (ids []string, latencies []int64, err error) {
	js, err := jetstream.New(d.nc)
	if err != nil {
		return nil, nil, fmt.Errorf("open jetstream: %w", err)
	}
	c, err := js.OrderedConsumer(ctx, stream.Outcomes, jetstream.OrderedConsumerConfig{FilterSubjects: []string{stream.AppOutcomes(demoApp)}})
	if err != nil {
		return nil, nil, fmt.Errorf("follow outcomes: %w", err)
	}
	it, err := c.Messages()
	if err != nil {
		return nil, nil, fmt.Errorf("follow outcomes: %w", err)
	}
	defer it.Stop()

	var jobs []*job.Job
	for chunk := range slices.Chunk(tokens, job.MaxRecipients) {
		j := &job.Job{
			ID: fmt.Sprintf("demo-%d", len(jobs)), To: job.Recipients{Tokens: chunk},
			Notification: &job.Notification{Title: "pushfleet", Body: "Hello from the demo"},
		}
		jobs, ids = append(jobs, j), append(ids, j.ID)
	}
	published := make(chan error, 1)
	go func() {
		_, err := producer.FromStreams(d.streams).EnqueueBatch(ctx, demoApp, job.Bulk, jobs)
		published <- err
	}()
	bar := newBar(d.talk, len(tokens), "sending", "notifications", d.flags.json)
	defer bar.finish()
	for left := len(jobs); left > 0; {
		msg, err := it.Next(jetstream.NextContext(ctx))
		if err != nil {
			return nil, nil, errors.Join(fmt.Errorf("follow outcomes: %w", err), pendingError(published))
		}
		o, err := job.ParseOutcomes(msg.Data())
		if err != nil {
			return nil, nil, fmt.Errorf("read outcomes: %w", err)
		}
		for i := range o.Jobs {
			jo := &o.Jobs[i]
			took := o.At.Sub(jo.QueuedAt).Milliseconds()
			for range jo.Accepted {
				latencies = append(latencies, took)
			}
			bar.add(len(jo.Accepted) + len(jo.Others))
			if jo.Complete {
				left--
			}
		}
	}
	return ids, latencies, <-published
}

// pendingError returns what c has, if it has something.
func pendingError(c <-chan error) error {
	select {
	case err := <-c:
		return err
	default:
		return nil
	}
}

// countFleet counts by the fleet's own books: the progress of the jobs, and the
// token set.
func (d *demo) countFleet(ctx context.Context, s *demoSummary, ids []string, tokens []device.Token) error {
	if err := d.awaitRecorder(ctx); err != nil {
		return err
	}
	keys := make([]store.JobKey, len(ids))
	for i, id := range ids {
		keys[i] = store.JobKey{App: demoApp, Lane: job.Bulk, ID: id}
	}
	progress, err := d.set.Progress(ctx, keys)
	if err != nil {
		return err
	}
	settled := 0
	for _, p := range progress {
		s.Accepted += p.Counts[job.Accepted]
		s.Duplicates += p.Duplicates
		for _, n := range p.Counts {
			settled += n
		}
	}
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
enqueue to accept: p50 %d ms, p99 %d ms (all jobs are enqueued at once)
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

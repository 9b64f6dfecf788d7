package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"github.com/pushfleet/pushfleet/apns/apnstest"
	"github.com/pushfleet/pushfleet/device"
	"github.com/pushfleet/pushfleet/internal/embedded"
	"github.com/pushfleet/pushfleet/job"
	"github.com/pushfleet/pushfleet/stream"
)

// benchFairnessFlags are the flags of bench fairness.
type benchFairnessFlags struct {
	rounds  int
	n       int
	backlog int
	urgent  int
	json    bool
}

func newBenchFairness() *cobra.Command {
	var f benchFairnessFlags
	cmd := &cobra.Command{
		Use:   "fairness",
		Short: "What a sick app costs its neighbour",
		Long: `fairness sends for one app that is well, alone and then beside one that is not: its
fuse has tripped, APNs refuses its credential, never answers, answers 503 to
everything, or cannot be reached. The sick one has a backlog, half of it
transactional. One worker process sends for all; JetStream is in this process, Redis
and two simulators are processes of their own, and all share the machine.

The ratio is how long the app that is well takes without its neighbour by how long
it takes beside it, measured one after the other, each first in every other round: 1
is a neighbour that costs nothing. Latency
is that of transactional jobs which come at a steady rate meanwhile, from their
publishing until their outcome is stored.`,
		Example: "  pushfleet bench fairness\n  pushfleet bench fairness --rounds 9 --json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			r, err := benchFairness(cmd.Context(), f, cmd.ErrOrStderr())
			if err != nil {
				return err
			}
			return r.print(cmd.OutOrStdout(), f.json)
		},
	}
	fl := cmd.Flags()
	fl.IntVar(&f.rounds, "rounds", 5, "rounds")
	fl.IntVar(&f.n, "n", 400_000, "bulk notifications of the app that is well, each time, in jobs of 100")
	fl.IntVar(&f.backlog, "backlog", 50_000, "jobs of the sick app that wait")
	fl.IntVar(&f.urgent, "urgent", 100, "transactional jobs a second of the app that is well")
	fl.BoolVar(&f.json, "json", false, "print one JSON object and nothing else")
	return cmd
}

// benchFairnessResult has medians over the rounds.
type benchFairnessResult struct {
	AlonePerSecond float64           `json:"alone_per_second"` // notifications
	AloneP99       float64           `json:"alone_p99_ms"`     // of transactional jobs
	Neighbours     []fairnessFigures `json:"neighbours"`
	WorstRatio     float64           `json:"worst_ratio"` // of the medians
	Rounds         int               `json:"rounds"`
	Notifications  int               `json:"notifications"`
	Backlog        int               `json:"backlog_jobs"`
	Cores          int               `json:"cores"`
}

// fairnessFigures are those beside one kind of sick neighbour.
type fairnessFigures struct {
	Kind      string  `json:"kind"`
	PerSecond float64 `json:"per_second"`
	Ratio     float64 `json:"ratio"` // to alone, measured next to it
	LeastOf   float64 `json:"ratio_least"`
	MostOf    float64 `json:"ratio_most"`
	P99       float64 `json:"p99_ms"`
}

func (r *benchFairnessResult) print(out io.Writer, asJSON bool) error {
	if asJSON {
		if err := json.NewEncoder(out).Encode(r); err != nil {
			return fmt.Errorf("print result: %w", err)
		}
		return nil
	}
	fmt.Fprintf(out, "alone        %8.0f notifications/s, transactional p99 %.1f ms (%d rounds, %d cores)\n", r.AlonePerSecond, r.AloneP99, r.Rounds, r.Cores)
	for _, n := range r.Neighbours {
		fmt.Fprintf(out, "%-12s %8.0f notifications/s, transactional p99 %.1f ms, ratio %.2f (%.2f to %.2f)\n", n.Kind, n.PerSecond, n.P99, n.Ratio, n.LeastOf, n.MostOf)
	}
	return nil
}

const (
	wellApp = "well"
	// fairnessTimeout is the worker's patience with an answer: short, so that a round
	// beside an APNs that never answers is over soon.
	fairnessTimeout = 5 * time.Second
	listTokens      = 100
)

// sickKind is one way of being ill, and the name of the app that is.
type sickKind struct {
	name  string
	fault *apnstest.RequestFault // of the sick apps' simulator
	fuse  bool
	down  bool // nobody listens where its APNs should be
}

func sickKinds() []sickKind {
	return []sickKind{
		{name: "fuse", fuse: true},
		{name: "credential", fault: &apnstest.RequestFault{Answer: &apnstest.Answer{Status: 403, Reason: "InvalidProviderToken"}}},
		{name: "silent", fault: &apnstest.RequestFault{NeverAnswer: true}},
		{name: "unavailable", fault: &apnstest.RequestFault{Answer: &apnstest.Answer{Status: 503, Reason: "ServiceUnavailable"}}},
		{name: "down", down: true},
	}
}

func (k sickKind) bundle() string { return "com.example." + k.name }

// fairnessRun is the fleet of the benchmark.
type fairnessRun struct {
	flags   benchFairnessFlags
	streams *stream.Streams
	js      jetstream.JetStream
	well    *benchSim
	metrics string // the worker's
	idle    int    // what it holds when all is quiet: a place for each lane's next
	jobs    int    // published so far: their ids
}

func benchFairness(ctx context.Context, f benchFairnessFlags, talk io.Writer) (r *benchFairnessResult, err error) {
	if f.rounds < 1 || f.n < listTokens || f.backlog < 1 || f.urgent < 1 {
		return nil, usagef("needs a round, %d notifications, a job that waits, and a transactional one", listTokens)
	}
	dir, err := os.MkdirTemp("", "pushfleet-bench-")
	if err != nil {
		return nil, fmt.Errorf("make directory: %w", err)
	}
	defer os.RemoveAll(dir)
	b := &fairnessRun{flags: f}
	stop, err := b.start(ctx, dir)
	defer func() { err = errors.Join(err, stop()) }()
	if err != nil {
		return nil, err
	}
	kinds := sickKinds()
	progress := newBar(talk, f.rounds*2*len(kinds), "fairness", "measurements", f.json)
	var alone, aloneP99 []float64
	rates, ratios, p99s := make([][]float64, len(kinds)), make([][]float64, len(kinds)), make([][]float64, len(kinds))
	if _, _, err := b.measure(ctx, nil); err != nil { // to warm up
		return nil, err
	}
	for round := range f.rounds {
		for i := range kinds {
			// Side by side, and each first as often as the other: the machine changes.
			pair := []*sickKind{nil, &kinds[i]}
			if (round+i)%2 == 1 {
				slices.Reverse(pair)
			}
			var without, beside float64
			for _, k := range pair {
				rate, p99, err := b.measure(ctx, k)
				switch {
				case err != nil && k != nil:
					return nil, fmt.Errorf("beside %s: %w", k.name, err)
				case err != nil:
					return nil, err
				case k == nil:
					without = rate
					alone, aloneP99 = append(alone, rate), append(aloneP99, p99)
				default:
					beside = rate
					rates[i], p99s[i] = append(rates[i], rate), append(p99s[i], p99)
				}
				progress.add(1)
			}
			ratios[i] = append(ratios[i], beside/without)
		}
	}
	progress.finish()
	r = &benchFairnessResult{
		AlonePerSecond: median(alone), AloneP99: median(aloneP99), WorstRatio: math.Inf(1),
		Rounds: f.rounds, Notifications: f.n, Backlog: f.backlog, Cores: runtime.NumCPU(),
	}
	for i, k := range kinds {
		n := fairnessFigures{Kind: k.name, PerSecond: median(rates[i]), Ratio: median(ratios[i]), LeastOf: slices.Min(ratios[i]), MostOf: slices.Max(ratios[i]), P99: median(p99s[i])}
		r.Neighbours = append(r.Neighbours, n)
		r.WorstRatio = min(r.WorstRatio, n.Ratio)
	}
	return r, nil
}

// start starts everything; stop stops what was started, in any case.
func (b *fairnessRun) start(ctx context.Context, dir string) (stop func() error, err error) {
	var stops []func() error
	stop = func() error {
		var errs []error
		for _, s := range slices.Backward(stops) {
			errs = append(errs, s())
		}
		return errors.Join(errs...)
	}
	server, err := embedded.StartNATS(embedded.NATSConfig{StoreDir: filepath.Join(dir, "jetstream")})
	if err != nil {
		return stop, err
	}
	stops = append(stops, func() error { server.Stop(); return nil })
	nc, err := stream.Connect(stream.ConnectConfig{URL: server.URL(), Name: "bench"}, zap.NewNop())
	if err != nil {
		return stop, err
	}
	stops = append(stops, func() error { nc.Close(); return nil })
	if b.streams, err = stream.Open(ctx, nc, stream.Config{JobsBytes: 4 << 30, OutcomesBytes: 4 << 30}); err != nil {
		return stop, err
	}
	if b.js, err = jetstream.New(nc); err != nil {
		return stop, fmt.Errorf("open jetstream: %w", err)
	}
	redisAddr, metrics, err := twoAddresses(ctx)
	if err != nil {
		return stop, err
	}
	closed, _, err := twoAddresses(ctx)
	if err != nil {
		return stop, err
	}
	b.metrics = "http://" + metrics + "/metrics"
	db, err := startBenchRedis(ctx, dir, redisAddr)
	if err != nil {
		return stop, err
	}
	stops = append(stops, db.stop)
	if b.well, err = startSim(ctx, filepath.Join(dir, "well"), -1); err != nil {
		return stop, err
	}
	stops = append(stops, b.well.stop)
	sick, err := startSim(ctx, filepath.Join(dir, "sick"), -1)
	if err != nil {
		return stop, err
	}
	stops = append(stops, sick.stop)
	if err := b.makeSick(ctx, sick); err != nil {
		return stop, err
	}
	path := filepath.Join(dir, "pushfleet.yaml")
	if err := b.writeConfig(path, server.URL(), redisAddr, metrics, sick, closed); err != nil {
		return stop, err
	}
	self, err := os.Executable()
	if err != nil {
		return stop, fmt.Errorf("find this program: %w", err)
	}
	worker, err := startPinned(ctx, -1, self, "worker", "-c", path, "--log-level", "error")
	if err != nil {
		return stop, err
	}
	stops = append(stops, worker.stop)
	b.idle = (1 + len(sickKinds())) * len(job.Lanes())
	err = waitFor(ctx, func() error {
		held, err := b.held(ctx)
		if err == nil && held < b.idle {
			err = errors.New("it does not take jobs yet")
		}
		return err
	})
	if err != nil {
		return stop, fmt.Errorf("wait for pushfleet worker: %w", err)
	}
	return stop, nil
}

func (b *fairnessRun) makeSick(ctx context.Context, sim *benchSim) error {
	var faults apnstest.Faults
	for _, k := range sickKinds() {
		if k.fault != nil {
			k.fault.Name, k.fault.Topic = k.name, k.bundle()
			faults.Requests = append(faults.Requests, *k.fault)
		}
		if k.fuse {
			if _, err := b.streams.SetFuse(ctx, stream.Fuse{App: k.name, Environment: device.Production, Tripped: true, TrippedAt: time.Now(), Undone: true}); err != nil {
				return err
			}
		}
	}
	body, err := json.Marshal(faults)
	if err != nil {
		return fmt.Errorf("encode faults: %w", err)
	}
	_, err = askSim(ctx, http.MethodPut, sim.admin+"/faults", string(body))
	return err
}

func (b *fairnessRun) writeConfig(path, natsURL, redisAddr, metrics string, sick *benchSim, closed string) error {
	var text strings.Builder
	fmt.Fprintf(&text, "nats: {url: %q}\nredis: {addresses: [%q]}\nworker: {name: bench, listen: %q, request_timeout: %s, drain_timeout: 1s}\napps:\n", natsURL, redisAddr, metrics, fairnessTimeout)
	app := func(name, bundle, url string, sim *benchSim) error {
		id, err := apnstest.LoadIdentity(sim.dir)
		if err != nil {
			return fmt.Errorf("read simulator's files: %w", err)
		}
		fmt.Fprintf(&text, "  %s:\n    bundle_id: %s\n    key: {path: %q, key_id: %s, team_id: %s}\n    endpoint: {url: %q, ca_file: %q}\n",
			name, bundle, filepath.Join(sim.dir, "AuthKey_"+id.Key.ID+".p8"), id.Key.ID, id.Key.TeamID, url, filepath.Join(sim.dir, "ca.pem"))
		return nil
	}
	errs := []error{app(wellApp, "com.example.well", b.well.url, b.well)}
	for _, k := range sickKinds() {
		url := sick.url
		if k.down {
			url = "https://" + closed
		}
		errs = append(errs, app(k.name, k.bundle(), url, sick))
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	if err := os.WriteFile(path, []byte(text.String()), 0o600); err != nil {
		return fmt.Errorf("write configuration: %w", err)
	}
	return nil
}

// held asks the worker how many notifications it holds.
func (b *fairnessRun) held(ctx context.Context) (int, error) {
	body, err := askSim(ctx, http.MethodGet, b.metrics, "")
	if err != nil {
		return 0, err
	}
	const name = "\npushfleet_worker_notifications_held "
	_, rest, ok := strings.Cut(string(body), name)
	if !ok {
		return 0, errors.New("worker does not say what it holds")
	}
	line, _, _ := strings.Cut(rest, "\n")
	held, err := strconv.ParseFloat(line, 64)
	if err != nil {
		return 0, fmt.Errorf("read worker's metrics: %w", err)
	}
	return int(held), nil
}

// measure sends for the app that is well, beside a sick one with a backlog if it
// is not nil, and returns notifications a second and the p99 of transactional
// jobs in milliseconds. All is quiet before and after.
func (b *fairnessRun) measure(ctx context.Context, sick *sickKind) (rate, p99 float64, err error) {
	if sick != nil {
		if err := b.enqueueBacklog(ctx, sick.name); err != nil {
			return 0, 0, err
		}
	}
	before, err := b.well.stats(ctx)
	if err != nil {
		return 0, 0, err
	}
	u := newUrgentLoad(b.streams, b.js, wellApp, b.flags.urgent)
	stopUrgent, err := u.start(ctx)
	if err != nil {
		return 0, 0, err
	}
	began := time.Now()
	if err := b.enqueueLists(ctx); err != nil {
		return 0, 0, errors.Join(err, stopUrgent())
	}
	lists := b.flags.n / listTokens * listTokens
	if err := b.accepted(ctx, before.Accepted, u, lists); err != nil {
		return 0, 0, errors.Join(err, stopUrgent())
	}
	took := time.Since(began)
	if err := stopUrgent(); err != nil {
		return 0, 0, err
	}
	after, err := b.well.stats(ctx)
	if err != nil {
		return 0, 0, err
	}
	if after.Duplicates > 0 {
		return 0, 0, fmt.Errorf("simulator: got %d notifications twice, want none", after.Duplicates)
	}
	if sick != nil {
		if err := b.clear(ctx, sick.name); err != nil {
			return 0, 0, err
		}
	}
	return float64(lists) / took.Seconds(), u.p99(), nil
}

// accepted waits until the bulk notifications are.
func (b *fairnessRun) accepted(ctx context.Context, before int64, u *urgentLoad, lists int) error {
	ctx, cancel := context.WithTimeoutCause(ctx, 2*time.Minute, errors.New("the app that is well gets nowhere"))
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		// A transactional job that is accepted and not told yet counts as a bulk
		// notification: a few of many.
		told := u.told()
		st, err := b.well.stats(ctx)
		if err != nil {
			return err
		}
		if st.Accepted-before >= int64(lists+told) {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (b *fairnessRun) job(tokens int) *job.Job {
	b.jobs++
	j := &job.Job{ID: strconv.Itoa(b.jobs), Notification: &job.Notification{Title: "Your order is on its way", Body: "Order 4711 was shipped"}}
	for range tokens {
		j.To.Tokens = append(j.To.Tokens, benchToken(b.jobs*listTokens+len(j.To.Tokens)))
	}
	return j
}

func (b *fairnessRun) enqueueBacklog(ctx context.Context, app string) error {
	lanes := job.Lanes()
	pending := make([]*stream.Pending, 0, b.flags.backlog)
	for n := range b.flags.backlog {
		p, err := b.streams.PublishJobAsync(ctx, app, lanes[n%len(lanes)], b.job(1))
		if err != nil {
			return err
		}
		pending = append(pending, p)
	}
	return waitStored(ctx, pending)
}

func (b *fairnessRun) enqueueLists(ctx context.Context) error {
	var pending []*stream.Pending
	for range b.flags.n / listTokens {
		p, err := b.streams.PublishJobAsync(ctx, wellApp, job.Bulk, b.job(listTokens))
		if err != nil {
			return err
		}
		pending = append(pending, p)
	}
	return waitStored(ctx, pending)
}

func waitStored(ctx context.Context, pending []*stream.Pending) error {
	for _, p := range pending {
		if _, err := p.Wait(ctx); err != nil {
			return err
		}
	}
	return nil
}

// clear takes a sick app's backlog away and waits until the worker holds nothing
// of it.
func (b *fairnessRun) clear(ctx context.Context, app string) error {
	st, err := b.js.Stream(ctx, stream.Jobs)
	if err != nil {
		return fmt.Errorf("ask for stream %s: %w", stream.Jobs, err)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, 10*fairnessTimeout, errors.New("the worker does not let go of a sick app's jobs"))
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		if err := st.Purge(ctx, jetstream.WithPurgeSubject("push.jobs."+app+".*")); err != nil {
			return fmt.Errorf("purge jobs of %s: %w", app, err)
		}
		held, err := b.held(ctx)
		if err != nil {
			return err
		}
		if held <= b.idle {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

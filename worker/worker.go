package worker

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/zap"

	"github.com/pushfleet/pushfleet/apns"
	"github.com/pushfleet/pushfleet/device"
	"github.com/pushfleet/pushfleet/job"
	"github.com/pushfleet/pushfleet/store"
	"github.com/pushfleet/pushfleet/stream"
)

// Devices answers which devices recipients are.
type Devices interface {
	Lookup(ctx context.Context, app string, tokens []device.Token, dst []store.Entry) ([]store.Entry, error)
	ByUsers(ctx context.Context, app string, users []string) ([][]store.Entry, error)
	ByInstalls(ctx context.Context, app string, installs []string) ([][]store.Entry, error)
}

// Progress remembers what of a job is settled; see [store.Store].
type Progress interface {
	Guard(ctx context.Context, claims []store.Claim) ([]store.Claimed, error)
	Progress(ctx context.Context, keys []store.JobKey) ([]store.Progress, error)
	MarkSettled(ctx context.Context, marks []store.Mark) error
	HandBack(ctx context.Context, k store.JobKey, h store.HandBack) error
	Healed(ctx context.Context) (life string, h store.Healed, err error)
}

// Outcomes stores what became of notifications.
type Outcomes interface {
	// Publish hands over outcomes of one job and calls stored once, from another
	// goroutine: with nil when all are stored, with an error when they will not
	// be. stored must not block.
	Publish(app string, lane job.Lane, outcomes []job.JobOutcome, stored func(error))
}

// Config describes a worker.
type Config struct {
	Name    string // unique in the fleet
	Version string // told to the others
	Apps    []*App

	// MaxInFlight is how many notifications the worker holds at once; 0: 20,000.
	// At least twice [job.MaxRecipients].
	MaxInFlight int
	// DrainTimeout is how long Run goes on with what is in flight when it is
	// told to stop; 0: 25 s.
	DrainTimeout time.Duration
	// StrayInterval is how often JOBS is searched for jobs of unknown apps; 0: 10 s.
	// Such jobs are given up when their app was unknown to all workers for
	// StrayAfter; 0: one minute.
	StrayInterval, StrayAfter time.Duration
	// BacklogInterval is how often JetStream is asked what waits there, for Metrics and
	// for reports; 0: 5 s. ReportInterval is how often the worker tells whoever listens
	// what it does; 0: 1 s.
	BacklogInterval, ReportInterval time.Duration

	Streams  *stream.Streams
	Devices  Devices
	Progress Progress
	Outcomes Outcomes
	Fuses    Fuses // nil: none
	// Campaigns is what campaigns need; nil: none are sent here.
	Campaigns Campaigns
	// Pulse is what the APNs clients ask before they send; nil: they do not.
	Pulse *Pulse

	// KeepRejected is how long a message is kept after a device token that was
	// accepted before was rejected, since that may be taken back: longer than the
	// fuse's window; 0: 65 s. FuseRetry is how long messages go back for while their
	// fuse is tripped; 0: 30 s. CanaryInterval is how often canaries are sent to
	// meanwhile; 0: one minute.
	KeepRejected, FuseRetry, CanaryInterval time.Duration

	Logger  *zap.Logger           // nil: none
	Metrics prometheus.Registerer // nil: none
	Tracer  trace.Tracer          // of jobs that name a trace; nil: none is traced
	Now     func() time.Time      // the time of day; nil: time.Now
}

// Worker takes jobs and settles them. Make one with [New], run it once.
type Worker struct {
	cfg      Config
	log      *zap.Logger
	policy   *Policy
	room     *room
	metrics  *metrics
	backlog  *backlog
	recorded *recorded
	flight   *flight
	finished *finished
	dead     cemetery

	roster   atomic.Pointer[roster] // changed by keepApps only, once it runs
	applying sync.Mutex             // held by Apply
	changes  chan change
	ended    chan struct{} // closed when no more changes are made
	announce chan struct{} // others are to know which apps are served

	campaigns *campaigns
	zones     device.Zones

	confirming atomic.Bool // JetStream is being asked about messages in work
	draining   atomic.Bool // told to stop
	untold     untold

	// handling counts messages from their arrival to their ack, nak or loss.
	handling sync.WaitGroup

	spareTokens        spare[device.Token]
	spareEntries       spare[store.Entry]
	spareNotifications spare[apns.Notification]
	spareItems         spare[item]
}

// New returns a worker. It touches nothing until it runs.
func New(cfg Config) (*Worker, error) {
	if cfg.MaxInFlight == 0 {
		cfg.MaxInFlight = 20_000
	}
	if err := checkMaxInFlight(cfg.MaxInFlight); err != nil {
		return nil, err
	}
	if cfg.DrainTimeout == 0 {
		cfg.DrainTimeout = 25 * time.Second
	}
	if cfg.StrayInterval == 0 {
		cfg.StrayInterval = 10 * time.Second
	}
	if cfg.BacklogInterval == 0 {
		cfg.BacklogInterval = 5 * time.Second
	}
	if cfg.ReportInterval == 0 {
		cfg.ReportInterval = time.Second
	}
	if cfg.StrayAfter == 0 {
		cfg.StrayAfter = time.Minute
	}
	if cfg.KeepRejected == 0 {
		cfg.KeepRejected = store.DefaultFuseWindow + 5*time.Second
	}
	if cfg.FuseRetry == 0 {
		cfg.FuseRetry = stopFor
	}
	if cfg.CanaryInterval == 0 {
		cfg.CanaryInterval = time.Minute
	}
	if cfg.Logger == nil {
		cfg.Logger = zap.NewNop()
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Pulse == nil {
		cfg.Pulse = NewPulse()
	}
	if cfg.Name == "" {
		return nil, errors.New("worker name: must not be empty")
	}
	if err := checkApps(cfg.Apps); err != nil {
		return nil, err
	}
	w := &Worker{
		cfg: cfg, log: cfg.Logger.Named("worker"),
		policy: NewPolicy(), room: newRoom(cfg.MaxInFlight), flight: newFlight(), finished: newFinished(),
		campaigns: newCampaigns(), changes: make(chan change), ended: make(chan struct{}), announce: make(chan struct{}, 1),
	}
	w.metrics = newMetrics(cfg.Metrics, w)
	w.backlog = newBacklog(cfg.Metrics)
	w.recorded = newRecorded(cfg.Streams)
	list := make([]*served, 0, len(cfg.Apps))
	for _, app := range cfg.Apps {
		s := w.newServed(app)
		for _, l := range s.lanes {
			l.fail = errNotStarted
		}
		list = append(list, s)
	}
	w.roster.Store(newRoster(list))
	return w, nil
}

func checkMaxInFlight(n int) error {
	if n < 2*job.MaxRecipients {
		return fmt.Errorf("max in flight: must be at least %d, got %d", 2*job.MaxRecipients, n)
	}
	return nil
}

// Resize changes [Config].MaxInFlight from now on. It is safe for concurrent use.
func (w *Worker) Resize(maxInFlight int) error {
	if err := checkMaxInFlight(maxInFlight); err != nil {
		return err
	}
	w.room.resize(maxInFlight)
	return nil
}

// Run works until ctx ends. Then it stops taking and sending, hands back to
// JetStream what is not on its way, waits for answers to the rest within the drain
// timeout, tells what became of all, and returns nil. What JetStream does not give it
// at the start, such as while it elects a leader, it asks for until it gets it: see
// [Worker.Ready].
func (w *Worker) Run(ctx context.Context) error {
	// ctx says stop taking, sending stop sending, and work stop waiting for answers.
	work, stopWork := context.WithCancelCause(context.WithoutCancel(ctx))
	defer stopWork(nil)
	sending, stopSending := context.WithCancelCause(work)
	defer stopSending(nil)

	if w.cfg.Fuses != nil {
		// Nothing is sent before it is known what must not be.
		w.insist(ctx, "cannot read the fuses", w.cfg.Fuses.Load)
	}
	if ctx.Err() != nil {
		close(w.ended)
		return nil // told to stop before it had started
	}
	var keepers, intakes sync.WaitGroup
	// What keeps and settles goes on until the last message is handed back.
	keepCtx, stopKeeping := context.WithCancel(context.WithoutCancel(ctx))
	defer stopKeeping()
	keepers.Go(func() { w.keep(keepCtx) })
	keepers.Go(func() { w.mark(keepCtx) })
	keepers.Go(func() { w.recorded.run(keepCtx) })
	keepers.Go(func() { w.watchStrays(ctx) })
	keepers.Go(func() { w.watchCanaries(ctx) })
	keepers.Go(func() { w.watchBacklog(ctx) })
	keepers.Go(func() { w.report(keepCtx) })
	keepers.Go(func() { w.settleLoop(work, keepCtx.Done()) })
	for _, s := range w.apps() {
		w.takeFrom(ctx, sending, &intakes, s)
	}
	intakes.Go(func() { w.keepApps(ctx, sending, &intakes) })
	if w.cfg.Campaigns != nil {
		keepers.Go(func() { w.keepContact(keepCtx) })
		intakes.Go(func() { w.watchCampaigns(ctx, sending, &intakes) })
		intakes.Go(func() { w.steward(ctx) })
		intakes.Go(func() { w.takeRequests(ctx) })
	}
	w.log.Info("worker takes jobs", zap.String("worker", w.cfg.Name), zap.Int("apps", len(w.apps())), zap.Int("max_in_flight", w.cfg.MaxInFlight))

	<-ctx.Done()
	// What is on its way to APNs is waited for; what is not is somebody else's at once.
	w.draining.Store(true)
	stopSending(&apns.UnsentError{Cause: errDraining, Rest: work.Done()})
	w.log.Info("worker drains", zap.Int("in_flight", w.room.inUse()), zap.Duration("drain_timeout", w.cfg.DrainTimeout))
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		intakes.Wait()
		w.handling.Wait()
	}()
	timeout := time.NewTimer(w.cfg.DrainTimeout)
	defer timeout.Stop()
	select {
	case <-drained:
	case <-timeout.C:
		w.log.Warn("drain timeout is over, handing back", zap.Int("in_flight", w.room.inUse()))
		stopWork(errDrainTimeout)
		w.abandon(drained)
	}
	stopKeeping()
	keepers.Wait()
	w.log.Info("worker has stopped")
	return nil
}

var (
	errDraining     = errors.New("worker: stops")
	errDrainTimeout = errors.New("worker: drain timeout")
	errNotStarted   = errors.New("not consuming yet")
)

// What is settled and not yet told when the drain timeout is over is handed back
// untold after untoldWait: JetStream may take no outcomes for days, and by then the
// progress says what became of it.
const (
	untoldWait = 2 * time.Second
	untoldTick = 50 * time.Millisecond
)

// abandon hands back what waits for its outcomes to be stored, until drained is
// closed.
func (w *Worker) abandon(drained <-chan struct{}) {
	next := time.NewTimer(untoldWait)
	defer next.Stop()
	for {
		select {
		case <-drained:
			return
		case <-next.C:
		}
		for _, m := range w.flight.all() {
			if m.stopTelling() {
				w.handBack(m, 0)
			}
		}
		next.Reset(untoldTick)
	}
}

// insist does something until it succeeds or ctx ends.
func (w *Worker) insist(ctx context.Context, otherwise string, do func(context.Context) error, fields ...zap.Field) {
	for ctx.Err() == nil {
		err := do(ctx)
		if err == nil || ctx.Err() != nil {
			return
		}
		w.log.Warn(otherwise, append(fields, zap.Error(err))...)
		pause(ctx, fetchPause)
	}
}

func (w *Worker) openLane(ctx context.Context, l *lane) error {
	c, err := w.ensureConsumer(ctx, l)
	if err != nil {
		return err
	}
	l.consumer = c
	l.setFailing(nil)
	return nil
}

func (w *Worker) ensureConsumer(ctx context.Context, l *lane) (*stream.Consumer, error) {
	if l.campaign != nil {
		return w.cfg.Streams.RangesConsumer(ctx, l.app.name, l.campaign.id)
	}
	if err := w.cfg.Streams.ReleaseApp(ctx, l.app.name); err != nil {
		return nil, err
	}
	return w.cfg.Streams.LaneConsumer(ctx, l.app.name, l.lane)
}

// Ready returns nil while the worker takes jobs of every app.
func (w *Worker) Ready() error {
	if !w.cfg.Streams.Connected() {
		return errors.New("not connected to nats")
	}
	for _, l := range w.lanes() {
		if err := l.failing(); err != nil {
			return fmt.Errorf("app %s, lane %s: %w", l.app.name, l.lane, err)
		}
	}
	return nil
}

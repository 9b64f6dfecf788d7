package feedback

import (
	"context"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/pushfleet/pushfleet/apns"
	"github.com/pushfleet/pushfleet/device"
	"github.com/pushfleet/pushfleet/job"
	"github.com/pushfleet/pushfleet/store"
	"github.com/pushfleet/pushfleet/stream"
)

const (
	// patience is how long one pull waits; stopping takes as long.
	patience = time.Second
	// recordBatch bounds the outcomes messages that are applied together.
	recordBatch = 64
	// recordPause is the wait before outcomes are applied again after Redis failed.
	recordPause = time.Second
	// keepSlack is how much longer than the fuse's window a message is kept for which
	// a rejection may be taken back: for clocks that differ, and for the undoing.
	keepSlack = 5 * time.Second
)

// TokenSet applies what APNs said about device tokens; see [store.Store].
type TokenSet interface {
	Apply(ctx context.Context, app string, verdicts []store.Verdict) ([]store.Applied, error)
}

// Ledger adds outcomes to the progress of jobs and to the counts of apps, and says whether Redis still has
// all that was added; see [store.Store].
type Ledger interface {
	Settle(ctx context.Context, settlements []store.Settlement) ([]store.Settled, error)
	CountTold(ctx context.Context, told []store.Told) error

	Healed(ctx context.Context) (life string, h store.Healed, err error)
	SetHealed(ctx context.Context, h store.Healed) error
	Unheal(ctx context.Context) error
	ClaimHealing(ctx context.Context, life, by string, lease time.Duration) (bool, error)
}

// RecorderConfig describes a [Recorder].
type RecorderConfig struct {
	Streams  *stream.Streams
	TokenSet TokenSet
	Ledger   Ledger
	Fuse     *Fuse                 // nil: nothing keeps a wrong setting from emptying the token set
	Logger   *zap.Logger           // nil: none
	Metrics  prometheus.Registerer // nil: none
}

// Recorder applies outcomes to Redis.
type Recorder struct {
	cfg     RecorderConfig
	log     *zap.Logger
	changed *prometheus.CounterVec
	repeats *prometheus.CounterVec
	heals   prometheus.Counter

	healer healer // only touched by Run
}

// NewRecorder returns a recorder; it does nothing until it runs.
func NewRecorder(cfg RecorderConfig) *Recorder {
	if cfg.Logger == nil {
		cfg.Logger = zap.NewNop()
	}
	r := &Recorder{
		cfg: cfg, log: cfg.Logger.Named("recorder"),
		changed: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "pushfleet_device_tokens_changed_total",
			Help: "What APNs's answers did to device tokens: removed, quarantined, kept and so on.",
		}, []string{"app", "change", "reason"}),
		repeats: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "pushfleet_duplicate_outcomes_total",
			Help: "Recipients with a second outcome: sent twice, or told twice.",
		}, []string{"app", "lane"}),
		heals: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "pushfleet_redis_healed_total",
			Help: "How often outcomes were applied again because Redis had started anew or another had taken its place.",
		}),
		healer: newHealer(),
	}
	if cfg.Metrics != nil {
		cfg.Metrics.MustRegister(r.changed, r.repeats, r.heals)
	}
	return r
}

// Run applies outcomes until ctx ends. It returns nil.
func (r *Recorder) Run(ctx context.Context) error {
	consumer := insist(ctx, r.log, "cannot take outcomes", r.cfg.Streams.RecorderConsumer)
	idle := true
	for ctx.Err() == nil {
		r.lookAfter(ctx)
		var messages []*stream.Message
		var err error
		if idle {
			var m *stream.Message
			if m, err = consumer.Wait(patience); m != nil {
				messages = append(messages, m)
			}
		} else {
			messages, err = consumer.Take(recordBatch)
		}
		if err != nil && ctx.Err() == nil {
			r.log.Warn("cannot fetch outcomes", zap.Error(err))
			pause(ctx, recordPause)
		}
		if idle = len(messages) == 0; idle {
			continue
		}
		r.record(ctx, messages)
	}
	return nil
}

// record applies messages until Redis has taken them, and acknowledges them.
// When ctx ends first they go back to JetStream at once.
func (r *Recorder) record(ctx context.Context, messages []*stream.Message) {
	batch := r.parse(messages)
	for {
		err := r.apply(ctx, batch, false)
		if err == nil {
			break
		}
		r.healer.doubt = true
		if ctx.Err() != nil {
			r.each(messages, "hand back", func(m *stream.Message) error { return m.Nak(0) })
			return
		}
		r.log.Warn("cannot apply outcomes, trying again", zap.Int("messages", len(messages)), zap.Error(err))
		pause(ctx, recordPause)
		r.each(messages, "keep", (*stream.Message).InProgress)
	}
	for _, m := range messages {
		r.healer.applied = max(r.healer.applied, m.Sequence)
	}
	r.each(messages, "acknowledge", (*stream.Message).Ack)
}

func (r *Recorder) each(messages []*stream.Message, what string, do func(*stream.Message) error) {
	for _, m := range messages {
		if err := do(m); err != nil {
			r.log.Warn("cannot "+what+" outcomes", zap.Uint64("sequence", m.Sequence), zap.Error(err))
		}
	}
}

// parsed is one outcomes message.
type parsed struct {
	*job.Outcomes
	sequence uint64
}

func (r *Recorder) parse(messages []*stream.Message) []parsed {
	batch := make([]parsed, 0, len(messages))
	for _, m := range messages {
		o, err := job.ParseOutcomes(m.Data)
		if err != nil {
			// Not ours: nothing that a worker stored is unreadable.
			r.log.Error("passes over outcomes that cannot be read", zap.Uint64("sequence", m.Sequence), zap.String("subject", m.Subject), zap.Error(err))
			continue
		}
		batch = append(batch, parsed{o, m.Sequence})
	}
	return batch
}

// apply applies outcomes for the first time, or again: the effect is the same. Only
// the fuses must know which, since they count what they see.
func (r *Recorder) apply(ctx context.Context, batch []parsed, again bool) error {
	rules := &ruling{}
	if r.cfg.Fuse != nil {
		var err error
		if rules, err = r.cfg.Fuse.rule(ctx, batch, again); err != nil {
			return err
		}
	}
	if err := r.write(ctx, batch, rules); err != nil {
		return err
	}
	if r.cfg.Fuse == nil {
		return nil
	}
	return r.cfg.Fuse.confirm(ctx, rules)
}

// write writes what the fuses let pass.
func (r *Recorder) write(ctx context.Context, batch []parsed, rules *ruling) error {
	verdicts := make(map[string][]store.Verdict)
	var settlements []store.Settlement
	for m := range batch {
		o := &batch[m]
		for i := range o.Jobs {
			at := place{message: m, job: i}
			verdicts[o.App] = r.appendVerdicts(verdicts[o.App], o, at, rules)
			if st, ok := r.settlement(o, at, rules); ok {
				settlements = append(settlements, st)
			}
		}
	}
	for app, list := range verdicts {
		if err := r.applyVerdicts(ctx, app, list); err != nil {
			return err
		}
	}
	settled, err := r.cfg.Ledger.Settle(ctx, settlements)
	if err != nil {
		return err
	}
	for i, s := range settled {
		if s.Duplicates > 0 {
			r.repeats.WithLabelValues(settlements[i].Job.App, settlements[i].Job.Lane.String()).Add(float64(s.Duplicates))
		}
	}
	return r.cfg.Ledger.CountTold(ctx, counts(batch))
}

// counts returns what messages add to the counts of apps.
func counts(batch []parsed) []store.Told {
	told := make([]store.Told, len(batch))
	for m := range batch {
		o := &batch[m]
		t := store.Told{App: o.App, Sequence: o.sequence, At: o.At}
		for i := range o.Jobs {
			t.Accepted += int64(len(o.Jobs[i].Accepted))
			for n := range o.Jobs[i].Others {
				switch o.Jobs[i].Others[n].Result {
				case job.Rejected, job.Failed, job.Unknown:
					t.Failed++
				}
			}
		}
		told[m] = t
	}
	return told
}

// applyVerdicts writes to the token set of one app.
func (r *Recorder) applyVerdicts(ctx context.Context, app string, list []store.Verdict) error {
	if len(list) == 0 {
		return nil
	}
	applied, err := r.cfg.TokenSet.Apply(ctx, app, list)
	if err != nil {
		return fmt.Errorf("apply to token set of %s: %w", app, err)
	}
	overCap := 0
	for i, a := range applied {
		if list[i].Said != store.Accepted {
			r.changed.WithLabelValues(app, a.String(), list[i].Reason.String()).Inc()
		}
		if a == store.OverCap {
			overCap++
		}
	}
	if overCap > 0 {
		r.log.Warn("too many device tokens were removed in this hour: the rest is kept for now", zap.String("app", app), zap.Int("kept", overCap))
	}
	return nil
}

// appendVerdicts adds what an outcome says about device tokens.
func (r *Recorder) appendVerdicts(dst []store.Verdict, message *parsed, at place, rules *ruling) []store.Verdict {
	o := &message.Jobs[at.job]
	for _, i := range o.Fresh {
		dst = append(dst, store.Verdict{Token: o.Accepted[i], Said: store.Accepted})
	}
	frozen := rules.frozen[line{message.App, o.Environment}]
	for i := range o.Others {
		other := &o.Others[i]
		if other.Result != job.Rejected {
			continue
		}
		v := store.Verdict{
			Token: other.DeviceToken, Generation: other.Generation,
			Timestamp: other.Timestamp, SentAt: other.SentAt, Reason: device.ReasonOf(other.Reason),
			TopicMatchesKind: !other.WrongKind,
		}
		switch apns.Reason(other.Reason).Verdict() {
		case apns.Dead:
			v.Said = store.Dead
		case apns.Suspicious:
			v.Said = store.Quarantine
		case apns.Keep:
			continue
		}
		at.other = i
		if frozen || rules.held[at] {
			r.changed.WithLabelValues(message.App, "kept, fuse", v.Reason.String()).Inc()
			continue
		}
		dst = append(dst, v)
	}
	return dst
}

// settlement returns what an outcome says about a job; a message that was
// refused as a duplicate says nothing about the job whose id it has.
func (r *Recorder) settlement(o *parsed, at place, rules *ruling) (store.Settlement, bool) {
	jo := &o.Jobs[at.job]
	st := store.Settlement{
		Job: keyOf(o.App, o.Lane, jo), Sequence: o.sequence,
		Whole: jo.Whole, Complete: jo.Complete, Total: jo.Total, Devices: jo.Devices, Accepted: jo.Accepted,
	}
	if rules.windowed[[2]int{at.message, at.job}] {
		st.Keep = r.cfg.Fuse.cfg.Store.FuseWindow() + keepSlack
	}
	n := len(jo.Others)
	st.Hashes, st.Results = make([]uint64, 0, n), make([]job.Result, 0, n)
	if jo.Campaign != "" {
		st.Labels = make([]string, 0, n)
	}
	for i := range jo.Others {
		other := &jo.Others[i]
		if other.Result == job.Duplicate {
			return store.Settlement{}, false
		}
		if at.other = i; rules.held[at] {
			st.Whole = false
			continue
		}
		st.Hashes = append(st.Hashes, other.Hash())
		st.Results = append(st.Results, other.Result)
		if st.Labels != nil {
			st.Labels = append(st.Labels, label(other))
		}
	}
	return st, true
}

// keyOf is what the progress of a job, or of a campaign's range, is kept under.
func keyOf(app string, lane job.Lane, jo *job.JobOutcome) store.JobKey {
	if jo.Campaign != "" {
		return store.JobKey{App: app, Lane: lane, Campaign: jo.Campaign, Range: jo.Range}
	}
	return store.JobKey{App: app, Lane: lane, ID: jo.ID}
}

// label is what a recipient of a campaign counts as: its result, and where there are
// several, why.
func label(r *job.Recipient) string {
	switch r.Result {
	case job.Rejected, job.Skipped, job.Failed:
		return string(r.Result) + ":" + r.Reason
	default:
		return string(r.Result) // a suppressed one's reason names a day
	}
}

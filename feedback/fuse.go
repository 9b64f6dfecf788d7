package feedback

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/pushfleet/pushfleet/apns"
	"github.com/pushfleet/pushfleet/device"
	"github.com/pushfleet/pushfleet/job"
	"github.com/pushfleet/pushfleet/store"
	"github.com/pushfleet/pushfleet/stream"
)

// repairEvery is how often a fuse that tripped is looked at, whether what it
// must undo is undone: whoever was at it may have died.
const repairEvery = 5 * time.Second

// FuseStore keeps the counters of fuses and undoes rejections; see [store.Store].
// It is one thing, and so one interface.
type FuseStore interface {
	CountSends(ctx context.Context, w store.FuseWindow, messages []store.Sends) (store.Counted, error)
	RememberAgain(ctx context.Context, w store.FuseWindow, list []store.Rejection) (store.Counted, error)
	FuseTripped(ctx context.Context, w store.FuseWindow) (bool, error)
	FuseWindow() time.Duration
	Remembered(ctx context.Context, w store.FuseWindow) ([]store.Rejection, error)
	TakeBack(ctx context.Context, app string, list []store.Rejection) (store.TakenBack, error)
	ClaimCanary(ctx context.Context, app string, env device.Environment, interval time.Duration) (bool, error)
}

// FuseConfig describes a [Fuse].
type FuseConfig struct {
	Streams *stream.Streams
	Store   FuseStore
	Name    string                // of this process, for people
	Logger  *zap.Logger           // nil: none
	Metrics prometheus.Registerer // nil: none
	Now     func() time.Time      // nil: time.Now
}

// Fuse keeps one wrong setting from emptying the token set. It is one for each
// app and environment:
//
//	           too many device tokens that were accepted before are rejected
//	closed ─────────────────────────────────────────────────────────────────► tripped
//	   ▲                                                                         │
//	   └─────────── undone, and then reset by hand or by a canary's 200 ─────────┘
//
// While it is tripped nothing is sent, no device token is quarantined or removed,
// and rejections are taken back: their notifications are sent when it is reset.
// The entry in JetStream is the truth, and the same for all; the counters are in
// Redis. It is safe for concurrent use.
type Fuse struct {
	cfg   FuseConfig
	log   *zap.Logger
	gauge *prometheus.GaugeVec

	mu    sync.Mutex
	known map[line]stream.Fuse // guarded by mu
}

// line is what a fuse is for.
type line struct {
	app         string
	environment device.Environment
}

// NewFuse returns a fuse. Until [Fuse.Load] it takes all for closed.
func NewFuse(cfg FuseConfig) *Fuse {
	if cfg.Logger == nil {
		cfg.Logger = zap.NewNop()
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	f := &Fuse{
		cfg: cfg, log: cfg.Logger.Named("fuse"), known: make(map[line]stream.Fuse),
		gauge: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "pushfleet_fuse_tripped",
			Help: "1 while nothing is sent for the app in the environment, because too many working device tokens were rejected.",
		}, []string{"app", "environment"}),
	}
	if cfg.Metrics != nil {
		cfg.Metrics.MustRegister(f.gauge)
	}
	return f
}

// Expect shows a fuse in the metrics before it has ever tripped.
func (f *Fuse) Expect(app string, env device.Environment) {
	f.gauge.WithLabelValues(app, env.String())
}

// Forget drops the fuses of an app from the metrics.
func (f *Fuse) Forget(app string) { f.gauge.DeletePartialMatch(prometheus.Labels{"app": app}) }

// Load reads which fuses are tripped.
func (f *Fuse) Load(ctx context.Context) error {
	fuses, err := f.cfg.Streams.Fuses(ctx)
	if err != nil {
		return err
	}
	for _, e := range fuses {
		f.note(e)
	}
	return nil
}

// Run follows the fuses of the fleet, and finishes what another process has left
// half done, until ctx ends. It returns nil.
func (f *Fuse) Run(ctx context.Context) error {
	var watching sync.WaitGroup
	defer watching.Wait()
	watching.Go(func() {
		for ctx.Err() == nil {
			if err := f.cfg.Streams.WatchFuses(ctx, f.note); err != nil && ctx.Err() == nil {
				f.log.Warn("cannot follow fuses", zap.Error(err))
				pause(ctx, recordPause)
			}
		}
	})
	tick := time.NewTicker(repairEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
		for _, e := range f.tripped() {
			if e.Undone {
				continue
			}
			if _, err := f.undo(ctx, e); err != nil && ctx.Err() == nil {
				f.log.Warn("cannot undo what a fuse tripped for, trying again", zap.String("app", e.App), zap.Stringer("environment", e.Environment), zap.Error(err))
			}
		}
	}
}

// note takes in an entry, unless a newer one is known.
func (f *Fuse) note(e stream.Fuse) {
	key := line{e.App, e.Environment}
	f.mu.Lock()
	was := f.known[key]
	// One that was deleted has no revision.
	if e.Revision != 0 && e.Revision <= was.Revision {
		f.mu.Unlock()
		return
	}
	f.known[key] = e
	f.mu.Unlock()
	value := 0.0
	if e.Tripped {
		value = 1
	}
	f.gauge.WithLabelValues(e.App, e.Environment.String()).Set(value)
	fields := []zap.Field{zap.String("app", e.App), zap.Stringer("environment", e.Environment)}
	switch {
	case e.Tripped && !was.Tripped:
		f.log.Error("fuse has tripped: nothing is sent; mend the environment or topic, then reset it",
			append(fields, zap.Int("rejected", e.Rejected), zap.Int("sent", e.Sent), zap.String("seen_by", e.TrippedBy))...)
	case !e.Tripped && was.Tripped:
		f.log.Warn("fuse is reset: sends again", append(fields, zap.String("reset_by", e.ResetBy))...)
	}
}

func (f *Fuse) last(l line) stream.Fuse {
	f.mu.Lock()
	defer f.mu.Unlock()
	e, ok := f.known[l]
	if !ok {
		e = stream.Fuse{App: l.app, Environment: l.environment}
	}
	return e
}

// Tripped reports whether nothing may be sent for the app in the environment.
func (f *Fuse) Tripped(app string, env device.Environment) bool {
	return f.last(line{app, env}).Tripped
}

func (f *Fuse) tripped() []stream.Fuse {
	f.mu.Lock()
	defer f.mu.Unlock()
	var list []stream.Fuse
	for _, e := range f.known {
		if e.Tripped {
			list = append(list, e)
		}
	}
	slices.SortFunc(list, func(a, b stream.Fuse) int {
		return strings.Compare(a.App+"."+a.Environment.String(), b.App+"."+b.Environment.String())
	})
	return list
}

// Notes says in a line each which fuses are tripped, for people.
func (f *Fuse) Notes() []string {
	var notes []string
	for _, e := range f.tripped() {
		notes = append(notes, fmt.Sprintf("fuse of %s, %s has tripped at %s: %d of %d working device tokens were rejected; nothing is sent there",
			e.App, e.Environment, e.TrippedAt.UTC().Format(time.RFC3339), e.Rejected, e.Sent))
	}
	return notes
}

// Reset closes a fuse, after what it tripped for is undone, and reports whether
// it was tripped. by is who says so, for people.
func (f *Fuse) Reset(ctx context.Context, app string, env device.Environment, by string) (bool, error) {
	for {
		e, err := f.cfg.Streams.Fuse(ctx, app, env)
		if err != nil || !e.Tripped {
			return false, err
		}
		if e, err = f.undo(ctx, e); err != nil {
			return false, err
		}
		if e.ResetSequence, err = f.cfg.Streams.LastOutcome(ctx); err != nil {
			return false, err
		}
		e.Tripped, e.ResetAt, e.ResetBy = false, f.cfg.Now(), by
		if e, err = f.cfg.Streams.SetFuse(ctx, e); err == nil {
			f.note(e)
			return true, nil
		}
		if !errors.Is(err, stream.ErrChanged) {
			return false, err
		}
	}
}

// ClaimCanary reports whether this process is the one to send canaries now.
func (f *Fuse) ClaimCanary(ctx context.Context, app string, env device.Environment, interval time.Duration) (bool, error) {
	return f.cfg.Store.ClaimCanary(ctx, app, env, interval)
}

// trip writes that a fuse has tripped, and undoes what was applied. before is
// the entry that its window belongs to.
func (f *Fuse) trip(ctx context.Context, before stream.Fuse, why store.Counted) error {
	e := stream.Fuse{
		App: before.App, Environment: before.Environment, Revision: before.Revision,
		Tripped: true, TrippedAt: f.cfg.Now(), TrippedBy: f.cfg.Name, Rejected: why.Rejected, Sent: why.Sent, Window: before.Revision,
		ResetAt: before.ResetAt, ResetBy: before.ResetBy, ResetSequence: before.ResetSequence,
	}
	e, err := f.cfg.Streams.SetFuse(ctx, e)
	if errors.Is(err, stream.ErrChanged) {
		// Another recorder was faster; it may even be reset again by now.
		e, err = f.cfg.Streams.Fuse(ctx, before.App, before.Environment)
	}
	if err != nil {
		return err
	}
	f.note(e)
	if !e.Tripped {
		return nil
	}
	_, err = f.undo(ctx, e)
	return err
}

// undo takes back what was applied of the window that a fuse tripped for, and
// writes that it did. It may be repeated, and done by several at once.
func (f *Fuse) undo(ctx context.Context, e stream.Fuse) (stream.Fuse, error) {
	if e.Undone {
		return e, nil
	}
	list, err := f.cfg.Store.Remembered(ctx, store.FuseWindow{App: e.App, Environment: e.Environment, Revision: e.Window})
	if err != nil {
		return e, err
	}
	did, err := f.cfg.Store.TakeBack(ctx, e.App, list)
	if err != nil {
		return e, err
	}
	e.Undone = true
	set, err := f.cfg.Streams.SetFuse(ctx, e)
	if errors.Is(err, stream.ErrChanged) {
		// Somebody else has undone it too, at the least.
		return f.cfg.Streams.Fuse(ctx, e.App, e.Environment)
	}
	if err != nil {
		return e, err
	}
	f.note(set)
	f.log.Info("took back what the fuse tripped for", zap.String("app", e.App), zap.Stringer("environment", e.Environment),
		zap.Int("remembered", len(list)), zap.Int("released", did.Released), zap.Int("opened", did.Opened))
	return set, nil
}

// place is a recipient in a batch: the index of the message, of its job, and of
// the recipient among the others of that.
type place struct{ message, job, other int }

// ruling is what the fuses say to a batch of outcomes, before anything of it is
// written. The zero value lets everything be written.
type ruling struct {
	held     map[place]bool  // rejections that are taken back
	frozen   map[line]bool   // no device token is quarantined or removed
	applied  []claim         // what must be looked at again once it is written
	windowed map[[2]int]bool // message, job: has rejections that may be taken back later
}

// claim is rejections that may be applied, if their window has not tripped
// meanwhile.
type claim struct {
	window store.FuseWindow
	list   []store.Rejection
}

// lot is what a batch has for one fuse.
type lot struct {
	sends      map[int]*store.Sends // by message
	rejections []rejected           // in order
	dead       bool
}

type rejected struct {
	place
	store.Rejection
	sentAt time.Time
}

// rule decides about a batch. It takes back what is held; what it lets pass must
// be shown to confirm after it was written. What was told before, and is told again
// because Redis may have forgotten it, is judged and not counted.
func (f *Fuse) rule(ctx context.Context, batch []parsed, again bool) (*ruling, error) {
	r := &ruling{held: make(map[place]bool), frozen: make(map[line]bool), windowed: make(map[[2]int]bool)}
	for l, lot := range lots(batch) {
		if err := f.ruleLine(ctx, l, lot, r, again); err != nil {
			return nil, fmt.Errorf("fuse of %s, %s: %w", l.app, l.environment, err)
		}
	}
	return r, nil
}

// lots sorts a batch by fuse.
func lots(batch []parsed) map[line]*lot {
	out := make(map[line]*lot)
	for m := range batch {
		for k := range batch[m].Jobs {
			jo := &batch[m].Jobs[k]
			if jo.Environment == device.EnvironmentUnset {
				continue // nothing was sent
			}
			l := line{batch[m].App, jo.Environment}
			one := out[l]
			if one == nil {
				one = &lot{sends: make(map[int]*store.Sends)}
				out[l] = one
			}
			one.add(&batch[m], place{message: m, job: k}, jo)
		}
	}
	return out
}

func (one *lot) add(message *parsed, at place, jo *job.JobOutcome) {
	s := one.sends[at.message]
	if s == nil {
		s = &store.Sends{}
		one.sends[at.message] = s
	}
	s.Accepted += min(jo.Known, len(jo.Accepted))
	for i := range jo.Others {
		o := &jo.Others[i]
		if o.Result != job.Rejected {
			continue
		}
		verdict := apns.Reason(o.Reason).Verdict()
		one.dead = one.dead || verdict == apns.Dead
		switch {
		case !o.AcceptedBefore:
		case verdict == apns.Suspicious && !o.WrongKind:
			at.other = i
			one.rejections = append(one.rejections, rejected{place: at, sentAt: o.SentAt, Rejection: store.Rejection{
				Token: o.DeviceToken, Generation: o.Generation, Lane: message.Lane, JobID: jo.ID,
				Campaign: jo.Campaign, Range: jo.Range, Sequence: message.sequence,
			}})
		default:
			s.Others++
		}
	}
}

func (f *Fuse) ruleLine(ctx context.Context, l line, one *lot, r *ruling, again bool) error {
	e := f.last(l)
	if len(one.rejections) > 0 || one.dead {
		var err error
		if e, err = f.cfg.Streams.Fuse(ctx, l.app, l.environment); err != nil {
			return err
		}
		f.note(e)
	}
	if e.Tripped {
		r.frozen[l] = true
		if _, err := f.undo(ctx, e); err != nil {
			return err
		}
		return f.hold(ctx, l, one.rejections, r)
	}
	var late, fresh []rejected
	for _, x := range one.rejections {
		// What it tripped for may be told after it was reset.
		if x.Sequence <= e.ResetSequence || !e.ResetAt.IsZero() && x.sentAt.Before(e.ResetAt) {
			late = append(late, x)
			continue
		}
		fresh = append(fresh, x)
		s := one.sends[x.message]
		s.Rejections = append(s.Rejections, x.Rejection)
	}
	if err := f.hold(ctx, l, late, r); err != nil {
		return err
	}
	window := store.FuseWindow{App: l.app, Environment: l.environment, Revision: e.Revision}
	counted, err := f.count(ctx, window, one, again)
	if err != nil || counted.Remembered == nil && !counted.Tripped {
		return err
	}
	if counted.Tripped {
		r.frozen[l] = true
		if err := f.trip(ctx, e, counted); err != nil {
			return err
		}
		return f.hold(ctx, l, fresh, r)
	}
	var beyond []rejected
	c := claim{window: window}
	for i, x := range fresh {
		if !counted.Remembered[i] {
			beyond = append(beyond, x)
			continue
		}
		c.list = append(c.list, x.Rejection)
		r.windowed[[2]int{x.message, x.job}] = true
	}
	if len(c.list) > 0 {
		r.applied = append(r.applied, c)
	}
	if len(beyond) > 0 {
		f.log.Warn("more rejections than could be undone: the rest is tried again", zap.String("app", l.app), zap.Stringer("environment", l.environment), zap.Int("rejections", len(beyond)))
	}
	return f.hold(ctx, l, beyond, r)
}

// count counts what a lot has to count, and decides about its rejections. Where
// there is nothing to count or to decide it returns the zero value.
func (f *Fuse) count(ctx context.Context, w store.FuseWindow, one *lot, again bool) (store.Counted, error) {
	messages := one.inOrder()
	switch {
	case len(messages) == 0:
		return store.Counted{}, nil
	case !again:
		return f.cfg.Store.CountSends(ctx, w, messages)
	}
	var list []store.Rejection
	for i := range messages {
		list = append(list, messages[i].Rejections...)
	}
	if len(list) == 0 {
		return store.Counted{}, nil
	}
	return f.cfg.Store.RememberAgain(ctx, w, list)
}

// inOrder returns what is to be counted, in the order of messages.
func (one *lot) inOrder() []store.Sends {
	var at []int
	for m, s := range one.sends {
		if s.Accepted > 0 || s.Others > 0 || len(s.Rejections) > 0 {
			at = append(at, m)
		}
	}
	slices.Sort(at)
	messages := make([]store.Sends, len(at))
	for i, m := range at {
		messages[i] = *one.sends[m]
	}
	return messages
}

// hold takes rejections back, now and for what else is written of their outcome.
func (f *Fuse) hold(ctx context.Context, l line, list []rejected, r *ruling) error {
	if len(list) == 0 {
		return nil
	}
	back := make([]store.Rejection, len(list))
	for i, x := range list {
		r.held[x.place] = true
		back[i] = x.Rejection
	}
	_, err := f.cfg.Store.TakeBack(ctx, l.app, back)
	return err
}

// confirm is called when what a ruling let pass is written. Between the two
// another recorder may have tripped the fuse and undone what it knew of: then
// this was too late for it, and is undone here.
func (f *Fuse) confirm(ctx context.Context, r *ruling) error {
	for _, c := range r.applied {
		tripped, err := f.cfg.Store.FuseTripped(ctx, c.window)
		if err == nil && tripped {
			_, err = f.cfg.Store.TakeBack(ctx, c.window.App, c.list)
		}
		if err != nil {
			return fmt.Errorf("fuse of %s, %s: %w", c.window.App, c.window.Environment, err)
		}
	}
	return nil
}

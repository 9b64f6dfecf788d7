package worker

import (
	"context"
	"time"

	"github.com/google/uuid"
	"go.uber.org/zap"

	"github.com/pushfleet/pushfleet/apns"
	"github.com/pushfleet/pushfleet/device"
	"github.com/pushfleet/pushfleet/job"
	"github.com/pushfleet/pushfleet/store"
)

// Fuses says where nothing may be sent because something is badly wrong there;
// see feedback.Fuse.
type Fuses interface {
	// Load is called once, before the worker takes.
	Load(ctx context.Context) error
	Tripped(app string, env device.Environment) bool

	// ClaimCanary reports whether this worker is the one to send canaries now, and
	// Reset closes a fuse after one was accepted.
	ClaimCanary(ctx context.Context, app string, env device.Environment, interval time.Duration) (bool, error)
	Reset(ctx context.Context, app string, env device.Environment, by string) (bool, error)
}

// fuseTripped reports whether nothing may be sent.
func (w *Worker) fuseTripped(app string, env device.Environment) bool {
	return w.cfg.Fuses != nil && w.cfg.Fuses.Tripped(app, env)
}

// anyFuseTripped reports whether one of the app's fuses has tripped.
func (w *Worker) anyFuseTripped(app string) bool {
	return w.fuseTripped(app, device.Production) || w.fuseTripped(app, device.Sandbox)
}

// acceptedBefore reports whether the device token is registered and known to
// work.
func (r *recipient) acceptedBefore() bool { return r.generation != 0 && !r.fresh }

// keepFor returns how long a message of which all is told must be kept: a
// rejection in it may still be taken back, and is then sent again.
func (w *Worker) keepFor(m *message) time.Duration {
	if w.cfg.Fuses == nil {
		return 0
	}
	keep := time.Duration(0)
	if !m.progress.KeepUntil.IsZero() {
		// It is the clock of Redis that said until when.
		keep = min(m.progress.KeepUntil.Sub(w.cfg.Now()), w.cfg.KeepRejected)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := range m.others {
		o := &m.others[i]
		if o.Result == job.Rejected && o.AcceptedBefore && !o.WrongKind && apns.Reason(o.Reason).Verdict() == apns.Suspicious {
			return max(keep, w.cfg.KeepRejected)
		}
	}
	return keep
}

// finish ends a message of which all is told.
func (w *Worker) finish(m *message) {
	if keep := w.keepFor(m); keep > 0 {
		w.handBack(m, keep)
		return
	}
	w.acknowledge(m)
}

// finishBefore ends a message that an earlier delivery has completed.
func (w *Worker) finishBefore(m *message) {
	if !m.progress.KeepUntil.IsZero() && w.anyFuseTripped(m.lane.app.name) {
		// What it tripped for may not be undone yet.
		w.handBack(m, w.cfg.FuseRetry)
		return
	}
	w.finish(m)
}

// canaryTick is how often a worker looks whether canaries are due.
const canaryTick = time.Second

// watchCanaries sends to an app's own devices while its fuse is tripped, until
// one of them is accepted. It runs until ctx ends.
func (w *Worker) watchCanaries(ctx context.Context) {
	if w.cfg.Fuses == nil {
		return
	}
	tick := time.NewTicker(min(canaryTick, w.cfg.CanaryInterval))
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		for _, s := range w.apps() {
			w.tryAllCanaries(ctx, s)
		}
	}
}

// tryAllCanaries sends to an app's own devices where its fuse is tripped.
func (w *Worker) tryAllCanaries(ctx context.Context, s *served) {
	app := s.hold(1)
	if app == nil {
		return
	}
	defer app.release()
	for _, env := range [...]device.Environment{device.Production, device.Sandbox} {
		if len(app.Canaries) == 0 || !w.fuseTripped(s.name, env) {
			continue
		}
		if err := w.tryCanaries(ctx, app.App, env); err != nil && ctx.Err() == nil {
			w.log.Warn("cannot send canaries", zap.String("app", s.name), zap.Stringer("environment", env), zap.Error(err))
		}
	}
}

// tryCanaries sends to an app's canaries of an environment, if it is this
// worker's turn, and resets the fuse if one is accepted.
func (w *Worker) tryCanaries(ctx context.Context, app *App, env device.Environment) error {
	canaries := w.canaries(ctx, app, env)
	route := app.route(env, app.BundleID)
	if len(canaries) == 0 || route == nil {
		return nil
	}
	turn, err := w.cfg.Fuses.ClaimCanary(ctx, app.Name, env, w.cfg.CanaryInterval)
	if err != nil || !turn {
		return err
	}
	batch := make([]apns.Notification, len(canaries))
	for i, t := range canaries {
		batch[i] = apns.Notification{
			DeviceToken: t, APNsID: uuid.New(), Topic: app.BundleID, PushType: job.PushBackground,
			Priority: 5, // a background push with 10 is refused (Apple, Sending notification requests to APNs)
			Payload:  []byte(`{"aps":{"content-available":1}}`),
		}
	}
	answers := make(chan apns.Response, len(batch))
	route.Sender.Send(ctx, job.Transactional, batch, func(_ int, r apns.Response) { answers <- r })
	close(answers)
	accepted := false
	for r := range answers {
		w.log.Info("canary is answered", zap.String("app", app.Name), zap.Stringer("environment", env),
			zap.Int("status", r.Status), zap.String("reason", string(r.Reason)), zap.Error(r.Err))
		accepted = accepted || r.Err == nil && r.Status == 200
	}
	if !accepted {
		return nil
	}
	_, err = w.cfg.Fuses.Reset(ctx, app.Name, env, "canary, by "+w.cfg.Name)
	return err
}

// canaries returns an app's canaries of an environment. One of the other would
// be accepted there whatever is wrong here.
func (w *Worker) canaries(ctx context.Context, app *App, env device.Environment) []device.Token {
	entries, err := w.cfg.Devices.Lookup(ctx, app.Name, app.Canaries, nil)
	if err != nil {
		entries = nil
		for _, t := range app.Canaries {
			entries = append(entries, store.Entry{Token: t})
		}
	}
	var list []device.Token
	for _, e := range entries {
		of := app.Environment
		if e.Known && e.Record.Environment != device.EnvironmentUnset {
			of = e.Record.Environment
		}
		if of == env {
			list = append(list, e.Token)
		}
	}
	return list
}

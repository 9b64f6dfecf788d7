package feedback

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/pushfleet/pushfleet/device"
	"github.com/pushfleet/pushfleet/store"
	"github.com/pushfleet/pushfleet/stream"
)

const (
	// registerBatch bounds the device changes that are applied together.
	registerBatch = 1000
	// registerTimeout is the patience with Redis at one try, and registerFor with all
	// tries, from when JetStream delivered: well below the ack wait, which nobody
	// extends. What is given up comes again by itself, and before anything newer if
	// nothing is fetched until then.
	registerTimeout = 10 * time.Second
	registerFor     = stream.DeviceAckWait - 5*time.Second
	redelivered     = stream.DeviceAckWait + 5*time.Second
	// againSilent is how often nothing must come, with againPause between, before all
	// that is delivered again is taken to be there.
	againSilent = 4
	againPause  = 50 * time.Millisecond
	// unknownFor is how long changes for an app that nobody knows are kept: it may be
	// on its way.
	unknownFor = time.Minute
	// unknownRetry is when such a change is looked at again.
	unknownRetry = 10 * time.Second
)

// DeviceSet is the token set, as far as it is changed on request; see
// [store.Store].
type DeviceSet interface {
	RegisterMany(ctx context.Context, app string, regs []device.Registration) ([]store.Registered, error)
	DeleteMany(ctx context.Context, app string, tokens []device.Token, reason device.Reason) ([]bool, error)
	Device(ctx context.Context, app string, t device.Token) (device.Device, bool, error)
}

// RegistrarConfig describes a [Registrar].
type RegistrarConfig struct {
	Streams *stream.Streams
	Devices DeviceSet
	// Apps are the apps whose changes are applied, with the environment of devices
	// that do not say theirs.
	Apps    map[string]device.Environment
	Logger  *zap.Logger           // nil: none
	Metrics prometheus.Registerer // nil: none
	Now     func() time.Time      // nil: time.Now
}

// Registrar applies device changes to the token set, in the order in which
// JetStream has stored them. Any number may run; JetStream serves one at a time.
type Registrar struct {
	cfg     RegistrarConfig
	log     *zap.Logger
	apps    atomic.Pointer[map[string]device.Environment] // never changed itself
	applied *prometheus.CounterVec
	reader  *changeReader
}

// NewRegistrar returns a registrar; it does nothing until it runs.
func NewRegistrar(cfg RegistrarConfig) *Registrar {
	if cfg.Logger == nil {
		cfg.Logger = zap.NewNop()
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	r := &Registrar{
		cfg: cfg, log: cfg.Logger.Named("registrar"), reader: newChangeReader(),
		applied: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "pushfleet_device_changes_total",
			Help: "Device changes taken from the queue, by what became of them: applied, or invalid (a dead letter).",
		}, []string{"app", "action", "result"}),
	}
	if cfg.Metrics != nil {
		cfg.Metrics.MustRegister(r.applied)
	}
	r.SetApps(cfg.Apps)
	return r
}

// SetApps changes [RegistrarConfig].Apps from now on. It is safe for concurrent use; apps
// must not be changed any more.
func (r *Registrar) SetApps(apps map[string]device.Environment) {
	if before := r.apps.Swap(&apps); before != nil {
		for app := range *before {
			if _, stays := apps[app]; !stays {
				r.applied.DeletePartialMatch(prometheus.Labels{"app": app})
			}
		}
	}
}

// Run applies device changes until ctx ends. It returns nil.
func (r *Registrar) Run(ctx context.Context) error {
	consumer := insist(ctx, r.log, "cannot take device changes", r.cfg.Streams.RegistrarConsumer)
	if consumer == nil {
		return nil // told to stop before it had started
	}
	idle, settled := true, true
	reconnects := r.cfg.Streams.Reconnects()
	for ctx.Err() == nil {
		if n := r.cfg.Streams.Reconnects(); n != reconnects {
			// What was on its way when the connection broke comes again.
			reconnects = n
			pause(ctx, redelivered)
			continue
		}
		messages, err := fetch(ctx, consumer, idle)
		if err != nil && ctx.Err() == nil {
			r.log.Warn("cannot fetch device changes", zap.Error(err))
			pause(ctx, recordPause)
		}
		if idle = len(messages) == 0; idle {
			continue
		}
		// Also when ctx has ended meanwhile: what is taken is applied.
		if settled = r.take(ctx, messages); !settled {
			pause(ctx, redelivered-time.Since(messages[0].ReceivedAt))
		}
	}
	if !settled {
		return nil // others wait for what is unsettled
	}
	leave, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	if err := r.cfg.Streams.LeaveRegistrar(leave, consumer); err != nil {
		r.log.Debug("cannot leave", zap.Error(err))
	}
	return nil
}

// fetch waits for one message where there was none, and takes what is there
// where there was one. What is delivered again comes before anything new, but in
// any order (tried), and not all of it at once: so it is taken until something new
// comes, or nothing for a while. What came later would be applied after what is newer.
func fetch(ctx context.Context, c *stream.Consumer, idle bool) ([]*stream.Message, error) {
	var messages []*stream.Message
	var err error
	if idle {
		var m *stream.Message
		if m, err = c.Wait(patience); m != nil {
			messages = append(messages, m)
		}
	} else {
		messages, err = c.Take(registerBatch)
	}
	for silent := 0; err == nil && silent < againSilent && len(messages) > 0 && messages[len(messages)-1].Deliveries > 1; {
		var again []*stream.Message
		if again, err = c.Take(registerBatch); len(again) > 0 {
			messages, silent = append(messages, again...), 0
			continue
		}
		silent++
		pause(ctx, againPause)
	}
	return messages, err
}

// changed is one message and what it asks for.
type changed struct {
	*stream.Message
	DeviceChange
}

// take applies messages and settles them, trying again while there is time. It
// reports false if something is left unsettled.
func (r *Registrar) take(ctx context.Context, messages []*stream.Message) bool {
	// What was delivered again comes with what is new.
	slices.SortFunc(messages, func(a, b *stream.Message) int { return cmp.Compare(a.Sequence, b.Sequence) })
	work, cancel := context.WithDeadline(context.WithoutCancel(ctx), messages[0].ReceivedAt.Add(registerFor))
	defer cancel()
	apps := *r.apps.Load() // the same until all is settled
	for !r.apply(work, apps, messages) {
		if ctx.Err() != nil || work.Err() != nil {
			return false
		}
		pause(ctx, recordPause)
	}
	return r.acknowledge(work, apps, messages)
}

// apply applies messages, and gives up those that are no device changes. It
// reports false if Redis or JetStream did not do its part.
func (r *Registrar) apply(ctx context.Context, apps map[string]device.Environment, messages []*stream.Message) bool {
	byApp := make(map[string][]changed)
	for _, m := range messages {
		environment, known := apps[m.App]
		if !known {
			if r.isStray(ctx, m) && !r.buryAs(ctx, m, "unknown", "unknown app") {
				return false
			}
			continue
		}
		c, err := r.reader.parse(m.Data)
		if err != nil {
			if !r.bury(ctx, m, err) {
				return false
			}
			continue
		}
		if c.Device.Environment == device.EnvironmentUnset {
			c.Device.Environment = environment
		}
		byApp[m.App] = append(byApp[m.App], changed{m, c})
	}
	for app, list := range byApp {
		if !r.applyApp(ctx, app, list) {
			return false
		}
	}
	return true
}

// applyApp applies the changes of one app in their order: as many of one kind as
// follow each other at once.
func (r *Registrar) applyApp(ctx context.Context, app string, list []changed) bool {
	try, cancel := context.WithTimeout(ctx, registerTimeout)
	defer cancel()
	for len(list) > 0 {
		n := 1
		for n < len(list) && list[n].Action == list[0].Action {
			n++
		}
		run := list[:n]
		list = list[n:]
		failed, err := r.applyRun(try, app, run)
		if err != nil {
			r.log.Warn("cannot apply device changes, trying again", zap.String("app", app), zap.Int("changes", len(run)), zap.Error(err))
			return false
		}
		for i, c := range run {
			if failed[i] == nil {
				r.applied.WithLabelValues(app, c.Action.String(), "applied").Inc()
			} else if !r.bury(ctx, c.Message, failed[i]) {
				return false
			}
		}
	}
	return true
}

// applyRun applies changes with one action. failed says at the place of a change
// why it can never be applied; the error, that none may have been.
func (r *Registrar) applyRun(ctx context.Context, app string, run []changed) (failed map[int]error, err error) {
	switch run[0].Action {
	case RemoveDevice:
		tokens := make([]device.Token, len(run))
		for i := range run {
			tokens[i] = run[i].Device.Token
		}
		_, err := r.cfg.Devices.DeleteMany(ctx, app, tokens, device.Deleted)
		return nil, err
	case DetachDevice:
		for i := range run {
			if err := r.detach(ctx, app, run[i].Device); err != nil {
				return nil, err
			}
		}
		return nil, nil
	default:
		regs := make([]device.Registration, len(run))
		for i := range run {
			regs[i] = run[i].Device
		}
		return r.register(ctx, app, regs)
	}
}

func (r *Registrar) register(ctx context.Context, app string, regs []device.Registration) (failed map[int]error, err error) {
	out, err := r.cfg.Devices.RegisterMany(ctx, app, regs)
	if err == nil {
		return nil, nil
	}
	failed = make(map[int]error)
	for i := range out {
		switch e := out[i].Err; {
		case e == nil:
		case errors.Is(e, device.ErrRecord), errors.Is(e, store.ErrTooManyDevices):
			failed[i] = e
		default:
			return nil, err
		}
	}
	if len(failed) == 0 { // nothing at all was done
		return nil, err
	}
	return failed, nil
}

// detach registers a device again without its user. Only the registrar and the
// HTTP API write devices; that they change one at the same moment is the app
// being started while its user logs out.
func (r *Registrar) detach(ctx context.Context, app string, want device.Registration) error {
	d, ok, err := r.cfg.Devices.Device(ctx, app, want.Token)
	switch {
	case err != nil && errors.Is(err, device.ErrRecord):
		return nil // nothing that this version may write
	case err != nil:
		return err
	case !ok || d.Record.State == device.Removed || d.User == "" || want.User != "" && want.User != d.User:
		return nil
	}
	d.User = ""
	_, err = r.cfg.Devices.RegisterMany(ctx, app, []device.Registration{d.Registration})
	return err
}

// isStray reports whether a change is for an app that has been unknown to all
// for long enough. Those for an app that another process knows go back.
func (r *Registrar) isStray(ctx context.Context, m *stream.Message) bool {
	if r.cfg.Now().Sub(m.StoredAt) < unknownFor {
		return false
	}
	present, err := r.cfg.Streams.Present(ctx)
	return err == nil && !slices.ContainsFunc(present, func(p stream.Presence) bool { return slices.Contains(p.Apps, m.App) })
}

// bury makes a dead letter of a change that cannot be applied.
func (r *Registrar) bury(ctx context.Context, m *stream.Message, why error) bool {
	return r.buryAs(ctx, m, m.App, strings.ReplaceAll(why.Error(), "\n", "; ")) // a header has one line
}

// buryAs is bury; label is the app in metrics: anybody may make up names.
func (r *Registrar) buryAs(ctx context.Context, m *stream.Message, label, reason string) bool {
	if err := r.cfg.Streams.Bury(ctx, m, stream.Letter{Reason: reason, Last: r.cfg.Now()}); err != nil {
		r.log.Error("cannot store a dead letter", zap.String("app", m.App), zap.Error(err))
		return false
	}
	r.applied.WithLabelValues(label, "", "invalid").Inc()
	return true
}

// acknowledge acknowledges what is done, and waits until that has arrived: were
// it delivered again, it could overtake a newer change. What is for an app that
// is not known here goes back for a while.
func (r *Registrar) acknowledge(ctx context.Context, apps map[string]device.Environment, messages []*stream.Message) bool {
	var last *stream.Message
	for _, m := range messages {
		if _, known := apps[m.App]; !known && !r.isStray(ctx, m) {
			r.settled(m, m.Nak(unknownRetry))
			continue
		}
		if last != nil {
			r.settled(last, last.Ack())
		}
		last = m
	}
	for last != nil {
		try, cancel := context.WithTimeout(ctx, 2*time.Second)
		err := last.AckWaiting(try)
		cancel()
		if err == nil {
			break
		}
		r.log.Warn("cannot acknowledge device changes, trying again", zap.Error(err))
		if ctx.Err() != nil {
			return false
		}
	}
	return true
}

func (r *Registrar) settled(m *stream.Message, err error) {
	if err != nil {
		r.log.Warn("cannot settle a device change", zap.Uint64("sequence", m.Sequence), zap.Error(err))
	}
}

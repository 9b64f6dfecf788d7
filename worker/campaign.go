package worker

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/pushfleet/pushfleet/campaign"
	"github.com/pushfleet/pushfleet/device"
	"github.com/pushfleet/pushfleet/job"
	"github.com/pushfleet/pushfleet/store"
)

// Campaigns is what sending campaigns needs of Redis; see [store.Store].
type Campaigns interface {
	AudienceSize(ctx context.Context, app string, tags []string) (classes int, devices int64, err error)
	CountClasses(ctx context.Context, app string, tags []string, of, width, first, n int) ([]int, error)
	ReadAudience(ctx context.Context, app string, c store.Classes, tags []string, details bool, dst []device.Device) (devices []device.Device, seen, unreadable int, err error)
	Describe(ctx context.Context, app string, entries []store.Entry, dst []device.Device) ([]device.Device, int, error)

	UseCaps(ctx context.Context, app string, claims []store.CapClaim) ([]bool, error)
	Permits(ctx context.Context, app, campaign string, rate, want int) (granted int, wait time.Duration, err error)

	CampaignTotals(ctx context.Context, app, campaign string, ranges int) (store.Totals, error)
	ExpireCampaign(ctx context.Context, app, campaign string, ranges int, ttl time.Duration) error
	ClaimWork(ctx context.Context, name, by string, lease time.Duration) (bool, error)
}

// contactFor is how long a worker goes on with campaigns after it last knew
// their states. It is a part of what a pause takes at most, promised as 2 s.
const contactFor = 1500 * time.Millisecond

// haltRetry is how long a range goes back for that came to a worker which may not
// send it: by then nobody asks for it any more, or the worker is in touch again.
const haltRetry = time.Second

// campaigns are those of the fleet, as this worker knows them.
type campaigns struct {
	mu    sync.Mutex
	known map[campaignKey]*running // guarded by mu
	// noting is held by whoever takes note of what an entry says, and so whose it is.
	noting  sync.Mutex
	foreign map[campaignKey]campaign.Status // guarded by noting: of apps that are not served here
	// contact is when it was last certain that nothing newer is known elsewhere,
	// nanoseconds since begun; see [Worker.keepContact].
	contact  atomic.Int64
	touched  bool          // there was contact at the last look; only touched by keep
	revision atomic.Uint64 // up to which all was seen
	begun    time.Time
	due      chan struct{} // the steward has something to look at
	ask      chan struct{} // somebody waits for contact
}

type campaignKey struct{ app, id string }

func newCampaigns() *campaigns {
	c := &campaigns{known: make(map[campaignKey]*running), foreign: make(map[campaignKey]campaign.Status), begun: time.Now(), due: make(chan struct{}, 1), ask: make(chan struct{}, 1)}
	c.contact.Store(-int64(contactFor)) // there was none yet
	return c
}

// running is one campaign at this worker. It stays while its entry is there.
type running struct {
	app  *served
	id   string
	lane *lane
	pace pacer

	status atomic.Pointer[campaign.Status]
	plan   atomic.Pointer[compiled]
	left   atomic.Pointer[leftAt] // when this worker last looked after it; nil: never

	// Guarded by noting:
	stop    context.CancelFunc // of its intake; nil: it has none
	stopped chan struct{}      // closed when the last intake has ended; nil: it had none
}

// compiled is a plan, and the start that it was made for.
type compiled struct {
	plan  *campaign.Plan
	start time.Time
	err   error
}

// runs reports whether it may be sent, as far as is known.
func (r *running) runs() bool { return r.status.Load().State == campaign.Running }

// root is what the apns-ids of a campaign are made from.
func (r *running) root() string { return job.CampaignRoot(r.id) }

// inContact reports whether the states of campaigns are known.
func (c *campaigns) inContact() bool { return c.sinceContact() < contactFor }

// sinceContact is how long ago they were known for certain.
func (c *campaigns) sinceContact() time.Duration {
	return time.Since(c.begun) - time.Duration(c.contact.Load())
}

func (c *campaigns) all() []*running {
	c.mu.Lock()
	defer c.mu.Unlock()
	list := make([]*running, 0, len(c.known))
	for _, r := range c.known {
		list = append(list, r)
	}
	return list
}

// wake makes the steward look.
func (c *campaigns) wake() {
	select {
	case c.due <- struct{}{}:
	default:
	}
}

// halted says why nothing of a message may be sent now, because its campaign does not
// run or its app is gone; nil: it may.
func (w *Worker) halted(m *message) error {
	r := m.lane.campaign
	switch {
	case m.lane.app.gone.Load():
		return errRemoved
	case r == nil:
		return nil
	case !r.runs():
		return errHalted
	case !w.campaigns.inContact():
		return errNoContact
	}
	return nil
}

var (
	errHalted    = errors.New("worker: the campaign does not run")
	errNoContact = errors.New("worker: jetstream does not say whether the campaign still runs")
)

// watchCampaigns follows all campaigns, until ctx ends. Intakes of those that run
// are started in group, which the caller is in.
func (w *Worker) watchCampaigns(ctx, work context.Context, group *sync.WaitGroup) {
	for ctx.Err() == nil {
		seen := make(map[campaignKey]bool)
		loading := true
		err := w.cfg.Streams.WatchCampaigns(ctx, func(st campaign.Status, upTo uint64) {
			if loading {
				seen[campaignKey{st.App, st.ID}] = true
			}
			w.campaignChanged(ctx, work, group, st)
			w.campaigns.revision.Store(upTo)
		}, func(upTo uint64) {
			loading = false
			w.forgetBut(seen)
			w.campaigns.revision.Store(upTo)
			w.campaigns.wake()
		})
		if err != nil && ctx.Err() == nil {
			w.log.Warn("cannot watch campaigns", zap.Error(err))
			pause(ctx, fetchPause)
		}
	}
}

// forgetBut forgets campaigns that are gone.
func (w *Worker) forgetBut(seen map[campaignKey]bool) {
	c := w.campaigns
	c.noting.Lock()
	defer c.noting.Unlock()
	for key := range c.foreign {
		if !seen[key] {
			delete(c.foreign, key)
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for key, r := range c.known {
		if !seen[key] {
			r.halt()
			delete(c.known, key)
		}
	}
}

// campaignChanged takes note of what an entry says.
func (w *Worker) campaignChanged(ctx, work context.Context, group *sync.WaitGroup, st campaign.Status) {
	w.campaigns.noting.Lock()
	defer w.campaigns.noting.Unlock()
	w.noteCampaign(ctx, work, group, st)
}

// noteCampaign is campaignChanged; noting is held.
func (w *Worker) noteCampaign(ctx, work context.Context, group *sync.WaitGroup, st campaign.Status) {
	c, key, app := w.campaigns, campaignKey{st.App, st.ID}, w.app(st.App)
	delete(c.foreign, key)
	c.mu.Lock()
	r := c.known[key]
	if r != nil && (st.Revision == 0 || r.app != app) {
		r.halt()
		delete(c.known, key)
		r = nil
	}
	if r == nil && st.Revision != 0 && app != nil {
		r = w.newRunning(app, &st)
		c.known[key] = r
	}
	c.mu.Unlock()
	switch {
	case st.Revision == 0:
		return
	case app == nil:
		c.foreign[key] = st // other workers know the app, or this one will
		return
	}
	if old := r.status.Load(); old.Revision > st.Revision {
		return // known already from who changed it
	}
	r.status.Store(&st)
	r.pace.set(st.Rate)
	if st.State == campaign.Running {
		w.goOn(ctx, work, group, r)
	} else {
		w.haltCampaign(r)
	}
	c.wake()
}

func (w *Worker) newRunning(app *served, st *campaign.Status) *running {
	r := &running{app: app, id: st.ID}
	r.lane = &lane{
		app: app, lane: job.Bulk, campaign: r, holder: newHolder(job.Bulk), fast: w.metrics.of(app.name, job.Bulk),
		mean: campaignRange, fail: errNotStarted,
	}
	r.lane.seen.set(campaignRange)
	r.status.Store(st)
	return r
}

// goOn starts the intake of a campaign that runs, unless it is on.
func (w *Worker) goOn(ctx, work context.Context, group *sync.WaitGroup, r *running) {
	if r.stop != nil {
		return
	}
	taking, stop := context.WithCancel(ctx)
	before, stopped := r.stopped, make(chan struct{})
	r.stop, r.stopped = stop, stopped
	group.Go(func() {
		defer close(stopped)
		defer stop()
		if before != nil {
			<-before // it waits out its pull, and the lane is one's at a time
		}
		for taking.Err() == nil {
			err := w.openLane(taking, r.lane)
			if err == nil {
				w.intake(taking, work, r.lane)
				return
			}
			w.log.Warn("cannot take ranges", zap.String("app", r.app.name), zap.String("campaign", r.id), zap.Error(err))
			pause(taking, fetchPause)
		}
	})
}

// haltCampaign stops taking and sending what does not run any more.
func (w *Worker) haltCampaign(r *running) {
	r.halt()
	for _, m := range w.flight.all() {
		if m.lane.campaign == r {
			m.giveUp(errHalted)
		}
	}
}

func (r *running) halt() {
	if r.stop != nil {
		r.stop()
		r.stop = nil
	}
}

// compile returns the plan of a campaign; made once for each start.
func (w *Worker) compile(r *running) (*campaign.Plan, error) {
	st := r.status.Load()
	if c := r.plan.Load(); c != nil && c.start.Equal(st.StartAt) {
		return c.plan, c.err
	}
	c := &compiled{start: st.StartAt}
	c.plan, c.err = compile(st, &w.zones)
	r.plan.Store(c)
	return c.plan, c.err
}

func compile(st *campaign.Status, zones *device.Zones) (*campaign.Plan, error) {
	def, err := campaign.Parse(st.Definition)
	if err != nil {
		return nil, fmt.Errorf("read the definition: %w", err)
	}
	plan, err := def.Compile(campaign.Options{Zones: zones, Start: st.StartAt})
	if err != nil {
		return nil, fmt.Errorf("compile the definition: %w", err)
	}
	return plan, nil
}

// Contact with the states of campaigns is looked for every contactInterval, and
// given up after contactPatience.
const (
	contactInterval = 400 * time.Millisecond
	contactPatience = time.Second
)

// keepContact asks JetStream, while campaigns run here, whether all that there is
// to know of them is known, until ctx ends. A watch that stands still looks like
// one that has nothing to tell. That contact is lost is found out by what keeps
// messages, which waits for nobody: see [Worker.keepInProgress].
func (w *Worker) keepContact(ctx context.Context) {
	tick := time.NewTicker(contactInterval)
	defer tick.Stop()
	for {
		if w.anyRuns() {
			w.askContact(ctx)
		}
		select {
		case <-tick.C:
		case <-w.campaigns.ask:
		case <-ctx.Done():
			return
		}
	}
}

// awaitContact returns once there is contact, or has not been for contactPatience.
func (w *Worker) awaitContact(ctx context.Context) {
	tick := time.NewTicker(contactInterval / 40)
	defer tick.Stop()
	ctx, cancel := context.WithTimeout(ctx, contactPatience)
	defer cancel()
	for !w.campaigns.inContact() {
		select {
		case w.campaigns.ask <- struct{}{}:
		default:
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

func (w *Worker) anyRuns() bool {
	for _, r := range w.campaigns.all() {
		if r.runs() {
			return true
		}
	}
	return false
}

func (w *Worker) askContact(ctx context.Context) {
	asked := time.Since(w.campaigns.begun)
	asking, cancel := context.WithTimeout(ctx, contactPatience)
	defer cancel()
	last, err := w.cfg.Streams.CampaignsRevision(asking)
	if ctx.Err() != nil {
		return
	}
	if err != nil {
		w.log.Warn("cannot ask for the states of campaigns", zap.Error(err))
		return
	}
	// What was changed while it was asked comes in a moment.
	if last <= w.campaigns.revision.Load() {
		w.campaigns.contact.Store(int64(asked))
	}
}

// pacer keeps one campaign at its rate. One range at a time has the turn to ask Redis
// for permits, until all of it is sent; the others wait for it. If they shared what
// there is, all that a worker holds would be half done whenever it stops.
type pacer struct {
	rate atomic.Int64
	turn chan struct{} // made by ready
	once sync.Once
}

func (p *pacer) set(rate int) { p.rate.Store(int64(rate)) }

func (p *pacer) ready() chan struct{} {
	p.once.Do(func() { p.turn = make(chan struct{}, 1) })
	return p.turn
}

// take waits for the turn, which release gives to the next. Without a rate nobody waits.
// The error is that of ctx.
func (p *pacer) take(ctx context.Context) (release func(), err error) {
	if p.rate.Load() == 0 {
		return func() {}, nil
	}
	select {
	case p.ready() <- struct{}{}:
		return func() { <-p.turn }, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// permits waits until some of want notifications of a campaign may be sent, and
// returns how many. The error is that of ctx.
func (w *Worker) permits(ctx context.Context, r *running, want int) (int, error) {
	for {
		rate := int(r.pace.rate.Load())
		if rate == 0 {
			return want, nil
		}
		type grant struct {
			n    int
			wait time.Duration
		}
		g, err := withStore(ctx, func(ctx context.Context) (g grant, err error) {
			g.n, g.wait, err = w.cfg.Campaigns.Permits(ctx, r.app.name, r.id, rate, want)
			return g, err
		})
		if err != nil && ctx.Err() == nil {
			// Without Redis nobody knows what the others send.
			w.log.Warn("cannot ask for permits", zap.String("app", r.app.name), zap.String("campaign", r.id), zap.Error(err))
			g.wait = fetchPause
		}
		if ctx.Err() != nil {
			return 0, context.Cause(ctx)
		}
		if g.n > 0 {
			return g.n, nil
		}
		pause(ctx, g.wait)
	}
}

// sendPaced sends a batch of one campaign to a route as fast as its rate allows,
// and returns when each has had its answer. What is not sent when ctx ends goes the
// way of what connections do not take.
func (w *Worker) sendPaced(ctx context.Context, l *lane, route *Route, b *batch) {
	release, err := l.campaign.pace.take(ctx)
	if err != nil {
		w.sendBatch(ctx, l, route, b) // which are told why, one by one
		return
	}
	var sending sync.WaitGroup
	defer sending.Wait()
	defer release()
	for sent := 0; sent < len(b.items); {
		n, err := w.permits(ctx, l.campaign, len(b.items)-sent)
		if err != nil {
			n = len(b.items) - sent // as above
		}
		part := &batch{notifications: b.notifications[sent : sent+n], items: b.items[sent : sent+n]}
		sent += n
		sending.Go(func() { w.sendBatch(ctx, l, route, part) })
	}
}

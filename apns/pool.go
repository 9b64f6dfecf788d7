package apns

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/pushfleet/pushfleet/apns/internal/h2"
	"github.com/pushfleet/pushfleet/job"
)

// How a pool behaves over time.
const (
	tickBusy = 50 * time.Millisecond
	tickIdle = time.Second

	// A connection is replaced at a random age, so that a fleet's never go all at
	// once. choice: hours to days is what Apple asks for.
	retireAfterLeast = 6 * time.Hour
	retireAfterMost  = 24 * time.Hour

	growAfter   = 500 * time.Millisecond // all streams taken for so long: one connection more
	shrinkAfter = 10 * time.Minute       // never so for this long: one less
	idleAfter   = 10 * time.Minute       // no notification for this long: what ends is not replaced

	// While transactional notifications have come within urgentFor, one connection
	// is theirs and bulk leaves a tenth of the others' streams free; else bulk
	// leaves a hundredth, enough that the first of them waits for nobody.
	urgentFor         = time.Minute
	keepFreeUrgent    = 10
	keepFreeOtherwise = 100

	// An address is avoided for addressPenalty when it cannot be reached, or lets
	// at least silentLeast requests, and one in silentShare, go without an answer
	// within silentWindow: some APNs servers are silent for some device tokens
	// (observed: jchambers/pushy#773).
	addressPenalty = 10 * time.Minute
	silentWindow   = 10 * time.Second
	silentLeast    = 8
	silentShare    = 10
)

// errClosed is what Send says after Close.
var errClosed = errors.New("apns: client closed")

// pool keeps the connections of a route. Callers put batches into its queues,
// connections take from them as far as APNs lets them. One goroutine, run, looks
// after time; another one opens a connection when there are too few.
//
// Lock order: a connection's own lock, then mu. So nothing here calls into a
// connection with mu held, but for what takes no lock there.
type pool struct {
	cfg     ClientConfig
	dialer  dialer
	tokens  *ProviderTokens // nil with a certificate
	answers *answerReader
	log     *zap.Logger

	latencies h2.Latencies
	counters  counters

	ctx  context.Context // ends with Close
	stop context.CancelFunc
	wg   sync.WaitGroup
	kick chan struct{} // holds one: run has something to do before its time

	mu         sync.Mutex // guards what follows
	queues     [2]queue   // by lane
	links      []*link    // all that are not closed
	turn       int        // which link is woken first
	urgent     *link      // the one kept for transactional, or nil
	lastUrgent time.Time
	lastSubmit time.Time
	busy       bool // run ticks fast

	target      int // connections wanted; 0 until the first Send
	dialing     bool
	gate        dialGate
	lastErr     error // of the last dial; nil once one succeeded
	fullSince   time.Time
	lastFull    time.Time
	avoid       map[netip.Addr]time.Time // until
	lookedAt    time.Time                // when silence was last looked at
	credentials credentialState
	closed      bool
}

func newPool(cfg ClientConfig, d dialer, tokens *ProviderTokens, log *zap.Logger) *pool {
	p := &pool{
		cfg: cfg, dialer: d, tokens: tokens, answers: newAnswerReader(), log: log,
		kick:  make(chan struct{}, 1),
		gate:  dialGate{perMinute: cfg.DialsPerMinute, gap: cfg.dialGap},
		avoid: make(map[netip.Addr]time.Time),
	}
	p.ctx, p.stop = context.WithCancel(context.Background())
	p.wg.Go(p.run)
	return p
}

// submit queues all of c, or says why nothing of it will be sent.
func (p *pool) submit(c *call) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.cfg.Now()
	if err := p.refusal(now); err != nil {
		return err
	}
	c.started, p.lastSubmit = time.Now(), now
	if c.lane == job.Transactional {
		p.lastUrgent = now
		if p.urgent == nil {
			p.chooseUrgent(now)
		}
	}
	if p.target == 0 {
		p.target = p.cfg.Connections
	}
	p.queues[c.lane].push(c)
	p.wake(c.lane, len(c.batch), nil)
	if !p.busy {
		p.busy = true
		p.nudge()
	}
	return nil
}

// refusal says why nothing is sent at all, or nil.
func (p *pool) refusal(now time.Time) error {
	if p.closed {
		return errClosed
	}
	return p.credentials.refusal(now)
}

// sendAgain queues a notification once more, or says why not.
func (p *pool) sendAgain(l *link, it h2.Item, why resendCause) error {
	c := it.Batch.(*call)
	p.mu.Lock()
	defer p.mu.Unlock()
	if c.cancelled != nil {
		return c.cancelled
	}
	if err := p.refusal(p.cfg.Now()); err != nil {
		return err
	}
	p.counters.resends[why].Add(1)
	p.queues[c.lane].pushAgain(resend{it, l})
	p.wake(c.lane, 1, l)
	return nil
}

// cancel gives up what is left of c.
func (p *pool) cancel(c *call, cause error) {
	p.mu.Lock()
	c.cancelled = cause
	out := p.queues[c.lane].drop(func(other *call, _ bool) bool { return other != c })
	links := slices.Clone(p.links)
	p.mu.Unlock()
	for _, it := range out {
		c.fail(it.Index, cause)
	}
	// Whatever a connection took before is in its hands by now: it took it under
	// its own lock, which Cancel waits for.
	for _, l := range links {
		l.conn.Cancel(c, cause)
	}
}

// take is h2.Owner's Take for l.
func (p *pool) take(l *link, lane job.Lane, dst []h2.Item, budget int) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	q := &p.queues[lane]
	if q.waiting == 0 || !l.usable() || !p.admits(l, lane) {
		return 0
	}
	n := q.take(l, p.alone(l), dst, budget)
	if q.waiting > 0 && n == len(dst) {
		p.wake(lane, q.waiting, l)
	}
	return n
}

// admits says whether a lane may use l.
func (p *pool) admits(l *link, lane job.Lane) bool {
	switch {
	case p.urgent == nil:
		return true
	case lane == job.Bulk:
		return l != p.urgent
	default:
		return l == p.urgent || p.urgent.conn.Free(lane) == 0
	}
}

// alone reports whether no other link than l could take anything.
func (p *pool) alone(l *link) bool {
	return !slices.ContainsFunc(p.links, func(o *link) bool { return o != l && o.usable() })
}

// wake wakes as many links as n notifications of a lane are work for, but not
// except. They take turns, so that little work is spread too.
func (p *pool) wake(lane job.Lane, n int, except *link) {
	// choice: what one link takes in one slice.
	const share = 64
	for i := range p.links {
		l := p.links[(p.turn+i)%len(p.links)]
		if l == except || !l.usable() || l.conn.Free(lane) == 0 || !p.admits(l, lane) {
			continue
		}
		l.conn.Wake()
		if n -= share; n <= 0 {
			p.turn = (p.turn + i + 1) % len(p.links)
			return
		}
	}
}

// nudge makes run look at once.
func (p *pool) nudge() {
	select {
	case p.kick <- struct{}{}:
	default:
	}
}

// run looks after everything that depends on time.
func (p *pool) run() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-p.ctx.Done():
			return
		case <-p.kick:
		case <-timer.C:
		}
		timer.Reset(p.tick())
	}
}

// tick does what is due and returns when it wants to be called again.
func (p *pool) tick() time.Duration {
	p.mu.Lock()
	links := slices.Clone(p.links)
	p.mu.Unlock()
	for _, l := range links {
		l.conn.Tick()
	}
	p.expire()

	now := p.cfg.Now()
	p.mu.Lock()
	var later actions
	for _, l := range p.links {
		p.rotate(l, now, &later)
	}
	p.retireOld(now)
	p.retireSilent(now, &later)
	p.resize(now, &later)
	p.chooseUrgent(now)
	for _, lane := range job.Lanes() {
		if n := p.queues[lane].waiting; n > 0 {
			p.wake(lane, n, nil) // whoever was woken for it may be stuck
		}
	}
	next := p.openMissing(now)
	p.mu.Unlock()
	later.run()
	return next
}

// actions are what to do with connections once mu is released.
type actions []func()

func (a *actions) add(f func()) { *a = append(*a, f) }

func (a actions) run() {
	for _, f := range a {
		f()
	}
}

// expire fails what has waited too long for a connection. What was given back
// once gets the same time again.
func (p *pool) expire() {
	now, limit := time.Now(), p.cfg.RequestTimeout
	var out []h2.Item
	p.mu.Lock()
	for lane := range p.queues {
		q := &p.queues[lane]
		if !q.overdue(now, limit) {
			continue
		}
		out = append(out, q.drop(func(c *call, again bool) bool {
			if again {
				return now.Sub(c.started) <= 2*limit
			}
			return now.Sub(c.started) <= limit
		})...)
	}
	cause := errors.New("waited too long for a stream to APNs")
	if p.lastErr != nil {
		cause = fmt.Errorf("no connection to APNs: %w", p.lastErr)
	}
	p.mu.Unlock()
	failAll(out, cause)
}

// failAll tells that notifications were not sent.
func failAll(items []h2.Item, cause error) {
	for _, it := range items {
		it.Batch.(*call).fail(it.Index, cause)
	}
}

// drain makes l take nothing new; its successor is wanted. What is on its way has
// until its own timeout.
func (p *pool) drain(l *link, later *actions) {
	if l.state >= linkDraining {
		return
	}
	l.state = linkDraining
	if p.urgent == l {
		p.urgent = nil
	}
	later.add(func() { l.conn.Retire(time.Time{}) })
	p.nudge()
}

// retireOld marks a link whose time has come, one at a time: it is used until
// its successor is ready.
func (p *pool) retireOld(now time.Time) {
	if slices.ContainsFunc(p.links, func(l *link) bool { return l.state == linkAging }) {
		return
	}
	for _, l := range p.links {
		if l.state == linkReady && now.After(l.retireAt) {
			l.state = linkAging
			return
		}
	}
}

// retireSilent replaces links that leave too much without an answer.
func (p *pool) retireSilent(now time.Time, later *actions) {
	if now.Sub(p.lookedAt) < silentWindow {
		return
	}
	p.lookedAt = now
	for _, l := range p.links {
		st := l.conn.Stats()
		answers, timeouts := st.Answers-l.answers, st.Timeouts-l.timeouts
		l.answers, l.timeouts = st.Answers, st.Timeouts
		if l.usable() && timeouts >= silentLeast && timeouts*silentShare >= answers+timeouts {
			p.log.Warn("APNs server leaves requests without an answer, replacing the connection",
				zap.Stringer("address", l.addr), zap.Uint64("silent", timeouts), zap.Uint64("answered", answers))
			p.punish(l.addr, now)
			p.drain(l, later)
		}
	}
}

func (p *pool) punish(addr netip.Addr, now time.Time) {
	for a, until := range p.avoid {
		if now.After(until) {
			delete(p.avoid, a)
		}
	}
	if addr.IsValid() {
		p.avoid[addr] = now.Add(addressPenalty)
	}
}

// resize wants one connection more when streams have been the limit for a while,
// and one less when they have not been for long.
func (p *pool) resize(now time.Time, later *actions) {
	full := p.full()
	switch {
	case !full:
		p.fullSince = time.Time{}
	case p.fullSince.IsZero():
		p.fullSince = now
	case now.Sub(p.fullSince) >= growAfter && p.target < p.cfg.MaxConnections:
		p.target++
		p.fullSince = time.Time{}
	}
	if full || p.lastFull.IsZero() {
		p.lastFull = now
	}
	if p.target <= p.cfg.Connections || now.Sub(p.lastFull) < shrinkAfter {
		return
	}
	p.lastFull = now
	p.target--
	for _, l := range p.links {
		if l.state == linkReady && l != p.urgent {
			p.drain(l, later)
			return
		}
	}
}

// full reports whether something waits for nothing but free streams, on as many
// connections as are wanted. A limit that APNs has cut, as it does after
// rejections, does not count: to open more connections then is how a client gets
// blocked (observed: golang/go#27044).
func (p *pool) full() bool {
	ready := 0
	for _, l := range p.links {
		if l.state != linkReady {
			continue
		}
		ready++
		limit := l.conn.Stats().Limit
		l.mostLimit = max(l.mostLimit, limit)
		if !l.proven.Load() || limit < l.mostLimit/2 {
			return false
		}
	}
	waiting := false
	for _, lane := range job.Lanes() {
		if p.queues[lane].waiting == 0 {
			continue
		}
		waiting = true
		for _, l := range p.links {
			// Some streams are always about to be taken again.
			if l.state == linkReady && p.admits(l, lane) && l.conn.Free(lane) > l.mostLimit/8 {
				return false
			}
		}
	}
	return waiting && ready >= p.target
}

// chooseUrgent keeps one link for transactional notifications while there are
// any, if there is another one for the rest.
func (p *pool) chooseUrgent(now time.Time) {
	wanted := !p.lastUrgent.IsZero() && now.Sub(p.lastUrgent) < urgentFor
	if !wanted {
		p.urgent = nil
	}
	if wanted && p.urgent == nil && len(p.links) > 1 {
		var best *link
		usable := 0
		for _, l := range p.links {
			if !l.usable() {
				continue
			}
			usable++
			if best == nil || l.proven.Load() && l.conn.Stats().Open < best.conn.Stats().Open {
				best = l
			}
		}
		if usable > 1 {
			p.urgent = best
		}
	}
	keep := keepFreeOtherwise
	if wanted {
		keep = keepFreeUrgent
	}
	for _, l := range p.links {
		l.conn.KeepFree(keep)
	}
}

// openMissing begins to open a connection if there are too few and it is
// allowed, and returns when to look again.
func (p *pool) openMissing(now time.Time) time.Duration {
	live, open := 0, 0
	for _, l := range p.links {
		open += l.conn.Stats().Open
		if l.state == linkReady {
			live++
		}
	}
	waiting := p.queues[job.Transactional].waiting + p.queues[job.Bulk].waiting
	p.busy = waiting > 0 || open > 0
	want := p.target
	if p.credentials.onTrial() {
		want = min(want, 1)
	}
	if waiting == 0 && now.Sub(p.lastSubmit) >= idleAfter {
		want = min(want, live)
	}
	next := tickIdle
	if p.busy {
		next = tickBusy
	}
	if live >= want || p.dialing || p.closed || p.credentials.refusal(now) != nil {
		return next
	}
	if wait := p.gate.wait(time.Now()); wait > 0 {
		return min(next, wait)
	}
	p.gate.attempt(time.Now())
	p.dialing = true
	p.wg.Go(p.open)
	return next
}

// open opens one connection.
func (p *pool) open() {
	d, err := p.dialer.dial(p.ctx, p.rank)
	var token ProviderToken
	if err == nil && p.tokens != nil {
		if token, err = p.tokens.ForNewConnection(); err != nil {
			_ = d.nc.Close()
			p.stopRoute("", err)
		}
	}
	if err != nil {
		p.counters.dials[dialFailed].Add(1)
		p.log.Warn("no connection to APNs", zap.Stringer("address", d.addr), zap.Error(err))
		p.mu.Lock()
		p.dialing, p.lastErr = false, err
		p.gate.failed(time.Now())
		p.punish(d.addr, p.cfg.Now())
		p.mu.Unlock()
		if p.certificateRefused(err) {
			p.stopRoute(BadCertificate, err)
		}
		p.nudge()
		return
	}
	p.counters.dials[dialWorked].Add(1)
	p.adopt(d, token)
}

// rank orders addresses: those in use, and more so those to avoid, go last.
func (p *pool) rank(a netip.Addr) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := 0
	for _, l := range p.links {
		if l.addr == a {
			n++
		}
	}
	if until, ok := p.avoid[a]; ok && p.cfg.Now().Before(until) {
		n += 1000
	}
	return n
}

// adopt takes an open connection into the pool.
func (p *pool) adopt(d dialed, token ProviderToken) {
	now := p.cfg.Now()
	l := &link{
		pool: p, addr: d.addr, born: now, token: token, switchedAt: now,
		retireAt: now.Add(retireAfterLeast + rand.N(retireAfterMost-retireAfterLeast)),
		state:    linkDraining, // takes nothing until it is in the pool
	}
	cfg := h2.Config{
		Owner: l, Authority: p.dialer.target.Host, MaxStreams: p.cfg.MaxStreams,
		Timeout: p.cfg.RequestTimeout, Latencies: &p.latencies,
	}
	if p.tokens != nil {
		cfg.Authorization = "bearer " + token.Bearer
	}
	conn := h2.NewConn(d.nc, d.wire, cfg)
	var later actions
	p.mu.Lock()
	p.dialing, p.lastErr = false, nil
	switch {
	case p.closed:
		p.mu.Unlock()
		conn.Close()
		return
	case l.state == linkClosed: // it did not live that long
		p.mu.Unlock()
		p.nudge()
		return
	}
	l.conn, l.state = conn, linkReady
	p.links = append(p.links, l)
	for _, old := range p.links {
		if old.state == linkAging {
			p.drain(old, &later)
			break
		}
	}
	p.chooseUrgent(now)
	p.mu.Unlock()
	later.run()
	p.log.Debug("connected to APNs", zap.Stringer("address", d.addr))
	conn.Wake()
	p.nudge()
}

// onGoAway replaces a connection that APNs wants to end.
func (p *pool) onGoAway(l *link, g *h2.GoAwayError) {
	p.counters.goAway(g.Code)
	reason, _ := p.answers.read([]byte(g.Debug))
	p.log.Info("APNs ends a connection", zap.Stringer("code", g.Code), zap.String("debug", g.Debug), zap.Stringer("address", l.addr))
	if p.refuses(reason) {
		p.stopRoute(reason, nil)
	}
	var later actions
	p.mu.Lock()
	l.sentAway = true
	if l.conn != nil {
		p.drain(l, &later)
	}
	p.mu.Unlock()
	later.run()
}

// onClosed forgets a connection.
func (p *pool) onClosed(l *link, err error) {
	p.mu.Lock()
	p.links = slices.DeleteFunc(p.links, func(o *link) bool { return o == l })
	early := !l.proven.Load() && !p.closed && (l.sentAway || !errors.Is(err, h2.ErrRetired))
	l.state = linkClosed
	if p.urgent == l {
		p.urgent = nil
	}
	if early {
		p.gate.failed(time.Now())
		p.lastErr = err
	}
	if errors.Is(err, h2.ErrPingTimeout) || errors.Is(err, h2.ErrSettingsTimeout) {
		p.punish(l.addr, p.cfg.Now())
	}
	p.mu.Unlock()
	p.log.Debug("connection to APNs ended", zap.Stringer("address", l.addr), zap.Error(err))
	if early && p.certificateRefused(err) {
		p.stopRoute(BadCertificate, err)
	}
	p.nudge()
}

// certificateRefused reports whether err is the peer's refusal of our client
// certificate: with TLS 1.3 it arrives as an alert after the handshake.
func (p *pool) certificateRefused(err error) bool {
	op, ok := errors.AsType[*net.OpError](err)
	return ok && p.tokens == nil && op.Op == "remote error"
}

// close ends everything; it returns when no goroutine is left.
func (p *pool) close() {
	p.mu.Lock()
	p.closed = true
	var out []h2.Item
	for lane := range p.queues {
		out = append(out, p.queues[lane].drop(func(*call, bool) bool { return false })...)
	}
	p.mu.Unlock()
	failAll(out, errClosed)
	p.stop()
	p.wg.Wait()
	p.mu.Lock()
	links := slices.Clone(p.links)
	p.mu.Unlock()
	for _, l := range links {
		l.conn.Close()
	}
}

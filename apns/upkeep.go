package apns

import (
	"slices"
	"time"

	"go.uber.org/zap"

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
	p.retireStuck(now, &later)
	p.resize(now, &later)
	p.chooseUrgent(now)
	for _, lane := range job.Lanes() {
		if n := p.queues[lane].waiting; n > 0 {
			p.wake(lane, n, nil) // whoever was woken for it may be stuck
			if lane == job.Transactional && len(p.queues[lane].again) > 0 {
				p.wakeOther(lane, p.urgent)
			}
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

// retireStuck replaces a link on which nothing is open and that takes nothing
// although something waits: its peer has stopped granting window or streams, and
// would be asked for ever.
func (p *pool) retireStuck(now time.Time, later *actions) {
	waiting := p.queues[0].waiting+p.queues[1].waiting > 0
	for _, l := range p.links {
		stuck := l.usable() && l.conn.Free(job.Transactional) == 0 && l.conn.Stats().Open == 0
		switch {
		case !stuck:
			l.stuckSince = time.Time{}
		case l.stuckSince.IsZero():
			if waiting {
				l.stuckSince = now
			}
		case now.Sub(l.stuckSince) >= p.cfg.RequestTimeout:
			p.log.Warn("APNs server lets nothing through, replacing the connection", zap.Stringer("address", l.addr))
			p.punish(l.addr, now)
			p.drain(l, later)
		}
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
	if p.target > p.cfg.Connections && now.Sub(p.lastFull) >= shrinkAfter {
		p.lastFull = now
		p.target--
	}
	ready := 0
	var spare *link
	for _, l := range p.links {
		if l.state != linkReady {
			continue
		}
		ready++
		if l != p.urgent {
			spare = l
		}
	}
	if ready > p.target && spare != nil {
		p.drain(spare, later)
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
		if st := l.conn.Stats(); !l.proven.Load() || st.Limit < st.Most/2 {
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
			if l.state == linkReady && p.admits(l, lane) && l.conn.Free(lane) > l.conn.Stats().Most/8 {
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

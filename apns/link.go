package apns

import (
	"errors"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/pushfleet/pushfleet/apns/internal/h2"
	"github.com/pushfleet/pushfleet/job"
)

// linkState is how far a connection is in its life.
type linkState uint8

// The states, in their order. An aging link is still used, but its successor is
// wanted; a draining one takes nothing new.
const (
	linkReady linkState = iota
	linkAging
	linkDraining
	linkClosed
)

// link is one connection of a pool, and its h2.Owner.
type link struct {
	pool   *pool
	id     uint32     // counts from 1
	addr   netip.Addr // invalid behind a proxy
	born   time.Time
	proven atomic.Bool  // APNs has answered something else than that it refuses the credential
	faults atomic.Int32 // answers 500 in a row

	// Set once, before the link is used.
	conn *h2.Conn

	// Guarded by the pool's mu.
	state      linkState
	sentAway   bool // APNs ended it with GOAWAY
	retireAt   time.Time
	token      ProviderToken // zero with a certificate
	previous   ProviderToken // the one before it on this connection
	switchedAt time.Time
	stuckSince time.Time // since when it takes nothing although something waits; zero: it does
	answers    uint64
	timeouts   uint64 // both at the last look
}

// usable reports whether the link takes notifications; the pool's mu is held.
func (l *link) usable() bool { return l.state < linkDraining }

// Take implements [h2.Owner].
func (l *link) Take(lane job.Lane, dst []h2.Item, budget int) int {
	return l.pool.take(l, lane, dst, budget)
}

// GoAway implements [h2.Owner].
func (l *link) GoAway(_ *h2.Conn, g *h2.GoAwayError) { l.pool.onGoAway(l, g) }

// Closed implements [h2.Owner].
func (l *link) Closed(_ *h2.Conn, err error) { l.pool.onClosed(l, err) }

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
		p.gate.ended(time.Now())
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
		pool: p, id: p.opened.Add(1), addr: d.addr, born: now, token: token, switchedAt: now,
		retireAt: now.Add(retireAfterLeast + rand.N(retireAfterMost-retireAfterLeast)), //nolint:gosec // no secret
		state:    linkDraining,                                                         // takes nothing until it is in the pool
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
	p.gate.ended(time.Now())
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

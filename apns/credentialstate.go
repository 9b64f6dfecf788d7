package apns

import (
	"time"

	"go.uber.org/zap"
)

// credentialState is what a pool knows of how APNs likes its credential. It is
// guarded by the pool's mu.
type credentialState struct {
	stopped *RouteError // nil: not stopped
	strikes int         // stops since the last proof
	trial   bool        // it was stopped, and nothing has proven it since

	refreshed map[Reason]bool // reasons for which the provider token was replaced since the last proof
	frozen    time.Time       // no rotation before
	topics    map[string]time.Time
}

// refusal returns why nothing is sent, or nil; when the time is over, a trial
// begins.
func (s *credentialState) refusal(now time.Time) error {
	if s.stopped == nil {
		return nil
	}
	if now.Before(s.stopped.Until) {
		return s.stopped
	}
	s.stopped, s.trial = nil, true
	return nil
}

// onTrial reports whether one connection has to prove the credential first.
func (s *credentialState) onTrial() bool { return s.trial }

// prove notes that APNs accepts the credential on l.
func (p *pool) prove(l *link) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if l.proven.Swap(true) {
		return
	}
	s := &p.credentials
	s.trial, s.strikes = false, 0
	clear(s.refreshed)
	p.gate.worked()
}

// stopRoute fails all that waits and everything that comes until the stop is
// over. What is on its way is still answered.
func (p *pool) stopRoute(reason Reason, cause error) {
	var later actions
	p.mu.Lock()
	s, now := &p.credentials, p.cfg.Now()
	if s.stopped != nil || p.closed {
		p.mu.Unlock()
		return
	}
	pause := min(stopMost, stopFirst<<min(s.strikes, 10))
	s.strikes++
	s.stopped = &RouteError{Reason: reason, Until: now.Add(pause), Cause: cause}
	err := s.stopped
	for _, l := range p.links {
		p.drain(l, &later)
	}
	out := p.queues[0].drop(func(*call, bool) bool { return false })
	out = append(out, p.queues[1].drop(func(*call, bool) bool { return false })...)
	p.mu.Unlock()
	p.log.Error("APNs refuses the credential, route stopped",
		zap.String("reason", string(reason)), zap.Duration("retry_in", pause), zap.Error(cause))
	later.run()
	failAll(out, err)
}

// refuses reports whether a reason means that the credential itself is no good
// (Apple, Handling notification responses from APNs).
func (p *pool) refuses(r Reason) bool {
	switch r {
	case BadCertificate, BadCertificateEnvironment, Forbidden, MissingProviderToken,
		BadEnvironmentKeyIDInToken, BadEnvironmentKeyInToken:
		return true
	default:
		return false
	}
}

// faultsLeast is how many 500s in a row replace a connection.
const faultsLeast = 10

// How often a disallowed topic is a reason for new connections.
const (
	topicPause = time.Hour   // once within
	topicYoung = time.Minute // a connection of this age knows all topics
	topicsMost = 400         // topics that a key may have (Apple, Communicate with APNs using authentication tokens)
)

// react does what a rejection on l asks for beyond the notification itself, and
// reports whether that should go out once more, elsewhere.
func (p *pool) react(l *link, r *Response, topic string) (again bool) {
	if p.refuses(r.Reason) {
		p.stopRoute(r.Reason, nil)
		return false
	}
	if r.Status != 403 && r.Status < 500 && !l.proven.Load() {
		p.prove(l)
	}
	var later actions
	defer func() { later.run() }()
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.cfg.Now()
	switch r.Reason {
	case ExpiredProviderToken, InvalidProviderToken:
		return p.replaceToken(l, r.Reason, &later)
	case UnrelatedKeyIDInToken, IdleTimeout:
		p.drain(l, &later)
		return true
	case TooManyProviderTokenUpdates:
		p.revertToken(l, now, &later)
		return true
	case TopicDisallowed:
		return p.reconnectFor(topic, l, now, &later)
	case Shutdown:
		p.drain(l, &later)
	}
	if r.Status != 500 {
		l.faults.Store(0)
	} else if l.faults.Add(1) >= faultsLeast {
		p.drain(l, &later)
	}
	return false
}

// reconnectFor replaces the connections for a topic that APNs disallows on l, and
// reports whether to try again: a connection knows the topics of its beginning,
// one that was added to the key later wants a new connection (Apple,
// Establishing a token-based connection to APNs). mu is held.
func (p *pool) reconnectFor(topic string, l *link, now time.Time, later *actions) (again bool) {
	s := &p.credentials
	if tried := s.topics[topic]; now.Sub(tried) < topicPause {
		return l.born.Before(tried)
	}
	if now.Sub(l.born) < topicYoung {
		return false
	}
	if s.topics == nil || len(s.topics) >= topicsMost {
		s.topics = make(map[string]time.Time)
	}
	s.topics[topic] = now
	for _, o := range p.links {
		if now.Sub(o.born) >= topicYoung {
			p.drain(o, later)
		}
	}
	return true
}

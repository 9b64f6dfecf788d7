package apns

import (
	"time"

	"go.uber.org/zap"
)

// rotate gives l a newer provider token when it is time; mu is held.
func (p *pool) rotate(l *link, now time.Time, later *actions) {
	if p.tokens == nil || !l.usable() || now.Before(p.credentials.frozen) {
		return
	}
	token, err := p.tokens.Rotate(l.token, l.switchedAt)
	if err != nil {
		p.log.Error("no new provider token, the old one stays in use", zap.Error(err))
		return
	}
	if token.Bearer == l.token.Bearer {
		return
	}
	l.previous, l.token, l.switchedAt = l.token, token, now
	later.add(func() { l.conn.SetAuthorization("bearer " + token.Bearer) })
}

// replaceToken reacts to APNs's refusal of the provider token on l: it is signed
// anew, once for all who hold it, and everything with the old one is replaced,
// because such a connection tends to refuse the new one as well (observed:
// jchambers/pushy#783). A second refusal, of the new one, is a matter of the key
// or of the clock: the route stops.
func (p *pool) replaceToken(l *link, reason Reason, later *actions) (again bool) {
	s := &p.credentials
	if p.tokens == nil {
		return false
	}
	if l.state >= linkDraining {
		return true // one of many that were on their way
	}
	if s.refreshed[reason] {
		later.add(func() { p.stopRoute(reason, nil) })
		return false
	}
	if s.refreshed == nil {
		s.refreshed = make(map[Reason]bool)
	}
	s.refreshed[reason] = true
	refused := l.token
	if _, err := p.tokens.Replace(refused); err != nil {
		later.add(func() { p.stopRoute(reason, err) })
		return false
	}
	for _, o := range p.links {
		if o.token.Bearer == refused.Bearer {
			p.drain(o, later)
		}
	}
	return true
}

// revertToken reacts to TooManyProviderTokenUpdates: back to the token before if
// APNs still takes it, else to a new connection, and no rotation for a while.
func (p *pool) revertToken(l *link, now time.Time, later *actions) {
	p.credentials.frozen = now.Add(switchInterval)
	if l.state >= linkDraining {
		return
	}
	previous := l.previous
	if previous.Bearer == "" || p.tokens.Age(previous) >= time.Hour-time.Minute {
		p.drain(l, later)
		return
	}
	l.token, l.previous, l.switchedAt = previous, ProviderToken{}, now
	later.add(func() { l.conn.SetAuthorization("bearer " + previous.Bearer) })
}

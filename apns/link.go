package apns

import (
	"net/netip"
	"sync/atomic"
	"time"

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
	addr   netip.Addr // invalid behind a proxy
	born   time.Time
	proven atomic.Bool // APNs has answered something else than that it refuses the credential

	// Set once, before the link is used.
	conn *h2.Conn

	// Guarded by the pool's mu.
	state      linkState
	sentAway   bool // APNs ended it with GOAWAY
	retireAt   time.Time
	token      ProviderToken // zero with a certificate
	previous   ProviderToken // the one before it on this connection
	switchedAt time.Time
	mostLimit  int // largest stream limit seen
	faults     int // answers 500 in a row
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

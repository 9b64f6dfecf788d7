package apns

import (
	"math/rand/v2"
	"slices"
	"time"
)

// How often a route opens connections. Apple: opening and closing connections
// often may be treated as a denial-of-service attack; an Apple engineer: open
// them seconds apart, not all at once (developer forums, thread 778909).
const (
	dialsPerMinute = 20
	dialGap        = time.Second // between two attempts, whatever became of the first
	dialBackoffMax = 60          // gaps, between attempts that all fail
)

// dialGate decides when the next connection may be opened. Every attempt goes
// through it, so its bound per minute holds under every fault. It is guarded by
// the pool's mu.
type dialGate struct {
	perMinute int
	gap       time.Duration
	recent    []time.Time // ends of the attempts of the last minute, the oldest first
	notBefore time.Time
	failures  int // in a row
}

// wait returns how long it is until the next attempt is allowed.
func (g *dialGate) wait(now time.Time) time.Duration {
	g.recent = slices.DeleteFunc(g.recent, func(t time.Time) bool { return now.Sub(t) >= time.Minute })
	wait := g.notBefore.Sub(now)
	if len(g.recent) >= g.perMinute {
		wait = max(wait, time.Minute-now.Sub(g.recent[len(g.recent)-g.perMinute]))
	}
	return max(0, wait)
}

// attempt notes that one begins. One begins only after the last has ended.
func (g *dialGate) attempt(now time.Time) {
	g.recent = append(g.recent, now)
	g.notBefore = now.Add(g.gap)
}

// ended notes that the attempt is over. The minute counts from here: APNs sees an
// attempt at some time between its beginning and its end, so that from the end of
// one to the beginning of another is the least that it can see between them.
func (g *dialGate) ended(now time.Time) {
	if n := len(g.recent); n > 0 {
		g.recent[n-1] = now
	}
}

// failed notes that an attempt came to nothing, or that its connection ended
// without having been of use.
func (g *dialGate) failed(now time.Time) {
	delay := g.gap * time.Duration(min(dialBackoffMax, 1<<min(g.failures, 10)))
	g.failures++
	// Half of it by chance, so that a fleet does not come back in step.
	delay = delay/2 + rand.N(delay/2+1) //nolint:gosec // no secret
	if t := now.Add(delay); t.After(g.notBefore) {
		g.notBefore = t
	}
}

// worked notes that a connection is of use.
func (g *dialGate) worked() { g.failures = 0 }

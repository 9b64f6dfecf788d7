package feedback

import (
	"math/rand/v2"
	"time"
)

const (
	// breakAfter is how many failures in a row open a breaker.
	breakAfter = 5
	// The pause before a probe doubles from the one to the other.
	leastPause = 2 * time.Second
	mostPause  = 5 * time.Minute
)

// breaker keeps from a receiver what it does not take: after some failures in a row it
// opens, and lets one probe pass after each pause, until one is taken. The zero value is
// closed. It is not safe for concurrent use.
type breaker struct {
	failures int           // in a row, while closed
	pause    time.Duration // before the next probe; 0: closed
	until    time.Time     // when that is over
	since    time.Time     // when it opened
}

func (b *breaker) open() bool { return b.pause > 0 }

// took is told that the receiver took something, and reports whether that closed the
// breaker.
func (b *breaker) took() (closed bool) {
	closed = b.open()
	*b = breaker{}
	return closed
}

// failed is told of a failure, and reports whether that opened the breaker. ask is for
// how long the receiver asks to be left alone, 0: it does not; gone, that it wants
// nothing more at all. Of what failed while the breaker was open only probes count: the
// rest was on its way before.
func (b *breaker) failed(now time.Time, probe bool, ask time.Duration, gone bool) (opened bool) {
	switch {
	case b.open() && !probe:
		return false
	case b.open():
		b.pause = min(2*b.pause, mostPause)
	default:
		if b.failures++; b.failures < breakAfter && ask == 0 && !gone {
			return false
		}
		b.pause, b.since, opened = leastPause, now, true
	}
	b.pause = min(max(b.pause, ask), mostPause)
	if gone {
		b.pause = mostPause
	}
	b.until = now.Add(jitter(b.pause))
	return opened
}

// jitter returns d, up to a tenth shorter or longer: what failed together is not to
// come back together.
func jitter(d time.Duration) time.Duration {
	return d - d/10 + rand.N(d/5+1) //nolint:gosec // not a secret
}

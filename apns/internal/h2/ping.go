package h2

import "time"

// pings numbers our PINGs and has at most one of them unanswered. They serve two
// ends: to see that the peer lives, and to know that it has seen our RST_STREAM
// frames. It is guarded by the connection's mu.
type pings struct {
	last    uint64 // number of the newest PING
	waiting uint64 // number of the one without an answer; 0: none
	at      time.Duration
	again   bool // resets were queued after it went out: it needs a successor
}

// start queues a PING unless one is unanswered.
func (p *pings) start(q *control, now time.Duration) {
	if p.waiting != 0 {
		return
	}
	p.last++
	p.waiting, p.at, p.again = p.last, now, false
	q.ping = p.waiting
}

// probe returns the number of a PING that goes out after what is queued now.
func (p *pings) probe(q *control, now time.Duration) uint64 {
	if p.waiting != 0 && q.ping == 0 {
		p.again = true
		return p.last + 1
	}
	p.start(q, now)
	return p.waiting
}

// settle takes the answer to PING number n, or that waiting for it is over. It
// reports whether n was the one that was waited for.
func (p *pings) settle(n uint64, q *control, now time.Duration) bool {
	if n == 0 || n != p.waiting {
		return false
	}
	again := p.again
	p.waiting, p.again, q.ping = 0, false, 0
	if again {
		p.start(q, now)
	}
	return true
}

package h2

import (
	"sync/atomic"
	"time"
)

// latencyBounds are the upper bounds of the buckets of [Latencies], in
// nanoseconds: from a fast answer on a local network to the request timeout.
var latencyBounds = [...]time.Duration{
	time.Millisecond, 2500 * time.Microsecond, 5 * time.Millisecond,
	10 * time.Millisecond, 25 * time.Millisecond, 50 * time.Millisecond,
	100 * time.Millisecond, 250 * time.Millisecond, 500 * time.Millisecond,
	time.Second, 2500 * time.Millisecond, 5 * time.Second, 10 * time.Second, 30 * time.Second,
}

// Latencies counts answers by how long they took, over all connections that it
// is given to. The zero value is ready; it is safe for concurrent use.
type Latencies struct {
	counts [len(latencyBounds) + 1]atomic.Uint64
	sum    atomic.Int64 // nanoseconds
}

// Snapshot returns how many answers came in all, the sum of what they took in
// seconds, and for each bound in seconds how many took no longer.
func (l *Latencies) Snapshot() (count uint64, sum float64, buckets map[float64]uint64) {
	buckets = make(map[float64]uint64, len(latencyBounds))
	for i, bound := range latencyBounds {
		count += l.counts[i].Load()
		buckets[bound.Seconds()] = count
	}
	return count + l.counts[len(latencyBounds)].Load(), time.Duration(l.sum.Load()).Seconds(), buckets
}

// latencyTally is what one reader has counted since it last added that to the
// shared Latencies: one atomic operation per bucket and read, not per answer.
type latencyTally struct {
	counts [len(latencyBounds) + 1]uint64
	sum    time.Duration
	count  uint64
}

func (t *latencyTally) observe(d time.Duration) {
	i := 0
	for i < len(latencyBounds) && d > latencyBounds[i] {
		i++
	}
	t.counts[i]++
	t.sum += d
	t.count++
}

// addTo moves the tally into l, which may be nil, and returns how many it was.
func (t *latencyTally) addTo(l *Latencies) uint64 {
	if t.count == 0 {
		return 0
	}
	count := t.count
	if l != nil {
		for i, n := range t.counts {
			if n != 0 {
				l.counts[i].Add(n)
			}
		}
		l.sum.Add(int64(t.sum))
	}
	*t = latencyTally{}
	return count
}

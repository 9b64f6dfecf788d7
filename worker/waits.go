package worker

import (
	"math"
	"sort"
	"sync/atomic"
	"time"

	"github.com/pushfleet/pushfleet/stream"
)

// waitBuckets is how many bounds the buckets of waits have, in milliseconds: from one to
// some fifty minutes, each the half of an octave, so that a quantile is right to a fifth.
const waitBuckets = 44

func waitBound(i int) float64 { return math.Pow(2, float64(i)/2) }

// waits counts how long notifications took until APNs accepted them. The zero value is
// ready; it is safe for concurrent use.
type waits struct {
	counts [waitBuckets + 1]atomic.Uint64
}

func (w *waits) observe(d time.Duration) {
	ms := float64(d) / float64(time.Millisecond)
	i := 0
	if ms > 1 {
		// The first bound that is not less: the logarithm tells, but for rounding.
		i = min(waitBuckets, int(math.Ceil(2*math.Log2(ms))))
	}
	w.counts[i].Add(1)
}

// read returns the counts.
func (w *waits) read() (counts [waitBuckets + 1]uint64) {
	for i := range w.counts {
		counts[i] = w.counts[i].Load()
	}
	return counts
}

// waitTimes is what was counted between two readings.
func waitTimes(before, after *[waitBuckets + 1]uint64) stream.Times {
	var times stream.Times
	from := 0.0
	for i := range after {
		to := waitBound(min(i, waitBuckets-1))
		if n := after[i] - before[i]; n > 0 {
			times = append(times, stream.Bucket{From: from, To: to, N: n})
		}
		from = to
	}
	return times
}

// answerTimes is what apns clients counted between two readings, of which each has
// counts up to a bound, in seconds.
func answerTimes(before, after map[float64]uint64, beforeAll, afterAll uint64) stream.Times {
	bounds := make([]float64, 0, len(after))
	for b := range after {
		bounds = append(bounds, b)
	}
	sort.Float64s(bounds)
	var times stream.Times
	from, seen := 0.0, uint64(0)
	for _, b := range bounds {
		upTo := after[b] - before[b]
		if n := upTo - seen; n > 0 {
			times = append(times, stream.Bucket{From: from, To: 1000 * b, N: n})
		}
		from, seen = 1000*b, upTo
	}
	if n := afterAll - beforeAll - seen; n > 0 {
		times = append(times, stream.Bucket{From: from, To: from, N: n})
	}
	return times
}

package worker

import (
	"math"
	"math/bits"
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

func (w *waits) observe(d time.Duration) { w.counts[waitBucket(d)].Add(1) }

// waitBucket is the first bucket whose bound is not less. It is asked for each notification
// that is accepted, so it counts bits: a logarithm takes six times as long.
func waitBucket(d time.Duration) int {
	const root = 1_414_213 // of two, in nanoseconds of a millisecond
	if d <= time.Millisecond {
		return 0
	}
	octave := bits.Len64(uint64(d-1)/uint64(time.Millisecond)) - 1 // it is longer than 2^octave ms
	switch {
	case octave >= waitBuckets/2:
		return waitBuckets
	case d <= root<<octave:
		return 2*octave + 1
	default:
		return 2*octave + 2
	}
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

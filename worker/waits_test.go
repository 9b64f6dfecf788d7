package worker_test

import (
	"math"
	"testing"
	"time"

	"github.com/pushfleet/pushfleet/worker"
)

// A time is counted in the first bucket whose bound is not less, to a millionth.
func TestWaitBucket(t *testing.T) {
	t.Parallel()
	const last = 44
	for _, d := range []time.Duration{math.MinInt64, -1, 0, 1, time.Millisecond} {
		if got := worker.WaitBucket(d); got != 0 {
			t.Errorf("%s: got bucket %d, want 0", d, got)
		}
	}
	for i := 1; i < last; i++ {
		from, to := worker.WaitBound(i-1)*float64(time.Millisecond), worker.WaitBound(i)*float64(time.Millisecond)
		for _, ns := range []float64{from*(1+1e-6) + 1, (from + to) / 2, to*(1-1e-6) - 1} {
			if got := worker.WaitBucket(time.Duration(ns)); got != i {
				t.Errorf("%s: got bucket %d, want %d", time.Duration(ns), got, i)
			}
		}
		if got := worker.WaitBucket(time.Duration(to)); got != i && i%2 == 0 { // those of the others are no whole numbers
			t.Errorf("the bound %s: got bucket %d, want %d", time.Duration(to), got, i)
		}
	}
	for _, d := range []time.Duration{time.Duration(worker.WaitBound(last)*float64(time.Millisecond)) + 1, 24 * time.Hour, math.MaxInt64} {
		if got := worker.WaitBucket(d); got != last {
			t.Errorf("%s: got bucket %d, want the last one, %d", d, got, last)
		}
	}
}

var waitSink int

func BenchmarkWaitBucket(b *testing.B) {
	for i := range b.N {
		waitSink += worker.WaitBucket(time.Duration(i%1000) * 777 * time.Microsecond)
	}
}

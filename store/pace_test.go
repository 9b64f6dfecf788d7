package store_test

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/pushfleet/pushfleet/internal/testenv"
	"github.com/pushfleet/pushfleet/store"
)

func (f *fixture) permits(t *testing.T, rate, want int) (granted int, wait time.Duration) {
	t.Helper()
	granted, wait, err := f.Permits(t.Context(), app, campaignID, rate, want)
	if err != nil {
		t.Fatalf("Permits: %v", err)
	}
	return granted, wait
}

func TestPermits(t *testing.T) {
	onBoth(t, func(t *testing.T, f *fixture) {
		for i, tt := range []struct {
			after         time.Duration
			rate, want    int
			granted       int
			least, atMost time.Duration // of the wait
		}{
			{rate: 0, want: 1_000_000, granted: 1_000_000},
			{rate: 1000, want: 30, granted: 30},
			{rate: 1000, want: 1000, granted: 70, least: 50 * time.Millisecond, atMost: 50 * time.Millisecond},
			{rate: 1000, want: 10, least: 10 * time.Millisecond, atMost: 10 * time.Millisecond},
			{after: 20 * time.Millisecond, rate: 1000, want: 1000, granted: 20, least: 50 * time.Millisecond, atMost: 50 * time.Millisecond},
			// What nobody asked for is lost.
			{after: 9 * time.Second, rate: 1000, want: 1000, granted: 100, least: 50 * time.Millisecond, atMost: 50 * time.Millisecond},
			// The rate changes, at once.
			{rate: 10_000, want: 5000, granted: 900, least: 50 * time.Millisecond, atMost: 50 * time.Millisecond},
			{after: 50 * time.Millisecond, rate: 10_000, want: 5000, granted: 500, least: 50 * time.Millisecond, atMost: 50 * time.Millisecond},
			{rate: 1, want: 10, least: time.Second, atMost: time.Second},
			{after: time.Second, rate: 1, want: 10, granted: 1, least: time.Second, atMost: time.Second},
			{after: 999 * time.Millisecond, rate: 1, want: 10, least: time.Millisecond, atMost: time.Millisecond},
			// A clock that goes back stops nothing.
			{after: -time.Hour, rate: 1000, want: 10, granted: 10},
			{rate: 1000, want: 10, granted: 10},
		} {
			f.clock.move(tt.after)
			granted, wait := f.permits(t, tt.rate, tt.want)
			if granted != tt.granted || wait < tt.least || wait > tt.atMost {
				t.Errorf("call %d, %d of %d a second: got %d and a wait of %s, want %d and %s to %s", i, tt.want, tt.rate, granted, wait, tt.granted, tt.least, tt.atMost)
			}
		}
	})
}

// grant is what one call was granted, some time between two.
type grant struct {
	from, to time.Duration
	n        int
}

// most is the largest number of permits that were surely granted within a window,
// and least the smallest that were perhaps.
func most(grants []grant, window time.Duration) (n int) {
	for _, first := range grants {
		sum := 0
		for _, g := range grants {
			if g.from >= first.from && g.to < first.from+window {
				sum += g.n
			}
		}
		n = max(n, sum)
	}
	return n
}

func least(grants []grant, window, end time.Duration) int {
	n := -1
	for from := time.Second; from+window < end; from += 100 * time.Millisecond {
		sum := 0
		for _, g := range grants {
			if g.to >= from && g.from < from+window {
				sum += g.n
			}
		}
		if n < 0 || sum < n {
			n = sum
		}
	}
	return n
}

// Eight senders that come late, each by its own time: the rate holds over any ten
// seconds, from above and below.
func TestPaceHolds(t *testing.T) {
	for _, rate := range []int{1, 2, 7, 15, 40, 333, 1000, 50_000} {
		t.Run(fmt.Sprint(rate), func(t *testing.T) {
			onBoth(t, func(t *testing.T, f *fixture) {
				rnd := rand.New(rand.NewPCG(uint64(rate), 2))
				const callers, span, window = 8, 25 * time.Second, 10 * time.Second
				var next [callers]time.Duration
				var grants []grant
				now := time.Duration(0)
				for {
					c := 0
					for i := range next {
						if next[i] < next[c] {
							c = i
						}
					}
					f.clock.move(max(next[c], now) - now)
					if now = max(next[c], now); now >= span {
						break
					}
					granted, wait := f.permits(t, rate, 1+rnd.IntN(max(rate/5, 3)))
					if granted > max(rate/10, 1) {
						t.Fatalf("one call: got %d permits, want a tenth of %d at most", granted, rate)
					}
					grants = append(grants, grant{now, now, granted})
					next[c] = now + wait.Round(time.Millisecond) + time.Duration(1+rnd.IntN(20))*time.Millisecond
				}
				limit := rate * 10 * 105 / 100
				if got := most(grants, window); got > limit {
					t.Errorf("permits in ten seconds: got %d, want %d at most", got, limit)
				}
				if got := least(grants, window, span); got < rate*10*95/100 {
					t.Errorf("permits in ten seconds: got %d, want %d at least", got, rate*10*95/100)
				}
			})
		})
	}
}

// By the server's own clock, with callers that do run at once.
func TestPaceByTheServersClock(t *testing.T) {
	t.Parallel()
	const callers, rate, span = 8, 2000, 3 * time.Second
	st := store.New(testenv.Redis(t).Client, store.Config{})
	begun := time.Now()
	var mu sync.Mutex
	var grants []grant
	var running sync.WaitGroup
	for range callers {
		running.Go(func() {
			for time.Since(begun) < span {
				from := time.Since(begun)
				n, wait, err := st.Permits(t.Context(), app, campaignID, rate, 120)
				if err != nil {
					t.Errorf("Permits: %v", err)
					return
				}
				mu.Lock()
				grants = append(grants, grant{from, time.Since(begun), n})
				mu.Unlock()
				select {
				case <-time.After(wait):
				case <-t.Context().Done():
				}
			}
		})
	}
	running.Wait()
	total := 0
	for _, g := range grants {
		total += g.n
	}
	// A machine that is busy with other things may keep all callers from asking.
	if total < rate*3/2 {
		t.Errorf("permits in 3 s: got %d of %d", total, 3*rate)
	}
	for _, window := range []time.Duration{100 * time.Millisecond, time.Second, 2 * time.Second} {
		limit := int(rate*window.Seconds()) + rate/10
		if got := most(grants, window); got > limit {
			t.Errorf("permits in %s: got %d, want %d at most", window, got, limit)
		}
	}
}

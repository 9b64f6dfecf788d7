package apnstest

import (
	"sync"

	"github.com/cespare/xxhash/v2"
)

// buckets are leaky buckets, one for each device token. Safe for concurrent use.
type buckets struct {
	mu sync.Mutex
	m  map[uint64]int64 // by hash of the token: when the bucket would be empty
}

// take reports whether one more may go to the device token now. It is GCRA: a
// bucket is the time when it will be empty.
func (b *buckets) take(tok []byte, now int64, rl RateLimit) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.m == nil {
		b.m = make(map[uint64]int64)
	}
	h := xxhash.Sum64(tok)
	every := int64(rl.Every)
	if every == 0 {
		every = 1 << 40 // nothing leaks within a test: some 18 minutes each
	}
	empty := max(b.m[h], now)
	if empty-now > int64(rl.Burst-1)*every {
		return false
	}
	b.m[h] = empty + every
	return true
}

func (b *buckets) reset() {
	b.mu.Lock()
	defer b.mu.Unlock()
	clear(b.m)
}

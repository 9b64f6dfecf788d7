package worker

import (
	"math/rand/v2"
	"sync"
	"time"
)

// What an overloaded APNs must not get on top of first tries. choice: a fifth is
// far above what a healthy APNs asks for, and cannot multiply an overload; the
// floor drains what an outage has left when nothing new comes.
const (
	retryShare   = 0.2       // of first tries
	retryFloor   = 100       // a second, for each lane of an app in a worker
	retryBurst   = 1000      // that may be saved up
	retryStretch = time.Hour // of a delay, at most
)

// budget bounds how many notifications of a lane are tried again. First tries
// earn retries, and so does time. A retry beyond what is earned is put off until it
// will be; none is given up. The zero value has retryBurst saved up.
type budget struct {
	mu    sync.Mutex
	spent float64   // guarded by mu: of retryBurst; more is promised to retries that wait
	at    time.Time // guarded by mu: until when time was counted
}

// earn notes first tries.
func (b *budget) earn(n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.spent = max(0, b.spent-retryShare*float64(n))
}

// try takes one retry that is to be made now, if it is earned.
func (b *budget) try(now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.pass(now)
	if b.spent+1 > retryBurst {
		return false
	}
	b.spent++
	return true
}

// stretch takes one retry, and returns how much longer it has to wait.
func (b *budget) stretch(now time.Time) time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.pass(now)
	wait := time.Duration((b.spent + 1 - retryBurst) / retryFloor * float64(time.Second))
	if wait > retryStretch {
		// Further ahead nothing is promised: they are spread, and ask again then.
		return rand.N(retryStretch) //nolint:gosec // spreads load, hides nothing
	}
	b.spent++
	return max(0, wait)
}

// pass counts the time since it was last counted; mu is held.
func (b *budget) pass(now time.Time) {
	if !b.at.IsZero() {
		b.spent = max(0, b.spent-now.Sub(b.at).Seconds()*retryFloor)
	}
	b.at = now
}

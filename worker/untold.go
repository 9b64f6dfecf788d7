package worker

import (
	"sync"
	"time"
)

// untold follows whether OUTCOMES takes what it is told. The zero value is ready.
type untold struct {
	mu      sync.Mutex
	waiting int       // guarded by mu: messages whose outcomes are on their way
	since   time.Time // guarded by mu: nothing was stored since then
}

func (u *untold) begin(now time.Time) {
	u.mu.Lock()
	if u.waiting == 0 {
		u.since = now
	}
	u.waiting++
	u.mu.Unlock()
}

func (u *untold) end(now time.Time) {
	u.mu.Lock()
	u.waiting--
	u.since = now
	u.mu.Unlock()
}

// stuck returns for how long nothing was stored although something waits; 0: it is.
func (u *untold) stuck(now time.Time) time.Duration {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.waiting == 0 {
		return 0
	}
	return now.Sub(u.since)
}

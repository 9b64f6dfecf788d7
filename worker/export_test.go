package worker

import (
	"time"

	"github.com/pushfleet/pushfleet/apns"
)

// HasRule reports whether the policy has a row for a reason of its own.
func HasRule(p *Policy, r apns.Reason) bool {
	_, ok := p.rules[r]
	return ok
}

// Budget is the budget of a lane.
type Budget struct{ b budget }

// The constants of it.
const (
	RetryShare   = retryShare
	RetryFloor   = retryFloor
	RetryBurst   = retryBurst
	RetryStretch = retryStretch
)

func (b *Budget) Earn(n int)                          { b.b.earn(n) }
func (b *Budget) Try(now time.Time) bool              { return b.b.try(now) }
func (b *Budget) Stretch(now time.Time) time.Duration { return b.b.stretch(now) }

// Spare keeps slices for use again.
type Spare struct{ s spare[int] }

func (s *Spare) Take(n int) []int { return s.s.take(n) }
func (s *Spare) Put(used []int)   { s.s.put(used) }

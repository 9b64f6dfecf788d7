package worker

import (
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/pushfleet/pushfleet/apns"
	"github.com/pushfleet/pushfleet/campaign"
	"github.com/pushfleet/pushfleet/device"
	"github.com/pushfleet/pushfleet/stream"
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

// UntracedRange returns all that tracing does with a range, and a try of it, of a campaign
// that is in no trace, at a worker with a tracer.
func UntracedRange(tracer trace.Tracer) func() {
	w := &Worker{cfg: Config{Tracer: tracer}}
	r := new(running)
	r.status.Store(&campaign.Status{ID: "spring"})
	m := &message{in: new(stream.Message), lane: &lane{campaign: r}}
	return func() {
		m.trace = w.traceOf(m)
		m.trace.try(0, apns.Notification{}, device.Production)
		m.trace.answered(0, apns.Response{})
		m.trace.end(m)
	}
}

// WaitBucket and WaitBound are where a time is counted, and up to how many milliseconds.
func WaitBucket(d time.Duration) int { return waitBucket(d) }

func WaitBound(i int) float64 { return waitBound(i) }

package feedback

import "time"

// The waits of webhooks are too long to be waited for.
const (
	BreakAfter       = breakAfter
	MostPause        = mostPause
	WebhookFor       = webhookFor
	WebhookRetry     = webhookRetry
	WebhookRetryMost = webhookRetryMost
)

var (
	RetryAfter = retryAfter
	RetryDelay = retryDelay
	CheckDial  = checkDial
)

// Breaker is the breaker of a webhook.
type Breaker struct{ b breaker }

func (b *Breaker) Open() bool           { return b.b.open() }
func (b *Breaker) Took() bool           { return b.b.took() }
func (b *Breaker) Pause() time.Duration { return b.b.pause }
func (b *Breaker) Until() time.Time     { return b.b.until }

func (b *Breaker) Failed(now time.Time, probe bool, ask time.Duration, gone bool) bool {
	return b.b.failed(now, probe, ask, gone)
}

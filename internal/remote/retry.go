package remote

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"time"
)

const (
	// patience is how long a call is repeated: longer than a rolling restart keeps one
	// process away, or a rate limit holds one back.
	patience = time.Minute
	// awayTries is how often a server is called that does not answer: whoever mistyped its
	// name wants to know soon.
	awayTries = 4

	firstDelay   = 250 * time.Millisecond
	longestDelay = 5 * time.Second
)

// retries decides whether a call is made again. It is for one call.
type retries struct {
	begun time.Time
	delay time.Duration
	away  int // tries in a row without an answer
}

func newRetries() *retries { return &retries{begun: time.Now(), delay: firstDelay} }

// again waits until a call that ended with err may be made again, and reports false where
// it must not be, or where that has gone on for long enough.
func (r *retries) again(ctx context.Context, err error, repeatable bool) bool {
	wait, ok := r.after(err, repeatable)
	if !ok || time.Since(r.begun)+wait > patience {
		return false
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// after is how long to wait before the next try. Many that were refused at once must not
// come back at once: up to a half is added.
func (r *retries) after(err error, repeatable bool) (time.Duration, bool) {
	wait := r.delay
	var answer *Error
	var none *unanswered
	switch {
	case errors.As(err, &answer):
		if r.away = 0; !answer.later(repeatable) {
			return 0, false
		}
		wait = max(wait, answer.retryAfter)
	case errors.As(err, &none):
		if r.away++; r.away >= awayTries || !repeatable && !none.unsent() {
			return 0, false
		}
	default:
		return 0, false
	}
	r.delay = min(2*r.delay, longestDelay)
	return wait + rand.N(wait/2), true //nolint:gosec // it need not be unguessable
}

// later reports whether to ask again later. Who is told of a limit, or that there is no
// room, knows that nothing was done; else it may have been.
func (e *Error) later(repeatable bool) bool {
	switch e.Status {
	case http.StatusTooManyRequests:
		return true
	case http.StatusServiceUnavailable:
		return repeatable || e.Code == "overloaded" || e.Code == "no_room"
	case http.StatusBadGateway, http.StatusGatewayTimeout:
		return repeatable
	default:
		return false
	}
}

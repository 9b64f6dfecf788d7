package apns

import (
	"fmt"
	"time"
)

// RouteError says that APNs refuses a route's credential, so that its client has
// stopped: each further try would be refused too, and opening connections again
// and again may be taken for an attack (Apple, Establishing a connection to
// APNs). Sends fail at once with it, together with [ErrNotSent], until Until;
// then a single connection tries again.
type RouteError struct {
	Reason Reason    // APNs's; empty if the credential did not get that far
	Until  time.Time // when the client tries again by itself
	Cause  error     // nil if Reason says it all
}

// Error names the reason.
func (e *RouteError) Error() string {
	if e.Cause != nil {
		return fmt.Sprintf("apns: route stopped: %v", e.Cause)
	}
	return fmt.Sprintf("apns: route stopped: APNs refuses the credential: %s", e.Reason)
}

// Unwrap returns the cause.
func (e *RouteError) Unwrap() error { return e.Cause }

// How long a stopped route stays so: doubled each time it is stopped again
// without an answer in between. choice: an operator who has mended the account
// waits a minute; a fleet with a dead key connects twice per hour.
const (
	stopFirst = time.Minute
	stopMost  = 30 * time.Minute
)

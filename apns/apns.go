package apns

import (
	"errors"

	"github.com/google/uuid"

	"github.com/pushfleet/pushfleet/device"
	"github.com/pushfleet/pushfleet/job"
)

// Notification is one request to APNs: what one device receives. A batch's
// notifications may share strings and payloads; nothing of them is changed.
type Notification struct {
	DeviceToken device.Token
	APNsID      uuid.UUID // canonical UUID; the same on every try
	Topic       string    // apns-topic, suffix included
	PushType    job.PushType
	Priority    uint8 // 10, 5 or 1; 0 leaves the header out (APNs: 10)
	// Avoid names a connection by [Response.Connection]: the notification goes out on
	// another one, if there is one that takes notifications. 0 is none. Whether a
	// batch avoids connections is seen from its first notification.
	Avoid uint32
	// Expiration is apns-expiration in Unix seconds: 0 is one attempt without
	// storage, negative leaves the header out (stored up to 30 days).
	Expiration int64
	CollapseID string // at most 64 bytes; empty leaves the header out
	Payload    []byte // JSON as sent
}

// Response is what became of one notification. Either APNs answered (Err is
// nil, Status is set), or it did not (Err says why).
type Response struct {
	Status int // HTTP status; 0 if APNs did not answer
	// Reason is empty for 200, and where an answer was cut off before it said why:
	// then the status tells the class.
	Reason    Reason
	Timestamp int64     // milliseconds since the epoch, with 410 only; else 0
	APNsID    uuid.UUID // as APNs returned it, or as it was sent
	UniqueID  string    // apns-unique-id: sandbox only
	// Connection is which of the client's connections APNs answered on, counted from
	// 1; 0 if it did not answer.
	Connection uint32

	// Err is nil whenever APNs answered. errors.Is(Err, ErrNotSent) means that
	// APNs cannot have processed the request, so sending it again makes no
	// duplicate; any other error leaves that unknown.
	Err error
}

// ErrNotSent marks a notification that APNs cannot have processed.
var ErrNotSent = errors.New("apns: not sent")

// UnsentError is the cause with which the context of a [Client.Send] ends if only
// what was not handed to a connection yet is to be given up. The rest is waited for.
type UnsentError struct {
	Cause error
	Rest  <-chan struct{} // when it is closed the rest is given up as well; nil: never
}

// Error says what the cause says.
func (e *UnsentError) Error() string { return e.Cause.Error() }

// Unwrap returns the cause.
func (e *UnsentError) Unwrap() error { return e.Cause }

package h2

import (
	"time"

	"github.com/google/uuid"

	"github.com/pushfleet/pushfleet/device"
	"github.com/pushfleet/pushfleet/job"
)

// Request is one notification as it goes on the wire. It has exactly the fields
// of apns.Notification, so that a pointer to one converts to a pointer to the
// other and nothing is copied.
type Request struct {
	DeviceToken device.Token
	APNsID      uuid.UUID
	Topic       string
	PushType    job.PushType
	Priority    uint8
	Avoid       uint32 // not the connection's matter: whose it is chooses one
	Expiration  int64
	CollapseID  string
	Payload     []byte
}

// Batch is where requests come from and their results go to.
type Batch interface {
	// Request returns a request of the batch. The connection reads what it points
	// to until it has called Done for it, and changes nothing.
	Request(index int32) *Request
	// Done is called exactly once for each item that [Owner.Take] handed out, from
	// any of the connection's goroutines or from that which called one of its
	// methods, never under a lock. It must not block. r is valid until it returns.
	Done(from *Conn, it Item, r *Result)
}

// Item is one request of a batch, on its way.
type Item struct {
	Batch Batch
	Index int32
	Tries uint8 // for the owner: how often it was handed out before
	Flags uint8 // for the owner
}

// Result is what became of one request: an answer (Err is nil), or why there is
// none.
type Result struct {
	Status   int
	APNsID   uuid.UUID // zero if the answer named none
	UniqueID string
	Body     []byte        // at most maxAnswerBytes of the answer's body
	Elapsed  time.Duration // from encoding the request to reading the answer

	Err error
	// Unprocessed: Err is set, and the peer cannot have acted on the request,
	// because it was never sent as a whole or the peer said so. Otherwise an Err
	// leaves that unknown.
	Unprocessed bool
}

// Cost is about how many bytes a request is on the wire.
func Cost(r *Request) int { return headersCost + len(r.Payload) }

// headersCost is the size of HEADERS in the steady state with a device token of
// 32 bytes, an apns-id and an expiration, and the header of DATA.
const headersCost = 170

// Owner is who a connection works for: it has the queue.
type Owner interface {
	// Take moves up to len(dst) requests of a lane into dst, for this connection
	// to send, and returns how many. Together their [Cost] is at most budget, unless
	// the first alone has more. It is called under the connection's lock: it must
	// not block and must call no method of the connection.
	Take(lane job.Lane, dst []Item, budget int) int
	// GoAway says that the peer wants no further streams. It is called from the
	// reader, for each GOAWAY frame.
	GoAway(from *Conn, g *GoAwayError)
	// Closed says that the connection has ended, and why. It is called once, after
	// the last Done and when both goroutines are about to end.
	Closed(from *Conn, err error)
}

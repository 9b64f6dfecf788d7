package apns

import (
	"fmt"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/pushfleet/pushfleet/apns/internal/h2"
	"github.com/pushfleet/pushfleet/job"
)

const (
	// maxResends is how often a notification that a connection gave back unsent
	// is tried on another before its caller is told.
	maxResends = 5
	// flagReacted marks a notification that was sent again because of APNs's
	// answer, which is done once.
	flagReacted = 1
)

// call is one Send. It is the batch that the connections know.
type call struct {
	pool    *pool
	lane    job.Lane
	batch   []Notification
	done    func(i int, r Response)
	started time.Time

	left     atomic.Int64  // results still to come
	finished chan struct{} // holds one: the last result was told

	// Guarded by the pool's mu.
	next      int   // first notification that was never handed out
	cancelled error // why nothing of it is to be sent any more
}

// Request implements [h2.Batch]. A Notification has the fields of an h2.Request;
// if that changes, this does not compile.
func (c *call) Request(i int32) *h2.Request { return (*h2.Request)(&c.batch[i]) }

// Done implements [h2.Batch].
func (c *call) Done(from *h2.Conn, it h2.Item, r *h2.Result) {
	l, ok := from.Owner().(*link)
	if !ok {
		panic("apns: a connection that is no pool's")
	}
	switch {
	case r.Err == nil && r.Status == http.StatusOK:
		if !l.proven.Load() {
			l.pool.prove(l)
		}
		if l.faults.Load() != 0 { // a load is cheaper than a store for each
			l.faults.Store(0)
		}
		c.tell(it.Index, Response{Status: r.Status, APNsID: r.APNsID, UniqueID: r.UniqueID, Connection: l.id})
	case r.Err == nil:
		c.rejected(l, it, r)
	case r.Unprocessed:
		c.unprocessed(l, it, r.Err)
	default:
		c.pool.counters.unknown.Add(1)
		c.tell(it.Index, Response{Err: fmt.Errorf("apns: no answer: %w", r.Err)})
	}
}

// rejected handles an answer other than 200. If it is about the connection or
// its provider token and not about the notification, that goes out once more.
func (c *call) rejected(l *link, it h2.Item, r *h2.Result) {
	resp := Response{Status: r.Status, APNsID: r.APNsID, UniqueID: r.UniqueID, Connection: l.id}
	resp.Reason, resp.Timestamp = c.pool.answers.read(r.Body)
	if c.pool.react(l, &resp, c.batch[it.Index].Topic) && it.Flags&flagReacted == 0 {
		it.Flags |= flagReacted
		if c.pool.sendAgain(c, l, it, resendReason) == nil {
			return
		}
	}
	c.tell(it.Index, resp)
}

// unprocessed handles a notification that APNs cannot have seen.
func (c *call) unprocessed(l *link, it h2.Item, err error) {
	if it.Tries++; it.Tries <= maxResends {
		refusal := c.pool.sendAgain(c, l, it, resendUnprocessed)
		if refusal == nil {
			return
		}
		err = refusal
	}
	c.fail(it.Index, err)
}

// fail tells that a notification was not sent.
func (c *call) fail(i int32, cause error) {
	c.tell(i, Response{Err: fmt.Errorf("%w: %w", ErrNotSent, cause)})
}

// tell passes a result on. The caller's Send may return with the last one, so
// nothing of c may be used after it.
func (c *call) tell(i int32, r Response) {
	if r.APNsID == (uuid.UUID{}) {
		r.APNsID = c.batch[i].APNsID
	}
	c.done(int(i), r)
	if c.left.Add(-1) == 0 {
		c.finished <- struct{}{}
	}
}

package apns

import (
	"time"

	"github.com/pushfleet/pushfleet/apns/internal/h2"
)

// queue holds the notifications of one lane that wait for a connection, first
// come, first served. What is sent again goes first. It is guarded by the pool's
// mu. Its size is bounded by its callers, each of whom waits in Send.
type queue struct {
	calls   []*call // those with notifications that were never handed out
	again   []resend
	waiting int // notifications in both
}

// resend is a notification that a connection gave back.
type resend struct {
	call *call
	item h2.Item // of call
	from *link   // where it should not go again, if there is another way
}

// dropped is a notification that was taken out of a queue.
type dropped struct {
	call  *call
	index int32
}

func (q *queue) push(c *call) {
	q.calls = append(q.calls, c)
	q.waiting += len(c.batch)
}

func (q *queue) pushAgain(r resend) {
	q.again = append(q.again, r)
	q.waiting++
}

// take moves notifications for l into dst; see [h2.Owner]. alone: there is no
// other connection that could take what l gave back.
func (q *queue) take(l *link, alone bool, dst []h2.Item, budget int) int {
	n := 0
	if len(q.again) > 0 {
		n = q.takeAgain(func(r *resend) bool { return r.from != l || alone }, dst, &budget)
		q.waiting += n // counted below
	}
	fits := func(c *call, index int32) bool {
		budget -= h2.Cost(c.Request(index))
		return budget >= 0 || n == 0
	}
	for len(q.calls) > 0 && n < len(dst) && budget >= 0 {
		c := q.calls[0]
		for c.next < len(c.batch) && n < len(dst) {
			index := int32(c.next)
			if !fits(c, index) {
				break
			}
			dst[n] = h2.Item{Batch: c, Index: index}
			n++
			c.next++
		}
		if c.next < len(c.batch) {
			break
		}
		q.pop()
	}
	q.waiting -= n
	return n
}

// takeAgain moves those that were given back, and that may be taken, into dst.
func (q *queue) takeAgain(may func(r *resend) bool, dst []h2.Item, budget *int) int {
	n := 0
	kept := q.again[:0]
	for i := range q.again {
		r := &q.again[i]
		if n == len(dst) || !may(r) {
			kept = append(kept, *r)
			continue
		}
		if *budget -= h2.Cost(r.call.Request(r.item.Index)); *budget < 0 && n > 0 {
			kept = append(kept, *r)
			continue
		}
		dst[n] = r.item
		n++
	}
	clear(q.again[len(kept):])
	q.again = kept
	q.waiting -= n
	return n
}

func (q *queue) pop() {
	q.calls[0] = nil
	if q.calls = q.calls[1:]; len(q.calls) == 0 {
		q.calls = nil
	}
}

// drop takes out what keep does not want, and returns it.
func (q *queue) drop(keep func(c *call, again bool) bool) (out []dropped) {
	calls := q.calls[:0]
	for _, c := range q.calls {
		if keep(c, false) {
			calls = append(calls, c)
			continue
		}
		for ; c.next < len(c.batch); c.next++ {
			out = append(out, dropped{c, int32(c.next)})
		}
	}
	clear(q.calls[len(calls):])
	q.calls = calls
	again := q.again[:0]
	for _, r := range q.again {
		if keep(r.call, true) {
			again = append(again, r)
			continue
		}
		out = append(out, dropped{r.call, r.item.Index})
	}
	clear(q.again[len(again):])
	q.again = again
	q.waiting -= len(out)
	return out
}

// overdue reports whether the oldest batch has waited for longer than limit.
func (q *queue) overdue(now time.Time, limit time.Duration) bool {
	return len(q.calls) > 0 && now.Sub(q.calls[0].started) > limit || len(q.again) > 0
}

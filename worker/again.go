package worker

import (
	"context"
	"sync"
	"time"

	"github.com/pushfleet/pushfleet/apns"
)

// again sends notifications of one batch once more, at once and on another
// connection than the one that answered. The message stays where it is: neither
// handed back nor waited for. It is told of them on connections' readers, and
// sends from goroutines of its own, each of which takes all that came until it runs.
// How many that are is bounded by the lane's budget.
type again struct {
	w     *Worker
	ctx   context.Context //nolint:containedctx // of one call of sendBatch, which waits for it
	lane  *lane
	route *Route

	sending sync.WaitGroup

	mu      sync.Mutex
	waiting []retry // guarded by mu
}

// retry is a notification that is sent again, and what becomes of it if it cannot
// be.
type retry struct {
	item
	notification apns.Notification
	response     apns.Response
	otherwise    Decision
}

// add takes a notification. It does not block.
func (a *again) add(r retry) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.waiting = append(a.waiting, r); len(a.waiting) == 1 {
		a.sending.Go(a.send)
	}
}

// wait waits until all have had their answers. Nothing may be added any more.
func (a *again) wait() { a.sending.Wait() }

func (a *again) send() {
	a.mu.Lock()
	retries := a.waiting
	a.waiting = nil
	a.mu.Unlock()
	var b batch
	now := a.w.cfg.Now()
	for i := range retries {
		r := &retries[i]
		if !a.may(r, now) {
			a.w.apply(a.ctx, r.item, r.response, r.otherwise, now)
			continue
		}
		r.m.recipients[r.i].attempts++
		r.m.trace.try(r.i, r.notification, r.m.recipients[r.i].environment)
		a.w.metrics.retried(r.m.lane, r.response)
		b.notifications = append(b.notifications, r.notification)
		b.items = append(b.items, r.item)
	}
	if len(b.items) == 0 {
		return
	}
	a.route.Sender.Send(a.ctx, a.lane.lane, b.notifications, func(n int, resp apns.Response) {
		a.w.answered(a.ctx, a.route, b.items[n], &b.notifications[n], resp, nil)
	})
}

// may reports whether a notification may still be sent by this worker.
func (a *again) may(r *retry, now time.Time) bool {
	env, monotonic := r.m.recipients[r.i].environment, time.Now()
	return a.ctx.Err() == nil && r.m.ours(monotonic) && !r.m.expiryOf(&r.m.recipients[r.i]).Passed(now) &&
		!a.w.fuseTripped(r.m.lane.app.name, env) && a.route.stoppedUntil(r.notification.Topic, monotonic).IsZero()
}

package worker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/pushfleet/pushfleet/apns"
	"github.com/pushfleet/pushfleet/device"
	"github.com/pushfleet/pushfleet/job"
)

// item is one notification of a batch: a recipient of a message.
type item struct {
	m *message
	i int
}

// batch is what goes to one route in one call.
type batch struct {
	notifications []apns.Notification
	items         []item
}

// send sends to every undecided recipient of messages of one lane. It returns
// when each has had its answer.
func (w *Worker) send(ctx context.Context, l *lane, messages []*message) {
	batches := make(map[*Route]*batch)
	now := time.Now()
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	size := 0
	for _, m := range messages {
		size += m.left
	}
	for _, m := range messages {
		switch {
		case m.left == 0:
			w.finished.push(m)
		case !m.begin(now, stop):
			w.lose(m)
		default:
			m.startedAt = now
			w.enqueue(m, batches, size)
		}
	}
	for _, m := range messages {
		// Who halts campaigns, or removes apps, takes back what is being sent by then.
		if err := w.halted(m); err != nil {
			m.giveUp(err)
		}
	}
	var others sync.WaitGroup
	rest := len(batches)
	sendBatch := w.sendBatch
	if l.campaign != nil {
		sendBatch = w.sendPaced
	}
	for route, b := range batches {
		if rest--; rest == 0 {
			sendBatch(ctx, l, route, b)
			break
		}
		others.Go(func() { sendBatch(ctx, l, route, b) })
	}
	others.Wait()
	for _, b := range batches {
		w.spareNotifications.put(b.notifications)
		w.spareItems.put(b.items)
	}
}

// enqueue adds a message's undecided recipients to the batches of their routes,
// most of them to one; size is how many there are in all messages.
func (w *Worker) enqueue(m *message, batches map[*Route]*batch, size int) {
	now, monotonic := w.cfg.Now(), time.Now()
	if m.rng == nil && m.expiry.Passed(now) {
		w.expireRest(m)
		return
	}
	n := apns.Notification{
		Topic: m.topic, PushType: m.job.EffectivePushType(), Priority: uint8(m.job.EffectivePriority()),
		Expiration: m.expiry.Header(), CollapseID: m.job.CollapseID,
	}
	if m.rng == nil {
		var err error
		if n.Payload, err = m.job.RenderPayload(); err != nil {
			// Parse has rendered it before: this cannot fail now.
			panic("worker: a parsed job does not render: " + err.Error())
		}
	}
	// Counted before the first answer can come: decide is called concurrently.
	ids := job.NewAPNsIDs(m.app.Name, m.root)
	var at way // of the recipient before, which most often is this one's
	halted, first := false, 0
	for i := range m.recipients {
		r := &m.recipients[i]
		if r.fate != undecided {
			continue
		}
		if !at.known || at.environment != r.environment {
			at = w.wayTo(m.app.App, r.environment, n.Topic, monotonic)
		}
		if at.wait > 0 {
			halted = m.wait(i, m.within(r, now, at.wait), r.attempts)
			continue
		}
		b := at.batch
		if b == nil {
			if b = batches[at.route]; b == nil {
				b = &batch{}
				if len(batches) == 0 {
					b.notifications, b.items = w.spareNotifications.take(size), w.spareItems.take(size)
				}
				batches[at.route] = b
			}
			at.batch = b
		}
		n.DeviceToken, n.APNsID = r.token, ids.ID(r.token)
		if m.rng != nil {
			n.Payload, n.Expiration = r.payload, r.expiry.Header()
		}
		b.notifications = append(b.notifications, n)
		b.items = append(b.items, item{m, i})
		m.trace.try(i, n, r.environment)
		if r.attempts == 0 {
			first++
		}
	}
	m.lane.retries.earn(first)
	if halted {
		w.finished.push(m)
	}
}

// way is where the recipients of one message in one environment go.
type way struct {
	known       bool
	environment device.Environment
	route       *Route
	wait        time.Duration // nothing is sent there, and it is tried after this; 0: it is sent
	batch       *batch        // nil: none yet
}

// wayTo looks where notifications on a topic go in an environment.
func (w *Worker) wayTo(app *App, env device.Environment, topic string, now time.Time) way {
	at := way{known: true, environment: env}
	if w.fuseTripped(app.Name, env) {
		at.wait = w.cfg.FuseRetry
		return at
	}
	at.route = app.route(env, topic)
	if until := at.route.stoppedUntil(topic, now); !until.IsZero() {
		at.wait = until.Sub(now)
	}
	return at
}

// expireRest settles the undecided recipients of a message whose time is over.
func (w *Worker) expireRest(m *message) {
	last := false
	for i := range m.recipients {
		if r := &m.recipients[i]; r.fate == undecided {
			w.metrics.settled(m.lane, r.environment, job.Expired, "", 1)
			last = m.decide(i, settledOther, &other{Recipient: job.Recipient{DeviceToken: r.token, Result: job.Expired}})
		}
	}
	if last {
		w.finished.push(m)
	}
}

func (w *Worker) sendBatch(ctx context.Context, l *lane, route *Route, b *batch) {
	again := &again{w: w, ctx: ctx, lane: l, route: route}
	route.Sender.Send(ctx, l.lane, b.notifications, func(n int, r apns.Response) {
		w.answered(ctx, route, b.items[n], &b.notifications[n], r, again)
	})
	again.wait()
}

// answered settles one recipient by what APNs said, or did not say. It runs on
// the connection's reader and does not block. again is for what is sent once more at
// once; nil, where it was.
func (w *Worker) answered(ctx context.Context, route *Route, it item, n *apns.Notification, resp apns.Response, again *again) {
	m := it.m
	r := &m.recipients[it.i]
	m.trace.answered(it.i, resp)
	now := w.cfg.Now()
	d := w.policy.Decide(resp, Try{
		Lane: m.lane.lane, Attempt: r.attempts + 1, Delivery: int(m.in.Deliveries), OnUnknown: m.job.OnUnknown, Left: m.timeLeft(r, now),
	})
	if d.Halt != GoOn {
		w.halt(m, route, n.Topic, d.Halt, resp, time.Now())
	}
	if d.Again && again != nil && m.lane.retries.try(time.Now()) {
		next := *n
		next.Avoid = resp.Connection
		again.add(retry{item: it, notification: next, response: resp, otherwise: d})
		return
	}
	w.apply(ctx, it, resp, d, now)
}

// apply does with one recipient what was decided.
func (w *Worker) apply(ctx context.Context, it item, resp apns.Response, d Decision, now time.Time) {
	m := it.m
	r := &m.recipients[it.i]
	var last bool
	if d.Action == Retry && w.cancelled(m) {
		w.metrics.settled(m.lane, r.environment, job.Skipped, reasonCancelled, 1)
		if m.decide(it.i, settledOther, &other{Recipient: job.Recipient{DeviceToken: r.token, Result: job.Skipped, Reason: reasonCancelled, Generation: r.generation}}) {
			w.finished.push(m)
		}
		return
	}
	switch d.Action {
	case Accept:
		w.metrics.accepted(m.lane, r.environment, now.Sub(m.in.StoredAt))
		last = m.decide(it.i, accepted, nil)
	case Retry:
		attempts, delay := r.attempts, d.Delay
		if d.Attempted {
			attempts++
		}
		if d.Costs {
			delay = m.within(r, now, delay+m.lane.retries.stretch(time.Now()))
		}
		if ctx.Err() != nil && !d.Attempted {
			delay = 0 // the worker goes: somebody else may try at once
		}
		w.metrics.retried(m.lane, resp)
		last = m.wait(it.i, delay, attempts)
	case Drop, Bury:
		o := other{environment: r.environment, Recipient: job.Recipient{
			DeviceToken: r.token, Result: job.Rejected, Reason: string(resp.Reason), Status: resp.Status,
			Timestamp: resp.Timestamp, Generation: r.generation, WrongKind: r.wrongKind, AcceptedBefore: r.acceptedBefore(), SentAt: m.startedAt,
		}}
		switch {
		case resp.Err != nil && d.Action == Drop:
			o.Result, o.Reason = job.Unknown, "no answer"
		case resp.Err != nil || resp.Status >= 500:
			o.Result = job.Failed
			if o.Reason == "" {
				o.Reason = "no answer"
			}
		}
		w.metrics.settled(m.lane, r.environment, o.Result, o.Reason, 1)
		// What is wrong with a campaign is wrong for all, and told by its counts: no
		// letter could be redriven that has one recipient's text for all.
		if d.Action == Bury && m.rng == nil {
			last = m.bury(it.i, o.Reason, &o)
		} else {
			last = m.decide(it.i, settledOther, &o)
		}
	}
	if last {
		w.finished.push(m)
	}
}

// halt stops a route, or one topic of it, after an answer that says that its
// configuration is wrong.
func (w *Worker) halt(m *message, route *Route, topic string, h Halt, resp apns.Response, now time.Time) {
	if h == StopRoute {
		topic = ""
	}
	reason := cmp.Or(string(resp.Reason), fmt.Sprintf("status %d", resp.Status))
	if stopped, ok := errors.AsType[*apns.RouteError](resp.Err); ok {
		reason = cmp.Or(string(stopped.Reason), stopped.Error())
	}
	if route.stop(topic, reason, now, now.Add(stopFor)) {
		w.log.Error("route is stopped: mend its configuration",
			zap.String("app", m.lane.app.name), zap.Stringer("environment", route.Environment),
			zap.String("topic", topic), zap.String("reason", string(resp.Reason)), zap.Int("status", resp.Status), zap.Duration("tried_again_in", stopFor), zap.Error(resp.Err))
	}
}

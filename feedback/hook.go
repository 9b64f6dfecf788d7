package feedback

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/pushfleet/pushfleet/job"
	"github.com/pushfleet/pushfleet/stream"
)

const (
	// maxPack bounds the messages of OUTCOMES that are taken together, and packBytes those
	// that are packed together: a message may be a hundred kilobytes.
	maxPack   = 64
	packBytes = 256 << 10
	// packTimeout is the patience with JetStream for what is packed together.
	packTimeout = 5 * time.Second
	// packPause is the wait before outcomes that could not be packed are taken again.
	packPause = 5 * time.Second
	// buryTimeout is the patience with JetStream for a dead letter.
	buryTimeout = 5 * time.Second
	// keepEvery is how often it is told that POSTs are still on their way.
	keepEvery = stream.WebhookAckWait / 3
)

var errStopping = errors.New("told to stop")

// hook is the webhook of one app: it packs outcomes into POSTs, as many as the receiver
// takes, and sends them.
//
//	OUTCOMES -> pack -> WEBHOOKS -> send -> receiver
//	                       ▲         │
//	                       └─ delay ─┴-> DEAD
//
// A message of WEBHOOKS is one POST: its body is what is sent, at every try.
type hook struct {
	app      string
	receiver *Receiver
	client   *postClient
	log      *zap.Logger
	metrics  *webhookMetrics
	now      func() time.Time
	drain    time.Duration
	queue    atomic.Pointer[stream.Webhook]

	note atomic.Pointer[string] // why nothing is taken; nil: it is

	// Only touched by run and what it calls:
	breaker breaker
	flying  []*flight
	landed  chan *flight // what was flying
	packed  packing
	keptAt  time.Time
}

// packing adapts how many messages are taken together to how much they hold.
type packing struct {
	next int  // how many to ask for
	idle bool // there was nothing when asked last
}

// flight is a POST on its way.
type flight struct {
	message *stream.Message
	probe   bool
	stopped bool         // it was given up on the way, for the process stops
	failure *postFailure // nil: taken
}

func newHook(app string, r *Receiver, w *Webhooks) *hook {
	h := &hook{
		app: app, receiver: r, metrics: &w.metrics, now: w.cfg.Now, drain: w.cfg.DrainTimeout,
		client: newPostClient(r, "pushfleet/"+w.cfg.Version, w.cfg.Now),
		log:    w.log.With(zap.String("app", app)),
		landed: make(chan *flight, webhookPosts),
		packed: packing{next: 1, idle: true},
	}
	return h
}

// begin shows that nothing is known to be wrong, and runs.
func (h *hook) begin(ctx context.Context, streams *stream.Streams) {
	if ctx.Err() == nil {
		h.metrics.open.WithLabelValues(h.app).Set(0)
		h.run(ctx, streams)
	}
}

// run sends until ctx ends, and then lets land what is flying.
func (h *hook) run(ctx context.Context, streams *stream.Streams) {
	defer h.client.close()
	if !h.join(ctx, streams) {
		return
	}
	looking := make(chan struct{})
	go func() {
		defer close(looking)
		h.look(ctx)
	}()
	work, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	defer cancel(nil)
	for ctx.Err() == nil {
		h.land()
		h.keep()
		if n := h.room(time.Now()); n > 0 {
			h.feed(ctx, work, streams, n)
		} else {
			h.wait(ctx)
		}
	}
	h.stop(cancel)
	<-looking
}

// join opens the queue; it reports false if ctx ended first.
func (h *hook) join(ctx context.Context, streams *stream.Streams) bool {
	for ctx.Err() == nil {
		queue, err := streams.Webhook(ctx, h.app, h.receiver.Lanes)
		if err == nil {
			h.queue.Store(queue)
			return true
		}
		if ctx.Err() == nil {
			h.log.Warn("webhook cannot begin, trying again", zap.Error(err))
			pause(ctx, packPause)
		}
	}
	return false
}

// room is how many more POSTs may fly.
func (h *hook) room(now time.Time) int {
	if !h.breaker.open() {
		return webhookPosts - len(h.flying)
	}
	probing := slices.ContainsFunc(h.flying, func(f *flight) bool { return f.probe })
	if probing || len(h.flying) == webhookPosts || now.Before(h.breaker.until) {
		return 0
	}
	return 1
}

// feed sends up to n POSTs that are due, or makes some up where none is.
func (h *hook) feed(ctx, work context.Context, streams *stream.Streams, n int) {
	posts, err := h.queue.Load().Posts.Take(n)
	for _, m := range posts {
		f := &flight{message: m, probe: h.breaker.open()}
		h.flying = append(h.flying, f)
		go func() {
			h.fly(work, streams, f)
			h.landed <- f
		}()
	}
	if err == nil && len(posts) == 0 {
		err = h.pack(ctx)
	}
	if err != nil && ctx.Err() == nil {
		h.log.Warn("cannot take outcomes for the webhook, trying again", zap.Error(err))
		pause(ctx, recordPause)
		h.join(ctx, streams) // a durable may be gone
	}
}

// pack makes POSTs of what is in OUTCOMES: it waits a little where there was nothing,
// and takes the more together the more is there.
func (h *hook) pack(ctx context.Context) error {
	var messages []*stream.Message
	var err error
	if h.packed.idle {
		var m *stream.Message
		if m, err = h.queue.Load().Outcomes.Wait(patience); m != nil {
			messages = append(messages, m)
		}
	} else {
		messages, err = h.queue.Load().Outcomes.Take(h.packed.next)
	}
	if h.packed.idle = len(messages) == 0; h.packed.idle {
		return err
	}
	slices.SortFunc(messages, func(a, b *stream.Message) int { return cmp.Compare(a.Sequence, b.Sequence) })
	taken, events := len(messages), 0
	for len(messages) > 0 {
		n, bytes := 1, len(messages[0].Data)
		for n < len(messages) && bytes+len(messages[n].Data) <= packBytes {
			bytes += len(messages[n].Data)
			n++
		}
		told, err := h.packTogether(ctx, messages[:n])
		if err != nil {
			for _, m := range messages {
				_ = m.Nak(packPause) // else it comes back after the ack wait
			}
			return err
		}
		events += told
		messages = messages[n:]
	}
	switch {
	case events > h.receiver.Batch:
		h.packed.next = max(h.packed.next/2, 1)
	case taken >= h.packed.next:
		h.packed.next = min(2*h.packed.next, maxPack)
	}
	return err
}

// packTogether packs messages, of which there is one at least, and acknowledges them
// once that is stored. It returns how many outcomes they hold.
func (h *hook) packTogether(ctx context.Context, messages []*stream.Message) (events int, err error) {
	body := h.read(messages)
	// Also when ctx has ended meanwhile: what is taken is stored.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), packTimeout)
	defer cancel()
	queue := h.queue.Load()
	for _, part := range body.Split(queue.MaxBody(), h.receiver.Batch) {
		text := part.AppendJSON(nil)
		if err := queue.Publish(ctx, postID(text), text); err != nil {
			return 0, err
		}
	}
	for _, m := range messages {
		if err := m.Ack(); err != nil {
			// It is packed once more: its events have the same ids.
			h.log.Warn("cannot acknowledge outcomes", zap.Uint64("sequence", m.Sequence), zap.Error(err))
		}
	}
	return len(body.Events), nil
}

// read returns what messages tell and the receiver wants.
func (h *hook) read(messages []*stream.Message) *job.Webhook {
	body := &job.Webhook{App: h.app, Timestamp: messages[0].StoredAt.UTC().Truncate(time.Millisecond)}
	for _, m := range messages {
		o, err := job.ParseOutcomes(m.Data)
		if err != nil {
			// Not ours: nothing that a worker stored is unreadable.
			h.log.Error("passes over outcomes that cannot be read", zap.Uint64("sequence", m.Sequence), zap.Error(err))
			continue
		}
		body.Events = append(body.Events, o.Events(m.Sequence, m.StoredAt, h.wants)...)
	}
	return body
}

func (h *hook) wants(r job.Result) bool {
	return len(h.receiver.Results) == 0 || slices.Contains(h.receiver.Results, r)
}

// fly makes one POST, and settles its message: acknowledged only once it is taken.
func (h *hook) fly(ctx context.Context, streams *stream.Streams, f *flight) {
	m := f.message
	f.failure = h.client.post(ctx, m.Data)
	var err error
	switch {
	case f.failure == nil:
		err = m.Ack()
	case ctx.Err() != nil:
		f.stopped = true
		err = m.Nak(0)
	case h.now().Sub(m.StoredAt) >= webhookFor:
		if err = h.bury(context.WithoutCancel(ctx), streams, f); err != nil {
			h.log.Error("cannot store a dead letter of the webhook", zap.Error(err))
			err = m.Nak(jitter(mostPause))
		} else {
			err = m.Ack()
		}
	default:
		err = m.Nak(h.delay(f))
	}
	if err != nil {
		h.log.Warn("cannot settle a POST: it is made once more", zap.Uint64("sequence", m.Sequence), zap.Error(err))
	}
}

// delay is the pause before a POST is tried again: it ends with the day, so that there
// is a last try.
func (h *hook) delay(f *flight) time.Duration {
	left := webhookFor - h.now().Sub(f.message.StoredAt)
	return max(min(max(retryDelay(f.message.Deliveries), f.failure.ask), left), webhookRetry)
}

// bury makes a dead letter of a POST that nobody took for a day.
func (h *hook) bury(ctx context.Context, streams *stream.Streams, f *flight) error {
	ctx, cancel := context.WithTimeout(ctx, buryTimeout)
	defer cancel()
	events := countEvents(f.message.Data)
	err := streams.Bury(ctx, f.message, stream.Letter{
		Reason: fmt.Sprintf("webhook: not taken for %s, last: %s", webhookFor, f.failure), Recipients: events, Last: h.now(),
	})
	if err != nil {
		return err
	}
	h.metrics.events.WithLabelValues(h.app, "dead").Add(float64(events))
	h.log.Error("outcomes are given up: the webhook did not take them", zap.Int("outcomes", events), zap.Error(f.failure))
	return nil
}

func countEvents(body []byte) int {
	w, err := job.ParseWebhook(body)
	if err != nil {
		return 0
	}
	return len(w.Events)
}

// land draws the conclusions from what has landed, without waiting.
func (h *hook) land() {
	for {
		select {
		case f := <-h.landed:
			h.conclude(f)
		default:
			return
		}
	}
}

func (h *hook) conclude(f *flight) {
	h.flying = slices.DeleteFunc(h.flying, func(other *flight) bool { return other == f })
	switch {
	case f.stopped:
	case f.failure == nil:
		h.metrics.posts.WithLabelValues(h.app, "taken").Inc()
		h.metrics.events.WithLabelValues(h.app, "taken").Add(float64(countEvents(f.message.Data)))
		if since := h.breaker.since; h.breaker.took() {
			h.metrics.open.WithLabelValues(h.app).Set(0)
			h.note.Store(nil)
			h.log.Info("the webhook takes outcomes again", zap.Duration("after", time.Since(since).Round(time.Second)))
		}
	default:
		h.metrics.posts.WithLabelValues(h.app, f.failure.class).Inc()
		h.log.Debug("a POST was not taken", zap.Uint64("sequence", f.message.Sequence), zap.String("class", f.failure.class), zap.Error(f.failure))
		opened := h.breaker.failed(time.Now(), f.probe, f.failure.ask, f.failure.class == classGone)
		if h.breaker.open() {
			note := fmt.Sprintf("webhook of %s: takes nothing (%s), outcomes wait", h.app, f.failure.class)
			h.note.Store(&note)
		}
		if opened {
			h.packed = packing{next: 1, idle: true} // no more than the probes need
			h.metrics.open.WithLabelValues(h.app).Set(1)
			h.log.Warn("the webhook takes nothing: outcomes wait, and it is probed from time to time",
				zap.String("host", h.receiver.host()), zap.String("class", f.failure.class), zap.Error(f.failure))
		}
	}
}

// keep tells JetStream, from time to time, that POSTs are still on their way.
func (h *hook) keep() {
	if time.Since(h.keptAt) < keepEvery {
		return
	}
	h.keptAt = time.Now()
	for _, f := range h.flying {
		_ = f.message.InProgress() // it may have landed meanwhile; else it comes again
	}
}

// wait waits until there may be room.
func (h *hook) wait(ctx context.Context) {
	d := keepEvery - time.Since(h.keptAt)
	if h.breaker.open() {
		d = min(d, time.Until(h.breaker.until))
	}
	timer := time.NewTimer(max(d, time.Millisecond))
	defer timer.Stop()
	select {
	case f := <-h.landed:
		h.conclude(f)
	case <-timer.C:
	case <-ctx.Done():
	}
}

// stop waits for what is flying, and gives up what takes too long: it is handed back.
func (h *hook) stop(cancel context.CancelCauseFunc) {
	end := time.NewTimer(h.drain)
	defer end.Stop()
	for len(h.flying) > 0 {
		h.keep()
		tick := time.NewTimer(keepEvery)
		select {
		case f := <-h.landed:
			h.conclude(f)
		case <-end.C:
			cancel(errStopping)
		case <-tick.C:
		}
		tick.Stop()
	}
}

// look measures how far the webhook is behind, until ctx ends.
func (h *hook) look(ctx context.Context) {
	for ctx.Err() == nil {
		try, cancel := context.WithTimeout(ctx, packTimeout)
		lag, err := h.queue.Load().Lag(try)
		cancel()
		if err == nil {
			age := time.Duration(0)
			if !lag.Oldest.IsZero() {
				age = max(h.now().Sub(lag.Oldest), 0)
			}
			h.metrics.lag.WithLabelValues(h.app).Set(age.Seconds())
			h.metrics.waiting.WithLabelValues(h.app).Set(float64(lag.Messages))
		}
		pause(ctx, lookEvery)
	}
}

package worker

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"

	"github.com/pushfleet/pushfleet/job"
	"github.com/pushfleet/pushfleet/store"
)

const (
	// storePatience is how long a worker waits for one answer of Redis. It is all
	// that a Redis that hangs, rather than refuses, may cost a transactional job that
	// can be sent without it. choice: far above what a busy Redis takes, far below a
	// third of an ack wait.
	storePatience = 2 * time.Second
	// storeRetry is how long a message goes back for when Redis did not answer.
	storeRetry = 5 * time.Second
	// recallPatience is how long redelivered messages wait here for what is known of
	// them, holding room that others need; then they go back for recallRetry.
	recallPatience = 5 * time.Second
	recallRetry    = time.Second
)

// withStore calls Redis, with storePatience.
func withStore[T any](ctx context.Context, call func(context.Context) (T, error)) (T, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, storePatience, errStoreHangs)
	defer cancel()
	return call(ctx)
}

// process takes messages of one lane from their arrival to the last answer. What
// is settled earlier leaves the batch on the way.
func (w *Worker) process(ctx context.Context, l *lane, batch []*message) {
	var fresh, again []*message
	for _, m := range batch {
		switch {
		case m.bad != nil:
			go w.buryInvalid(ctx, m)
		case w.tooEarly(m):
		case m.redelivered():
			again = append(again, m)
		default:
			fresh = append(fresh, m)
		}
	}
	if len(again) > 0 {
		// Those wait for the recorder; the others need not.
		go w.processAgain(ctx, l, again)
	}
	if len(fresh) > 0 {
		w.deliver(ctx, l, fresh)
	}
}

// processAgain goes on with messages that were delivered before.
func (w *Worker) processAgain(ctx context.Context, l *lane, batch []*message) {
	if batch = w.recall(ctx, batch); len(batch) > 0 {
		w.deliver(ctx, l, batch)
	}
}

// tooEarly hands back a message whose time has not come.
func (w *Worker) tooEarly(m *message) bool {
	if m.rng != nil || m.job.SendAfter.IsZero() {
		return false
	}
	wait := m.job.SendAfter.Sub(w.cfg.Now())
	if wait <= 0 {
		return false
	}
	w.handBack(m, wait)
	return true
}

// recall reads what is known of messages that were delivered before, and returns
// those of which something is left to do now.
func (w *Worker) recall(ctx context.Context, batch []*message) []*message {
	keys := make([]store.JobKey, len(batch))
	for i, m := range batch {
		keys[i] = m.key()
	}
	progress, doing, err := w.readProgress(ctx, keys)
	switch {
	case errors.Is(err, errNotYet):
		return w.handBackAll(batch, recallRetry, doing, err)
	case err != nil:
		return w.handBackAll(batch, storeRetry, doing, err)
	}
	left := batch[:0]
	for i, m := range batch {
		m.progress = progress[i]
		if m.in.Deliveries > 100 && m.in.Deliveries%100 == 0 {
			w.log.Warn("message comes again and again", zap.String("app", m.lane.app.name), zap.String("job_id", m.id), zap.Uint64("deliveries", m.in.Deliveries))
		}
		wait := w.until(m.progress.RetryAt)
		switch {
		case m.progress.Complete:
			w.finishBefore(m)
		case wait > markInterval:
			// A server restart brings delayed messages back at once.
			w.handBack(m, wait)
		default:
			left = append(left, m)
		}
	}
	return left
}

// longestRetry is as far ahead as a next try can have been put: the schedules end
// at an hour, and the budget adds one.
const longestRetry = time.Hour + retryStretch

// until returns how long it is until a next try is due. One that is further ahead
// than any can be was written by a worker whose clock was wrong.
func (w *Worker) until(retryAt time.Time) time.Duration {
	wait := retryAt.Sub(w.cfg.Now())
	if wait > longestRetry {
		return 0
	}
	return wait
}

var (
	errStoreHangs = errors.New("worker: redis does not answer")
	errNotYet     = errors.New("worker: not all outcomes are recorded yet")
)

// healPause is the wait before Redis is asked again whether it is healed.
const healPause = 100 * time.Millisecond

// readProgress reads progress once everything that is in OUTCOMES now is in it.
// doing is what failed, if something did.
//
// That the recorders have acknowledged an outcome does not mean that Redis has
// it: one that started anew, or took another's place, may have lost the last
// moments. Until that is made good, what is missing looks like what was never
// sent. So it is asked before and after reading whether Redis is healed: if it is
// both times, and the same, the reading fell into one life of it, and after its
// healing.
func (w *Worker) readProgress(ctx context.Context, keys []store.JobKey) (progress []store.Progress, doing string, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, recallPatience, errNotYet)
	defer cancel()
	// While Redis is away the recorders do not come on either: that is known at once.
	if _, _, err := w.healed(ctx); err != nil {
		return nil, "ask whether redis is healed", err
	}
	if err := w.recorded.wait(ctx); err != nil {
		return nil, "wait for the recorder", err
	}
	var before string // the life in which it was read; empty: it was not yet
	for {
		life, healed, err := w.healed(ctx)
		switch {
		case err != nil:
			return nil, "ask whether redis is healed", err
		case !healed:
			before = ""
			if pause(ctx, healPause); ctx.Err() != nil {
				return nil, "wait until redis is healed", context.Cause(ctx)
			}
			continue
		case before == life:
			return progress, "", nil
		}
		before = life
		progress, err = withStore(ctx, func(ctx context.Context) ([]store.Progress, error) { return w.cfg.Progress.Progress(ctx, keys) })
		if err != nil {
			return nil, "read progress", err
		}
	}
}

// healed returns the life of Redis, and whether it is healed.
func (w *Worker) healed(ctx context.Context) (life string, healed bool, err error) {
	h, err := withStore(ctx, func(ctx context.Context) (h store.Healed, err error) {
		life, h, err = w.cfg.Progress.Healed(ctx)
		return h, err
	})
	return life, h.Life == life, err
}

// deliver identifies, resolves, decides and sends.
func (w *Worker) deliver(ctx context.Context, l *lane, batch []*message) {
	if batch = w.guard(ctx, l, batch); len(batch) == 0 {
		return
	}
	if l.campaign != nil {
		w.resolveRanges(ctx, l, batch)
		return
	}
	now := w.cfg.Now()
	live := batch[:0]
	for _, m := range batch {
		m.expiry = m.job.Expiration(m.in.FirstStored())
		// Where something is still to be told, it must be resolved first.
		if m.expiry.Passed(now) && len(m.progress.Marked) == 0 {
			w.expire(m)
			continue
		}
		live = append(live, m)
	}
	w.resolve(ctx, l, live)
}

// guard drops messages whose id belongs to another message. Those that turn out
// to have been delivered before go back to recall, on their own.
func (w *Worker) guard(ctx context.Context, l *lane, batch []*message) []*message {
	claims := make([]store.Claim, len(batch))
	for i, m := range batch {
		claims[i] = store.Claim{App: l.app.name, Lane: l.lane, ID: m.id, Sequence: m.in.Sequence}
		if m.rng != nil {
			claims[i].ID, claims[i].Campaign, claims[i].Range = "", m.rng.Campaign, m.rng.Number
		}
	}
	claimed, err := withStore(ctx, func(ctx context.Context) ([]store.Claimed, error) { return w.cfg.Progress.Guard(ctx, claims) })
	if err != nil {
		return w.withoutStore(batch, "guard job ids", err)
	}
	var known []*message
	left := batch[:0]
	for i, m := range batch {
		switch {
		case claimed[i] == store.Taken && m.rng != nil:
			w.acknowledge(m) // published twice: the other one is the range
		case claimed[i] == store.Taken:
			w.refuseDuplicate(m)
		case claimed[i] == store.Again && !m.redelivered():
			m.known = true
			known = append(known, m)
		default:
			left = append(left, m)
		}
	}
	if len(known) > 0 {
		go w.processAgain(ctx, l, known)
	}
	return left
}

// withoutStore returns the messages that may be sent although Redis does not
// answer: those that name their device tokens and that nobody had before. The
// others go back. One that hangs is not asked about them again at this delivery:
// each question would take as long as it takes to know.
func (w *Worker) withoutStore(batch []*message, doing string, cause error) []*message {
	if w.draining.Load() {
		return w.handBackAll(batch, 0, doing, cause) // what is not sent yet is somebody else's
	}
	var left, rest []*message
	timeout, ok := errors.AsType[interface {
		error
		Timeout() bool
	}](cause)
	hangs := ok && timeout.Timeout()
	for _, m := range batch {
		if m.rng == nil && len(m.job.To.Tokens) > 0 && !m.redelivered() {
			m.blind = hangs
			left = append(left, m)
		} else {
			rest = append(rest, m)
		}
	}
	if len(left) > 0 {
		w.log.Warn("sends without the token set", zap.String("while", doing), zap.Int("messages", len(left)), zap.Error(cause))
	}
	if len(rest) > 0 {
		w.handBackAll(rest, storeRetry, doing, cause)
	}
	return left
}

// handBackAll hands messages back because something did not answer.
func (w *Worker) handBackAll(batch []*message, delay time.Duration, doing string, cause error) []*message {
	level := zap.WarnLevel
	if w.draining.Load() {
		level, delay = zap.DebugLevel, 0 // as it should: somebody else may try at once
	}
	w.log.Log(level, "hands messages back", zap.String("while", doing), zap.Int("messages", len(batch)), zap.Error(cause))
	why := fmt.Sprintf("hands jobs back, cannot %s: %v", doing, cause)
	for _, m := range batch {
		m.lane.brake.wasted()
		m.lane.handsBack(why)
		w.handBack(m, delay)
	}
	return nil
}

// expire settles a job whose time is over, without looking anybody up: a stale
// backlog goes at the rate of reading.
func (w *Worker) expire(m *message) {
	others := make([]other, 0, m.job.To.Len())
	for _, t := range m.job.To.Tokens {
		if m.isSettled(job.RecipientHash(t)) {
			continue
		}
		others = append(others, other{Recipient: job.Recipient{DeviceToken: t, Result: job.Expired}})
	}
	for _, u := range m.job.To.Users {
		others = append(others, other{Recipient: job.Recipient{User: u, Result: job.Expired}})
	}
	for _, in := range m.job.To.Installs {
		others = append(others, other{Recipient: job.Recipient{Install: in, Result: job.Expired}})
	}
	m.mu.Lock()
	m.others = others
	m.mu.Unlock()
	w.metrics.settled(m.lane, 0, job.Expired, "", len(others))
	w.finished.push(m)
}

// refuseDuplicate settles a message whose job id was used before.
func (w *Worker) refuseDuplicate(m *message) {
	o := job.JobOutcome{
		ID: m.id, Root: m.continues(), Sequence: m.in.Sequence, QueuedAt: m.in.StoredAt, Attempt: 1,
		Others: []job.Recipient{{Result: job.Duplicate, Reason: "the id was used before"}},
	}
	w.metrics.settled(m.lane, 0, job.Duplicate, "", 1)
	w.publish(m, []job.JobOutcome{o}, func() { w.acknowledge(m) })
}

// isSettled reports whether an earlier delivery settled a recipient.
func (m *message) isSettled(hash uint64) bool {
	_, ok := m.progress.Settled[hash]
	return ok
}

package worker

import (
	"context"
	"errors"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/pushfleet/pushfleet/device"
	"github.com/pushfleet/pushfleet/job"
	"github.com/pushfleet/pushfleet/stream"
)

// What cannot be buried is not held, for it would take the room of what can be
// sent. It goes back to JOBS for buryRetry, twice as long each time, up to
// mostBuryRetry.
const (
	buryRetry     = 10 * time.Second
	mostBuryRetry = 15 * time.Minute
	// buryTries is how often a dead letter is tried before its message goes back:
	// a JetStream leader election takes a few seconds.
	buryTries = 5
	// fullFor is how long DEAD counts as full once it was: a flood of messages to
	// bury must not become a flood of refused publishes.
	fullFor = 5 * time.Second
)

// cemetery knows whether DEAD takes anything.
type cemetery struct {
	mu   sync.Mutex
	full time.Time // guarded by mu: until when DEAD counts as full
}

func (c *cemetery) isFull(now time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return now.Before(c.full)
}

// setFull reports whether that is news.
func (c *cemetery) setFull(now time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	news := !now.Before(c.full)
	c.full = now.Add(fullFor)
	return news
}

// buryInvalid gives up a message that is no job.
func (w *Worker) buryInvalid(ctx context.Context, m *message) {
	if !w.bury(ctx, m, stream.Letter{Reason: m.bad.Error(), Last: w.cfg.Now()}) {
		w.handBack(m, w.buryDelay(ctx, m))
		return
	}
	w.metrics.deadLetter(m.lane, "invalid")
	w.acknowledge(m)
}

// buryRecipients gives up the recipients for which the job is at fault, one dead
// letter for each reason. Those that cannot be buried now wait, and APNs is asked
// again about them: it refused them, so that sends nothing twice. It reports
// whether all are buried.
func (w *Worker) buryRecipients(ctx context.Context, m *message) bool {
	byReason := make(map[string][]device.Token)
	attempts := make(map[string]int)
	total := 0
	for i := range m.recipients {
		if r := &m.recipients[i]; r.fate == buried {
			byReason[r.reason] = append(byReason[r.reason], r.token)
			attempts[r.reason] = max(attempts[r.reason], r.attempts)
			total++
		}
	}
	expires, _ := m.expiry.Time()
	all := true
	for reason, tokens := range byReason {
		letter := stream.Letter{
			Reason: reason, Root: m.root, Recipients: len(tokens), Attempts: attempts[reason], Expires: expires, Last: w.cfg.Now(),
		}
		if len(tokens) < len(m.recipients) {
			part := *m.job
			part.To = job.Recipients{Tokens: tokens}
			body, err := part.MarshalJSON()
			if err != nil {
				panic("worker: a parsed job does not encode: " + err.Error())
			}
			letter.Body = body
		}
		if !w.bury(ctx, m, letter) {
			m.unbury(reason, w.buryDelay(ctx, m))
			all = false
			continue
		}
		w.metrics.deadLetter(m.lane, reason)
	}
	if all {
		w.log.Warn("job has dead letters", zap.String("app", m.lane.app.name), zap.String("job_id", m.id), zap.Int("recipients", total), zap.Int("reasons", len(byReason)))
	}
	return all
}

// bury stores a dead letter and reports whether it is stored. It tries again for
// a few seconds, but not while DEAD is full.
func (w *Worker) bury(ctx context.Context, m *message, letter stream.Letter) bool {
	for try := 1; !w.dead.isFull(time.Now()); try++ {
		err := w.cfg.Streams.Bury(ctx, m.in, letter)
		switch {
		case err == nil:
			return true
		case ctx.Err() != nil:
			return false
		case errors.Is(err, stream.ErrFull):
			if w.dead.setFull(time.Now()) {
				w.log.Error("no room for dead letters: make some, or raise the limit of DEAD; what should go there stays in JOBS", zap.String("app", m.lane.app.name), zap.Error(err))
			}
			return false
		case try == buryTries:
			w.log.Error("cannot store a dead letter, hands its message back", zap.String("app", m.lane.app.name), zap.Error(err))
			return false
		}
		pause(ctx, fetchPause)
	}
	return false
}

// buryDelay returns for how long a message that cannot be buried goes back.
func (w *Worker) buryDelay(ctx context.Context, m *message) time.Duration {
	if ctx.Err() != nil {
		return 0 // the worker goes: somebody else may try at once
	}
	return jitter(grow(buryRetry, int(min(m.in.Deliveries, 64))-1, mostBuryRetry))
}

// unbury lets the recipients that were to be buried for a reason wait.
func (m *message) unbury(reason string, d time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := range m.recipients {
		if r := &m.recipients[i]; r.fate == buried && r.reason == reason {
			r.fate, r.delay = waiting, d
			m.others[r.other].unburied = true
		}
	}
}

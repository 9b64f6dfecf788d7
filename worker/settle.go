package worker

import (
	"context"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/pushfleet/pushfleet/device"
	"github.com/pushfleet/pushfleet/job"
	"github.com/pushfleet/pushfleet/store"
)

// finished collects messages of which nothing is undecided any more. It takes
// them from goroutines that must not block, and is bounded by the room.
type finished struct {
	mu       sync.Mutex
	messages []*message // guarded by mu
	ready    chan struct{}
}

func newFinished() *finished { return &finished{ready: make(chan struct{}, 1)} }

func (f *finished) push(m *message) {
	f.mu.Lock()
	f.messages = append(f.messages, m)
	f.mu.Unlock()
	select {
	case f.ready <- struct{}{}:
	default:
	}
}

func (f *finished) drain() []*message {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := f.messages
	f.messages = nil
	return out
}

// settleLoop settles finished messages until stop is closed.
func (w *Worker) settleLoop(ctx context.Context, stop <-chan struct{}) {
	for {
		select {
		case <-w.finished.ready:
		case <-stop:
			return
		}
		for _, m := range w.finished.drain() {
			w.settle(ctx, m)
		}
	}
}

// settle tells what became of a message's recipients, and then acknowledges the
// message or hands it back.
func (w *Worker) settle(ctx context.Context, m *message) {
	var letters, waits bool
	for i := range m.recipients {
		switch r := &m.recipients[i]; r.fate {
		case buried:
			letters = true
		case waiting:
			waits = true
			m.inVain = m.inVain || !r.later
		}
	}
	if letters {
		// What is given up goes to DEAD first; that waits for JetStream.
		go func() {
			allBuried := w.buryRecipients(ctx, m)
			w.tell(ctx, m, waits || !allBuried)
		}()
		return
	}
	w.tell(ctx, m, waits)
}

func (w *Worker) tell(ctx context.Context, m *message, waits bool) {
	outcomes := m.outcomes(!waits)
	if waits {
		if len(outcomes) == 0 {
			if m.inVain {
				m.lane.brake.wasted()
			}
			go w.postpone(ctx, m)
			return
		}
		w.publish(m, outcomes, func() { go w.postpone(ctx, m) })
		return
	}
	w.publish(m, outcomes, func() { w.finish(m) })
}

// publish stores outcomes and goes on with next. If they will not be stored, the
// message goes back as it is: that may repeat notifications, and loses none.
func (w *Worker) publish(m *message, outcomes []job.JobOutcome, next func()) {
	m.lane.brake.gotSomewhere()
	m.startTelling()
	w.untold.begin(time.Now())
	w.cfg.Outcomes.Publish(m.lane.app.name, m.lane.lane, outcomes, func(err error) {
		w.untold.end(time.Now())
		if !m.stopTelling() {
			return // handed back meanwhile
		}
		if err != nil {
			w.log.Error("outcomes were not stored", zap.String("app", m.lane.app.name), zap.String("job_id", m.id), zap.Error(err))
			w.handBack(m, 0)
			return
		}
		next()
	})
}

// outcomes says what became of the recipients that were settled at this
// delivery; complete says that none is left.
func (m *message) outcomes(complete bool) []job.JobOutcome {
	m.mu.Lock()
	defer m.mu.Unlock()
	base := job.JobOutcome{ID: m.id, Root: m.continues(), Sequence: m.in.Sequence, QueuedAt: m.in.StoredAt, TakenAt: m.in.ReceivedAt, SentAt: m.startedAt, Attempt: m.progress.Attempts + 1}
	if m.rng != nil {
		base.Campaign, base.Range, base.Devices = m.rng.Campaign, m.rng.Number, m.rng.Devices
	}
	perEnvironment := make([]job.JobOutcome, 0, 1)
	of := func(env device.Environment) *job.JobOutcome {
		for i := range perEnvironment {
			o := &perEnvironment[i]
			if o.Environment == env || env == device.EnvironmentUnset {
				return o
			}
			if o.Environment == device.EnvironmentUnset {
				o.Environment = env
				return o
			}
		}
		o := base
		o.Environment = env
		perEnvironment = append(perEnvironment, o)
		return &perEnvironment[len(perEnvironment)-1]
	}
	for i := range m.recipients {
		r := &m.recipients[i]
		if r.fate != accepted {
			continue
		}
		o := of(r.environment)
		if o.Accepted == nil {
			o.Accepted = make([]device.Token, 0, len(m.recipients)-i)
		}
		if r.fresh && r.generation != 0 {
			o.Fresh = append(o.Fresh, len(o.Accepted))
		}
		if r.acceptedBefore() {
			o.Known++
		}
		o.Accepted = append(o.Accepted, r.token)
	}
	for i := range m.others {
		if m.others[i].unburied {
			continue
		}
		o := of(m.others[i].environment)
		o.Others = append(o.Others, m.others[i].Recipient)
	}
	if complete {
		if len(perEnvironment) == 0 { // an earlier delivery settled the last ones
			perEnvironment = append(perEnvironment, base)
		}
		end := &perEnvironment[len(perEnvironment)-1]
		end.Complete = true
		end.Total = max(len(m.recipients), len(m.others)+len(m.progress.Settled))
		end.Whole = len(perEnvironment) == 1 && len(m.progress.Settled) == 0 && m.toldMarks()
	}
	return perEnvironment
}

// toldMarks reports whether what is told has all that was marked. A device that was
// sent to and is gone by now is not among the recipients: whoever sent may tell of it
// yet, and then it is to be counted.
func (m *message) toldMarks() bool {
	if len(m.progress.Marked) == 0 {
		return true
	}
	told := 0
	for i := range m.recipients {
		if _, ok := m.progress.Marked[m.recipients[i].hash]; ok {
			told++
		}
	}
	return told == len(m.progress.Marked)
}

// acknowledge ends a message.
func (w *Worker) acknowledge(m *message) {
	if err := m.in.Ack(); err != nil {
		// It comes again, and its progress says that it is complete.
		w.log.Warn("cannot acknowledge", zap.Uint64("sequence", m.in.Sequence), zap.Error(err))
	}
	w.release(m)
}

// handBack ends a message here; JetStream delivers it again after delay. One that
// may be somebody else's by the time that JetStream hears of it is left to its ack
// wait: JetStream would take it from who has it.
func (w *Worker) handBack(m *message, delay time.Duration) {
	if m.ours(time.Now()) {
		w.nak(m.in, delay)
	}
	w.release(m)
}

// lose ends a message that is somebody else's by now.
func (w *Worker) lose(m *message) {
	w.log.Warn("drops a message that it held too long", zap.String("app", m.lane.app.name), zap.String("job_id", m.id))
	w.release(m)
}

func (w *Worker) release(m *message) {
	m.trace.end(m)
	w.flight.remove(m)
	w.room.release(m.lane.holder, m.cost, m.grown)
	m.app.release()
	w.handling.Done()
}

// postpone hands back a message of which some recipients are tried later.
func (w *Worker) postpone(ctx context.Context, m *message) {
	now := w.cfg.Now()
	h, delay := m.retries(now)
	if (h.Attempts > 0 || delay > 0) && !m.isLost() {
		// Without it the message would be tried too early once, after a restart of
		// the server: better than not at all.
		try, cancel := context.WithTimeoutCause(ctx, storePatience, errStoreHangs)
		err := w.cfg.Progress.HandBack(try, m.key(), h)
		cancel()
		if err != nil {
			w.log.Warn("cannot remember a retry", zap.String("job_id", m.id), zap.Error(err))
		}
	}
	w.handBack(m, delay)
}

// retries returns what must be remembered of the recipients that are tried
// later, and when the first of them is due. Most wait alike and are remembered
// by the message; those that differ, one by one.
func (m *message) retries(now time.Time) (store.HandBack, time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	first := -1
	for i := range m.recipients {
		if r := &m.recipients[i]; r.fate == waiting && (first < 0 || m.due(r, now) < m.due(&m.recipients[first], now)) {
			first = i
		}
	}
	delay, attempts := m.due(&m.recipients[first], now), m.recipients[first].attempts
	h := store.HandBack{RetryAt: now.Add(delay), Attempts: attempts}
	for i := range m.recipients {
		r := &m.recipients[i]
		// When the campaign lets them go is found out again.
		if r.fate != waiting || r.later || r.attempts == attempts && r.delay <= 2*delay+time.Second {
			continue
		}
		if h.Waiting == nil {
			h.Waiting = make(map[uint64]store.Wait)
		}
		h.Waiting[r.hash] = store.Wait{Attempts: r.attempts, RetryAt: now.Add(r.delay)}
	}
	return h, delay
}

// due is how long it is until a recipient that waits is tried again. What a campaign
// lets go at a time was decided before the rest of the range was sent, which at a rate
// takes minutes; all else waits from now.
func (m *message) due(r *recipient, now time.Time) time.Duration {
	if !r.later {
		return r.delay
	}
	return max(0, r.delay-now.Sub(m.decidedAt))
}

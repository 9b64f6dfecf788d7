package worker

import (
	"context"
	"sync"
	"time"

	"github.com/pushfleet/pushfleet/campaign"
	"github.com/pushfleet/pushfleet/device"
	"github.com/pushfleet/pushfleet/job"
	"github.com/pushfleet/pushfleet/store"
	"github.com/pushfleet/pushfleet/stream"
)

// message is one JetStream message in work: its job and its recipients.
type message struct {
	in   *stream.Message
	lane *lane
	app  *edition        // that it holds; nil: it is only looked at
	job  *job.Job        // of a range: what its campaign sends, without recipients
	rng  *campaign.Range // nil: it is a job
	bad  error           // why it is none of them; nil if it is
	id   string          // the job's own: of its progress and its outcomes
	root string          // of the job that it continues, if it was redriven; else its own: what apns-ids are made from
	// Room that it holds, in notifications: cost and, of that, grown for what its
	// users and installs turned out to be.
	cost, grown int

	known  bool // delivered before, though JetStream does not say so
	inVain bool // somebody of it waits who was to be sent to now
	blind  bool // Redis does not answer, and it is sent all the same

	progress store.Progress // of earlier deliveries
	expiry   job.Expiry     // of a job; in a range each recipient has its own
	kind     device.Kind    // of the device tokens that it needs
	topic    string

	trace *traced // nil: it is not traced

	mu          sync.Mutex
	touched     time.Time               // guarded by mu: delivery or last in-progress
	stopSending context.CancelCauseFunc // guarded by mu: of the send that it is in
	lost        bool                    // guarded by mu: its ack wait is over, somebody else has it
	recipients  []recipient
	left        int       // guarded by mu: recipients that are still undecided
	others      []other   // guarded by mu: settled, not accepted
	unmarked    []int     // guarded by mu: recipients settled since the last mark
	settledAt   time.Time // guarded by mu: when the first of unmarked was
	decidedAt   time.Time // of a range: the time of day of its decisions
	startedAt   time.Time // when it was handed to APNs
	telling     bool      // guarded by mu: its outcomes are on their way to JetStream
}

// fate is what became of a recipient at this delivery.
type fate uint8

const (
	undecided     fate = iota
	settledBefore      // by an earlier delivery: not told again
	accepted
	settledOther // its entry is in message.others
	buried       // as settledOther, and the job goes to the dead letters for it
	waiting      // tried later
)

// recipient is one device that a message is for.
type recipient struct {
	token       device.Token
	hash        uint64
	generation  uint32 // of its record; 0: not in the token set
	environment device.Environment
	fresh       bool // in the token set, and never accepted before
	wrongKind   bool // in the token set, as another kind than the push type needs
	fate        fate
	other       int           // index in message.others, if settled and not accepted
	attempts    int           // made so far, this delivery included
	delay       time.Duration // if waiting; see message.due
	later       bool          // it waits because its campaign says so, not after a try
	payload     []byte        // nil: the job's
	expiry      job.Expiry    // of a recipient of a range
	reason      string        // if buried
}

func (m *message) key() store.JobKey {
	if m.rng != nil {
		return store.JobKey{App: m.lane.app.name, Lane: m.lane.lane, Campaign: m.rng.Campaign, Range: m.rng.Number}
	}
	return store.JobKey{App: m.lane.app.name, Lane: m.lane.lane, ID: m.id}
}

// continues returns the id of the job that a redriven one continues, or "".
func (m *message) continues() string {
	if m.root == m.id || m.rng != nil {
		return ""
	}
	return m.root
}

// redelivered reports whether somebody had the message before.
func (m *message) redelivered() bool { return m.in.Deliveries > 1 || m.known }

// other is a recipient that is settled and was not accepted.
type other struct {
	job.Recipient
	environment device.Environment // that was sent to; unset if nothing was
	unburied    bool               // it waits after all
}

// decide records what became of an undecided recipient, and reports whether it
// was the last one. o is nil for accepted and for waiting.
func (m *message) decide(i int, f fate, o *other) (last bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	r := &m.recipients[i]
	r.fate = f
	if o != nil {
		r.other = len(m.others)
		m.others = append(m.others, *o)
	}
	if f == accepted || f == settledOther {
		m.mark(i)
	}
	m.left--
	return m.left == 0
}

// mark notes that a recipient is settled and its progress does not say so yet;
// m.mu is held.
func (m *message) mark(i int) {
	if len(m.unmarked) == 0 {
		m.settledAt = time.Now()
	}
	m.unmarked = append(m.unmarked, i)
}

// wait says that an undecided recipient is tried later, and reports whether it
// was the last one.
func (m *message) wait(i int, d time.Duration, attempts int) (last bool) {
	m.mu.Lock()
	m.recipients[i].delay = d
	m.recipients[i].attempts = attempts
	m.mu.Unlock()
	return m.decide(i, waiting, nil)
}

// bury settles an undecided recipient whose job goes to the dead letters.
func (m *message) bury(i int, reason string, o *other) (last bool) {
	m.mu.Lock()
	m.recipients[i].reason = reason
	m.recipients[i].attempts++ // only an answer, or that there was none, buries
	m.mu.Unlock()
	return m.decide(i, buried, o)
}

// startTelling notes that outcomes are on their way. Whoever gets true from
// stopTelling ends the message.
func (m *message) startTelling() {
	m.mu.Lock()
	m.telling = true
	m.mu.Unlock()
}

func (m *message) stopTelling() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	was := m.telling
	m.telling = false
	return was
}

// touch notes that the message's ack wait began anew.
func (m *message) touch(now time.Time) {
	m.mu.Lock()
	m.touched = now
	m.mu.Unlock()
}

// begin notes that the message is being sent, until stop is called, and reports
// whether it is certainly still this worker's: less than half of its ack wait has
// passed.
func (m *message) begin(now time.Time, stop context.CancelCauseFunc) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.stopSending = stop
	return m.surelyOurs(now)
}

// ours reports whether the message is certainly still this worker's.
func (m *message) ours(now time.Time) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.surelyOurs(now)
}

// surelyOurs is ours; m.mu is held.
func (m *message) surelyOurs(now time.Time) bool {
	return !m.lost && now.Sub(m.touched) < stream.AckWait(m.lane.lane)/2
}

// expiryOf returns when the notification to a recipient expires.
func (m *message) expiryOf(r *recipient) job.Expiry {
	if m.rng != nil {
		return r.expiry
	}
	return m.expiry
}

// timeLeft returns how long it is until that to a recipient expires: below zero if
// it has, 0 if it does not.
func (m *message) timeLeft(r *recipient, now time.Time) time.Duration {
	at, ok := m.expiryOf(r).Time()
	if !ok {
		return 0
	}
	if left := at.Sub(now); left != 0 {
		return left
	}
	return -1
}

// within returns a delay that does not go beyond the expiry: when that comes, it is
// told.
func (m *message) within(r *recipient, now time.Time, delay time.Duration) time.Duration {
	if left := m.timeLeft(r, now); left != 0 {
		return min(delay, max(0, left))
	}
	return delay
}

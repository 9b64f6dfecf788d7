package worker

import (
	"errors"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/pushfleet/pushfleet/apns"
	"github.com/pushfleet/pushfleet/stream"
)

// A worker that is frozen or cut off from JetStream loses its messages to others
// when their ack waits are over, and cannot know the moment. So it begins nothing
// and hands nothing to a connection for a message of which it has not heard for
// half of its ack wait, and for none at all while its own clockwork stands still.

// pulseStops is after how long without a beat a worker does not trust what it
// holds: with a third of an ack wait, after which messages are kept, less than
// the shortest; and less than a pause of a campaign may take, with which a frozen
// process may thaw. choice: two dozen beats.
const pulseStops = 1200 * time.Millisecond

// Pulse tells whether a worker's clockwork runs: the part that keeps messages its
// own. APNs clients ask it before they hand anything to a connection, because a
// process that was frozen for long goes on everywhere at once. It is safe for
// concurrent use; make one with [NewPulse].
type Pulse struct {
	begun time.Time    // carries the monotonic clock
	beat  atomic.Int64 // nanoseconds since begun
}

// NewPulse returns a pulse that has just beaten.
func NewPulse() *Pulse { return &Pulse{begun: time.Now()} }

// Beats reports whether the last beat is recent.
func (p *Pulse) Beats() bool {
	return time.Since(p.begun)-time.Duration(p.beat.Load()) < pulseStops
}

func (p *Pulse) now() { p.beat.Store(int64(time.Since(p.begun))) }

var (
	errStale = errors.New("worker: jetstream has not confirmed for half of the ack wait that the message is this worker's")
	errLost  = errors.New("worker: the message's ack wait is over")
)

// keepInProgress restarts ack waits of which a third has passed, and gives up
// what is unsent of messages that may be somebody else's.
func (w *Worker) keepInProgress(messages []*message) {
	var due []*message
	touched := w.campaigns.inContact()
	// What is sent of campaigns is given up each time, as more may have come since.
	gaveUp := w.campaigns.touched && !touched
	w.campaigns.touched = touched
	now := time.Now()
	for _, m := range messages {
		if !touched && m.lane.campaign != nil {
			m.giveUp(errNoContact)
		}
		wait := stream.AckWait(m.lane.lane)
		m.mu.Lock()
		age, was := now.Sub(m.touched), m.lost
		m.lost = m.lost || age >= wait
		m.mu.Unlock()
		switch {
		case was:
		case age >= wait:
			w.log.Warn("message was held beyond its ack wait", zap.String("app", m.lane.app.name), zap.String("job_id", m.id))
			m.giveUp(errLost)
			gaveUp = true
		case age >= wait/2:
			m.giveUp(errStale)
			due = append(due, m)
		case age >= wait/3:
			due = append(due, m)
		}
	}
	// Who was told to give up has a tick to do so before connections take again.
	if !gaveUp {
		w.cfg.Pulse.now()
	}
	if len(due) > 0 && w.confirming.CompareAndSwap(false, true) {
		go func() {
			defer w.confirming.Store(false)
			w.confirm(due)
		}()
	}
}

// confirmPatience is how long a server may take to confirm that it has read what
// was sent to it.
const confirmPatience = time.Second

// confirm tells JetStream that messages are being worked on. Their ack waits
// count from before that, and only if the server has read it: to a link that is
// cut or stands still one can write for long.
func (w *Worker) confirm(messages []*message) {
	asked := time.Now()
	var told []*message
	for _, m := range messages {
		if m.in.InProgress() == nil {
			told = append(told, m)
		}
	}
	if err := w.cfg.Streams.Flush(confirmPatience); err != nil {
		w.log.Warn("cannot keep messages", zap.Int("messages", len(messages)), zap.Error(err))
		return
	}
	for _, m := range told {
		m.touch(asked)
	}
}

// giveUp stops the sending of what is not sent yet. What was written is waited for.
func (m *message) giveUp(cause error) {
	m.mu.Lock()
	stop := m.stopSending
	m.mu.Unlock()
	if stop != nil {
		stop(&apns.UnsentError{Cause: cause})
	}
}

// isLost reports whether the message is somebody else's by now.
func (m *message) isLost() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.lost
}

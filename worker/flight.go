package worker

import (
	"context"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/pushfleet/pushfleet/job"
	"github.com/pushfleet/pushfleet/store"
	"github.com/pushfleet/pushfleet/stream"
)

// What is settled and not yet told is marked in the progress when it is markAge
// old, looked for every markInterval. With the time that a mark takes this stays
// below the 100 ms that the bound on duplicates allows.
const (
	markInterval = 50 * time.Millisecond
	markAge      = 25 * time.Millisecond
)

// flight is all messages in work.
type flight struct {
	mu       sync.Mutex
	messages map[*message]struct{} // guarded by mu
}

func newFlight() *flight { return &flight{messages: make(map[*message]struct{})} }

func (f *flight) add(m *message) {
	f.mu.Lock()
	f.messages[m] = struct{}{}
	f.mu.Unlock()
}

func (f *flight) remove(m *message) {
	f.mu.Lock()
	delete(f.messages, m)
	f.mu.Unlock()
}

func (f *flight) all() []*message {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := make([]*message, 0, len(f.messages))
	for m := range f.messages {
		out = append(out, m)
	}
	return out
}

// keep tells JetStream that messages are being worked on, until ctx ends.
func (w *Worker) keep(ctx context.Context) {
	w.everyInterval(ctx, w.keepInProgress)
}

// mark marks what of messages is settled, until ctx ends. It is not done by keep: a
// Redis that hangs must not cost messages their ack wait.
func (w *Worker) mark(ctx context.Context) {
	w.everyInterval(ctx, func(messages []*message) { w.markSettled(ctx, messages) })
}

func (w *Worker) everyInterval(ctx context.Context, do func([]*message)) {
	tick := time.NewTicker(markInterval)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		do(w.flight.all())
	}
}

// markSettled marks, for messages that take their time, which recipients are
// settled and how: another worker that gets the message tells that instead of
// sending to them again.
func (w *Worker) markSettled(ctx context.Context, messages []*message) {
	var marks []store.Mark
	var marked []*message
	var indexes [][]int
	now := time.Now()
	for _, m := range messages {
		m.mu.Lock()
		if len(m.unmarked) > 0 && now.Sub(m.settledAt) >= markAge {
			marks = append(marks, store.Mark{Job: m.key(), Recipients: m.marks()})
			marked, indexes = append(marked, m), append(indexes, m.unmarked)
			m.unmarked = nil
		}
		m.mu.Unlock()
	}
	if len(marks) == 0 {
		return
	}
	ctx, cancel := context.WithTimeoutCause(ctx, storePatience, errStoreHangs)
	defer cancel()
	if err := w.cfg.Progress.MarkSettled(ctx, marks); err != nil {
		for i, m := range marked {
			m.mu.Lock()
			m.unmarked = append(m.unmarked, indexes[i]...)
			m.mu.Unlock()
		}
		w.log.Debug("cannot mark settled recipients", zap.Error(err))
	}
}

// marks returns what is to be marked; m.mu is held.
func (m *message) marks() []store.Marked {
	out := make([]store.Marked, len(m.unmarked))
	for n, i := range m.unmarked {
		r := &m.recipients[i]
		out[n] = store.Marked{Hash: r.hash, Recipient: job.Recipient{Result: job.Accepted}}
		if r.fate == settledOther {
			out[n].Recipient = m.others[r.other].Recipient
		}
	}
	return out
}

// recorded tells how far the recorders have applied OUTCOMES.
type recorded struct {
	streams *stream.Streams
	ask     chan struct{}

	mu      sync.Mutex
	floor   uint64        // guarded by mu
	waiters int           // guarded by mu
	moved   chan struct{} // guarded by mu: closed and replaced when floor rises
}

func newRecorded(s *stream.Streams) *recorded {
	return &recorded{streams: s, ask: make(chan struct{}, 1), moved: make(chan struct{})}
}

// recordedInterval is how often the recorders' position is asked for while
// somebody waits for it.
const recordedInterval = 25 * time.Millisecond

// wait returns once everything that is in OUTCOMES now has been applied.
func (r *recorded) wait(ctx context.Context) error {
	last, err := r.streams.LastOutcome(ctx)
	if err != nil {
		return err
	}
	r.mu.Lock()
	r.waiters++
	r.mu.Unlock()
	defer func() {
		r.mu.Lock()
		r.waiters--
		r.mu.Unlock()
	}()
	for {
		r.mu.Lock()
		done, moved := r.floor >= last, r.moved
		r.mu.Unlock()
		if done {
			return nil
		}
		select {
		case r.ask <- struct{}{}:
		default:
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// run asks for the recorders' position while somebody waits, until ctx ends.
func (r *recorded) run(ctx context.Context) {
	var consumer *stream.Consumer
	for {
		select {
		case <-r.ask:
		case <-ctx.Done():
			return
		}
		for ctx.Err() == nil {
			if consumer == nil {
				consumer, _ = r.streams.RecorderConsumer(ctx)
			}
			if consumer != nil {
				if floor, err := consumer.AckFloor(ctx); err == nil {
					r.advance(floor)
				}
			}
			if r.idle() {
				break
			}
			pause(ctx, recordedInterval)
		}
	}
}

func (r *recorded) advance(floor uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if floor > r.floor {
		r.floor = floor
		close(r.moved)
		r.moved = make(chan struct{})
	}
}

func (r *recorded) idle() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.waiters == 0
}

package stream

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

const (
	// replayBatch bounds the messages that are given at once, and replayAhead what
	// the server sends before they are taken.
	replayBatch = 64
	replayAhead = 2 * replayBatch
	// replayPatience is how long the next message may take.
	replayPatience = 10 * time.Second
)

// ReplayOutcomes gives to again, in order and in batches, every message of
// OUTCOMES that the recorders were given before the call, from back before the
// first that they have not acknowledged. Nothing of it is to be acknowledged: the
// recorders' durable does not move. It returns the last sequence that it covers;
// the error is again's, or that OUTCOMES cannot be read.
func (s *Streams) ReplayOutcomes(ctx context.Context, back time.Duration, again func([]*Message) error) (through uint64, err error) {
	recorder, err := s.RecorderConsumer(ctx)
	if err != nil {
		return 0, err
	}
	info, err := recorder.consumer.Info(ctx)
	if err != nil {
		return 0, fmt.Errorf("ask for consumer %s: %w", recorder.name, err)
	}
	if through = info.Delivered.Stream; through == 0 {
		return 0, nil
	}
	from, err := s.replayFrom(ctx, info.AckFloor.Stream, back)
	if err != nil {
		return 0, err
	}
	ordered, err := s.js.OrderedConsumer(ctx, Outcomes, jetstream.OrderedConsumerConfig{
		DeliverPolicy: jetstream.DeliverByStartTimePolicy, OptStartTime: &from,
	})
	if err != nil {
		return 0, fmt.Errorf("read %s again: %w", Outcomes, err)
	}
	if ordered.CachedInfo().NumPending == 0 {
		return through, nil
	}
	it, err := ordered.Messages(jetstream.PullMaxMessages(replayAhead))
	if err != nil {
		return 0, fmt.Errorf("read %s again: %w", Outcomes, err)
	}
	defer it.Stop()
	c := &Consumer{stream: Outcomes, name: "again"}
	var batch []*Message
	for {
		m, left, err := c.next(ctx, it)
		if err != nil {
			return 0, fmt.Errorf("read %s again: %w", Outcomes, err)
		}
		if m.Sequence <= through {
			batch = append(batch, m)
		}
		// The last one may be gone: by age, or purged.
		last := m.Sequence >= through || left == 0
		if len(batch) > 0 && (last || len(batch) == replayBatch) {
			if err := again(batch); err != nil {
				return 0, err
			}
			batch = nil
		}
		if last {
			return through, nil
		}
	}
}

// replayFrom is the time back before the message at floor was stored; of one that
// is gone, before the oldest that is there.
func (s *Streams) replayFrom(ctx context.Context, floor uint64, back time.Duration) (time.Time, error) {
	st, err := s.js.Stream(ctx, Outcomes)
	if err != nil {
		return time.Time{}, fmt.Errorf("ask for stream %s: %w", Outcomes, err)
	}
	msg, err := st.GetMsg(ctx, max(1, floor))
	switch {
	case errors.Is(err, jetstream.ErrMsgNotFound):
		return st.CachedInfo().State.FirstTime.Add(-back), nil
	case err != nil:
		return time.Time{}, fmt.Errorf("read message %d of %s: %w", floor, Outcomes, err)
	}
	return msg.Time.Add(-back), nil
}

// next waits for the next message, and returns how many come after it.
func (c *Consumer) next(ctx context.Context, it jetstream.MessagesContext) (m *Message, left uint64, err error) {
	ctx, cancel := context.WithTimeout(ctx, replayPatience)
	defer cancel()
	msg, err := it.Next(jetstream.NextContext(ctx))
	if err != nil {
		return nil, 0, err
	}
	if m, err = c.message(msg); err != nil {
		return nil, 0, err
	}
	meta, err := msg.Metadata()
	if err != nil {
		return nil, 0, fmt.Errorf("read message metadata: %w", err)
	}
	return m, meta.NumPending, nil
}

package stream

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/pushfleet/pushfleet/job"
)

// Orphan is a message that was acknowledged, and is in its stream all the same: a
// server that is killed may forget that it has removed a message, and remember that
// its consumer has acknowledged it. Nobody is ever given it again, and it would stay
// for ever (seen with nats-server 2.15.2, one server, kill -9). It has no delivery to
// settle, and is [Orphan.Remove]d instead.
type Orphan struct {
	Message
	from jetstream.Stream
}

// Remove removes it from its stream.
func (o *Orphan) Remove(ctx context.Context) error {
	err := o.from.DeleteMsg(ctx, o.Sequence)
	if err == nil {
		return nil
	}
	// That it is gone already is told in a text only.
	if _, missing := o.from.GetMsg(ctx, o.Sequence); errors.Is(missing, jetstream.ErrMsgNotFound) {
		return nil
	}
	return fmt.Errorf("remove message %d of %s: %w", o.Sequence, Jobs, err)
}

// LaneOrphans returns up to most orphans of an app and lane, in order.
func (s *Streams) LaneOrphans(ctx context.Context, app string, lane job.Lane, most int) ([]*Orphan, error) {
	return s.orphans(ctx, LaneDurable(app, lane), JobsSubject(app, lane), most)
}

// RangeOrphans returns up to most orphans among the ranges of a campaign, in order.
func (s *Streams) RangeOrphans(ctx context.Context, app, id string, most int) ([]*Orphan, error) {
	return s.orphans(ctx, rangesDurable(app, id), RangesSubject(app, id), most)
}

// orphans returns those of a durable of JOBS, which is the only one on its subject.
func (s *Streams) orphans(ctx context.Context, durable, subject string, most int) ([]*Orphan, error) {
	c, err := s.js.Consumer(ctx, Jobs, durable)
	if err != nil {
		return nil, fmt.Errorf("ask for consumer %s: %w", durable, err)
	}
	info := c.CachedInfo()
	st, err := s.js.Stream(ctx, Jobs)
	if err != nil {
		return nil, fmt.Errorf("ask for stream %s: %w", Jobs, err)
	}
	have, err := st.Info(ctx, jetstream.WithSubjectFilter(subject))
	if err != nil {
		return nil, fmt.Errorf("list subjects of %s: %w", Jobs, err)
	}
	// The two were not asked at once. It only decides whether to look closer.
	if have.State.Subjects[subject] <= info.NumPending+uint64(info.NumAckPending) {
		return nil, nil
	}
	var orphans []*Orphan
	for seq := uint64(1); len(orphans) < most; seq++ {
		raw, err := st.GetMsg(ctx, seq, jetstream.WithGetMsgSubject(subject))
		switch {
		case errors.Is(err, jetstream.ErrMsgNotFound):
			return orphans, nil
		case err != nil:
			return nil, fmt.Errorf("read %s: %w", Jobs, err)
		}
		if seq = raw.Sequence; seq > info.AckFloor.Stream {
			return orphans, nil
		}
		o := &Orphan{from: st, Message: Message{
			headers: raw.Header, Data: raw.Data, Subject: raw.Subject, Sequence: seq, StoredAt: raw.Time, ReceivedAt: time.Now(),
		}}
		if err := o.split(); err != nil {
			return nil, err
		}
		orphans = append(orphans, o)
	}
	return orphans, nil
}

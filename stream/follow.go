package stream

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"
)

// Start says where in a stream to begin. Its zero value: with what comes from now on.
// At most one of its fields is set.
type Start struct {
	Place uint64        // with the message at this place, or the first after it
	Since time.Time     // with what was stored since then
	Ago   time.Duration // with what was stored so long ago, by the server's clock
}

const (
	followBeat = 5 * time.Second // the server says so often that it has nothing to tell
	// followIdle is how long the server keeps a consumer that nobody reads from. Nobody
	// deletes it: that would need one more right, and time at the end.
	followIdle = 2 * time.Minute
	// Pauses before a consumer that was lost is made again.
	followPause     = 100 * time.Millisecond
	mostFollowPause = 5 * time.Second
)

// FollowOutcomes calls each with every outcomes message on subjects, in order and
// once, until ctx ends: then it returns nil. Once it has begun, it goes on where it was
// after a lost connection or a restart of the server, for as long as that takes. The
// error is each's, that OUTCOMES cannot be read ([ErrNoStream]: there is none), or that
// the connection was closed.
func (s *Streams) FollowOutcomes(ctx context.Context, subjects []string, from Start, each func(place uint64, data []byte) error) error {
	f := &follower{s: s, what: "outcomes", stream: Outcomes, subjects: subjects}
	f.each = func(msg jetstream.Msg, meta *jetstream.MsgMetadata) error {
		return each(meta.Sequence.Stream, msg.Data())
	}
	return f.follow(ctx, from)
}

// FollowDead is [Streams.FollowOutcomes] for the dead letters of apps, without their
// bodies.
func (s *Streams) FollowDead(ctx context.Context, apps []string, from Start, each func(*DeadLetter) error) error {
	f := &follower{s: s, what: "dead letters", stream: Dead, headersOnly: true}
	for _, app := range apps {
		f.subjects = append(f.subjects, DeadSubject(app))
	}
	f.each = func(msg jetstream.Msg, meta *jetstream.MsgMetadata) error {
		l := parseLetter(msg.Subject(), meta.Sequence.Stream, meta.Timestamp, msg.Headers(), msg.Data())
		return each(&l)
	}
	return f.follow(ctx, from)
}

// follower is one call of FollowOutcomes or FollowDead. JetStream's own ordered consumer
// is not used: it loses what comes between a beginning "now" and a lost connection, and a
// context does not end it while it waits for a server.
type follower struct {
	s           *Streams
	what        string // is followed, for errors
	stream      string
	subjects    []string
	headersOnly bool
	each        func(jetstream.Msg, *jetstream.MsgMetadata) error
	reconnected chan nats.Status
	next        uint64 // place in the stream from which on nothing was told
}

func (f *follower) follow(ctx context.Context, from Start) error {
	s := f.s
	// Listens before there is anything to lose.
	f.reconnected = s.nc.StatusChanged(nats.CONNECTED)
	defer s.nc.RemoveStatusListener(f.reconnected)
	if from.Ago > 0 {
		now, err := f.serverTime(ctx)
		if err != nil {
			return f.ended(ctx, err)
		}
		from = Start{Since: now.Add(-from.Ago)}
	}
	c, err := f.consumer(ctx, from)
	if err != nil {
		return f.ended(ctx, err)
	}
	// That which begins "now" is a place from here on: it must not begin later only
	// because its connection was lost first.
	f.next = c.CachedInfo().Delivered.Stream + 1
	for {
		if err := f.read(ctx, c); err != nil {
			return f.ended(ctx, err)
		}
		if c, err = f.again(ctx); err != nil {
			return f.ended(ctx, err)
		}
	}
}

// eachError is what each returned.
type eachError struct{ error }

// ended is what the caller gets to know of an end.
func (f *follower) ended(ctx context.Context, err error) error {
	if own, ok := errors.AsType[eachError](err); ok {
		return own.error
	}
	if ctx.Err() != nil {
		return nil //nolint:nilerr // that it ended is what the caller asked for
	}
	return fmt.Errorf("follow %s: %w", f.what, err)
}

func (f *follower) consumer(ctx context.Context, from Start) (jetstream.Consumer, error) {
	cfg := jetstream.ConsumerConfig{
		Name: "follow-" + rand.Text(), FilterSubjects: f.subjects,
		HeadersOnly: f.headersOnly, AckPolicy: jetstream.AckNonePolicy, MemoryStorage: true, Replicas: 1, InactiveThreshold: followIdle,
	}
	if len(f.subjects) == 1 { // then rights may name it
		cfg.FilterSubject, cfg.FilterSubjects = f.subjects[0], nil
	}
	switch {
	case from.Place > 0:
		cfg.DeliverPolicy, cfg.OptStartSeq = jetstream.DeliverByStartSequencePolicy, from.Place
	case !from.Since.IsZero():
		cfg.DeliverPolicy, cfg.OptStartTime = jetstream.DeliverByStartTimePolicy, &from.Since
	default:
		cfg.DeliverPolicy = jetstream.DeliverNewPolicy
	}
	c, err := f.s.js.CreateConsumer(ctx, f.stream, cfg)
	switch {
	case errors.Is(err, jetstream.ErrStreamNotFound):
		return nil, fmt.Errorf("%w %s: start a worker first", ErrNoStream, f.stream)
	case err != nil:
		if refused := f.s.refused("$JS.API.CONSUMER.CREATE." + f.stream); refused != nil {
			err = refused
		}
		return nil, fmt.Errorf("make a consumer on %s: %w", f.stream, err)
	}
	return c, nil
}

// serverTime asks the server what time it is.
func (f *follower) serverTime(ctx context.Context) (time.Time, error) {
	c, err := f.consumer(ctx, Start{})
	if err != nil {
		return time.Time{}, err
	}
	return c.CachedInfo().TimeStamp, nil
}

// again makes a consumer that goes on where the last one was.
func (f *follower) again(ctx context.Context) (jetstream.Consumer, error) {
	for wait := followPause; ; wait = min(2*wait, mostFollowPause) {
		t := time.NewTimer(wait)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return nil, context.Cause(ctx)
		}
		// A connection that was lost before is what this consumer is for.
		select {
		case <-f.reconnected:
		default:
		}
		c, err := f.consumer(ctx, Start{Place: f.next})
		if err == nil || ctx.Err() != nil || f.s.nc.IsClosed() {
			return c, err
		}
		f.s.log.Debug("cannot go on following yet", zap.String("stream", f.stream))
	}
}

// read reads from a consumer until that may have lost something: then it returns nil,
// and whoever goes on at next misses nothing.
func (f *follower) read(ctx context.Context, c jetstream.Consumer) error {
	it, err := c.Messages(jetstream.PullMaxMessages(replayAhead), jetstream.PullHeartbeat(followBeat), jetstream.WithMessagesErrOnMissingHeartbeat(true))
	if err != nil {
		return fmt.Errorf("read %s: %w", f.stream, err)
	}
	defer it.Stop()
	// What was on its way when the connection was lost does not come again.
	whole, lost := context.WithCancel(ctx)
	defer lost()
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		select {
		case <-f.reconnected:
			lost()
		case <-whole.Done():
		}
	}()
	defer func() { lost(); <-watched }()
	for number := uint64(1); ; number++ {
		msg, err := it.Next(jetstream.NextContext(whole))
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case f.s.nc.IsClosed():
			return nats.ErrConnectionClosed
		case err != nil:
			return nil // no heartbeat, the consumer is gone, the connection was lost: all the same
		}
		meta, err := msg.Metadata()
		if err != nil {
			return fmt.Errorf("read message metadata: %w", err)
		}
		if meta.Sequence.Consumer != number {
			return nil // one was lost
		}
		f.next = meta.Sequence.Stream + 1
		if err := f.each(msg, meta); err != nil {
			return eachError{err}
		}
	}
}

package stream

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/pushfleet/pushfleet/job"
)

// Ack waits: how long the server waits for a message before it hands it to
// another worker. Workers say that they are still at it at a third of these.
const (
	TransactionalAckWait = 10 * time.Second
	BulkAckWait          = 30 * time.Second
	strayAckWait         = 30 * time.Second
	// What a dead recorder held keeps every redelivered job waiting: well below
	// TransactionalAckWait. Applying takes milliseconds; twice is harmless.
	recorderAckWait = 5 * time.Second
)

// AckWait returns the ack wait of a lane.
func AckWait(lane job.Lane) time.Duration {
	if lane == job.Transactional {
		return TransactionalAckWait
	}
	return BulkAckWait
}

// Message is one delivery of a message from JetStream. It is settled by exactly
// one of Ack, Nak or nothing at all: then it comes back after the ack wait.
type Message struct {
	msg     jetstream.Msg
	headers nats.Header

	App  string   // of the subject; empty for OUTCOMES
	Lane job.Lane // of the subject; that of ranges is bulk
	// LaneName is the lane as the subject spells it; only a stray's may be none. It
	// is empty for what is no job.
	LaneName string
	// Campaign is what [SubjectToken] made of the id of the campaign that this is a
	// range of; empty for what is no range.
	Campaign string

	Data       []byte
	Subject    string
	Sequence   uint64    // place in its stream
	Deliveries uint64    // 1 at the first
	StoredAt   time.Time // when JetStream stored it
	ReceivedAt time.Time // carries the monotonic clock
}

// Header returns the first value of a header, or "".
func (m *Message) Header(name string) string {
	return m.headers.Get(name)
}

// FirstStored returns when JetStream first stored the message: of a redriven one,
// what its dead letter says. A job's ttl counts from then.
func (m *Message) FirstStored() time.Time {
	if first := m.Header(HeaderFirst); first != "" && m.Header(HeaderID) != "" {
		if at, err := time.Parse(time.RFC3339Nano, first); err == nil && at.Before(m.StoredAt) {
			return at
		}
	}
	return m.StoredAt
}

// Ack acknowledges the message, without waiting for the server.
func (m *Message) Ack() error { return m.msg.Ack() }

// Nak hands the message back, to be delivered again after delay; 0 is at once.
func (m *Message) Nak(delay time.Duration) error {
	if delay <= 0 {
		return m.msg.Nak()
	}
	return m.msg.NakWithDelay(delay)
}

// InProgress restarts the ack wait.
func (m *Message) InProgress() error { return m.msg.InProgress() }

// Consumer fetches from one durable. It is shared by all workers; one Consumer
// is for one goroutine.
type Consumer struct {
	consumer jetstream.Consumer
	name     string
	stream   string
	group    string // of clients, of which one is served; empty: all are
	pin      string // the server's name for this client, if it is the one
	maxBytes int
}

// LaneConsumer ensures the durable of an app and lane, and returns it.
func (s *Streams) LaneConsumer(ctx context.Context, app string, lane job.Lane) (*Consumer, error) {
	return s.consumer(ctx, Jobs, jetstream.ConsumerConfig{
		Durable:       LaneDurable(app, lane),
		FilterSubject: JobsSubject(app, lane),
		AckWait:       AckWait(lane),
	})
}

// RecorderConsumer ensures the recorder's durable, and returns it.
func (s *Streams) RecorderConsumer(ctx context.Context) (*Consumer, error) {
	return s.consumer(ctx, Outcomes, jetstream.ConsumerConfig{
		Durable:       recorderDurable,
		FilterSubject: "push.outcomes.>",
		AckWait:       recorderAckWait,
	})
}

func (s *Streams) consumer(ctx context.Context, streamName string, cfg jetstream.ConsumerConfig) (*Consumer, error) {
	cfg.AckPolicy = jetstream.AckExplicitPolicy
	// Unlimited: past a limit JetStream keeps a work-queue message for ever and
	// never shows it again; the worker's policy gives up instead.
	cfg.MaxDeliver = -1
	// The default of 1000 would cap the whole fleet.
	cfg.MaxAckPending = -1
	c, err := s.js.CreateOrUpdateConsumer(ctx, streamName, cfg)
	if err != nil {
		return nil, fmt.Errorf("ensure consumer %s on %s: %w", cfg.Durable, streamName, err)
	}
	return &Consumer{consumer: c, name: cfg.Durable, stream: streamName, maxBytes: maxFetchBytes}, nil
}

// maxFetchBytes bounds what one fetch brings into memory.
const maxFetchBytes = 8 << 20

// Wait waits up to patience for one message. It returns nil, nil if none came,
// and does not end early: a message that the server has sent to an abandoned
// pull is lost to everybody until its ack wait is over. So patience is short,
// and who stops reads on until Wait returns.
func (c *Consumer) Wait(patience time.Duration) (*Message, error) {
	opts := []jetstream.FetchOpt{jetstream.FetchMaxWait(patience)}
	if c.group != "" {
		opts = append(opts, jetstream.FetchPriorityGroup(c.group))
	}
	batch, err := c.consumer.Fetch(1, opts...)
	if err != nil {
		return nil, c.fetchError(err)
	}
	for msg := range batch.Messages() {
		return c.message(msg)
	}
	return nil, c.fetchError(batch.Error())
}

// Take returns up to n messages that are there already.
func (c *Consumer) Take(n int) ([]*Message, error) {
	var batch jetstream.MessageBatch
	var err error
	if c.group == "" {
		batch, err = c.consumer.FetchNoWait(n)
	} else {
		// Without waiting a group cannot be named.
		batch, err = c.consumer.Fetch(n, jetstream.FetchMaxWait(groupPatience), jetstream.FetchPriorityGroup(c.group))
	}
	if err != nil {
		return nil, c.fetchError(err)
	}
	var messages []*Message
	for msg := range batch.Messages() {
		m, err := c.message(msg)
		if err != nil {
			return messages, err
		}
		messages = append(messages, m)
	}
	return messages, c.fetchError(batch.Error())
}

// groupPatience is how long a batch waits to be full where the server must
// choose among clients.
const groupPatience = 20 * time.Millisecond

// AckFloor returns how far the durable has come: every message of its stream
// up to AckFloor has been acknowledged.
func (c *Consumer) AckFloor(ctx context.Context) (uint64, error) {
	info, err := c.consumer.Info(ctx)
	if err != nil {
		return 0, fmt.Errorf("ask for consumer %s: %w", c.name, err)
	}
	return info.AckFloor.Stream, nil
}

// Backlog returns how many messages wait to be delivered, and how many are
// delivered and not yet acknowledged.
func (c *Consumer) Backlog(ctx context.Context) (waiting, unacknowledged int, err error) {
	info, err := c.consumer.Info(ctx)
	if err != nil {
		return 0, 0, fmt.Errorf("ask for consumer %s: %w", c.name, err)
	}
	return int(info.NumPending), info.NumAckPending, nil
}

func (c *Consumer) message(msg jetstream.Msg) (*Message, error) {
	meta, err := msg.Metadata()
	if err != nil {
		return nil, fmt.Errorf("read message metadata: %w", err)
	}
	m := &Message{
		msg: msg, headers: msg.Headers(), Data: msg.Data(), Subject: msg.Subject(),
		Sequence: meta.Sequence.Stream, Deliveries: meta.NumDelivered,
		StoredAt: meta.Timestamp, ReceivedAt: time.Now(),
	}
	if pin := m.Header("Nats-Pin-Id"); pin != "" {
		c.pin = pin
	}
	switch c.stream {
	case Jobs:
		if err := m.split(); err != nil {
			return nil, err
		}
	case Devices:
		if m.App, err = splitDevicesSubject(m.Subject); err != nil {
			return nil, err
		}
	case Webhooks:
		if m.App, err = splitWebhooksSubject(m.Subject); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// split reads the subject of a message of JOBS.
func (m *Message) split() (err error) {
	switch {
	case strings.HasPrefix(m.Subject, "push.ranges."):
		m.Lane = job.Bulk
		m.App, m.Campaign, err = splitRangesSubject(m.Subject)
	case strings.HasPrefix(m.Subject, "push.campaigns."):
		m.App, err = splitCampaignsSubject(m.Subject)
	default:
		m.App, m.LaneName, err = splitJobsSubject(m.Subject)
		m.Lane, _ = job.ParseLane(m.LaneName) // a stray's may be unknown: it is not sent
	}
	return err
}

func (c *Consumer) fetchError(err error) error {
	if err == nil || errors.Is(err, nats.ErrTimeout) || errors.Is(err, jetstream.ErrNoMessages) || errors.Is(err, jetstream.ErrPinIDMismatch) {
		return nil
	}
	return fmt.Errorf("fetch from %s: %w", c.name, err)
}

// LastOutcome returns the sequence of the newest message in OUTCOMES.
func (s *Streams) LastOutcome(ctx context.Context) (uint64, error) {
	st, err := s.js.Stream(ctx, Outcomes)
	if err != nil {
		return 0, fmt.Errorf("ask for stream %s: %w", Outcomes, err)
	}
	return st.CachedInfo().State.LastSeq, nil
}

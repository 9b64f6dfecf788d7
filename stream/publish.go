package stream

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/pushfleet/pushfleet/job"
)

const (
	// maxPending bounds asynchronous publishes that wait for their answer.
	maxPending = 4096
	// publishTimeout is how long an asynchronous publish waits for its answer: a
	// JetStream leader election takes a few seconds.
	publishTimeout = 10 * time.Second
)

// Errors of publishing.
var (
	// ErrFull: JetStream has no room for what was published.
	ErrFull = errors.New("stream: no room")
	// ErrBusy: too many answers of JetStream are outstanding. Nothing was published.
	ErrBusy = errors.New("stream: too many answers are outstanding")
	// ErrTooLarge: the message is larger than the server takes.
	ErrTooLarge = errors.New("stream: larger than the server takes")
)

// Published says where a job was stored.
type Published struct {
	ID        string // the job's id; "seq-<n>" for one that had none
	Sequence  uint64
	Duplicate bool // JetStream had it already, from within its duplicate window
}

// PublishJob validates a job and publishes it. It returns once JetStream has
// stored the job: from then on the fleet will not lose it. A *job.Invalid tells
// what is wrong with it; [ErrFull] that it was not taken.
func (s *Streams) PublishJob(ctx context.Context, app string, lane job.Lane, j *job.Job) (Published, error) {
	msg, err := jobMessage(app, lane, j)
	if err != nil {
		return Published{}, err
	}
	ack, err := s.js.PublishMsg(ctx, msg)
	if err != nil {
		return Published{}, publishError(msg.Subject, err)
	}
	return published(j, ack), nil
}

// Pending is a job that was handed to JetStream and not answered yet.
type Pending struct {
	job    *job.Job
	future jetstream.PubAckFuture
}

// PublishJobAsync is [Streams.PublishJob] without waiting for the answer. It
// blocks while too many answers are outstanding.
func (s *Streams) PublishJobAsync(app string, lane job.Lane, j *job.Job) (*Pending, error) {
	msg, err := jobMessage(app, lane, j)
	if err != nil {
		return nil, err
	}
	return s.publishPending(msg, j, publishTimeout)
}

// PublishParsed publishes a job that [job.Parse] has read from body: it is not checked
// again, and stored as it came, but for long lists of device tokens, which are half the
// size as bytes. Of a body that has another id than the job, such as none, nil must be
// given. PublishParsed does not wait for the answer, and blocks for nothing: while too
// many are outstanding, the error is [ErrBusy]. What is published must not be changed
// until [Pending.Wait] has returned.
func (s *Streams) PublishParsed(app string, lane job.Lane, j *job.Job, body []byte) (*Pending, error) {
	msg, err := parsedMessage(app, lane, j, body)
	if err != nil {
		return nil, err
	}
	return s.publishPending(msg, j, noStall)
}

// noStall is the least that can be asked for.
const noStall = time.Nanosecond

func (s *Streams) publishPending(msg *nats.Msg, j *job.Job, stall time.Duration) (*Pending, error) {
	future, err := s.js.PublishMsgAsync(msg, jetstream.WithStallWait(stall))
	if err != nil {
		return nil, publishError(msg.Subject, err)
	}
	return &Pending{job: j, future: future}, nil
}

// Wait returns what JetStream answered.
func (p *Pending) Wait(ctx context.Context) (Published, error) {
	select {
	case ack := <-p.future.Ok():
		return published(p.job, ack), nil
	case err := <-p.future.Err():
		return Published{}, publishError(p.future.Msg().Subject, err)
	case <-ctx.Done():
		return Published{}, fmt.Errorf("wait for jetstream: %w", context.Cause(ctx))
	}
}

func jobMessage(app string, lane job.Lane, j *job.Job) (*nats.Msg, error) {
	if !ValidName(app) {
		return nil, fmt.Errorf("app %q: must be letters, digits, '-' and '_'", app)
	}
	if err := j.Validate(); err != nil {
		return nil, err
	}
	return parsedMessage(app, lane, j, nil)
}

// parsedMessage is the message of a job that is valid. body is its JSON; nil: it is
// made.
func parsedMessage(app string, lane job.Lane, j *job.Job, body []byte) (*nats.Msg, error) {
	msg := nats.NewMsg(JobsSubject(app, lane))
	if j.ID != "" {
		msg.Header.Set(jetstream.MsgIDHeader, MsgID(app, lane, j.ID))
	}
	var err error
	switch {
	// JSON is for everyone; a long list of device tokens is half the size as bytes.
	case len(j.To.Tokens) > 16:
		msg.Data, err = job.AppendCompact(nil, j)
	case body != nil:
		msg.Data = body
	default:
		msg.Data, err = j.MarshalJSON()
	}
	if err != nil {
		return nil, fmt.Errorf("encode job: %w", err)
	}
	return msg, nil
}

func published(j *job.Job, ack *jetstream.PubAck) Published {
	id := j.ID
	if id == "" {
		id = SequenceID(ack.Sequence)
	}
	return Published{ID: id, Sequence: ack.Sequence, Duplicate: ack.Duplicate}
}

// SequenceID is the id of a job that was published without one.
func SequenceID(sequence uint64) string { return fmt.Sprintf("seq-%d", sequence) }

// publishError makes what JetStream says of a full store recognisable.
func publishError(subject string, err error) error {
	var api *jetstream.APIError
	if errors.As(err, &api) {
		switch api.ErrorCode {
		case 10023, 10047, 10077: // insufficient resources; storage exceeded; maximum bytes
			return fmt.Errorf("publish to %s: %w: %w", subject, ErrFull, err)
		}
	}
	switch {
	case errors.Is(err, jetstream.ErrTooManyStalledMsgs):
		return fmt.Errorf("publish to %s: %w", subject, ErrBusy)
	case errors.Is(err, nats.ErrMaxPayload):
		return fmt.Errorf("publish to %s: %w: %w", subject, ErrTooLarge, err)
	}
	if errors.Is(err, nats.ErrNoResponders) || errors.Is(err, jetstream.ErrNoStreamResponse) {
		return fmt.Errorf("publish to %s: no stream answers there: %w", subject, err)
	}
	return fmt.Errorf("publish to %s: %w", subject, err)
}

// Storing is a message that was handed to JetStream and not answered yet.
type Storing struct {
	future  jetstream.PubAckFuture
	subject string
}

// Wait returns nil once the message is stored.
func (p *Storing) Wait(ctx context.Context) error {
	select {
	case <-p.future.Ok():
		return nil
	case err := <-p.future.Err():
		return publishError(p.subject, err)
	case <-ctx.Done():
		return fmt.Errorf("wait for jetstream: %w", context.Cause(ctx))
	}
}

// OutcomesOf says what outcomes are about: jobs of an app and lane or, where Campaign
// is not empty, one range of that campaign.
type OutcomesOf struct {
	App      string
	Lane     job.Lane // of a campaign not used
	Campaign string
	Range    int
}

func (o OutcomesOf) subject() string {
	if o.Campaign != "" {
		return RangeOutcomesSubject(o.App, o.Campaign, o.Range)
	}
	return OutcomesSubject(o.App, o.Lane)
}

// PublishOutcomes hands one outcomes message to JetStream. Published again under
// the same id within two minutes, it is stored once.
func (s *Streams) PublishOutcomes(of OutcomesOf, id string, body []byte) (*Storing, error) {
	msg := nats.NewMsg(of.subject())
	msg.Header.Set(jetstream.MsgIDHeader, id)
	msg.Data = body
	return s.publishAsync(msg)
}

// publishAsync hands a message to JetStream. It blocks while too many answers are
// outstanding.
func (s *Streams) publishAsync(msg *nats.Msg) (*Storing, error) {
	future, err := s.js.PublishMsgAsync(msg, jetstream.WithStallWait(publishTimeout))
	if err != nil {
		return nil, publishError(msg.Subject, err)
	}
	return &Storing{future: future, subject: msg.Subject}, nil
}

// MaxPayload returns the largest message that the server takes, in bytes,
// headers included.
func (s *Streams) MaxPayload() int { return int(s.nc.MaxPayload()) }

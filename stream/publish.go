package stream

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.opentelemetry.io/otel/trace"

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
	// ErrNoStream: there is nothing to publish to, or to read.
	ErrNoStream = errors.New("stream: no stream")
	// ErrUnanswered: JetStream did not answer, and it may be stored. To publish it again
	// stores it once, if it has an id.
	ErrUnanswered = errors.New("stream: no answer")
)

// Published says where a job was stored.
type Published struct {
	App  string
	Lane job.Lane
	ID   string // the job's id; "seq-<n>" for one that had none

	Sequence  uint64    // place in JOBS
	Duplicate bool      // JetStream had it already, from within its duplicate window
	At        time.Time // when it was published
}

// PublishJob validates a job and publishes it. It returns once JetStream has
// stored the job: from then on the fleet will not lose it. A *job.Invalid tells
// what is wrong with it; [ErrFull] and [ErrNoStream] that it was not taken. If ctx has a
// trace, the job continues it.
func (s *Streams) PublishJob(ctx context.Context, app string, lane job.Lane, j *job.Job) (Published, error) {
	p, msg, err := jobMessage(app, lane, j)
	if err != nil {
		return Published{}, err
	}
	span := startPublish(ctx, msg, j.ID)
	ack, err := s.js.PublishMsg(ctx, msg)
	if err != nil {
		err = s.publishError(msg.Subject, err)
	}
	endPublish(span, err)
	if err != nil {
		return Published{}, err
	}
	return p.stored(ack), nil
}

// Pending is a job that was handed to JetStream and not answered yet.
type Pending struct {
	streams *Streams
	job     Published // without what JetStream answers
	future  jetstream.PubAckFuture
	span    trace.Span // nil: not traced
}

// PublishJobAsync is [Streams.PublishJob] without waiting for the answer. It
// blocks while too many answers are outstanding. Of ctx only the trace counts.
func (s *Streams) PublishJobAsync(ctx context.Context, app string, lane job.Lane, j *job.Job) (*Pending, error) {
	p, msg, err := jobMessage(app, lane, j)
	if err != nil {
		return nil, err
	}
	return s.publishPending(ctx, p, msg, publishTimeout)
}

// PublishParsed publishes a job that [job.Parse] has read from body: it is not checked
// again, and stored as it came, but for long lists of device tokens, which are half the
// size as bytes. Of a body that has another id than the job, such as none, nil must be
// given. PublishParsed does not wait for the answer, and blocks for nothing: while too
// many are outstanding, the error is [ErrBusy]. What is published must not be changed
// until [Pending.Wait] has returned. Of ctx only the trace counts.
func (s *Streams) PublishParsed(ctx context.Context, app string, lane job.Lane, j *job.Job, body []byte) (*Pending, error) {
	p, msg, err := parsedMessage(app, lane, j, body)
	if err != nil {
		return nil, err
	}
	return s.publishPending(ctx, p, msg, noStall)
}

// noStall is the least that can be asked for.
const noStall = time.Nanosecond

func (s *Streams) publishPending(ctx context.Context, p Published, msg *nats.Msg, stall time.Duration) (*Pending, error) {
	span := startPublish(ctx, msg, p.ID)
	future, err := s.js.PublishMsgAsync(msg, jetstream.WithStallWait(stall))
	if err != nil {
		err = s.publishError(msg.Subject, err)
		endPublish(span, err)
		return nil, err
	}
	return &Pending{streams: s, job: p, future: future, span: span}, nil
}

// Bytes is the size of the message, which is in memory until it is answered.
func (p *Pending) Bytes() int { return p.future.Msg().Size() }

// Wait returns what JetStream answered. It is called once.
func (p *Pending) Wait(ctx context.Context) (Published, error) {
	select {
	case <-ctx.Done():
		if !p.answered() {
			err := fmt.Errorf("wait for jetstream: %w: %w", ErrUnanswered, context.Cause(ctx))
			endPublish(p.span, err)
			return Published{}, err
		}
	case ack := <-p.future.Ok():
		endPublish(p.span, nil)
		return p.job.stored(ack), nil
	case err := <-p.future.Err():
		err = p.streams.publishError(p.future.Msg().Subject, err)
		endPublish(p.span, err)
		return Published{}, err
	}
	return p.Wait(context.WithoutCancel(ctx))
}

// answered reports whether JetStream has answered.
func (p *Pending) answered() bool { return len(p.future.Ok())+len(p.future.Err()) > 0 }

func jobMessage(app string, lane job.Lane, j *job.Job) (Published, *nats.Msg, error) {
	if !ValidName(app) {
		return Published{}, nil, fmt.Errorf("app %q: must be letters, digits, '-' and '_'", app)
	}
	if err := j.Validate(); err != nil {
		return Published{}, nil, err
	}
	return parsedMessage(app, lane, j, nil)
}

// parsedMessage is the message of a job that is valid. body is its JSON; nil: it is
// made.
func parsedMessage(app string, lane job.Lane, j *job.Job, body []byte) (Published, *nats.Msg, error) {
	p := Published{App: app, Lane: lane, ID: j.ID, At: time.Now()}
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
		return p, nil, fmt.Errorf("encode job: %w", err)
	}
	return p, msg, nil
}

// stored adds what JetStream answered.
func (p Published) stored(ack *jetstream.PubAck) Published {
	if p.ID == "" {
		p.ID = SequenceID(ack.Sequence)
	}
	p.Sequence, p.Duplicate = ack.Sequence, ack.Duplicate
	return p
}

// SequenceID is the id of a job that was published without one.
func SequenceID(sequence uint64) string { return fmt.Sprintf("seq-%d", sequence) }

// publishError makes what JetStream says recognisable, and names what it does not say.
func (s *Streams) publishError(subject string, err error) error {
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
	case errors.Is(err, nats.ErrNoResponders), errors.Is(err, jetstream.ErrNoStreamResponse):
		return fmt.Errorf("%w takes %s: start a worker first, or wait for JetStream: %w", ErrNoStream, subject, err)
	case errors.Is(err, nats.ErrTimeout), errors.Is(err, jetstream.ErrAsyncPublishTimeout), errors.Is(err, nats.ErrDisconnected),
		errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		if refused := s.refused(subject); refused != nil {
			return fmt.Errorf("publish to %s: %w", subject, refused)
		}
		return fmt.Errorf("publish to %s: %w: %w", subject, ErrUnanswered, err)
	}
	return fmt.Errorf("publish to %s: %w", subject, err)
}

// refused returns what the server said last, if that is that this user may not use a
// subject: it says so to the connection, and to the request nothing.
func (s *Streams) refused(subject string) error {
	err := s.nc.LastError()
	if errors.Is(err, nats.ErrPermissionViolation) && strings.Contains(strings.ToLower(err.Error()), `"`+strings.ToLower(subject)+`"`) {
		return err
	}
	return nil
}

// Storing is a message that was handed to JetStream and not answered yet.
type Storing struct {
	streams *Streams
	future  jetstream.PubAckFuture
	subject string
}

// Wait returns nil once the message is stored.
func (p *Storing) Wait(ctx context.Context) error {
	select {
	case <-p.future.Ok():
		return nil
	case err := <-p.future.Err():
		return p.streams.publishError(p.subject, err)
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
		return nil, s.publishError(msg.Subject, err)
	}
	return &Storing{streams: s, future: future, subject: msg.Subject}, nil
}

// MaxPayload returns the largest message that the server takes, in bytes,
// headers included.
func (s *Streams) MaxPayload() int { return int(s.nc.MaxPayload()) }

package producer

import (
	"context"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/pushfleet/pushfleet/job"
	"github.com/pushfleet/pushfleet/stream"
)

// Errors of enqueuing.
var (
	// ErrFull: the queue has no room.
	ErrFull = stream.ErrFull
	// ErrNoStream: there is no queue. Workers make it when they start.
	ErrNoStream = stream.ErrNoStream
	// ErrUnanswered: the job may be stored, and nobody said so. Enqueued again, it is
	// stored once if it has an ID.
	ErrUnanswered = stream.ErrUnanswered
)

// Receipt says where a job is stored.
type Receipt struct {
	App  string
	Lane job.Lane
	ID   string // the job's; "seq-<n>" for one that had none

	Sequence  uint64    // place in the stream JOBS
	Duplicate bool      // the job was stored before, within the last two minutes
	At        time.Time // when it was enqueued
}

// Producer enqueues jobs. It is safe for concurrent use.
type Producer struct {
	streams *stream.Streams
	own     *nats.Conn // nil: the connection is the caller's
}

// connectPatience is how long a server may take to answer where ctx has no deadline.
const connectPatience = 5 * time.Second

// Connect connects to NATS at one or more URLs, separated by commas, and returns a
// producer on that connection; the caller closes it. Credentials, nkeys and TLS are
// options of NATS ([nats.UserCredentials], [nats.NkeyOptionFromSeed], [nats.Secure]).
// A connection that was made once is made again whenever it is lost. It waits for the
// server until ctx ends, and for 5 s where ctx has no deadline.
func Connect(ctx context.Context, url string, opts ...nats.Option) (*Producer, error) {
	patience := connectPatience
	if deadline, ok := ctx.Deadline(); ok {
		patience = time.Until(deadline)
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("connect to nats: %w", context.Cause(ctx))
	}
	nc, err := stream.Dial(url, append([]nats.Option{nats.Name("pushfleet producer"), nats.Timeout(patience)}, opts...)...)
	if err != nil {
		return nil, err
	}
	p, err := New(ctx, nc)
	if err != nil {
		nc.Close()
		return nil, err
	}
	p.own = nc
	return p, nil
}

// New returns a producer on a connection, which stays the caller's. It makes no streams:
// workers do. It waits for the server as [Connect] does.
func New(ctx context.Context, nc *nats.Conn) (*Producer, error) {
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, connectPatience)
		defer cancel()
	}
	if err := nc.FlushWithContext(ctx); err != nil {
		return nil, fmt.Errorf("wait for the nats server: %w", err)
	}
	streams, err := stream.Attach(nc)
	if err != nil {
		return nil, err
	}
	return FromStreams(streams), nil
}

// FromStreams returns a producer on streams that are open already.
func FromStreams(s *stream.Streams) *Producer { return &Producer{streams: s} }

// Close closes the connection if [Connect] made it. Calls that have not returned fail;
// what they were about may be stored or not. It always returns nil.
func (p *Producer) Close() error {
	if p.own != nil {
		p.own.Close()
	}
	return nil
}

// Enqueue stores a job for an app. When it returns nil, JetStream has the job
// and the fleet will not lose it. A *[job.Invalid] says everything that is wrong
// with a job; the other errors are [ErrFull], [ErrNoStream], [ErrUnanswered] and those of
// the connection. It waits for an answer until ctx ends, and for 5 s where ctx has no
// deadline.
//
// If ctx has a span of OpenTelemetry, the job continues its trace: Enqueue adds a span of
// its own where that one goes, and workers that trace theirs.
func (p *Producer) Enqueue(ctx context.Context, app string, lane job.Lane, j *job.Job) (Receipt, error) {
	stored, err := p.streams.PublishJob(ctx, app, lane, j)
	return Receipt(stored), err
}

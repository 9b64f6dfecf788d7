// Package producer enqueues notification jobs, and creates and steers campaigns: the
// client that a Go service imports. It pulls in neither Redis nor an APNs client.
package producer

import (
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go"

	"github.com/pushfleet/pushfleet/job"
	"github.com/pushfleet/pushfleet/stream"
)

// Receipt says where a job is stored.
type Receipt = stream.Published

// Publisher enqueues jobs, and does nothing else: it needs no permission but to publish
// to push.jobs.<app>.*, and an inbox. It is safe for concurrent use.
type Publisher struct{ streams *stream.Streams }

// NewPublisher returns a publisher on a connection, which stays the caller's. It asks the
// server nothing: the streams must exist, as they do once a worker has run.
func NewPublisher(nc *nats.Conn) (*Publisher, error) {
	streams, err := stream.ForPublishing(nc)
	if err != nil {
		return nil, fmt.Errorf("make publisher: %w", err)
	}
	return &Publisher{streams}, nil
}

// Producer enqueues jobs, and creates and steers campaigns. It is safe for concurrent use.
type Producer struct{ *Publisher }

// New returns a producer on a connection, which stays the caller's. It makes
// pushfleet's streams exist.
func New(ctx context.Context, nc *nats.Conn) (*Producer, error) {
	streams, err := stream.Open(ctx, nc, stream.Config{})
	if err != nil {
		return nil, fmt.Errorf("open pushfleet's streams: %w", err)
	}
	return FromStreams(streams), nil
}

// FromStreams returns a producer on streams that are open already.
func FromStreams(s *stream.Streams) *Producer { return &Producer{&Publisher{s}} }

// Enqueue stores a job for an app. When it returns nil, JetStream has the job
// and the fleet will not lose it. A *[job.Invalid] says everything that is wrong
// with a job; errors.Is(err, [stream.ErrFull]) that there is no room.
func (p *Publisher) Enqueue(ctx context.Context, app string, lane job.Lane, j *job.Job) (Receipt, error) {
	return p.streams.PublishJob(ctx, app, lane, j)
}

// EnqueueBatch stores jobs for an app without waiting for each in turn, and
// returns a receipt for each, in order. The error joins what went wrong; a job
// that was not stored has a zero receipt.
func (p *Publisher) EnqueueBatch(ctx context.Context, app string, lane job.Lane, jobs []*job.Job) ([]Receipt, error) {
	pending := make([]*stream.Pending, len(jobs))
	receipts := make([]Receipt, len(jobs))
	var errs []error
	for i, j := range jobs {
		p, err := p.streams.PublishJobAsync(ctx, app, lane, j)
		if err != nil {
			errs = append(errs, fmt.Errorf("job %d: %w", i, err))
			continue
		}
		pending[i] = p
	}
	for i, w := range pending {
		if w == nil {
			continue
		}
		receipt, err := w.Wait(ctx)
		if err != nil {
			errs = append(errs, fmt.Errorf("job %d: %w", i, err))
			continue
		}
		receipts[i] = receipt
	}
	return receipts, errors.Join(errs...)
}

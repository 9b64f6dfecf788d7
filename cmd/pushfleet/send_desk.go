package main

import (
	"context"
	"iter"

	"go.uber.org/zap"

	"github.com/pushfleet/pushfleet/job"
	"github.com/pushfleet/pushfleet/producer"
)

// jobDesk is where jobs of an app and a lane are handed in.
type jobDesk interface {
	enqueue(ctx context.Context, j *job.Job) (producer.Receipt, error)
	// enqueueBatch is like [producer.Producer.EnqueueBatch].
	enqueueBatch(ctx context.Context, jobs []*job.Job) ([]producer.Receipt, error)
	// wait tells of each job what became of it, as it is settled; of those that were not
	// when ctx ended, at the end and with an error.
	wait(ctx context.Context, receipts []producer.Receipt) iter.Seq2[sent, error]
}

// withJobs opens what jobs are handed in to.
func withJobs(ctx context.Context, g *globals, app string, lane job.Lane, do func(context.Context, jobDesk) error) error {
	if g.throughAPI() {
		d, err := g.openDoor()
		if err != nil {
			return err
		}
		return do(ctx, &remoteJobs{door: d, name: app, lane: lane})
	}
	cfg, err := g.load()
	if err != nil {
		return err
	}
	if err := knownApp(cfg, app); err != nil {
		return err
	}
	nc, err := dialNATS(ctx, cfg, "send", zap.NewNop())
	if err != nil {
		return err
	}
	defer nc.Close()
	p, err := producer.New(ctx, nc)
	if err != nil {
		return err
	}
	ctx, end, err := traceCommand(ctx, cfg, "send", "pushfleet send")
	if err != nil {
		return err
	}
	defer end()
	return do(ctx, &queuedJobs{p, app, lane})
}

// queuedJobs are handed in to JetStream.
type queuedJobs struct {
	producer *producer.Producer
	app      string
	lane     job.Lane
}

func (q *queuedJobs) enqueue(ctx context.Context, j *job.Job) (producer.Receipt, error) {
	return q.producer.Enqueue(ctx, q.app, q.lane, j)
}

func (q *queuedJobs) enqueueBatch(ctx context.Context, jobs []*job.Job) ([]producer.Receipt, error) {
	return q.producer.EnqueueBatch(ctx, q.app, q.lane, jobs)
}

func (q *queuedJobs) wait(ctx context.Context, receipts []producer.Receipt) iter.Seq2[sent, error] {
	return func(yield func(sent, error) bool) {
		for final, err := range q.producer.WaitAll(ctx, receipts) {
			if !yield(sentFinal(&final), err) {
				return
			}
		}
	}
}

func sentFinal(f *producer.Final) sent {
	done := sent{ID: f.Receipt.ID, Sequence: f.Receipt.Sequence, Duplicate: f.Receipt.Duplicate, Complete: &f.Complete}
	for _, r := range f.Recipients {
		one := sentRecipient{User: r.User, Install: r.Install, Result: r.Result, Reason: r.Reason, Status: r.Status}
		if !r.DeviceToken.IsZero() {
			one.Token = r.DeviceToken.Hex()
		}
		done.Recipients = append(done.Recipients, one)
	}
	return done
}

package producer

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/pushfleet/pushfleet/job"
	"github.com/pushfleet/pushfleet/stream"
)

// What of a batch is on its way to JetStream at once: so many jobs or, of large ones,
// bytes.
const (
	batchJobs  = 1024
	batchBytes = 8 << 20
)

// JobError says why one job of a batch was not stored, or is not known to be.
type JobError struct {
	Index int // in the batch, from 0
	Err   error
}

// Error names the job by its index.
func (e *JobError) Error() string { return fmt.Sprintf("job %d: %v", e.Index, e.Err) }

// Unwrap returns the cause.
func (e *JobError) Unwrap() error { return e.Err }

// BatchError says which jobs of a batch were not stored, or are not known to be. All
// others are stored.
type BatchError struct {
	Jobs []*JobError // by index; at least one
	Of   int         // jobs of the batch
}

// mostSaid is of how many jobs the text of a [BatchError] speaks.
const mostSaid = 10

// Error says how many they are, and of the first of them why.
func (e *BatchError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d of %d jobs are not stored", len(e.Jobs), e.Of)
	for _, one := range e.Jobs[:min(len(e.Jobs), mostSaid)] {
		b.WriteString("\n" + one.Error())
	}
	if more := len(e.Jobs) - mostSaid; more > 0 {
		fmt.Fprintf(&b, "\nand %d more", more)
	}
	return b.String()
}

// Unwrap returns the errors of all jobs: [errors.Is] and [errors.As] look at them in order.
func (e *BatchError) Unwrap() []error {
	all := make([]error, len(e.Jobs))
	for i, one := range e.Jobs {
		all[i] = one
	}
	return all
}

// EnqueueBatch stores jobs for an app, like [Producer.Enqueue] and without waiting for
// each in turn. It returns a receipt for each job, in order; that of a job that was not
// stored is zero, and a *[BatchError] says why. However many jobs there are, a bounded
// number of them is on its way at once. When ctx ends, what was not answered by then
// counts as not stored, and the rest is not sent any more.
func (p *Producer) EnqueueBatch(ctx context.Context, app string, lane job.Lane, jobs []*job.Job) ([]Receipt, error) {
	b := batch{receipts: make([]Receipt, len(jobs))}
	for i, j := range jobs {
		for b.full() {
			b.settleFirst(ctx)
		}
		if ctx.Err() != nil {
			b.fail(i, context.Cause(ctx))
			continue
		}
		pending, err := p.streams.PublishJobAsync(ctx, app, lane, j)
		if err != nil {
			b.fail(i, err)
			continue
		}
		b.onWay = append(b.onWay, onWay{i, pending})
		b.bytes += pending.Bytes()
	}
	for len(b.onWay) > 0 {
		b.settleFirst(ctx)
	}
	return b.receipts, b.err()
}

// batch is one call of EnqueueBatch.
type batch struct {
	receipts []Receipt
	failed   []*JobError
	onWay    []onWay // oldest first
	bytes    int     // of onWay
}

// onWay is a job that was not answered yet.
type onWay struct {
	index   int
	pending *stream.Pending
}

func (b *batch) full() bool { return len(b.onWay) >= batchJobs || b.bytes >= batchBytes }

// settleFirst waits for the answer to the oldest job.
func (b *batch) settleFirst(ctx context.Context) {
	first := b.onWay[0]
	b.onWay = b.onWay[1:]
	b.bytes -= first.pending.Bytes()
	stored, err := first.pending.Wait(ctx)
	if err != nil {
		b.fail(first.index, err)
		return
	}
	b.receipts[first.index] = Receipt(stored)
}

func (b *batch) fail(i int, err error) { b.failed = append(b.failed, &JobError{Index: i, Err: err}) }

func (b *batch) err() error {
	if len(b.failed) == 0 {
		return nil
	}
	slices.SortFunc(b.failed, func(x, y *JobError) int { return x.Index - y.Index })
	return &BatchError{Jobs: b.failed, Of: len(b.receipts)}
}

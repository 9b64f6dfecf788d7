package main

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/pushfleet/pushfleet/api"
	"github.com/pushfleet/pushfleet/internal/remote"
	"github.com/pushfleet/pushfleet/job"
	"github.com/pushfleet/pushfleet/producer"
)

const (
	// maxPartBytes is how many bytes of jobs a request has, unless one job has more. choice:
	// below the least that a batch may have at the API by default (api.max_batch_bytes); at
	// one that takes less, parts are halved.
	maxPartBytes = 960 << 10

	// waitAtOnce is how many jobs are asked for at the same time.
	waitAtOnce = 8
	waitFirst  = 50 * time.Millisecond
	waitMost   = 2 * time.Second

	// partFirst and partPatience are how long is waited for the queue to take what it did not,
	// and for how long that goes on without it taking any.
	partFirst    = 250 * time.Millisecond
	partMost     = 5 * time.Second
	partPatience = time.Minute
)

// remoteJobs are handed in to the API.
type remoteJobs struct {
	*door
	name string // of the app
	lane job.Lane
}

func (r *remoteJobs) query() url.Values { return url.Values{"lane": {r.lane.String()}} }

func (r *remoteJobs) receipt(in *api.HandedIn) producer.Receipt {
	return producer.Receipt{App: r.name, Lane: r.lane, ID: in.ID, Sequence: in.Sequence, Duplicate: in.Duplicate, At: time.Now()}
}

func (r *remoteJobs) enqueue(ctx context.Context, j *job.Job) (producer.Receipt, error) {
	body, err := j.MarshalJSON()
	if err != nil {
		return producer.Receipt{}, err
	}
	var out api.HandedIn
	if err := r.callWhole(ctx, &remote.Call{
		Method: http.MethodPost, Path: inApp(r.name, "notifications"), Query: r.query(), In: api.Job(body), Out: &out,
		Repeatable: j.ID != "",
	}); err != nil {
		return producer.Receipt{}, err
	}
	return r.receipt(&out), nil
}

// jobParts are the jobs of one call of enqueueBatch, on their way in several requests.
type jobParts struct {
	*remoteJobs
	jobs     []*job.Job
	bodies   []api.Job
	receipts []producer.Receipt
	failed   []*producer.JobError
}

func (r *remoteJobs) enqueueBatch(ctx context.Context, jobs []*job.Job) ([]producer.Receipt, error) {
	p := &jobParts{remoteJobs: r, jobs: jobs, bodies: make([]api.Job, len(jobs)), receipts: make([]producer.Receipt, len(jobs))}
	var part []int // indexes of jobs
	size := 0
	flush := func() error {
		err := p.send(ctx, part)
		part, size = part[:0], 0
		return err
	}
	for i, j := range jobs {
		body, err := j.MarshalJSON()
		if err != nil {
			p.fail(i, err)
			continue
		}
		if len(part) == api.MaxJobs || len(part) > 0 && size+len(body) > maxPartBytes {
			if err := flush(); err != nil {
				return p.receipts, err
			}
		}
		p.bodies[i] = body
		part, size = append(part, i), size+len(body)+1
	}
	if err := flush(); err != nil {
		return p.receipts, err
	}
	if len(p.failed) > 0 {
		slices.SortFunc(p.failed, func(x, y *producer.JobError) int { return x.Index - y.Index })
		return p.receipts, &producer.BatchError{Jobs: p.failed, Of: len(jobs)}
	}
	return p.receipts, nil
}

func (p *jobParts) fail(i int, err error) {
	p.failed = append(p.failed, &producer.JobError{Index: i, Err: err})
}

// send hands in a part, and what the queue did not take of it again, as long as it takes
// some of it in a minute.
func (p *jobParts) send(ctx context.Context, part []int) error {
	delay, good := partFirst, time.Now()
	for len(part) > 0 {
		later, err := p.sendOnce(ctx, part)
		if err != nil {
			return err
		}
		if len(later) < len(part) {
			delay, good = partFirst, time.Now()
		}
		if part = later; len(part) == 0 {
			return nil
		}
		if time.Since(good) > partPatience {
			for _, i := range part {
				p.fail(i, errors.New("the queue took none for "+partPatience.String()+": hand it in again later"))
			}
			return nil
		}
		if err := rest(ctx, delay); err != nil {
			return err
		}
		delay = min(2*delay, partMost)
	}
	return nil
}

// sendOnce hands in a part, in halves where it is too large, and returns those jobs that
// are to be handed in again.
func (p *jobParts) sendOnce(ctx context.Context, part []int) (later []int, err error) {
	in := api.JobBatch{Jobs: make([]api.Job, len(part))}
	named := true
	for n, i := range part {
		in.Jobs[n] = p.bodies[i]
		named = named && p.jobs[i].ID != ""
	}
	var out api.JobBatchResult
	err = p.callWhole(ctx, &remote.Call{
		Method: http.MethodPost, Path: inApp(p.name, "notifications", "batch"), Query: p.query(), In: in, Out: &out, Repeatable: named,
	})
	switch {
	case remote.Is(err, "body_too_large") && len(part) > 1:
		for _, half := range [][]int{part[:len(part)/2], part[len(part)/2:]} {
			again, err := p.sendOnce(ctx, half)
			if err != nil {
				return nil, err
			}
			later = append(later, again...)
		}
		return later, nil
	case remote.Is(err, "body_too_large"):
		p.fail(part[0], err)
		return nil, nil
	case err != nil:
		return nil, err
	case len(out.Results) != len(part):
		return nil, fmt.Errorf("hand in jobs: the API told of %d of %d", len(out.Results), len(part))
	}
	for n, i := range part {
		switch res := &out.Results[n]; {
		case res.Job != nil:
			p.receipts[i] = p.receipt(res.Job)
		case res.Status == http.StatusServiceUnavailable && (p.jobs[i].ID != "" || res.Code == "overloaded" || res.Code == "no_room"):
			later = append(later, i)
		default:
			p.fail(i, errors.New(res.Detail))
		}
	}
	return later, nil
}

func (r *remoteJobs) wait(ctx context.Context, receipts []producer.Receipt) iter.Seq2[sent, error] {
	return func(yield func(sent, error) bool) {
		var open []*remoteWait
		for i := range receipts {
			if receipts[i].ID != "" {
				open = append(open, &remoteWait{Receipt: receipts[i]})
			}
		}
		delay := waitFirst
		for len(open) > 0 {
			err := r.look(ctx, open)
			if err != nil && ctx.Err() != nil {
				err = context.Cause(ctx)
			}
			left := open[:0]
			for _, w := range open {
				switch {
				case !w.done:
					left = append(left, w)
				case !yield(w.sent(), w.err):
					return
				}
			}
			if len(left) < len(open) {
				delay = waitFirst
			}
			open = left
			if err == nil && len(open) > 0 {
				err = rest(ctx, delay)
				delay = min(2*delay, waitMost)
			}
			if err == nil {
				continue
			}
			for _, w := range open {
				if !yield(w.sent(), fmt.Errorf("wait for job %s: %d recipients are settled: %w", w.ID, len(w.settled), err)) {
					return
				}
			}
			return
		}
	}
}

// rest waits, unless ctx ends.
func rest(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// remoteWait is a job that is waited for.
type remoteWait struct {
	producer.Receipt
	settled []sentRecipient
	seen    bool
	done    bool
	err     error // of one that is done: why it is not known what became of it
}

func (w *remoteWait) sent() sent {
	complete := w.done && w.err == nil
	return sent{ID: w.ID, Sequence: w.Sequence, Duplicate: w.Duplicate, Complete: &complete, Recipients: w.settled}
}

// look asks for each job that is waited for, once.
func (r *remoteJobs) look(ctx context.Context, open []*remoteWait) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(waitAtOnce)
	for _, w := range open {
		g.Go(func() error {
			q := r.query()
			q.Set("sequence", strconv.FormatUint(w.Sequence, 10))
			var n api.Notification
			err := r.get(ctx, &n, q, inApp(r.name, "notifications", w.ID)...)
			switch {
			case remote.Is(err, "unknown_notification") && w.seen:
				w.done, w.err = true, fmt.Errorf("wait for job %s: it was given up as a whole, or is done for so long that it is not kept: see pushfleet dead-letter list --job", w.ID)
				return nil
			case remote.Is(err, "unknown_notification"): // between the queue and the first word of it
				return nil
			case err != nil:
				return err
			}
			w.take(&n)
			return nil
		})
	}
	return g.Wait()
}

// take takes in what is known of the job.
func (w *remoteWait) take(n *api.Notification) {
	w.seen, w.done, w.settled = true, n.State == "done", nil
	for i := range n.Recipients {
		res := &n.Recipients[i]
		if res.Result == "waiting" || res.Result == "retrying" {
			continue
		}
		one := sentRecipient{Token: res.Token, User: res.User, Install: res.InstallID, Result: job.Result(res.Result), Reason: res.Reason, Status: res.Status}
		w.settled = append(w.settled, one)
	}
}

package api

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"net/url"
	"sync/atomic"

	"github.com/pushfleet/pushfleet/internal/strictjson"
	"github.com/pushfleet/pushfleet/job"
	"github.com/pushfleet/pushfleet/stream"
)

// Queue is where jobs are handed in, and can be read by their place; see
// [stream.Streams].
type Queue interface {
	PublishParsed(ctx context.Context, app string, lane job.Lane, j *job.Job, body []byte) (*stream.Pending, error)
	StoredJob(ctx context.Context, app string, lane job.Lane, sequence uint64) (st stream.StoredJob, ok bool, err error)
	StoredOutcomes(ctx context.Context, sequence uint64) (o *job.Outcomes, ok bool, err error)
}

const (
	// maxJob is the most bytes of the body of one job. choice: 1000 device tokens of
	// the greatest length are half a megabyte; JetStream takes a megabyte.
	maxJob = 768 << 10

	// maxPublishing is how many jobs may wait for JetStream's answer: half a second's
	// worth at a rate that it keeps up with, and some megabytes. Beyond it requests are
	// refused at once, for when it stands still.
	maxPublishing = 2048

	headerIdempotencyKey = "Idempotency-Key"
)

// room bounds the jobs that wait for JetStream's answer.
type room struct{ used atomic.Int64 }

// take takes places, all or none.
func (r *room) take(n int) bool {
	if r.used.Add(int64(n)) > maxPublishing {
		r.give(n)
		return false
	}
	return true
}

func (r *room) give(n int) { r.used.Add(-int64(n)) }

func (a *API) postNotification(c *call) (int, any, *Problem) {
	var f faults
	lane := c.lane(&f)
	j, body, p := parseJob(c.body, c.r.Header.Get(headerIdempotencyKey), &f)
	if p != nil {
		return 0, nil, p
	}
	if f.any() {
		return 0, nil, invalid(&f)
	}
	if !a.publishing.take(1) {
		return 0, nil, a.jobRefused(c, lane, overloaded())
	}
	defer a.publishing.give(1)
	pending, err := a.cfg.Queue.PublishParsed(c.ctx, c.appName, lane, j, body)
	if err != nil {
		return 0, nil, a.jobRefused(c, lane, publishProblem(err, j))
	}
	stored, err := pending.Wait(c.ctx)
	if err != nil {
		return 0, nil, a.jobRefused(c, lane, publishProblem(err, j))
	}
	return http.StatusAccepted, a.jobStored(c, lane, stored), nil
}

// lane is the one that the URL names.
func (c *call) lane(f *faults) job.Lane {
	if c.r.URL.RawQuery == "" {
		return job.Transactional
	}
	return readLane(c.r.URL.Query(), f)
}

func readLane(query url.Values, f *faults) job.Lane {
	if !query.Has("lane") {
		return job.Transactional
	}
	lane, err := job.ParseLane(query.Get("lane"))
	if err != nil {
		f.add("{lane}", "must be transactional or bulk")
	}
	return lane
}

// parseJob reads a job, and adds what is wrong with it. key is what the header names
// it, or empty. body is its JSON as it came, or nil where the name is not in it.
func parseJob(text []byte, key string, f *faults) (j *job.Job, body []byte, p *Problem) {
	j, err := job.Parse(text)
	if trimmed := bytes.TrimLeft(text, " \t\r\n"); err != nil || trimmed[0] != '{' { // Parse knows another encoding too
		d := strictjson.New(text)
		d.Value()
		d.End()
		if p := malformed(d); p != nil {
			return nil, nil, p
		}
		f.addJob(err, "")
		return nil, nil, nil
	}
	switch {
	case key == "" || key == j.ID:
		return j, text, nil
	case j.ID != "":
		f.add("id", "must be what the header %s says, or one of both left out", headerIdempotencyKey)
		return nil, nil, nil
	}
	j.ID = key
	if err := j.Validate(); err != nil {
		var named faults
		named.addJob(err, "")
		for _, fault := range named.list { // of the id: all else was checked
			f.add("{"+headerIdempotencyKey+"}", "%s", fault.Message)
		}
	}
	return j, nil, nil
}

// addJob adds what is wrong with a job, whose path is in front of each.
func (f *faults) addJob(err error, path string) {
	var wrong *job.Invalid
	if !errors.As(err, &wrong) {
		f.add(path, "%v", err)
		return
	}
	for _, p := range wrong.Problems {
		at := p.Path
		switch {
		case at == "":
			at = path
		case path != "":
			at = path + "." + at
		}
		f.add(at, "%s", p.Message)
	}
	f.more += wrong.More
}

func overloaded() *Problem {
	p := problemf(http.StatusServiceUnavailable, codeOverloaded, "too many notifications wait for the queue: repeat the request later; nothing was stored")
	p.retryAfter = retryWhenOverloaded
	return p
}

// publishProblem says what kept a job from being stored.
func publishProblem(err error, j *job.Job) *Problem {
	switch {
	case errors.Is(err, stream.ErrBusy):
		return overloaded()
	case errors.Is(err, stream.ErrTooLarge):
		return problemf(http.StatusRequestEntityTooLarge, codeBodyTooLarge, "the job is larger than the queue takes: divide its recipients")
	}
	p := problemf(http.StatusServiceUnavailable, codeUnavailable,
		"the queue cannot be reached: repeat the request later; the job may have been stored, and without an id it would then be sent twice")
	if j.ID != "" {
		p.Detail = "the queue cannot be reached: repeat the request later; the job may have been stored, which does no harm, as it has an id"
	}
	if errors.Is(err, stream.ErrFull) {
		p.Code, p.Detail = codeNoRoom, "the queue is full, and refuses jobs until workers have sent some: repeat the request later"
	}
	p.retryAfter, p.cause = retryWhenDown, err
	return p
}

// jobStored counts a job that was stored, and says where.
func (a *API) jobStored(c *call, lane job.Lane, stored stream.Published) HandedIn {
	result := "stored"
	if stored.Duplicate {
		result = "duplicate"
	}
	a.metrics.jobs.WithLabelValues(c.appName, lane.String(), result).Inc()
	return HandedIn{
		ID: stored.ID, Sequence: stored.Sequence, Duplicate: stored.Duplicate,
		StatusURL: statusURL(c.appName, lane, stored.ID, stored.Sequence),
	}
}

// jobRefused counts a valid job that was not stored.
func (a *API) jobRefused(c *call, lane job.Lane, p *Problem) *Problem {
	a.metrics.jobs.WithLabelValues(c.appName, lane.String(), p.Code).Inc()
	return p
}

// statusURL is where to ask what became of a job. The place makes it be found while it
// waits; an id that is made of the place needs none.
func statusURL(app string, lane job.Lane, id string, sequence uint64) string {
	at := "/v1/apps/" + app + "/notifications/" + url.PathEscape(id)
	sep := "?"
	if lane != job.Transactional {
		at, sep = at+"?lane="+lane.String(), "&"
	}
	if id != stream.SequenceID(sequence) {
		at += sep + "sequence=" + utoa(sequence)
	}
	return at
}

func (a *API) postNotifications(c *call) (int, any, *Problem) {
	var f faults
	lane := c.lane(&f)
	if c.r.Header.Get(headerIdempotencyKey) != "" {
		f.add("{"+headerIdempotencyKey+"}", "is for a single job: give each job of a batch an id")
	}
	b, p := readJobs(c.body, &f)
	if p != nil {
		return 0, nil, p
	}
	if f.any() {
		return 0, nil, invalid(&f)
	}
	// The request itself has been counted.
	if p := c.chargeMore(len(b.results) - 1); p != nil {
		return 0, nil, p
	}
	if !a.publishing.take(len(b.results)) {
		return 0, nil, a.jobRefused(c, lane, overloaded())
	}
	defer a.publishing.give(len(b.results))
	if p := a.publishAll(c, lane, &b); p != nil {
		return 0, nil, p
	}
	out := JobBatchResult{Results: b.results}
	for i := range b.results {
		if b.results[i].Job != nil {
			out.Stored++
		}
	}
	out.Failed = len(b.results) - out.Stored
	return http.StatusOK, out, nil
}

// jobBatch is jobs on their way.
type jobBatch struct {
	jobs    []*job.Job // nil: it is none
	bodies  [][]byte
	results []JobResult
	total   int // also of those that are too many
}

// publishAll publishes the jobs of a batch, and waits for all answers. If none of them
// could be stored because of the queue, that is the problem of the whole.
func (a *API) publishAll(c *call, lane job.Lane, b *jobBatch) *Problem {
	pending := make([]*stream.Pending, len(b.jobs))
	var last *Problem
	refuse := func(i int, err error) {
		last = a.jobRefused(c, lane, publishProblem(err, b.jobs[i]))
		b.results[i] = JobResult{Status: last.Status, Code: last.Code, Detail: last.Detail}
	}
	for i, j := range b.jobs {
		if j == nil {
			continue
		}
		var err error
		if pending[i], err = a.cfg.Queue.PublishParsed(c.ctx, c.appName, lane, j, b.bodies[i]); err != nil {
			refuse(i, err)
		}
	}
	stored := false
	for i, p := range pending {
		if p == nil {
			continue
		}
		got, err := p.Wait(c.ctx)
		if err != nil {
			refuse(i, err)
			continue
		}
		stored = true
		in := a.jobStored(c, lane, got)
		b.results[i] = JobResult{Status: http.StatusAccepted, Job: &in}
	}
	if !stored && last != nil && last.Status == http.StatusServiceUnavailable {
		return last
	}
	return nil
}

// readJobs reads a batch. What is wrong with one job is that job's alone; to f goes
// what is wrong with the whole.
func readJobs(body []byte, f *faults) (b jobBatch, p *Problem) {
	d := strictjson.New(body)
	table := strictjson.Object[jobBatch]{{Name: "jobs", Required: true, Read: readJobList}}
	table.Read(d, &b)
	d.End()
	if p := malformed(d); p != nil {
		return b, p
	}
	list, more := d.List()
	f.take(list, more)
	switch {
	case len(list) > 0:
	case b.total == 0:
		f.add("jobs", "must not be empty")
	case b.total > MaxJobs:
		f.add("jobs", "must be at most %d, got %d", MaxJobs, b.total)
	}
	return b, nil
}

func readJobList(d *strictjson.Decoder, b *jobBatch) {
	b.total, _ = strictjson.ReadList(d, MaxJobs, func() {
		text, ok := d.Value()
		if !ok {
			return
		}
		var res JobResult
		text = bytes.Clone(text) // it is published as it is, long after the next read
		j, err := job.Parse(text)
		if err != nil {
			var f faults
			f.addJob(err, "jobs["+itoa(len(b.jobs))+"]")
			if n := len(f.list); n > maxFaultsPerItem {
				f.list, f.more = f.list[:maxFaultsPerItem], f.more+n-maxFaultsPerItem
			}
			p := invalid(&f)
			res = JobResult{Status: p.Status, Code: p.Code, Detail: p.Detail, Errors: p.Errors}
			j = nil
		}
		b.jobs, b.bodies, b.results = append(b.jobs, j), append(b.bodies, text), append(b.results, res)
	})
}

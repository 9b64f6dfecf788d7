package explain

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/pushfleet/pushfleet/device"
	"github.com/pushfleet/pushfleet/job"
	"github.com/pushfleet/pushfleet/store"
	"github.com/pushfleet/pushfleet/stream"
)

// DefaultSince is how far back a job is searched for if the question does not say.
const DefaultSince = 24 * time.Hour

// Question is about one campaign or job, and one user, installation or device token.
type Question struct {
	App           string
	Campaign, Job string   // one of them
	Lane          job.Lane // of the job

	User, Install string // one of these and Token
	Token         device.Token

	// Since bounds what is searched: the jobs of a lane, or a campaign to a file. Zero:
	// [DefaultSince] before Now for a job, and all for a campaign.
	Since time.Time
	Now   time.Time // the time of day
	// Within bounds the time that a search takes; what was not searched is said. Zero: no
	// bound.
	Within time.Duration
}

func (q *Question) since() time.Time {
	if q.Since.IsZero() {
		return q.Now.Add(-DefaultSince)
	}
	return q.Since
}

// Explainer answers questions. It is safe for concurrent use.
type Explainer struct {
	Streams *stream.Streams
	Set     *store.Store
	// Searched is called for each message of OUTCOMES that is searched, with how many
	// come after it. nil: nobody wants to know.
	Searched func(left uint64)
}

// asking is one question on its way.
type asking struct {
	*Explainer
	q *Question
}

// Explain answers a question. The error wraps [stream.ErrNoCampaign] where there is no
// such campaign, and is a [*RecursError] where it recurs; else it says what could not be
// read.
func (e *Explainer) Explain(ctx context.Context, q *Question) (*Explanation, error) {
	a := &asking{Explainer: e, q: q}
	cases, err := a.cases(ctx)
	if err != nil {
		return nil, err
	}
	x := &Explanation{App: q.App, Campaign: q.Campaign, Job: q.Job, Devices: []Finding{}}
	if q.Campaign != "" {
		cases, err = a.explainCampaign(ctx, x, cases)
	} else {
		cases, err = a.explainJob(ctx, x, cases)
	}
	if err != nil {
		return nil, err
	}
	if x.SearchedUntil != nil {
		x.Text += fmt.Sprintf("; for want of time it was searched until %s only", Instant(*x.SearchedUntil))
	}
	for _, c := range cases {
		x.Devices = append(x.Devices, c.explained)
	}
	return x, nil
}

// errLate ends a search for want of time.
var errLate = errors.New("explain: out of time")

// search reads OUTCOMES and notes what is told of the cases, for as long as there is time.
func (a *asking) search(x *Explanation, cases []*explained, of func(*job.JobOutcome) bool, read func(each func(data []byte, left uint64) error) error) error {
	begun := time.Now()
	err := read(func(data []byte, left uint64) error {
		if a.Searched != nil {
			a.Searched(left)
		}
		at, err := note(cases, data, of)
		if err == nil && left > 0 && a.q.Within > 0 && !at.IsZero() && time.Since(begun) >= a.q.Within {
			x.SearchedUntil = &at
			return errLate
		}
		return err
	})
	if errors.Is(err, errLate) {
		return nil
	}
	return err
}

// note notes what a message of OUTCOMES tells of the cases, and returns when it was told.
func note(cases []*explained, data []byte, of func(*job.JobOutcome) bool) (at time.Time, err error) {
	o, err := job.ParseOutcomes(data)
	if err != nil {
		return time.Time{}, nil //nolint:nilerr // of a newer version, or somebody else's: nothing to explain by
	}
	for _, c := range cases {
		c.note(o, of)
	}
	return o.At, nil
}

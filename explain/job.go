package explain

import (
	"context"
	"fmt"

	"github.com/pushfleet/pushfleet/job"
	"github.com/pushfleet/pushfleet/store"
)

func (a *asking) explainJob(ctx context.Context, x *Explanation, cases []*explained) ([]*explained, error) {
	id := a.q.Job
	x.Lane = a.q.Lane.String()
	progress, err := a.Set.Progress(ctx, []store.JobKey{{App: a.q.App, Lane: a.q.Lane, ID: id}})
	if err != nil {
		return nil, err
	}
	p := &progress[0]
	since := a.q.since()
	isMeant := func(jo *job.JobOutcome) bool { return jo.Campaign == "" && (jo.ID == id || jo.Root == id) }
	err = a.search(x, cases, isMeant,
		func(each func([]byte, uint64) error) error {
			return a.Streams.LaneOutcomes(ctx, a.q.App, a.q.Lane, since, each)
		})
	if err != nil {
		return nil, err
	}
	if x.SearchedUntil != nil {
		if err := a.lookAtPlaces(ctx, cases, isMeant); err != nil {
			return nil, err
		}
	}
	settled := 0
	for _, n := range p.Counts {
		settled += n
	}
	switch {
	case p.Complete:
		x.State, x.Text = "complete", fmt.Sprintf("job %s (%s): complete, with %d recipients", id, a.q.Lane, p.Total)
	case settled > 0 || len(p.Marked)+len(p.Waiting) > 0 || !p.RetryAt.IsZero():
		x.State, x.Text = "open", fmt.Sprintf("job %s (%s): not complete, %d recipients are settled", id, a.q.Lane, settled)
		if p.RetryAt.After(a.q.Now) {
			x.Text += ", and the rest is tried " + Instant(p.RetryAt)
		}
	default:
		x.State = "unknown"
		x.Text = fmt.Sprintf("job %s (%s): no progress is known; it is kept for 24 h, and begins when a worker has settled the first recipient", id, a.q.Lane)
	}
	cases = dropUserWithDevices(cases)
	for _, c := range cases {
		switch {
		case !c.open(), c.byProgress(p):
		case p.Complete:
			c.say(Nothing, "nothing is told of it since %s: the job is complete without it, or its outcome is older", Instant(since))
		case x.State == "open":
			c.say(Nothing, "nothing is told of it since %s: it is no recipient, or one of those that are not settled", Instant(since))
		default:
			c.say(Nothing, "nothing is told of it since %s", Instant(since))
		}
	}
	return cases, nil
}

// lookAtPlaces notes what the token set has places of in OUTCOMES: a search that ended
// early may not have come there. Of jobs that continue this one it knows none.
func (a *asking) lookAtPlaces(ctx context.Context, cases []*explained, isMeant func(*job.JobOutcome) bool) error {
	st, err := a.Set.JobStatus(ctx, store.JobKey{App: a.q.App, Lane: a.q.Lane, ID: a.q.Job})
	if err != nil {
		return err
	}
	for _, sequence := range st.Outcomes {
		o, ok, err := a.Streams.StoredOutcomes(ctx, sequence)
		if err != nil {
			return err
		}
		if !ok {
			continue
		}
		for _, c := range cases {
			c.note(o, isMeant)
		}
	}
	return nil
}

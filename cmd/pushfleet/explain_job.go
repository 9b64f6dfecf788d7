package main

import (
	"context"
	"fmt"

	"github.com/pushfleet/pushfleet/job"
	"github.com/pushfleet/pushfleet/store"
)

func (e *explainer) explainJob(ctx context.Context, x *explanation, cases []*explained) ([]*explained, error) {
	id := e.flags.job
	x.Lane = e.lane.String()
	progress, err := e.set.Progress(ctx, []store.JobKey{{App: e.flags.app, Lane: e.lane, ID: id}})
	if err != nil {
		return nil, err
	}
	p := &progress[0]
	since := e.now.Add(-e.flags.since)
	err = e.search(cases, func(jo *job.JobOutcome) bool { return jo.Campaign == "" && (jo.ID == id || jo.Root == id) },
		func(each func([]byte, uint64) error) error {
			return e.streams.LaneOutcomes(ctx, e.flags.app, e.lane, since, each)
		})
	if err != nil {
		return nil, err
	}
	settled := 0
	for _, n := range p.Counts {
		settled += n
	}
	switch {
	case p.Complete:
		x.State, x.Text = "complete", fmt.Sprintf("job %s (%s): complete, with %d recipients", id, e.lane, p.Total)
	case settled > 0 || len(p.Marked)+len(p.Waiting) > 0 || !p.RetryAt.IsZero():
		x.State, x.Text = "open", fmt.Sprintf("job %s (%s): not complete, %d recipients are settled", id, e.lane, settled)
		if p.RetryAt.After(e.now) {
			x.Text += ", and the rest is tried " + instant(p.RetryAt)
		}
	default:
		x.State = "unknown"
		x.Text = fmt.Sprintf("job %s (%s): no progress is known; it is kept for 24 h, and begins when a worker has settled the first recipient", id, e.lane)
	}
	cases = dropUserWithDevices(cases)
	for _, c := range cases {
		switch {
		case !c.open(), c.byProgress(p):
		case p.Complete:
			c.say(verdictNothing, "nothing is told of it since %s: the job is complete without it, or its outcome is older", instant(since))
		case x.State == "open":
			c.say(verdictNothing, "nothing is told of it since %s: it is no recipient, or one of those that are not settled", instant(since))
		default:
			c.say(verdictNothing, "nothing is told of it since %s", instant(since))
		}
	}
	return cases, nil
}

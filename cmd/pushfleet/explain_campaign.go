package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/pushfleet/pushfleet/campaign"
	"github.com/pushfleet/pushfleet/device"
	"github.com/pushfleet/pushfleet/job"
	"github.com/pushfleet/pushfleet/store"
)

// outcomesKept is how long OUTCOMES has what was told.
const outcomesKept = 7 * 24 * time.Hour

func (e *explainer) explainCampaign(ctx context.Context, x *explanation, cases []*explained) ([]*explained, error) {
	st, err := e.streams.Campaign(ctx, e.flags.app, e.flags.campaign)
	if err != nil {
		return nil, err
	}
	x.State, x.Text = string(st.State), campaignSentence(&st)
	if st.Recurs() {
		return nil, e.refuseRecurring(ctx, &st)
	}
	def, err := campaign.Parse(st.Definition)
	if err != nil {
		return nil, fmt.Errorf("read the definition of campaign %s: %w", st.ID, err)
	}
	plan, err := def.Compile(campaign.Options{Start: st.StartAt, Zones: new(device.Zones)})
	if err != nil {
		return nil, err
	}
	if def.Recipients != nil {
		return e.explainFile(ctx, &st, plan, cases)
	}
	cases = dropUserWithDevices(cases)
	for _, c := range cases {
		if c.explained.Token == "" {
			c.say(verdictOutside, "has no device that is registered now")
			continue
		}
		if err := e.explainInAudience(ctx, &st, plan, c); err != nil {
			return nil, err
		}
	}
	return cases, nil
}

func campaignSentence(st *campaign.Status) string {
	s := fmt.Sprintf("campaign %s: %s", st.ID, st.State)
	switch {
	case st.State == campaign.Scheduled:
		s += ", to start " + instant(st.StartAt)
	case !st.StartedAt.IsZero():
		s += ", started " + instant(st.StartedAt)
	}
	if st.State == campaign.Paused {
		s += ", paused " + instant(st.PausedAt)
	}
	if !st.EndedAt.IsZero() {
		s += ", ended " + instant(st.EndedAt)
	}
	return s
}

// refuseRecurring says which runs a recurring campaign has.
func (e *explainer) refuseRecurring(ctx context.Context, st *campaign.Status) error {
	list, err := e.streams.Campaigns(ctx, st.App)
	if err != nil {
		return err
	}
	runs := slices.DeleteFunc(list, func(s campaign.Status) bool { return s.Parent != st.ID })
	if len(runs) == 0 {
		return fmt.Errorf("campaign %s recurs and has had no run yet: the next one is %s", st.ID, instant(st.StartAt))
	}
	var ids []string
	for i := range runs[:min(len(runs), 5)] {
		ids = append(ids, runs[i].ID)
	}
	return fmt.Errorf("campaign %s recurs and is not sent itself: explain one of its runs, the last ones are %s", st.ID, strings.Join(ids, ", "))
}

// ofCampaign selects outcomes of a campaign: an id that looks like the hash of another
// one has the same subject.
func ofCampaign(id string) func(*job.JobOutcome) bool {
	return func(jo *job.JobOutcome) bool { return jo.Campaign == id }
}

// explainInAudience explains a device to which only one range can lead.
func (e *explainer) explainInAudience(ctx context.Context, st *campaign.Status, plan *campaign.Plan, c *explained) error {
	n, divided := st.RangeOf(c.device.Token)
	var p store.Progress
	if divided {
		c.explained.Range = &n
		progress, err := e.set.Progress(ctx, []store.JobKey{{App: st.App, Lane: job.Bulk, Campaign: st.ID, Range: n}})
		if err != nil {
			return err
		}
		p = progress[0]
		err = e.streams.RangeOutcomes(ctx, st.App, st.ID, n, func(_ uint64, data []byte) error {
			return note([]*explained{c}, data, ofCampaign(st.ID))
		})
		if err != nil || !c.open() || c.byProgress(&p) {
			return err
		}
	}
	if !c.known {
		c.say(verdictOutside, "not in the audience: it is not registered")
		return nil
	}
	if why := plan.Mismatch(&c.device); why != "" {
		c.say(verdictOutside, "not in the audience: %s", why)
		return nil
	}
	switch {
	case p.Complete && e.now.Sub(st.StartedAt) > outcomesKept:
		c.say(verdictNothing, "in the audience as it is registered now; OUTCOMES keeps a week, and does not have any more what became of it")
	case p.Complete:
		c.say(verdictOutside, "not in the audience when its range was read, though it is now: first registered %s, last %s",
			instant(c.device.CreatedAt), instant(c.device.Record.Registered()))
	case st.Ended():
		c.say(verdictNothing, "in the audience, but the campaign ended before anything was told of it")
	default:
		e.explainOpen(st, plan, c, &p)
	}
	return nil
}

// explainOpen explains a device of the audience that is still to get its campaign.
func (e *explainer) explainOpen(st *campaign.Status, plan *campaign.Plan, c *explained, p *store.Progress) {
	from := e.now
	if st.State == campaign.Scheduled && st.StartAt.After(from) {
		from = st.StartAt
	}
	switch d := plan.Decide(&c.device, from); {
	case d.Action == campaign.Skip:
		c.say(string(job.Skipped), "will be skipped: %s", d.Reason)
	case d.Action == campaign.Later:
		c.waits(d.At, "waits until %s (%s)", instant(d.At), d.Reason)
	case st.State == campaign.Scheduled:
		c.waits(st.StartAt, "waits until %s, when the campaign starts", instant(st.StartAt))
	case st.State != campaign.Running:
		c.waits(time.Time{}, "waits: the campaign is %s", st.State)
	case p.RetryAt.After(e.now):
		c.waits(p.RetryAt, "waits until %s, when its range is tried again", instant(p.RetryAt))
	case !st.Expanded && *c.explained.Range >= st.Ranges:
		c.waits(time.Time{}, "waits: its range is not in the queue yet")
	default:
		c.waits(time.Time{}, "waits: its range is in the queue")
	}
}

// explainFile explains recipients of a file, who may be in any range.
func (e *explainer) explainFile(ctx context.Context, st *campaign.Status, plan *campaign.Plan, cases []*explained) ([]*explained, error) {
	err := e.search(cases, ofCampaign(st.ID), func(each func([]byte, uint64) error) error {
		return e.streams.CampaignOutcomes(ctx, st.App, st.ID, each)
	})
	if err != nil {
		return nil, err
	}
	cases = dropUserWithDevices(cases)
	for _, c := range cases {
		switch {
		case !c.open():
		case c.known && plan.Mismatch(&c.device) != "":
			c.say(verdictNothing, "nothing is told of it, and it cannot get the campaign: %s", plan.Mismatch(&c.device))
		case st.Ended() && e.now.Sub(st.EndedAt) > outcomesKept:
			c.say(verdictNothing, "nothing is told of it: OUTCOMES keeps a week, and the campaign ended before that")
		case st.State == campaign.Done:
			c.say(verdictNothing, "not one of the recipients of the file")
		case st.State == campaign.Cancelled:
			c.say(verdictNothing, "nothing is told of it: not one of the recipients of the file, or the campaign was cancelled before its turn")
		default:
			c.say(verdictNothing, "nothing is told of it yet: it waits, or is not one of the recipients of the file")
		}
	}
	return cases, nil
}

package explain

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/pushfleet/pushfleet/campaign"
	"github.com/pushfleet/pushfleet/device"
	"github.com/pushfleet/pushfleet/job"
	"github.com/pushfleet/pushfleet/store"
)

// outcomesKept is how long OUTCOMES has what was told.
const outcomesKept = 7 * 24 * time.Hour

func (a *asking) explainCampaign(ctx context.Context, x *Explanation, cases []*explained) ([]*explained, error) {
	st, err := a.Streams.Campaign(ctx, a.q.App, a.q.Campaign)
	if err != nil {
		return nil, err
	}
	x.State, x.Text = string(st.State), campaignSentence(&st)
	if st.Recurs() {
		return nil, a.refuseRecurring(ctx, &st)
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
		return a.explainFile(ctx, x, &st, plan, cases)
	}
	cases = dropUserWithDevices(cases)
	for _, c := range cases {
		if c.explained.Token == "" {
			c.say(Outside, "has no device that is registered now")
			continue
		}
		if err := a.explainInAudience(ctx, &st, plan, c); err != nil {
			return nil, err
		}
	}
	return cases, nil
}

func campaignSentence(st *campaign.Status) string {
	s := fmt.Sprintf("campaign %s: %s", st.ID, st.State)
	switch {
	case st.State == campaign.Scheduled:
		s += ", to start " + Instant(st.StartAt)
	case !st.StartedAt.IsZero():
		s += ", started " + Instant(st.StartedAt)
	}
	if st.State == campaign.Paused {
		s += ", paused " + Instant(st.PausedAt)
	}
	if !st.EndedAt.IsZero() {
		s += ", ended " + Instant(st.EndedAt)
	}
	return s
}

// RecursError is the error of a campaign that is not sent itself: its runs are.
type RecursError struct {
	ID   string
	Runs []string  // the last ones, at most 5
	Next time.Time // of the next run
}

func (e *RecursError) Error() string {
	if len(e.Runs) == 0 {
		return fmt.Sprintf("campaign %s recurs and has had no run yet: the next one is %s", e.ID, Instant(e.Next))
	}
	return fmt.Sprintf("campaign %s recurs and is not sent itself: explain one of its runs, the last ones are %s", e.ID, strings.Join(e.Runs, ", "))
}

// refuseRecurring says which runs a recurring campaign has.
func (a *asking) refuseRecurring(ctx context.Context, st *campaign.Status) error {
	list, err := a.Streams.Campaigns(ctx, st.App)
	if err != nil {
		return err
	}
	e := &RecursError{ID: st.ID, Next: st.StartAt}
	for i := range list {
		if list[i].Parent == st.ID && len(e.Runs) < 5 {
			e.Runs = append(e.Runs, list[i].ID)
		}
	}
	return e
}

// ofCampaign selects outcomes of a campaign: an id that looks like the hash of another
// one has the same subject.
func ofCampaign(id string) func(*job.JobOutcome) bool {
	return func(jo *job.JobOutcome) bool { return jo.Campaign == id }
}

// explainInAudience explains a device to which only one range can lead.
func (a *asking) explainInAudience(ctx context.Context, st *campaign.Status, plan *campaign.Plan, c *explained) error {
	n, divided := st.RangeOf(c.device.Token)
	var p store.Progress
	if divided {
		c.explained.Range = &n
		progress, err := a.Set.Progress(ctx, []store.JobKey{{App: st.App, Lane: job.Bulk, Campaign: st.ID, Range: n}})
		if err != nil {
			return err
		}
		p = progress[0]
		err = a.Streams.RangeOutcomes(ctx, st.App, st.ID, n, func(_ uint64, data []byte) error {
			_, err := note([]*explained{c}, data, ofCampaign(st.ID))
			return err
		})
		if err != nil || !c.open() || c.byProgress(&p) {
			return err
		}
	}
	if !c.known {
		c.say(Outside, "not in the audience: it is not registered")
		return nil
	}
	if why := plan.Mismatch(&c.device); why != "" {
		c.say(Outside, "not in the audience: %s", why)
		return nil
	}
	switch {
	case p.Complete && a.q.Now.Sub(st.StartedAt) > outcomesKept:
		c.say(Nothing, "in the audience as it is registered now; OUTCOMES keeps a week, and does not have any more what became of it")
	case p.Complete:
		c.say(Outside, "not in the audience when its range was read, though it is now: first registered %s, last %s",
			Instant(c.device.CreatedAt), Instant(c.device.Record.Registered()))
	case st.Ended():
		c.say(Nothing, "in the audience, but the campaign ended before anything was told of it")
	default:
		a.explainOpen(st, plan, c, &p)
	}
	return nil
}

// explainOpen explains a device of the audience that is still to get its campaign.
func (a *asking) explainOpen(st *campaign.Status, plan *campaign.Plan, c *explained, p *store.Progress) {
	from := a.q.Now
	if st.State == campaign.Scheduled && st.StartAt.After(from) {
		from = st.StartAt
	}
	switch d := plan.Decide(&c.device, from); {
	case d.Action == campaign.Skip:
		c.say(string(job.Skipped), "will be skipped: %s", d.Reason)
	case d.Action == campaign.Later:
		c.waits(d.At, "waits until %s (%s)", Instant(d.At), d.Reason)
	case st.State == campaign.Scheduled:
		c.waits(st.StartAt, "waits until %s, when the campaign starts", Instant(st.StartAt))
	case st.State != campaign.Running:
		c.waits(time.Time{}, "waits: the campaign is %s", st.State)
	case p.RetryAt.After(a.q.Now):
		c.waits(p.RetryAt, "waits until %s, when its range is tried again", Instant(p.RetryAt))
	case !st.Expanded && *c.explained.Range >= st.Ranges:
		c.waits(time.Time{}, "waits: its range is not in the queue yet")
	default:
		c.waits(time.Time{}, "waits: its range is in the queue")
	}
}

// explainFile explains recipients of a file, who may be in any range.
func (a *asking) explainFile(ctx context.Context, x *Explanation, st *campaign.Status, plan *campaign.Plan, cases []*explained) ([]*explained, error) {
	err := a.search(x, cases, ofCampaign(st.ID), func(each func([]byte, uint64) error) error {
		return a.Streams.CampaignOutcomes(ctx, st.App, st.ID, a.q.Since, each)
	})
	if err != nil {
		return nil, err
	}
	cases = dropUserWithDevices(cases)
	for _, c := range cases {
		switch {
		case !c.open():
		case c.known && plan.Mismatch(&c.device) != "":
			c.say(Nothing, "nothing is told of it, and it cannot get the campaign: %s", plan.Mismatch(&c.device))
		case st.Ended() && a.q.Now.Sub(st.EndedAt) > outcomesKept:
			c.say(Nothing, "nothing is told of it: OUTCOMES keeps a week, and the campaign ended before that")
		case st.State == campaign.Done:
			c.say(Nothing, "not one of the recipients of the file")
		case st.State == campaign.Cancelled:
			c.say(Nothing, "nothing is told of it: not one of the recipients of the file, or the campaign was cancelled before its turn")
		default:
			c.say(Nothing, "nothing is told of it yet: it waits, or is not one of the recipients of the file")
		}
	}
	return cases, nil
}

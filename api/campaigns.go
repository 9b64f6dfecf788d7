package api

import (
	"context"
	"errors"
	"math"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/pushfleet/pushfleet/campaign"
	"github.com/pushfleet/pushfleet/internal/strictjson"
	"github.com/pushfleet/pushfleet/job"
	"github.com/pushfleet/pushfleet/store"
	"github.com/pushfleet/pushfleet/stream"
)

// Campaigns is where campaigns are kept; see [stream.Streams].
type Campaigns interface {
	NewCampaign(ctx context.Context, app string, c *campaign.Campaign, now time.Time) (_ campaign.Status, created bool, err error)
	Campaign(ctx context.Context, app, id string) (campaign.Status, error)
	Campaigns(ctx context.Context, app string) ([]campaign.Status, error)
	ChangeCampaign(ctx context.Context, app, id string, change func(*campaign.Status) error) (campaign.Status, error)
	DeleteCampaign(ctx context.Context, app, id string) error
}

// Totals is where campaigns are counted; see [store.Store].
type Totals interface {
	CampaignTotals(ctx context.Context, app, campaign string, ranges int) (store.Totals, error)
}

func (a *API) postCampaign(c *call) (int, any, *Problem) {
	d := strictjson.New(c.body)
	d.Value()
	if p := malformed(d); p != nil {
		return 0, nil, p
	}
	def, err := campaign.Parse(c.body)
	if err != nil {
		return 0, nil, a.campaignProblem(err)
	}
	c.object = def.ID
	if def.Recipients != nil {
		var f faults
		f.add("recipients", "are those of a file, which the command line or the Go client hands in: give an audience")
		return 0, nil, invalid(&f)
	}
	st, created, err := a.cfg.Campaigns.NewCampaign(c.ctx, c.appName, def, a.cfg.Now())
	if err != nil {
		return 0, nil, a.campaignProblem(err)
	}
	return http.StatusOK, CreatedCampaign{SummaryOf(&st), created}, nil
}

func (a *API) getCampaign(c *call) (int, any, *Problem) {
	st, err := a.cfg.Campaigns.Campaign(c.ctx, c.appName, c.r.PathValue("id"))
	if err != nil {
		return 0, nil, a.campaignProblem(err)
	}
	totals, err := a.cfg.Totals.CampaignTotals(c.ctx, c.appName, st.ID, st.Ranges)
	if err != nil {
		return 0, nil, unavailable(err)
	}
	counts := CountsOf(&st, &totals)
	return http.StatusOK, Campaign{
		CampaignSummary: SummaryOf(&st), Definition: CampaignDefinition(st.Definition), Counts: counts,
		Pace: a.meters.pace(a.cfg.Now(), &st, &counts),
	}, nil
}

// Bounds of the list.
const (
	defaultCampaigns = 100
	maxCampaigns     = 1000
)

func (a *API) getCampaigns(c *call) (int, any, *Problem) {
	var f faults
	limit, state := defaultCampaigns, campaign.State("")
	query := c.r.URL.Query()
	if text := query.Get("limit"); text != "" {
		var err error
		if limit, err = strconv.Atoi(text); err != nil || limit < 1 || limit > maxCampaigns {
			f.add("{limit}", "must be 1 to %d", maxCampaigns)
		}
	}
	if text := query.Get("state"); text != "" {
		if state = campaign.State(text); !slices.Contains(campaignStates(), text) {
			f.add("{state}", "must be one of %s", campaignStates())
		}
	}
	if f.any() {
		return 0, nil, invalid(&f)
	}
	list, err := a.cfg.Campaigns.Campaigns(c.ctx, c.appName)
	if err != nil {
		return 0, nil, a.campaignProblem(err)
	}
	out := CampaignList{Campaigns: []CampaignSummary{}}
	for i := range list {
		if state != "" && list[i].State != state {
			continue
		}
		if out.More = len(out.Campaigns) == limit; out.More {
			break
		}
		out.Campaigns = append(out.Campaigns, SummaryOf(&list[i]))
	}
	return http.StatusOK, out, nil
}

func campaignStates() []string {
	var words []string
	for _, s := range campaign.States() {
		words = append(words, string(s))
	}
	return words
}

func (a *API) pauseCampaign(c *call) (int, any, *Problem) {
	return a.changeCampaign(c, func(st *campaign.Status) error { return st.Pause(a.cfg.Now().UTC()) })
}

func (a *API) resumeCampaign(c *call) (int, any, *Problem) {
	return a.changeCampaign(c, func(st *campaign.Status) error { return st.Resume(a.cfg.Now().UTC()) })
}

func (a *API) cancelCampaign(c *call) (int, any, *Problem) {
	return a.changeCampaign(c, func(st *campaign.Status) error { return st.Cancel(a.cfg.Now().UTC()) })
}

func (a *API) patchCampaign(c *call) (int, any, *Problem) {
	var change CampaignChange
	d := strictjson.New(c.body)
	strictjson.Object[CampaignChange]{{Name: "rate", Required: true, Read: readRate}}.Read(d, &change)
	d.End()
	if p := malformed(d); p != nil {
		return 0, nil, p
	}
	var f faults
	f.take(d.List())
	if f.any() {
		return 0, nil, invalid(&f)
	}
	return a.changeCampaign(c, func(st *campaign.Status) error { return st.SetRate(change.Rate) })
}

func readRate(d *strictjson.Decoder, c *CampaignChange) {
	v, ok := d.ValueOf('0', "a whole number")
	if !ok {
		return
	}
	n, err := strconv.ParseFloat(string(v), 64)
	if err != nil || n != math.Trunc(n) || n < 0 || n > campaign.MaxRate {
		d.Add("must be a whole number from 0 to %d", campaign.MaxRate)
		return
	}
	c.Rate = int(n)
}

func (a *API) deleteCampaign(c *call) (int, any, *Problem) {
	id := c.r.PathValue("id")
	_, err := a.cfg.Campaigns.Campaign(c.ctx, c.appName, id)
	if err == nil {
		err = a.cfg.Campaigns.DeleteCampaign(c.ctx, c.appName, id)
	}
	switch {
	case errors.Is(err, campaign.ErrState):
		return 0, nil, problemf(http.StatusConflict, codeWrongState, "only a campaign that has ended and is closed can be deleted: cancel it, and wait until closed is true")
	case err != nil:
		return 0, nil, a.campaignProblem(err)
	}
	return http.StatusNoContent, nil, nil
}

func (a *API) changeCampaign(c *call, change func(*campaign.Status) error) (int, any, *Problem) {
	st, err := a.cfg.Campaigns.ChangeCampaign(c.ctx, c.appName, c.r.PathValue("id"), change)
	if err != nil {
		return 0, nil, a.campaignProblem(err)
	}
	return http.StatusOK, SummaryOf(&st), nil
}

// campaignProblem says what kept a request about a campaign from being carried out.
func (a *API) campaignProblem(err error) *Problem {
	var wrong *job.Invalid
	switch {
	case errors.As(err, &wrong):
		var f faults
		for _, p := range wrong.Problems {
			f.add(p.Path, "%s", p.Message)
		}
		f.more = wrong.More
		return invalid(&f)
	case errors.Is(err, stream.ErrNoCampaign):
		return problemf(http.StatusNotFound, codeUnknownCampaign, "the app has no campaign with this id")
	case errors.Is(err, stream.ErrCampaignExists):
		return problemf(http.StatusConflict, codeCampaignExists, "there is another campaign with this id, or was in the last 90 days: ids are used once")
	case errors.Is(err, campaign.ErrState):
		return problemf(http.StatusConflict, codeWrongState, "the campaign's state does not allow this: it has ended, or its recipients are still handed in")
	case errors.Is(err, stream.ErrFull):
		p := problemf(http.StatusInsufficientStorage, codeNoRoom, "there is no room for more campaigns: delete some that have ended")
		p.cause = err
		return p
	default:
		p := problemf(http.StatusServiceUnavailable, codeUnavailable,
			"the queue that keeps campaigns cannot be reached: repeat the request later; it may have been carried out, which does no harm")
		p.retryAfter, p.cause = retryWhenDown, err
		return p
	}
}

package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"

	"github.com/pushfleet/pushfleet/api"
	"github.com/pushfleet/pushfleet/campaign"
	"github.com/pushfleet/pushfleet/internal/remote"
	"github.com/pushfleet/pushfleet/job"
	"github.com/pushfleet/pushfleet/stream"
)

// remoteCampaigns are those behind the API.
type remoteCampaigns struct {
	*door
	name string // of the app
}

func (r *remoteCampaigns) path(more ...string) []string {
	return append(inApp(r.name, "campaigns"), more...)
}

func (r *remoteCampaigns) list(ctx context.Context) ([]api.CampaignSummary, bool, error) {
	var out api.CampaignList
	err := r.door.get(ctx, &out, url.Values{"limit": {"1000"}}, r.path()...)
	return out.Campaigns, out.More, err
}

func (r *remoteCampaigns) get(ctx context.Context, id string) (*api.Campaign, error) {
	var out api.Campaign
	if err := r.door.get(ctx, &out, nil, r.path(id)...); err != nil {
		return nil, r.known(err, id)
	}
	out.Pace = api.Pace{} // it is measured here, as it is by the straight way
	return &out, nil
}

func (r *remoteCampaigns) create(ctx context.Context, def *campaign.Campaign) (out api.CreatedCampaign, err error) {
	text, err := def.AppendJSON(nil)
	if err != nil {
		return out, err
	}
	err = r.callWhole(ctx, &remote.Call{Method: http.MethodPost, Path: r.path(), In: api.CampaignDefinition(text), Out: &out, Repeatable: true})
	return out, err
}

func (r *remoteCampaigns) change(ctx context.Context, id string, c campaignChange) (out api.CampaignSummary, err error) {
	call := &remote.Call{Method: http.MethodPost, Path: r.path(id, c.verb), Out: &out, Repeatable: true}
	if c.verb == changePace {
		call.Method, call.Path, call.In = http.MethodPatch, r.path(id), api.CampaignChange{Rate: c.rate}
	}
	err = r.callWhole(ctx, call)
	return out, r.known(err, id)
}

// remove is not made again where the answer is lost: then there is no such campaign.
func (r *remoteCampaigns) remove(ctx context.Context, id string) error {
	return r.known(r.callWhole(ctx, &remote.Call{Method: http.MethodDelete, Path: r.path(id)}), id)
}

// known says of a campaign that is not there what the straight way says.
func (r *remoteCampaigns) known(err error, id string) error {
	if remote.Is(err, "unknown_campaign") {
		return noCampaign(r.name, id)
	}
	return err
}

func noCampaign(app, id string) error {
	return fmt.Errorf("read campaign %s of %s: %w", id, app, stream.ErrNoCampaign)
}

// invalidOf is what the API found wrong as what finds it here, so that it is placed alike.
func invalidOf(err error) error {
	var answer *remote.Error
	if !errors.As(err, &answer) || answer.Code != "invalid" || len(answer.Faults) == 0 {
		return err
	}
	wrong := new(job.Invalid)
	for _, f := range answer.Faults {
		wrong.Problems = append(wrong.Problems, job.Problem{Path: f.Path, Message: f.Message})
	}
	return wrong
}

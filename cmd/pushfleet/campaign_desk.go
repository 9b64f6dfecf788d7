package main

import (
	"context"
	"errors"

	"go.uber.org/zap"

	"github.com/pushfleet/pushfleet/api"
	"github.com/pushfleet/pushfleet/campaign"
	"github.com/pushfleet/pushfleet/config"
	"github.com/pushfleet/pushfleet/producer"
	"github.com/pushfleet/pushfleet/store"
)

// campaignReader is where campaigns of an app are looked at.
type campaignReader interface {
	// list returns them, the newest first, and whether there are more.
	list(ctx context.Context) (_ []api.CampaignSummary, more bool, err error)
	get(ctx context.Context, id string) (*api.Campaign, error)
}

// campaignChanger is where they are changed.
type campaignChanger interface {
	create(ctx context.Context, def *campaign.Campaign) (api.CreatedCampaign, error)
	change(ctx context.Context, id string, c campaignChange) (api.CampaignSummary, error)
	remove(ctx context.Context, id string) error
}

// campaignChange is what can be changed of a campaign.
type campaignChange struct {
	verb string // changePause and so on
	rate int    // of changePace
}

// The verbs are the API's too, but for pace.
const (
	changePause  = "pause"
	changeResume = "resume"
	changeCancel = "cancel"
	changePace   = "pace"
)

// campaigns is what commands about campaigns work on.
type campaigns struct {
	campaignReader
	campaignChanger
	app string

	// What the API does not have; nil through it.
	cfg  *config.Config
	file *producer.Campaigns // where recipients of files are handed in
}

// withCampaigns opens the campaigns of an app: the only one that there is, where none is
// named.
func withCampaigns(ctx context.Context, g *globals, app string, do func(context.Context, *campaigns) error) error {
	if g.throughAPI() {
		d, err := g.openDoor()
		if err != nil {
			return err
		}
		if app, err = d.app(ctx, app); err != nil {
			return err
		}
		r := &remoteCampaigns{door: d, name: app}
		return do(ctx, &campaigns{campaignReader: r, campaignChanger: r, app: app})
	}
	cfg, err := g.load()
	if err != nil {
		return err
	}
	if app, err = appOf(cfg, app); err != nil {
		return err
	}
	g.app = app
	nc, streams, err := connectNATS(ctx, cfg, "campaign", zap.NewNop())
	if err != nil {
		return err
	}
	defer nc.Close()
	if err := fleetKnows(ctx, cfg, streams, app); err != nil {
		return err
	}
	return withTotals(cfg, func(set *store.Store) error {
		s := &storedCampaigns{producer.NewCampaigns(streams, nil), set, app}
		return do(ctx, &campaigns{campaignReader: s, campaignChanger: s, app: app, cfg: cfg, file: s.Campaigns})
	})
}

// withTotals opens what counts campaigns. It does not wait for Redis.
func withTotals(cfg *config.Config, do func(*store.Store) error) error {
	set, client, err := connectRedis(cfg.Redis)
	if err != nil {
		return err
	}
	defer client.Close()
	return do(set)
}

// storedCampaigns are those in JetStream, with their counts in Redis.
type storedCampaigns struct {
	*producer.Campaigns
	set *store.Store
	app string
}

func (s *storedCampaigns) list(ctx context.Context) ([]api.CampaignSummary, bool, error) {
	list, err := s.List(ctx, s.app)
	shown := make([]api.CampaignSummary, len(list))
	for i := range list {
		shown[i] = api.SummaryOf(&list[i])
	}
	return shown, false, err
}

func (s *storedCampaigns) get(ctx context.Context, id string) (*api.Campaign, error) {
	st, err := s.Get(ctx, s.app, id)
	if err != nil {
		return nil, err
	}
	totals, err := s.set.CampaignTotals(ctx, s.app, id, st.Ranges)
	if err != nil {
		return nil, err
	}
	return &api.Campaign{CampaignSummary: api.SummaryOf(&st), Definition: api.CampaignDefinition(st.Definition), Counts: api.CountsOf(&st, &totals)}, nil
}

func (s *storedCampaigns) create(ctx context.Context, def *campaign.Campaign) (api.CreatedCampaign, error) {
	st, created, err := s.Create(ctx, s.app, def)
	return api.CreatedCampaign{CampaignSummary: api.SummaryOf(&st), Created: created}, err
}

func (s *storedCampaigns) change(ctx context.Context, id string, c campaignChange) (api.CampaignSummary, error) {
	var st campaign.Status
	var err error
	switch c.verb {
	case changePause:
		st, err = s.Pause(ctx, s.app, id)
	case changeResume:
		st, err = s.Resume(ctx, s.app, id)
	case changeCancel:
		st, err = s.Cancel(ctx, s.app, id)
	case changePace:
		st, err = s.SetRate(ctx, s.app, id, c.rate)
	default:
		err = errors.New("change campaign: nobody knows how to " + c.verb)
	}
	return api.SummaryOf(&st), err
}

func (s *storedCampaigns) remove(ctx context.Context, id string) error {
	return s.Delete(ctx, s.app, id)
}

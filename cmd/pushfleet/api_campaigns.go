package main

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/pushfleet/pushfleet/api"
	"github.com/pushfleet/pushfleet/campaign"
	"github.com/pushfleet/pushfleet/config"
	"github.com/pushfleet/pushfleet/stream"
)

var _ api.Campaigns = (*queuedCampaigns)(nil)

// queuedCampaigns is where campaigns are kept, once it has been reached: devices are
// served without it.
type queuedCampaigns struct {
	streams atomic.Pointer[stream.Streams]
}

// joinEvery is the wait between two tries at the first connection.
const joinEvery = 5 * time.Second

var errNoQueue = errors.New("there is no connection to JetStream")

// run connects, and keeps the connection until ctx ends.
func (q *queuedCampaigns) run(ctx context.Context, cfg *config.Config, log *zap.Logger) {
	for {
		nc, streams, err := connectNATS(ctx, cfg, "api", log)
		if err == nil {
			defer nc.Close()
			q.streams.Store(streams)
			<-ctx.Done()
			return
		}
		if ctx.Err() == nil {
			log.Warn("campaigns cannot be reached, trying again", zap.Error(err))
		}
		select {
		case <-time.After(joinEvery):
		case <-ctx.Done():
			return
		}
	}
}

// reach returns the streams, or errNoQueue at once: a request must not wait for what
// may be away for hours.
func (q *queuedCampaigns) reach() (*stream.Streams, error) {
	if s := q.streams.Load(); s != nil && s.Connected() {
		return s, nil
	}
	return nil, errNoQueue
}

// notes is a line for /readyz: without campaigns it is ready all the same.
func (q *queuedCampaigns) notes() []string {
	if _, err := q.reach(); err != nil {
		return []string{"campaigns: " + err.Error()}
	}
	return nil
}

func (q *queuedCampaigns) NewCampaign(ctx context.Context, app string, c *campaign.Campaign, now time.Time) (campaign.Status, bool, error) {
	s, err := q.reach()
	if err != nil {
		return campaign.Status{}, false, err
	}
	return s.NewCampaign(ctx, app, c, now)
}

func (q *queuedCampaigns) Campaign(ctx context.Context, app, id string) (campaign.Status, error) {
	s, err := q.reach()
	if err != nil {
		return campaign.Status{}, err
	}
	return s.Campaign(ctx, app, id)
}

func (q *queuedCampaigns) Campaigns(ctx context.Context, app string) ([]campaign.Status, error) {
	s, err := q.reach()
	if err != nil {
		return nil, err
	}
	return s.Campaigns(ctx, app)
}

func (q *queuedCampaigns) ChangeCampaign(ctx context.Context, app, id string, change func(*campaign.Status) error) (campaign.Status, error) {
	s, err := q.reach()
	if err != nil {
		return campaign.Status{}, err
	}
	return s.ChangeCampaign(ctx, app, id, change)
}

func (q *queuedCampaigns) DeleteCampaign(ctx context.Context, app, id string) error {
	s, err := q.reach()
	if err != nil {
		return err
	}
	return s.DeleteCampaign(ctx, app, id)
}

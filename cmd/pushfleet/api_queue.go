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
	"github.com/pushfleet/pushfleet/job"
	"github.com/pushfleet/pushfleet/store"
	"github.com/pushfleet/pushfleet/stream"
)

var _ interface {
	api.Campaigns
	api.Queue
	api.Fleet
	api.Fuses
	api.DeadLetters
	api.Explainer
} = (*apiQueue)(nil)

// apiQueue is JetStream, where notifications are handed in and campaigns are kept, once
// it has been reached: devices are served without it.
type apiQueue struct {
	set     *store.Store
	streams atomic.Pointer[stream.Streams]
}

// joinEvery is the wait between two tries at the first connection.
const joinEvery = 5 * time.Second

var errNoQueue = errors.New("there is no connection to JetStream")

// run connects, does what there is to do on the connection, and keeps it until ctx ends.
func (q *apiQueue) run(ctx context.Context, cfg *config.Config, log *zap.Logger, do func(*stream.Streams)) {
	for {
		nc, streams, err := connectNATS(ctx, cfg, "api", log)
		if err == nil {
			defer nc.Close()
			q.streams.Store(streams)
			do(streams)
			<-ctx.Done()
			_ = nc.FlushTimeout(2 * time.Second) // acknowledgements are written without waiting
			return
		}
		if ctx.Err() == nil {
			log.Warn("JetStream cannot be reached, trying again", zap.Error(err))
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
func (q *apiQueue) reach() (*stream.Streams, error) {
	if s := q.streams.Load(); s != nil && s.Connected() {
		return s, nil
	}
	return nil, errNoQueue
}

// notes is a line for /readyz: without JetStream it is ready all the same.
func (q *apiQueue) notes() []string {
	if _, err := q.reach(); err != nil {
		return []string{"notifications and campaigns: " + err.Error()}
	}
	return nil
}

func (q *apiQueue) NewCampaign(ctx context.Context, app string, c *campaign.Campaign, now time.Time) (campaign.Status, bool, error) {
	s, err := q.reach()
	if err != nil {
		return campaign.Status{}, false, err
	}
	return s.NewCampaign(ctx, app, c, now)
}

func (q *apiQueue) Campaign(ctx context.Context, app, id string) (campaign.Status, error) {
	s, err := q.reach()
	if err != nil {
		return campaign.Status{}, err
	}
	return s.Campaign(ctx, app, id)
}

func (q *apiQueue) Campaigns(ctx context.Context, app string) ([]campaign.Status, error) {
	s, err := q.reach()
	if err != nil {
		return nil, err
	}
	return s.Campaigns(ctx, app)
}

func (q *apiQueue) ChangeCampaign(ctx context.Context, app, id string, change func(*campaign.Status) error) (campaign.Status, error) {
	s, err := q.reach()
	if err != nil {
		return campaign.Status{}, err
	}
	return s.ChangeCampaign(ctx, app, id, change)
}

func (q *apiQueue) DeleteCampaign(ctx context.Context, app, id string) error {
	s, err := q.reach()
	if err != nil {
		return err
	}
	return s.DeleteCampaign(ctx, app, id)
}

func (q *apiQueue) PublishParsed(ctx context.Context, app string, lane job.Lane, j *job.Job, body []byte) (*stream.Pending, error) {
	s, err := q.reach()
	if err != nil {
		return nil, err
	}
	return s.PublishParsed(ctx, app, lane, j, body)
}

func (q *apiQueue) StoredJob(ctx context.Context, app string, lane job.Lane, sequence uint64) (stream.StoredJob, bool, error) {
	s, err := q.reach()
	if err != nil {
		return stream.StoredJob{}, false, err
	}
	return s.StoredJob(ctx, app, lane, sequence)
}

func (q *apiQueue) StoredOutcomes(ctx context.Context, sequence uint64) (*job.Outcomes, bool, error) {
	s, err := q.reach()
	if err != nil {
		return nil, false, err
	}
	return s.StoredOutcomes(ctx, sequence)
}

func (q *apiQueue) Present(ctx context.Context) ([]stream.Presence, error) {
	s, err := q.reach()
	if err != nil {
		return nil, err
	}
	return s.Present(ctx)
}

func (q *apiQueue) Backlog(ctx context.Context) (stream.Backlog, error) {
	s, err := q.reach()
	if err != nil {
		return stream.Backlog{}, err
	}
	return s.Backlog(ctx)
}

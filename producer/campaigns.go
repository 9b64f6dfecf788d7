package producer

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/pushfleet/pushfleet/campaign"
	"github.com/pushfleet/pushfleet/stream"
)

// Campaigns creates campaigns and steers them. It is safe for concurrent use, also by
// several processes. A method that names a campaign which there is not returns
// [stream.ErrNoCampaign]; one that its state does not allow, [campaign.ErrState].
type Campaigns struct {
	streams *stream.Streams
	now     func() time.Time
}

// NewCampaigns returns campaigns on streams that are open already. now tells the time
// of day; nil: time.Now.
func NewCampaigns(s *stream.Streams, now func() time.Time) *Campaigns {
	if now == nil {
		now = time.Now
	}
	return &Campaigns{streams: s, now: now}
}

// Campaigns returns the campaigns of the producer's fleet.
func (p *Producer) Campaigns() *Campaigns { return NewCampaigns(p.streams, nil) }

// Create stores a campaign for an app; when it returns nil, the fleet will send it. The
// same campaign created again is the one that there is, as it stands now, and created
// is false. A *[job.Invalid] says everything that is wrong with a campaign;
// [stream.ErrCampaignExists] that its id is another one's; [stream.ErrFull] that there
// is no room. A campaign to a file is created by [Campaigns.CreateFromFile].
func (c *Campaigns) Create(ctx context.Context, app string, of *campaign.Campaign) (_ campaign.Status, created bool, err error) {
	if of.Recipients != nil {
		return campaign.Status{}, false, errNeedsFile
	}
	return c.streams.NewCampaign(ctx, app, of, c.now())
}

var errNeedsFile = errors.New("create campaign: its recipients are those of a file, and must come with it")

// Get reads a campaign.
func (c *Campaigns) Get(ctx context.Context, app, id string) (campaign.Status, error) {
	return c.streams.Campaign(ctx, app, id)
}

// List reads all campaigns of an app, the newest first; of all apps where app is empty.
func (c *Campaigns) List(ctx context.Context, app string) ([]campaign.Status, error) {
	return c.streams.Campaigns(ctx, app)
}

// Pause stops a campaign until [Campaigns.Resume]: within two seconds nothing of it is
// sent any more. To pause a paused one changes nothing.
func (c *Campaigns) Pause(ctx context.Context, app, id string) (campaign.Status, error) {
	return c.streams.ChangeCampaign(ctx, app, id, func(st *campaign.Status) error { return st.Pause(c.now().UTC()) })
}

// Resume lets a paused campaign go on with the rest. To resume one that is not paused
// changes nothing.
func (c *Campaigns) Resume(ctx context.Context, app, id string) (campaign.Status, error) {
	return c.streams.ChangeCampaign(ctx, app, id, func(st *campaign.Status) error { return st.Resume(c.now().UTC()) })
}

// Cancel ends a campaign: within two seconds nothing of it is sent any more, and the
// rest never is. To cancel a cancelled one changes nothing.
func (c *Campaigns) Cancel(ctx context.Context, app, id string) (campaign.Status, error) {
	return c.streams.ChangeCampaign(ctx, app, id, func(st *campaign.Status) error { return st.Cancel(c.now().UTC()) })
}

// Delete forgets a campaign that has ended and is closed, which workers see to within a
// minute: its definition, state and counts cannot be looked up any more. Its id stays
// used for 90 days.
func (c *Campaigns) Delete(ctx context.Context, app, id string) error {
	if _, err := c.Get(ctx, app, id); err != nil {
		return err
	}
	return c.streams.DeleteCampaign(ctx, app, id)
}

// SetRate changes how many notifications per second the whole fleet sends of a
// campaign, up to [campaign.MaxRate]; 0: as many as it can.
func (c *Campaigns) SetRate(ctx context.Context, app, id string, rate int) (campaign.Status, error) {
	st, err := c.streams.ChangeCampaign(ctx, app, id, func(st *campaign.Status) error { return st.SetRate(rate) })
	if err != nil {
		return st, fmt.Errorf("set rate of campaign %s of %s: %w", id, app, err)
	}
	return st, nil
}

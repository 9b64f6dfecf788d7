package stream

import (
	"context"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/pushfleet/pushfleet/job"
)

// CampaignOutcomes calls each with every outcomes message of all ranges of a campaign
// that had been stored before the call, in order, from since on; zero: from the oldest.
// left is how many come after it. Those that have aged out of OUTCOMES are gone. The error
// is each's, or that OUTCOMES cannot be read.
func (s *Streams) CampaignOutcomes(ctx context.Context, app, id string, since time.Time, each func(data []byte, left uint64) error) error {
	if err := checkCampaign(app, id); err != nil {
		return fmt.Errorf("read outcomes of campaign: %w", err)
	}
	return s.searchOutcomes(ctx, CampaignOutcomesSubject(app, id), since, each)
}

// LaneOutcomes is [Streams.CampaignOutcomes] for jobs of an app and lane.
func (s *Streams) LaneOutcomes(ctx context.Context, app string, lane job.Lane, since time.Time, each func(data []byte, left uint64) error) error {
	if !ValidName(app) {
		return fmt.Errorf("read outcomes: app %q: must be letters, digits, '-' and '_'", app)
	}
	return s.searchOutcomes(ctx, OutcomesSubject(app, lane), since, each)
}

func (s *Streams) searchOutcomes(ctx context.Context, subject string, since time.Time, each func(data []byte, left uint64) error) error {
	cfg := jetstream.OrderedConsumerConfig{FilterSubjects: []string{subject}}
	if !since.IsZero() {
		cfg.DeliverPolicy, cfg.OptStartTime = jetstream.DeliverByStartTimePolicy, &since
	}
	ordered, err := s.js.OrderedConsumer(ctx, Outcomes, cfg)
	if err != nil {
		return fmt.Errorf("read %s: %w", subject, err)
	}
	// On a busy lane there is always one more.
	left := ordered.CachedInfo().NumPending
	if left == 0 {
		return nil
	}
	it, err := ordered.Messages(jetstream.PullMaxMessages(replayAhead))
	if err != nil {
		return fmt.Errorf("read %s: %w", subject, err)
	}
	defer it.Stop()
	c := &Consumer{stream: Outcomes, name: "search"}
	for left > 0 {
		m, more, err := c.next(ctx, it)
		if err != nil {
			return fmt.Errorf("read %s: %w", subject, err)
		}
		// Those that age out meanwhile do not come.
		left = min(left-1, more)
		if err := each(m.Data, left); err != nil {
			return err
		}
	}
	return nil
}

package stream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/pushfleet/pushfleet/campaign"
	"github.com/pushfleet/pushfleet/job"
)

// PublishRanges publishes ranges of one or more campaigns of an app and returns once
// JetStream has stored all of them. Published again within two minutes they are
// stored once. If the error is not nil, some may have been stored; [ErrFull]: one of
// them was not, for lack of room. All of them are in memory and on their way at once.
func (s *Streams) PublishRanges(ctx context.Context, app string, ranges []campaign.Range) error {
	var failed error
	pending := make([]*Storing, 0, len(ranges))
	for i := range ranges {
		storing, err := s.publishRange(app, &ranges[i])
		if err != nil {
			failed = err
			break
		}
		pending = append(pending, storing)
	}
	for _, p := range pending {
		if err := p.Wait(ctx); err != nil && failed == nil {
			failed = err
		}
	}
	return failed
}

func (s *Streams) publishRange(app string, r *campaign.Range) (*Storing, error) {
	if err := checkCampaign(app, r.Campaign); err != nil {
		return nil, fmt.Errorf("publish range: %w", err)
	}
	msg := nats.NewMsg(RangesSubject(app, r.Campaign))
	msg.Header.Set(jetstream.MsgIDHeader, RangeMsgID(app, r.Campaign, r.Number))
	msg.Header.Set(HeaderCampaign, headerText(r.Campaign))
	var err error
	if msg.Data, err = json.Marshal(r); err != nil {
		return nil, fmt.Errorf("encode range %d of campaign %s: %w", r.Number, r.Campaign, err)
	}
	return s.publishAsync(msg)
}

// RangesConsumer ensures the durable of a campaign's ranges, and returns it. One that
// is paused stays so.
func (s *Streams) RangesConsumer(ctx context.Context, app, id string) (*Consumer, error) {
	if err := checkCampaign(app, id); err != nil {
		return nil, fmt.Errorf("ensure consumer of ranges: %w", err)
	}
	return s.consumer(ctx, Jobs, jetstream.ConsumerConfig{
		Durable:       rangesDurable(app, id),
		FilterSubject: RangesSubject(app, id),
		AckWait:       AckWait(job.Bulk),
	})
}

// DropRanges deletes the ranges of a campaign that nobody has acknowledged, and their
// consumer. Where there is nothing of it any more, it does nothing.
func (s *Streams) DropRanges(ctx context.Context, app, id string) error {
	if err := checkCampaign(app, id); err != nil {
		return fmt.Errorf("drop ranges: %w", err)
	}
	// First the consumer: nothing more is taken.
	err := s.js.DeleteConsumer(ctx, Jobs, rangesDurable(app, id))
	if err != nil && !errors.Is(err, jetstream.ErrConsumerNotFound) {
		return fmt.Errorf("drop ranges of campaign %s of %s: delete their consumer: %w", id, app, err)
	}
	st, err := s.js.Stream(ctx, Jobs)
	if err == nil {
		err = st.Purge(ctx, jetstream.WithPurgeSubject(RangesSubject(app, id)))
	}
	if err != nil {
		return fmt.Errorf("drop ranges of campaign %s of %s: %w", id, app, err)
	}
	return nil
}

// CampaignRequests ensures the durable of campaigns that are to be created, of all
// apps, those that no worker knows among them, and returns it.
func (s *Streams) CampaignRequests(ctx context.Context) (*Consumer, error) {
	return s.consumer(ctx, Jobs, jetstream.ConsumerConfig{
		Durable: requestsDurable, FilterSubject: "push.campaigns.*", AckWait: AckWait(job.Bulk),
	})
}

// WaitingRanges is a campaign that has ranges in JOBS.
type WaitingRanges struct {
	Subject string
	App     string
	// Campaign is what [SubjectToken] made of the campaign's id.
	Campaign string
	Messages uint64 // waiting, or taken and not acknowledged
}

// RangeSubjects lists what has ranges in JOBS: campaigns of which nothing is left are
// not in it.
func (s *Streams) RangeSubjects(ctx context.Context) ([]WaitingRanges, error) {
	subjects, err := s.jobsSubjects(ctx, "push.ranges.>")
	if err != nil {
		return nil, err
	}
	var waiting []WaitingRanges
	for subject, n := range subjects {
		app, token, err := splitRangesSubject(subject)
		if err != nil {
			continue
		}
		waiting = append(waiting, WaitingRanges{Subject: subject, App: app, Campaign: token, Messages: n})
	}
	slices.SortFunc(waiting, func(a, b WaitingRanges) int { return strings.Compare(a.Subject, b.Subject) })
	return waiting, nil
}

// RangesLeft returns how many ranges of a campaign are waiting, or taken and not
// acknowledged.
func (s *Streams) RangesLeft(ctx context.Context, app, id string) (uint64, error) {
	subject := RangesSubject(app, id)
	subjects, err := s.jobsSubjects(ctx, subject)
	return subjects[subject], err
}

// CampaignOf returns the campaign that ranges in JOBS belong to, or [ErrNoCampaign].
func (s *Streams) CampaignOf(ctx context.Context, w *WaitingRanges) (campaign.Status, error) {
	entry, err := s.campaigns.Get(ctx, w.App+"."+w.Campaign)
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return campaign.Status{}, fmt.Errorf("read campaign of %s: %w", w.Subject, ErrNoCampaign)
	}
	if err != nil {
		return campaign.Status{}, fmt.Errorf("read campaign of %s: %w", w.Subject, err)
	}
	return parseCampaign(entry)
}

// ReleaseRanges makes room for the stray consumer on the ranges of a campaign that
// there is not: their own consumer goes, if there is one.
func (s *Streams) ReleaseRanges(ctx context.Context, w *WaitingRanges) error {
	err := s.js.DeleteConsumer(ctx, Jobs, durableOfRanges(w.App, w.Campaign))
	if err != nil && !errors.Is(err, jetstream.ErrConsumerNotFound) {
		return fmt.Errorf("delete consumer of %s: %w", w.Subject, err)
	}
	return nil
}

// RangeOutcomes calls each with every outcomes message of one range of a campaign that
// had been stored before the call, in order. Those that have aged out of OUTCOMES are
// gone. The error is each's, or that OUTCOMES cannot be read.
func (s *Streams) RangeOutcomes(ctx context.Context, app, id string, n int, each func(seq uint64, data []byte) error) error {
	if err := checkCampaign(app, id); err != nil {
		return fmt.Errorf("read outcomes of range: %w", err)
	}
	subject := RangeOutcomesSubject(app, id, n)
	st, err := s.js.Stream(ctx, Outcomes)
	if err != nil {
		return fmt.Errorf("ask for stream %s: %w", Outcomes, err)
	}
	// The reader may be at a replica that lags: how many there are, the leader says.
	info, err := st.Info(ctx, jetstream.WithSubjectFilter(subject))
	if err != nil {
		return fmt.Errorf("ask for stream %s: %w", Outcomes, err)
	}
	left := info.State.Subjects[subject]
	if left == 0 {
		return nil
	}
	ordered, err := s.js.OrderedConsumer(ctx, Outcomes, jetstream.OrderedConsumerConfig{FilterSubjects: []string{subject}})
	if err != nil {
		return fmt.Errorf("read %s: %w", subject, err)
	}
	it, err := ordered.Messages(jetstream.PullMaxMessages(replayAhead))
	if err != nil {
		return fmt.Errorf("read %s: %w", subject, err)
	}
	defer it.Stop()
	c := &Consumer{stream: Outcomes, name: "range"}
	for ; left > 0; left-- {
		m, _, err := c.next(ctx, it)
		if err != nil {
			return fmt.Errorf("read %s: %w", subject, err)
		}
		if err := each(m.Sequence, m.Data); err != nil {
			return err
		}
	}
	return nil
}

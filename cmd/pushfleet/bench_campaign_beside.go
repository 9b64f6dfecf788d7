package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/pushfleet/pushfleet/campaign"
)

const (
	// besideLatency is APNs's while transactional jobs are measured.
	besideLatency = 20 * time.Millisecond
	// besideUrgent is how many transactional jobs come a second.
	besideUrgent = 100
	// pollEvery is how often the simulator is asked while it shares cores with the
	// worker.
	pollEvery = 20 * time.Millisecond

	// pauseQuiet is how long nothing may come after a pause that is over, and
	// pauseWatched how long it is watched at least: longer than what is promised.
	pauseQuiet   = time.Second
	pauseWatched = 2500 * time.Millisecond
)

// campaignBig are the figures of the part big.
type campaignBig struct {
	Devices     int     `json:"devices"`
	Seconds     float64 `json:"seconds"`      // from creation until done
	SentSeconds float64 `json:"sent_seconds"` // until the last notification was received
	WorkerRSSMB float64 `json:"worker_rss_mb"`
	NATSRSSMB   float64 `json:"nats_rss_mb"`
	RedisRSSMB  float64 `json:"redis_rss_mb"`
}

// big sends one campaign to all.
func (c *campaignBench) big(ctx context.Context, b *campaignRig) (*campaignBig, error) {
	if err := b.reset(ctx); err != nil {
		return nil, err
	}
	began := time.Now()
	st, err := b.create(ctx, campaignBody, 0)
	if err != nil {
		return nil, err
	}
	if st, err = b.reaches(ctx, st.ID, campaign.Done); err != nil {
		return nil, err
	}
	took := time.Since(began)
	stats, err := b.sim.stats(ctx)
	if err != nil {
		return nil, err
	}
	r := &campaignBig{Devices: b.devices, Seconds: took.Seconds(), SentSeconds: stats.LastReceivedAt.Sub(began).Seconds()}
	for _, m := range []struct {
		p  *benchProcess
		mb *float64
	}{{b.worker, &r.WorkerRSSMB}, {b.nats, &r.NATSRSSMB}, {b.redis, &r.RedisRSSMB}} {
		rss, err := procMaxRSS(m.p.cmd.Process.Pid)
		if err != nil {
			return nil, err
		}
		*m.mb = float64(rss) / (1 << 20)
	}
	c.sayf("big: %d devices in %.1f s, the last notification after %.1f s; worker %.0f MB", r.Devices, r.Seconds, r.SentSeconds, r.WorkerRSSMB)
	return r, b.checkAll(ctx, &st)
}

// campaignTransactional are the figures of the part transactional: medians over the
// rounds.
type campaignTransactional struct {
	Ratio      float64     `json:"transactional_p99_ratio"` // of the rounds' ratios
	Spread     benchSpread `json:"transactional_p99_ratio_spread"`
	AloneP99   float64     `json:"transactional_alone_p99_ms"`
	PacedP99   float64     `json:"transactional_paced_p99_ms"`
	UnpacedP99 float64     `json:"transactional_unpaced_p99_ms"`
	Highest    int         `json:"campaign_highest_per_second"`
	Rate       int         `json:"campaign_paced_per_second"`
	Samples    int         `json:"transactional_samples"` // the fewest of one measurement
	Rounds     int         `json:"transactional_rounds"`
}

// transactional measures transactional jobs without and with campaigns.
func (c *campaignBench) transactional(ctx context.Context, b *campaignRig) (r *campaignTransactional, err error) {
	if err := b.setLatency(ctx, besideLatency); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, b.setLatency(ctx, 0)) }()
	r = &campaignTransactional{Rounds: c.flags.pairs}
	if r.Highest, err = b.highestRate(ctx); err != nil {
		return nil, err
	}
	r.Rate = max(1, r.Highest/2)
	var alone, paced, unpaced, ratios []float64
	for round := range c.flags.pairs {
		kinds := []struct {
			campaigns bool
			rate      int
			p99s      *[]float64
		}{{false, 0, &alone}, {true, r.Rate, &paced}, {true, 0, &unpaced}}
		if round%2 == 1 {
			kinds[0], kinds[1] = kinds[1], kinds[0] // each first as often as the other: the machine changes
		}
		for _, k := range kinds {
			p99, samples, err := b.beside(ctx, c.flags.transactional, k.campaigns, k.rate)
			if err != nil {
				return nil, fmt.Errorf("round %d: %w", round+1, err)
			}
			*k.p99s = append(*k.p99s, p99)
			if r.Samples == 0 || samples < r.Samples {
				r.Samples = samples
			}
		}
		ratios = append(ratios, paced[round]/alone[round])
		c.sayf("round %d of %d: transactional p99 ms: alone %.1f, beside %d/s %.1f, beside a campaign without a rate %.1f",
			round+1, c.flags.pairs, alone[round], r.Rate, paced[round], unpaced[round])
	}
	r.Spread = benchSpread{slices.Min(ratios), slices.Max(ratios)}
	r.Ratio, r.AloneP99, r.PacedP99, r.UnpacedP99 = median(ratios), median(alone), median(paced), median(unpaced)
	return r, nil
}

// highestRate sends one campaign, and returns notifications a second.
func (b *campaignRig) highestRate(ctx context.Context) (int, error) {
	if err := b.reset(ctx); err != nil {
		return 0, err
	}
	st, err := b.create(ctx, campaignBody, 0)
	if err != nil {
		return 0, err
	}
	if st, err = b.reaches(ctx, st.ID, campaign.Done); err != nil {
		return 0, err
	}
	stats, err := b.sim.stats(ctx)
	if err != nil {
		return 0, err
	}
	took := stats.LastReceivedAt.Sub(stats.FirstReceivedAt)
	if took <= 0 {
		return 0, errors.New("too few devices to tell how fast they were sent to")
	}
	return int(float64(stats.Received) / took.Seconds()), b.checkAll(ctx, &st)
}

// beside measures transactional jobs for a time, beside one campaign after the other
// if there are to be any.
func (b *campaignRig) beside(ctx context.Context, duration time.Duration, campaigns bool, rate int) (p99 float64, samples int, err error) {
	if err := b.reset(ctx); err != nil {
		return 0, 0, err
	}
	u := newUrgentLoad(b.streams, b.js, benchApp, besideUrgent)
	var sent []campaign.Status
	next := func() error {
		if !campaigns {
			return nil
		}
		st, err := b.create(ctx, campaignBody, rate)
		sent = append(sent, st)
		return err
	}
	if err := next(); err != nil {
		return 0, 0, err
	}
	if campaigns {
		if _, err := b.received(ctx, 1); err != nil {
			return 0, 0, err
		}
	}
	stop, err := u.start(ctx)
	if err != nil {
		return 0, 0, err
	}
	err = b.during(ctx, duration, func(received int64) error {
		// The last thousands of one campaign are on their way while the next one starts.
		if received-int64(u.told()) < int64(len(sent)*b.devices-b.devices/100) {
			return nil
		}
		return next()
	})
	if err := errors.Join(err, stop()); err != nil {
		return 0, 0, err
	}
	// What is left of it goes as fast as it can: it is counted, not measured.
	for i := range sent {
		if sent[i], err = b.finish(ctx, sent[i].ID); err != nil {
			return 0, 0, err
		}
	}
	return u.p99(), u.told(), b.check(ctx, sent, u.told())
}

// during calls each with what the simulator has received, until the time is up.
func (b *campaignRig) during(ctx context.Context, duration time.Duration, each func(received int64) error) error {
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	over := time.After(duration)
	for {
		select {
		case <-tick.C:
		case <-over:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		st, err := b.sim.stats(ctx)
		if err != nil {
			return err
		}
		if err := each(st.Received); err != nil {
			return err
		}
	}
}

// finish takes a campaign's rate away, and waits until it is done.
func (b *campaignRig) finish(ctx context.Context, id string) (campaign.Status, error) {
	st, err := b.streams.ChangeCampaign(ctx, benchApp, id, func(s *campaign.Status) error {
		if s.State == campaign.Done {
			return nil
		}
		return errors.Join(s.SetRate(0), s.Resume(time.Now()))
	})
	if err != nil || st.State == campaign.Done {
		return st, err //nolint:wrapcheck // it says what it does
	}
	return b.reaches(ctx, id, campaign.Done)
}

// campaignPause are the figures of the part pause, from the acknowledgement of a
// pause to the last notification that the simulator received.
type campaignPause struct {
	MaxMS    float64 `json:"pause_max_ms"`
	MedianMS float64 `json:"pause_median_ms"`
	Pauses   int     `json:"pauses"`
}

// pause pauses campaigns at full speed.
func (c *campaignBench) pause(ctx context.Context, b *campaignRig) (*campaignPause, error) {
	progress := newBar(c.talk, c.flags.pauses, "pausing", "pauses", c.flags.json)
	var took []float64
	for tries := 0; len(took) < c.flags.pauses; {
		if err := b.reset(ctx); err != nil {
			return nil, err
		}
		st, err := b.create(ctx, campaignBody, 0)
		if err != nil {
			return nil, err
		}
		for len(took) < c.flags.pauses {
			if tries++; tries > 5*c.flags.pauses {
				return nil, fmt.Errorf("campaigns were over before they could be paused, all but %d of %d times: too few devices", len(took), tries)
			}
			// Each at another moment of the campaign.
			ms, err := b.pauseOnce(ctx, st.ID, int64(b.devices/50*(1+tries%5)))
			if errors.Is(err, errOver) {
				break
			}
			if err != nil {
				return nil, err
			}
			took = append(took, ms)
			progress.add(1)
		}
		if st, err = b.finish(ctx, st.ID); err != nil {
			return nil, err
		}
		if err := b.checkAll(ctx, &st); err != nil {
			return nil, err
		}
	}
	progress.finish()
	return &campaignPause{MaxMS: slices.Max(took), MedianMS: median(took), Pauses: len(took)}, nil
}

// pauseOnce lets a campaign send more notifications, pauses it, and resumes it. It
// returns the milliseconds from the pause to the last notification, or errOver.
func (b *campaignRig) pauseOnce(ctx context.Context, id string, more int64) (float64, error) {
	stats, err := b.sim.stats(ctx)
	if err != nil {
		return 0, err
	}
	all := int64(b.devices)
	if stats.Received+more >= all {
		return 0, errOver
	}
	if _, err := b.received(ctx, stats.Received+more); err != nil {
		return 0, err
	}
	_, err = b.streams.ChangeCampaign(ctx, benchApp, id, func(s *campaign.Status) error { return s.Pause(time.Now()) })
	paused := time.Now()
	if errors.Is(err, campaign.ErrState) {
		return 0, errOver
	}
	if err != nil {
		return 0, err //nolint:wrapcheck // it says what it does
	}
	err = b.drained(ctx, func(ctx context.Context) (err error) {
		if stats, err = b.sim.stats(ctx); err == nil && (time.Since(paused) < pauseWatched || time.Since(stats.LastReceivedAt) < pauseQuiet) {
			err = errors.New("notifications still come after a pause")
		}
		return err
	})
	if err != nil {
		return 0, err
	}
	if _, err := b.streams.ChangeCampaign(ctx, benchApp, id, func(s *campaign.Status) error {
		if s.State == campaign.Done {
			return nil
		}
		return s.Resume(time.Now())
	}); err != nil {
		return 0, err //nolint:wrapcheck // it says what it does
	}
	if stats.Received >= all {
		return 0, errOver // it had all gone out: that is no pause
	}
	return float64(max(0, stats.LastReceivedAt.Sub(paused)).Microseconds()) / 1000, nil
}

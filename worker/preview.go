package worker

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/pushfleet/pushfleet/campaign"
	"github.com/pushfleet/pushfleet/device"
	"github.com/pushfleet/pushfleet/store"
)

// PreviewConfig describes a [Preview].
type PreviewConfig struct {
	App       string
	Campaign  *campaign.Campaign
	Campaigns Campaigns
	Zones     *device.Zones
	Now       time.Time
	// Samples is how many renderings are kept, of different sizes and languages.
	Samples int
	// Progress is told how many of about how many devices were looked at; nil: nobody is.
	Progress func(done, of int64)
}

// Preview is what a campaign would do if it started now.
type Preview struct {
	Devices int64            // looked at
	Matched int64            // of the audience
	Now     int64            // sent to at once
	Later   int64            // sent to when their time comes
	Skipped map[string]int64 // by reason
	// FirstLater and LastLater are when the first and the last of Later are due.
	FirstLater, LastLater time.Time

	Longest int // bytes of the longest rendering that is not too large
	Limit   int // bytes that APNs takes
	Samples []Sample
}

// Sample is one rendering.
type Sample struct {
	DeviceToken device.Token
	Locale      string
	Payload     []byte
}

// NewPreview reads the whole audience of a campaign and decides about each device as
// a worker would, but for frequency caps and what is not known before sending. A
// campaign to a file has no audience to read.
func NewPreview(ctx context.Context, cfg PreviewConfig) (*Preview, error) {
	if cfg.Campaign.Recipients != nil {
		return nil, errors.New("a campaign to a file has no audience to read")
	}
	start := cfg.Now
	if cfg.Campaign.StartAt.After(start) {
		start = cfg.Campaign.StartAt
	}
	plan, err := cfg.Campaign.Compile(campaign.Options{Zones: cfg.Zones, Start: start})
	if err != nil {
		return nil, fmt.Errorf("compile the campaign: %w", err)
	}
	tags, classes, width, err := divide(ctx, cfg.Campaigns, cfg.App, plan)
	if err != nil {
		return nil, err
	}
	_, about, err := cfg.Campaigns.AudienceSize(ctx, cfg.App, tags)
	if err != nil {
		return nil, err
	}
	p := &Preview{Skipped: make(map[string]int64), Limit: plan.Job().MaxPayload()}
	languages := make(map[string]bool)
	var devices []device.Device
	for from := 0; from < classes; from += width {
		var seen int
		devices, seen, _, err = cfg.Campaigns.ReadAudience(ctx, cfg.App,
			store.Classes{Of: classes, From: from, To: min(classes, from+width)}, tags, plan.NeedsDetails(), devices[:0])
		if err != nil {
			return nil, err
		}
		p.Devices += int64(seen)
		for i := range devices {
			p.add(plan, &devices[i], start, languages, cfg.Samples)
		}
		if cfg.Progress != nil {
			cfg.Progress(p.Devices, max(about, p.Devices))
		}
	}
	return p, nil
}

// add decides about one device.
func (p *Preview) add(plan *campaign.Plan, d *device.Device, start time.Time, languages map[string]bool, samples int) {
	if !plan.Matches(d) {
		return
	}
	p.Matched++
	switch decision := plan.Decide(d, start); decision.Action {
	case campaign.Skip:
		p.Skipped[decision.Reason]++
		return
	case campaign.Later:
		if p.FirstLater.IsZero() || decision.At.Before(p.FirstLater) {
			p.FirstLater = decision.At
		}
		if decision.At.After(p.LastLater) {
			p.LastLater = decision.At
		}
		p.Later++
	case campaign.Send:
		p.Now++
	}
	payload := plan.Shared()
	if payload == nil {
		var err error
		payload, err = plan.Payload(nil, d, nil)
		var missing *campaign.MissingError
		if errors.As(err, &missing) {
			p.unsend(plan, d, start, missing.Error())
			return
		}
		if err != nil {
			p.unsend(plan, d, start, campaign.ReasonTooLarge)
			return
		}
	}
	p.Longest = max(p.Longest, len(payload))
	if len(p.Samples) < samples && !languages[d.Locale] {
		languages[d.Locale] = true
		p.Samples = append(p.Samples, Sample{DeviceToken: d.Token, Locale: d.Locale, Payload: payload})
	}
}

// unsend counts a device as skipped that was counted as sent to.
func (p *Preview) unsend(plan *campaign.Plan, d *device.Device, start time.Time, reason string) {
	if plan.Decide(d, start).Action == campaign.Later {
		p.Later--
	} else {
		p.Now--
	}
	p.Skipped[reason]++
}

// Reasons returns why devices are skipped, most frequent first.
func (p *Preview) Reasons() []string {
	reasons := slices.Collect(maps.Keys(p.Skipped))
	slices.SortFunc(reasons, func(a, b string) int { return int(p.Skipped[b] - p.Skipped[a]) })
	return reasons
}

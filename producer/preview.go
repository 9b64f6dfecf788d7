package producer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/pushfleet/pushfleet/campaign"
	"github.com/pushfleet/pushfleet/device"
	"github.com/pushfleet/pushfleet/roster"
)

// FilePreview is what [PreviewFile] finds in a file.
type FilePreview struct {
	Tokens, Users int64 // good lines, by what they name
	Bad           int64 // lines that cannot be used
	// Skipped are good lines for which nothing can be rendered, by the reason under
	// which they will be skipped; in a campaign with localizations, in one of them at
	// least: the device's language decides.
	Skipped map[string]int64

	Longest int // bytes of the longest rendering that is not too large
	Limit   int // bytes that APNs takes
	Samples []FileSample
}

// FileSample is one rendering.
type FileSample struct {
	Locale  string // of the localization; empty: that of devices which have none
	Payload []byte
}

// PreviewFile reads a file like [Campaigns.CreateFromFile], creates nothing, and says
// what is in it: each good line is rendered, in every localization. Samples are of the
// first lines, at most so many. It needs no JetStream and no Redis, so what devices
// decide (who has none, the control group, local times) is not known.
func PreviewFile(ctx context.Context, of *campaign.Campaign, from File, samples int) (*FilePreview, error) {
	if of.Recipients == nil {
		return nil, errNeedsNoFile
	}
	plan, err := of.Compile(campaign.Options{Start: time.Now()}) // renderings do not go by it
	if err != nil {
		return nil, err
	}
	recipients, err := roster.NewRecipients(from.Source, of.Recipients.Variables)
	if err != nil {
		return nil, fmt.Errorf("read recipients: %w", err)
	}
	p := &FilePreview{Skipped: make(map[string]int64), Limit: plan.Job().MaxPayload()}
	c := cutter{recipients: recipients, campaign: of.ID, digest: xxhash.New(), blame: func(line int64, why error) error {
		p.Bad++
		if from.Bad == nil {
			return nil
		}
		return from.Bad(line, why)
	}}
	locales := append([]string{""}, slices.Sorted(maps.Keys(of.Localizations))...)
	var payload []byte
	for {
		r, err := c.read()
		switch {
		case errors.Is(err, io.EOF):
			return p, nil
		case err != nil:
			return nil, fmt.Errorf("read recipients: %w", err)
		case ctx.Err() != nil:
			return nil, fmt.Errorf("read recipients: %w", context.Cause(ctx))
		}
		payload = p.add(plan, &r.Recipient, locales, samples, payload)
	}
}

// add renders one line; payload is used again.
func (p *FilePreview) add(plan *campaign.Plan, r *campaign.Recipient, locales []string, samples int, payload []byte) []byte {
	nth := p.Tokens + p.Users
	if r.User != "" {
		p.Users++
	} else {
		p.Tokens++
	}
	reason := ""
	for i, locale := range locales {
		d := device.Device{Registration: device.Registration{User: r.User, Locale: locale}}
		out, err := plan.Payload(payload[:0], &d, r.Variables)
		var missing *campaign.MissingError
		switch {
		case errors.As(err, &missing):
			reason = missing.Error()
			continue
		case err != nil:
			reason = campaign.ReasonTooLarge
			continue
		}
		payload = out
		p.Longest = max(p.Longest, len(payload))
		// Each of the first lines in another language.
		if len(p.Samples) < samples && int64(i) == nth%int64(len(locales)) {
			p.Samples = append(p.Samples, FileSample{Locale: locale, Payload: slices.Clone(payload)})
		}
	}
	if reason != "" {
		p.Skipped[reason]++
	}
	return payload
}

// Reasons returns why lines are skipped, most frequent first.
func (p *FilePreview) Reasons() []string {
	reasons := slices.Sorted(maps.Keys(p.Skipped))
	slices.SortStableFunc(reasons, func(a, b string) int { return int(p.Skipped[b] - p.Skipped[a]) })
	return reasons
}

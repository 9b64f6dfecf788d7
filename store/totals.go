package store

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// Totals are what is counted of a campaign.
type Totals struct {
	// Counts of recipients by label; see [Settlement].
	Counts map[string]int64
	// Ranges that are complete, with the recipients that Matched in them, each of
	// which is in Counts, and the Devices that were looked at for that.
	Ranges, Matched, Devices int64
	// Duplicates is how many recipients had a second outcome.
	Duplicates int64
}

// groups is how many groups so many ranges make.
func groups(ranges int) int { return (ranges + rangesTogether - 1) / rangesTogether }

// CampaignTotals adds up what is counted of a campaign that has so many ranges, or
// had at least. The ranges are counted at one moment where they share a group, and
// the groups one after the other.
func (s *Store) CampaignTotals(ctx context.Context, app, campaign string, ranges int) (Totals, error) {
	t := Totals{Counts: make(map[string]int64)}
	pipe := s.client.Pipeline()
	replies := make([]*redis.MapStringStringCmd, groups(ranges))
	for g := range replies {
		replies[g] = pipe.HGetAll(ctx, totalsKey(app, campaign, g))
	}
	if err := s.exec(ctx, pipe); err != nil {
		return t, fmt.Errorf("read totals of campaign %s of app %q: %w", campaign, app, err)
	}
	for _, reply := range replies {
		for field, text := range reply.Val() {
			n, err := strconv.ParseInt(text, 10, 64)
			if err != nil {
				return t, fmt.Errorf("read totals of campaign %s of app %q: field %s is not a number", campaign, app, field)
			}
			t.add(field, n)
		}
	}
	return t, nil
}

func (t *Totals) add(field string, n int64) {
	switch label, isCount := strings.CutPrefix(field, "n:"); {
	case isCount:
		if t.Counts[label] += n; t.Counts[label] == 0 {
			delete(t.Counts, label) // all of them were taken back
		}
	case field == "ranges":
		t.Ranges += n
	case field == "matched":
		t.Matched += n
	case field == "devices":
		t.Devices += n
	case field == "duplicates":
		t.Duplicates += n
	}
}

// ExpireCampaign lets what is known of a campaign's ranges go after ttl, their guards
// too. It is for when nothing of them is in a queue any more, and ttl must be as long
// as recorders may apply outcomes again: those of a range that is forgotten would
// count once more. The totals stay for 90 days. It may be repeated.
func (s *Store) ExpireCampaign(ctx context.Context, app, campaign string, ranges int, ttl time.Duration) error {
	for g := range groups(ranges) {
		pipe := s.client.Pipeline()
		pipe.PExpire(ctx, totalsKey(app, campaign, g), totalsTTL)
		for n := g * rangesTogether; n < min((g+1)*rangesTogether, ranges); n++ {
			for _, kind := range [...]string{"p", "s", "h", "g"} {
				pipe.ExpireLT(ctx, rangeKey(app, campaign, n, kind), ttl)
			}
		}
		if err := s.exec(ctx, pipe); err != nil {
			return fmt.Errorf("let %d ranges of campaign %s of app %q expire: %w", ranges, campaign, app, err)
		}
	}
	return nil
}

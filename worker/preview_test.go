package worker_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/pushfleet/pushfleet/campaign"
	"github.com/pushfleet/pushfleet/device"
	"github.com/pushfleet/pushfleet/worker"
)

func TestPreview(t *testing.T) {
	f := setup(t, nil)
	f.registerMany(100, func(i int, r *device.Registration) {
		r.Tags = []string{"gold"}
		if i < 10 {
			r.Tags = nil
		}
		r.Locale = []string{"de", "en"}[i%2]
		r.Timezone = "Etc/GMT"
		if i >= 90 {
			r.Timezone = "Etc/GMT-12"
		}
		if i < 95 {
			r.Attributes = map[string]string{"name": strings.Repeat("x", 1+i%7)}
		}
		if i == 51 {
			r.Attributes["name"] = strings.Repeat("\x01", 256) // 1536 bytes as JSON
		}
	})
	now := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	c, err := campaign.Parse(fmt.Appendf(nil, `{"id":"p","audience":{"tags":{"any":["gold"]}},
		"notification":{"title":"Hi {{attributes.name}}{{attributes.name}}","body":%q},"localizations":{"de":{"title":"Servus {{attributes.name}}"}},
		"quiet_hours":{"from":"11:00","to":"13:00","action":"defer"}}`, strings.Repeat("b", 1200)))
	if err != nil {
		t.Fatal(err)
	}
	told := int64(0)
	p, err := worker.NewPreview(f.ctx, worker.PreviewConfig{
		App: "shop", Campaign: c, Campaigns: f.set, Zones: new(device.Zones), Now: now, Samples: 5,
		Progress: func(done, _ int64) { told = done },
	})
	if err != nil {
		t.Fatal(err)
	}
	// Ten live where it is midnight, and five of them have no name.
	if p.Devices != told || p.Devices < 90 || p.Matched != 90 || p.Now != 5 || p.Later != 79 ||
		p.Skipped["no value for attributes.name"] != 5 || p.Skipped["payload too large"] != 1 || len(p.Skipped) != 2 {
		t.Errorf("got %+v (told of %d), want 90 matched, 5 now, 79 later, 5 without a name, 1 too large", p, told)
	}
	if want := time.Date(2026, 11, 24, 13, 0, 0, 0, time.UTC); !p.FirstLater.Equal(want) || !p.LastLater.Equal(want) {
		t.Errorf("later: got %v to %v, want %v", p.FirstLater, p.LastLater, want)
	}
	if p.Longest <= 1200+2*7 || p.Longest > 4096 || p.Limit != 4096 {
		t.Errorf("longest: got %d of %d, want that of the longest that fits", p.Longest, p.Limit)
	}
	if len(p.Samples) != 2 || p.Samples[0].Locale == p.Samples[1].Locale {
		t.Errorf("samples: got %+v, want one in each language", p.Samples)
	}
	if got := p.Reasons(); len(got) != 2 || got[0] != "no value for attributes.name" {
		t.Errorf("reasons: got %q", got)
	}
}

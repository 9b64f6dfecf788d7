package worker_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/pushfleet/pushfleet/campaign"
	"github.com/pushfleet/pushfleet/worker"
)

// gauges reads what a registry has of campaigns, by name and labels.
func gauges(t *testing.T, reg *prometheus.Registry) map[string]float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := make(map[string]float64)
	for _, f := range families {
		name, ours := strings.CutPrefix(f.GetName(), "pushfleet_campaign")
		if !ours {
			continue
		}
		for _, m := range f.GetMetric() {
			labels := ""
			for _, l := range m.GetLabel() {
				labels += " " + l.GetValue()
			}
			got[name+labels] = m.GetGauge().GetValue()
		}
	}
	return got
}

// An operator sees how many campaigns there are, what is left of them, and what does
// not go as it should.
func TestCampaignMetrics(t *testing.T) {
	f := setup(t, nil)
	f.registerMany(3000, nil)
	reg := prometheus.NewRegistry()
	now := time.Now().Add(time.Minute) // what is created now is due
	late := campaign.Status{App: "shop", ID: "late", State: campaign.Scheduled, Definition: []byte("{}"), StartAt: now.Add(-time.Hour)}
	if _, _, err := f.js.CreateCampaign(f.ctx, late); err != nil { // cannot start: its definition is none
		t.Fatal(err)
	}
	f.start(options{change: func(c *worker.Config) {
		f.sendsCampaigns(c)
		c.Metrics, c.Now = reg, func() time.Time { return now }
	}})
	see := func(what string, is func(got map[string]float64) bool) {
		t.Helper()
		f.eventually(what, func() (string, bool) {
			got := gauges(t, reg)
			return fmt.Sprint(got), is(got)
		})
	}
	f.create(`{"id":"slow","audience":{"all":true},"notification":{"title":"Hello"},"rate":100}`)
	see("a campaign to run", func(got map[string]float64) bool {
		return got["s shop running"] == 1 && got["s shop scheduled"] == 1 && got["s shop done"] == 0 && len(got) == len(campaign.States())+3 &&
			got["s_overdue_seconds shop"] == 3600 && got["_devices_left shop"] == 3000 && got["s_contact_seconds"] > 0 && got["s_contact_seconds"] < 1.5
	})
	if _, err := f.js.ChangeCampaign(f.ctx, "shop", "slow", func(s *campaign.Status) error { return s.Cancel(now) }); err != nil {
		t.Fatal(err)
	}
	if _, err := f.js.ChangeCampaign(f.ctx, "shop", "late", func(s *campaign.Status) error { return s.Pause(now) }); err != nil {
		t.Fatal(err)
	}
	see("both to rest", func(got map[string]float64) bool {
		return got["s shop running"] == 0 && got["s shop cancelled"] == 1 && got["s shop paused"] == 1 && got["s_overdue_seconds shop"] == 0 &&
			got["_devices_left shop"] == 0 && got["s_contact_seconds"] == 0
	})
}

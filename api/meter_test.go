package api_test

import (
	"cmp"
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/pushfleet/pushfleet/api"
	"github.com/pushfleet/pushfleet/campaign"
	"github.com/pushfleet/pushfleet/job"
	"github.com/pushfleet/pushfleet/store"
)

func settledCounts(n int64) *api.CampaignCounts {
	return &api.CampaignCounts{Ranges: n / 10, Results: map[string]int64{"accepted": n - n/10, "skipped": n / 10}}
}

func TestMeter(t *testing.T) {
	t.Parallel()
	start := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	type look struct {
		at      float64 // seconds
		settled int64
		want    string
	}
	for name, looks := range map[string][]look{
		"every second":        {{0, 100, "-"}, {1, 200, "100"}, {2, 400, "150"}, {3, 400, "100"}, {5, 600, "100"}, {6, 700, "100"}, {10, 700, "20"}},
		"now and then":        {{0, 0, "-"}, {30, 3000, "100"}, {60, 9000, "200"}, {160, 9000, "0?"}, {281, 9000, "-"}, {290, 9000, "0?"}},
		"very often":          {{0, 0, "-"}, {0.2, 20, "-"}, {0.4, 40, "-"}, {0.6, 60, "-"}, {0.9, 90, "-"}, {1, 100, "100"}, {1.25, 125, "100"}},
		"counts that are new": {{0, 500, "-"}, {2, 700, "100"}, {3, 100, "-"}, {4, 200, "100"}},
		// Two ranges of ten at a time, every eight seconds.
		"in jumps":         {{0, 0, "-"}, {4, 20, "-"}, {5, 20, "4?"}, {8, 20, "2.5?"}, {12, 40, "3.3"}, {20, 60, "3.3"}},
		"a clock set back": {{10, 0, "-"}, {12, 200, "100"}, {1, 300, "-"}, {3, 500, "100"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var m api.Meter
			for _, l := range looks {
				rate, sure, ok := m.PerSecond(start.Add(time.Duration(l.at*float64(time.Second))), settledCounts(l.settled))
				got := "-"
				if ok {
					got = fmt.Sprint(math.Round(10*rate) / 10)
				}
				if ok && !sure {
					got += "?"
				}
				if got != l.want {
					t.Errorf("after %v s: got %s, want %s", l.at, got, l.want)
				}
			}
		})
	}
}

// However often it is asked, it remembers a few looks.
func TestMeterIsBounded(t *testing.T) {
	t.Parallel()
	var m api.Meter
	at := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	for n := range int64(10_000) {
		m.PerSecond(at.Add(time.Duration(n)*time.Millisecond), settledCounts(n))
	}
	if got := m.Looks(); got > 12 {
		t.Errorf("got %d looks, want those of some seconds", got)
	}
	for n := range 10_000 { // nothing moves
		m.PerSecond(at.Add(time.Minute+time.Duration(n)*100*time.Millisecond), settledCounts(10_000))
	}
	if got := m.Looks(); got > 250 {
		t.Errorf("where nothing moves: got %d looks, want those of two minutes", got)
	}
}

func TestPaceOf(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	for name, tt := range map[string]struct {
		st     campaign.Status
		counts api.CampaignCounts // at the second look, with a hundred settled
		want   string
	}{
		"all match":            {campaign.Status{State: campaign.Running, Devices: 1000, Expanded: true}, api.CampaignCounts{}, "100/s 9s"},
		"a half matches":       {campaign.Status{State: campaign.Running, Devices: 1000, Expanded: true}, api.CampaignCounts{Devices: 100, Matched: 50}, "100/s 4s"},
		"users of two devices": {campaign.Status{State: campaign.Running, Devices: 1000, Expanded: true}, api.CampaignCounts{Devices: 100, Matched: 200}, "100/s 19s"},
		"more than expected":   {campaign.Status{State: campaign.Running, Devices: 50, Expanded: true}, api.CampaignCounts{}, "100/s 0s"},
		"not divided yet":      {campaign.Status{State: campaign.Running, Devices: 1000}, api.CampaignCounts{}, "100/s -"},
		"hardly counted":       {campaign.Status{State: campaign.Running, Devices: 1000, Expanded: true}, api.CampaignCounts{Ranges: 1}, "- -"},
		"by its rate":          {campaign.Status{State: campaign.Running, Devices: 1000, Expanded: true, Rate: 50}, api.CampaignCounts{Ranges: 1}, "- 18s"},
		"paused":               {campaign.Status{State: campaign.Paused, Devices: 1000, Expanded: true}, api.CampaignCounts{}, "- -"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var m api.Meter
			api.PaceOf(&m, at, &tt.st, settledCounts(0))
			tt.counts.Results = settledCounts(100).Results
			tt.counts.Ranges = cmp.Or(tt.counts.Ranges, 10)
			p := api.PaceOf(&m, at.Add(time.Second), &tt.st, &tt.counts)
			rate, left := "-", "-"
			if p.PerSecond != nil {
				rate = fmt.Sprintf("%v/s", *p.PerSecond)
			}
			if p.SecondsLeft != nil {
				left = fmt.Sprintf("%ds", *p.SecondsLeft)
			}
			if got := rate + " " + left; got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}

// A campaign that runs says how fast, from the second request on.
func TestCampaignPace(t *testing.T) {
	t.Parallel()
	f, js := setupCampaigns(t)
	f.want(200, request{method: "POST", path: campaigns, body: spring("")})
	change := func(do func(*campaign.Status) error) {
		t.Helper()
		if _, err := js.ChangeCampaign(t.Context(), "shop", "spring sale/2027", do); err != nil {
			t.Fatal(err)
		}
	}
	change(func(st *campaign.Status) error {
		st.Ranges, st.Devices, st.Expanded = 4, 400, true
		return st.Start(f.clock.now())
	})
	ranges := 0
	settle := func(n int) {
		t.Helper()
		st := store.Settlement{
			Job: store.JobKey{App: "shop", Lane: job.Bulk, ID: fmt.Sprint("r", ranges), Campaign: "spring sale/2027", Range: ranges}, Sequence: uint64(ranges + 1),
			Whole: true, Complete: true, Total: n, Devices: 100,
		}
		for i := range n {
			st.Hashes, st.Results, st.Labels = append(st.Hashes, uint64(i)), append(st.Results, job.Accepted), append(st.Labels, "accepted")
		}
		if _, err := f.set.Settle(t.Context(), []store.Settlement{st}); err != nil {
			t.Fatal(err)
		}
		ranges++
	}
	get := func() api.Campaign {
		t.Helper()
		return into[api.Campaign](t, f.want(200, request{method: "GET", path: springPath}))
	}
	if got := get(); got.PerSecond != nil || got.SecondsLeft != nil {
		t.Errorf("at first: got %+v, want no speed", got.Pace)
	}
	for range 3 {
		settle(20)
	}
	f.clock.move(2 * time.Second)
	if got := get(); got.PerSecond == nil || *got.PerSecond != 30 || got.SecondsLeft == nil || *got.SecondsLeft != 1 {
		t.Errorf("after two seconds: got %+v, want 30 a second and 1 s for the other 20 or so", got.Pace)
	}
	change(func(st *campaign.Status) error { return st.Pause(f.clock.now()) })
	if got := get(); got.PerSecond != nil || got.SecondsLeft != nil {
		t.Errorf("paused: got %+v, want no speed", got.Pace)
	}
	change(func(st *campaign.Status) error { return st.Resume(f.clock.now()) })
	f.clock.move(2 * time.Second)
	if got := get(); got.PerSecond != nil {
		t.Errorf("resumed: got %+v, want the pause not to count", got.Pace)
	}
}

package campaign_test

import (
	"errors"
	"reflect"
	"testing"
	"time"

	"github.com/pushfleet/pushfleet/campaign"
)

func TestNewStatus(t *testing.T) {
	t.Parallel()
	now := at(t, "2026-11-24T08:30:00+01:00")
	for name, tc := range map[string]struct {
		text string
		want campaign.Status
	}{
		"at once": {
			`{"id":"c","audience":{"all":true},"notification":{"body":"b"},"rate":7}`,
			campaign.Status{State: campaign.Scheduled, Rate: 7, StartAt: now.UTC()},
		},
		"later": {
			`{"id":"c","audience":{"all":true},"notification":{"body":"b"},"start_at":"2026-11-24T09:00:00+01:00"}`,
			campaign.Status{State: campaign.Scheduled, StartAt: at(t, "2026-11-24T08:00:00Z")},
		},
		"file": {
			`{"id":"c","recipients":{},"notification":{"body":"b"}}`,
			campaign.Status{State: campaign.Loading, StartAt: now.UTC()},
		},
		"recurring": {
			`{"id":"c","audience":{"all":true},"notification":{"body":"b"},"recurrence":{"cron":"0 9 * * *","timezone":"Europe/Vienna"}}`,
			campaign.Status{State: campaign.Scheduled, StartAt: at(t, "2026-11-24T08:00:00Z")},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := parse(t, tc.text)
			got, err := campaign.NewStatus("shop", c, now)
			if err != nil {
				t.Fatal(err)
			}
			again, err := campaign.Parse(got.Definition)
			if err != nil || !reflect.DeepEqual(again, c) {
				t.Errorf("definition: got %+v, %v, want %+v", again, err, c)
			}
			tc.want.App, tc.want.ID, tc.want.CreatedAt, tc.want.Definition = "shop", "c", now.UTC(), got.Definition
			if !reflect.DeepEqual(got, tc.want) {
				t.Errorf("got  %+v\nwant %+v", got, tc.want)
			}
		})
	}
	if _, err := campaign.NewStatus("shop", &campaign.Campaign{ID: "c"}, now); len(problemsOf(t, err)) == 0 {
		t.Errorf("invalid: got %v, want what is wrong with it", err)
	}
}

func TestStatusLoads(t *testing.T) {
	t.Parallel()
	st := campaign.Status{ID: "c", State: campaign.Loading}
	if err := st.Load(3, 2500, "abc"); err != nil || st.Ranges != 3 || st.Devices != 2500 || st.Digest != "abc" {
		t.Errorf("load: got %+v, %v", st, err)
	}
	if err := st.Pause(time.Now()); !errors.Is(err, campaign.ErrState) {
		t.Errorf("pause while loading: got %v, want %v", err, campaign.ErrState)
	}
	if err := st.Loaded(time.Now()); err != nil || st.State != campaign.Scheduled || !st.Expanded {
		t.Errorf("loaded: got %+v, %v", st, err)
	}
	for what, err := range map[string]error{"load": st.Load(4, 3000, "d"), "loaded": st.Loaded(time.Now())} {
		if !errors.Is(err, campaign.ErrState) || st.Ranges != 3 {
			t.Errorf("%s when it is: got %v, %+v, want %v", what, err, st, campaign.ErrState)
		}
	}
}

// Who resumes a campaign, or hands in the last of its file, after it was to start
// means it to start then. Else local times and a ttl would count from the past.
func TestStatusStartsWhenItIsLetTo(t *testing.T) {
	t.Parallel()
	planned, now := at(t, "2026-11-24T09:00:00Z"), at(t, "2026-11-26T03:00:00Z")
	weekly := []byte(`{"id":"c","recurrence":{"cron":"0 9 * * *"}}`)
	for name, tc := range map[string]struct {
		st   campaign.Status
		do   func(*campaign.Status, time.Time) error
		want time.Time
	}{
		"resumed late":            {campaign.Status{State: campaign.Paused, StartAt: planned}, (*campaign.Status).Resume, now},
		"resumed in time":         {campaign.Status{State: campaign.Paused, StartAt: now.Add(time.Hour)}, (*campaign.Status).Resume, now.Add(time.Hour)},
		"resumed when it had run": {campaign.Status{State: campaign.Paused, StartAt: planned, StartedAt: planned}, (*campaign.Status).Resume, planned},
		"not paused":              {campaign.Status{State: campaign.Scheduled, StartAt: planned}, (*campaign.Status).Resume, planned},
		"recurring":               {campaign.Status{State: campaign.Paused, StartAt: planned, Definition: weekly}, (*campaign.Status).Resume, planned},
		"loaded late":             {campaign.Status{State: campaign.Loading, StartAt: planned}, (*campaign.Status).Loaded, now},
		"loaded before it starts": {campaign.Status{State: campaign.Loading, StartAt: now.Add(time.Hour)}, (*campaign.Status).Loaded, now.Add(time.Hour)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if err := tc.do(&tc.st, now); err != nil || !tc.st.StartAt.Equal(tc.want) {
				t.Errorf("got a start at %v, %v, want %v", tc.st.StartAt, err, tc.want)
			}
		})
	}
}

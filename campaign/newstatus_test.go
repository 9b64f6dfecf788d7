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
	if err := st.Loaded(); err != nil || st.State != campaign.Scheduled || !st.Expanded {
		t.Errorf("loaded: got %+v, %v", st, err)
	}
	for what, err := range map[string]error{"load": st.Load(4, 3000, "d"), "loaded": st.Loaded()} {
		if !errors.Is(err, campaign.ErrState) || st.Ranges != 3 {
			t.Errorf("%s when it is: got %v, %+v, want %v", what, err, st, campaign.ErrState)
		}
	}
}

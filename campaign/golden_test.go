package campaign_test

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"github.com/pushfleet/pushfleet/campaign"
	"github.com/pushfleet/pushfleet/device"
	"github.com/pushfleet/pushfleet/job"
)

// update writes the golden files that are missing. It never changes one: what
// was once stored must stay readable.
var update = flag.Bool("update", false, "write missing golden files")

// goldens are what the files testdata/campaigns/<name>.json decode to. Rows are
// added, never changed.
func goldens() map[string]*campaign.Campaign {
	day := func(year, month, day, hour int) time.Time {
		return time.Date(year, time.Month(month), day, hour, 0, 0, 0, time.UTC)
	}
	alert := job.Job{Notification: &job.Notification{Body: "b"}}
	return map[string]*campaign.Campaign{
		"smallest": {ID: "hello", Audience: campaign.Audience{All: true}, Content: alert},
		"every-member": {
			ID: "black-friday-2026",
			Audience: campaign.Audience{
				Tags:            campaign.Tags{Any: []string{"deals", "sale"}, All: []string{"marketing"}, None: []string{"muted"}},
				Locales:         []string{"de", "en-GB"},
				Timezones:       []string{"Europe/Vienna", "Europe/London"},
				Attributes:      map[string][]string{"plan": {"gold", "silver"}, "store": {"vienna-7"}},
				AppVersion:      campaign.VersionRange{Min: "2.9", Max: "3"},
				RegisteredAfter: day(2026, 9, 1, 0), RegisteredBefore: day(2026, 11, 24, 9),
				Environment: device.Production,
			},
			Content: job.Job{
				Notification: &job.Notification{
					Title: "Hi {{attributes.first_name|there}}", Body: "Everything is half the price", Badge: new(1), Sound: job.Sound{Name: "default"}, ThreadID: "deals",
				},
				Data:     json.RawMessage(`{"link":"shop://deals?user={{user}}","n":1.50}`),
				PushType: job.PushAlert, Priority: 5, CollapseID: "deals", TTL: 12 * time.Hour, HasTTL: true, OnUnknown: job.Drop,
			},
			Localizations: map[string]*job.Notification{
				"de":    {Title: "Hallo {{attributes.first_name}}", Body: "Alles zum halben Preis"},
				"de-AT": {Title: "Servus {{attributes.first_name}}"},
			},
			StartAt: day(2026, 11, 27, 6), LocalTime: "09:00", PastLocalTime: campaign.SkipDay, DefaultTimezone: "Europe/Vienna",
			Rate:         5000,
			QuietHours:   &campaign.QuietHours{From: "22:00", To: "08:00", Action: campaign.SkipQuiet},
			FrequencyCap: &campaign.FrequencyCap{Max: 3, Per: 168 * time.Hour, Kind: "marketing", Override: true},
			ControlGroup: &campaign.ControlGroup{Percent: 2.5, Seed: "autumn-2026"},
		},
		"file": {
			ID: "vouchers", Recipients: &campaign.Recipients{Variables: []string{"name", "code"}},
			Content: job.Job{Notification: &job.Notification{Title: "{{name|Hello}}", Body: "Your code: {{code}}"}, ExpiresAt: day(2026, 12, 24, 18)},
			StartAt: day(2026, 12, 1, 9),
		},
		"file-without-variables": {ID: "notice", Recipients: &campaign.Recipients{}, Content: alert},
		"recurring": {
			ID: "weekly-news", Audience: campaign.Audience{Tags: campaign.Tags{Any: []string{"news"}}},
			Content:    job.Job{Notification: &job.Notification{Body: "The week's news"}, TTL: 24 * time.Hour, HasTTL: true},
			Recurrence: &campaign.Recurrence{Cron: "0 9 * * MON", Timezone: "Europe/Vienna"},
		},
		"payload": {
			ID: "raw", Audience: campaign.Audience{RegisteredBefore: day(2026, 6, 1, 0)},
			Content: job.Job{Payload: json.RawMessage(`{"aps":{"alert":{"title":"We miss you, {{user|friend}}"}},"v":2}`), HasTTL: true},
		},
		"defaults-said": {
			ID: "defaults", Audience: campaign.Audience{All: true}, Content: alert, LocalTime: "18:30", DefaultTimezone: "UTC",
			QuietHours: &campaign.QuietHours{From: "23:00", To: "07:00"}, FrequencyCap: &campaign.FrequencyCap{Max: 1, Per: time.Hour, Kind: campaign.DefaultKind},
		},
	}
}

func TestGolden(t *testing.T) {
	t.Parallel()
	names := map[string]bool{}
	for name, want := range goldens() {
		names[name+".json"] = true
		path := filepath.Join("testdata", "campaigns", name+".json")
		data, err := os.ReadFile(path)
		if os.IsNotExist(err) && *update {
			if data, err = json.MarshalIndent(want, "", "  "); err == nil {
				err = os.WriteFile(path, append(data, '\n'), 0o644)
			}
		}
		if err != nil {
			t.Fatalf("got %v, want the file: go test ./campaign -run Golden -update adds it", err)
		}
		got, err := campaign.Parse(data)
		if err != nil {
			t.Errorf("%s: got %v, want nil", name, err)
			continue
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s:\ngot  %+v\nwant %+v", name, got, want)
		}
		roundTrip(t, got)
	}
	files, err := os.ReadDir(filepath.Join("testdata", "campaigns"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if !names[f.Name()] {
			t.Errorf("testdata/campaigns/%s: got a file without a row", f.Name())
		}
	}
}

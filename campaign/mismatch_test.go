package campaign_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/pushfleet/pushfleet/campaign"
	"github.com/pushfleet/pushfleet/device"
)

// What is said of a device that is left out is the first rule that leaves it out, and
// nothing is said of one that is not.
func TestMismatch(t *testing.T) {
	t.Parallel()
	start := at(t, "2026-11-24T09:00:00Z")
	many := make([]string, 8)
	for i := range many {
		many[i] = quote(fmt.Sprint("tag ", i))
	}
	for _, tc := range []struct {
		audience string
		change   func(*device.Device)
		want     string
	}{
		{`{"all":true}`, nil, ""},
		{`{"tags":{"any":["gold","news"]},"locales":["de"],"timezones":["Europe/Vienna"],"attributes":{"plan":["gold"]},"app_version":{"min":"2"}}`, nil, ""},
		{`{"all":true}`, func(d *device.Device) {
			d.Record.State, d.Record.Reason, d.Record.ChangedAt = device.Removed, device.ReasonOf("Unregistered"), start.UnixMilli()
		}, "its device token is removed since 2026-11-24 09:00:00 +0000 UTC: Unregistered"},
		{`{"all":true}`, func(d *device.Device) { d.Record.Kind = device.VoIP }, "it needs a device token of kind alert, the device's is of kind voip"},
		{`{"environment":"sandbox"}`, nil, "the audience asks for environment sandbox, the device's is production"},
		{
			`{"registered_after":"2026-11-01T00:00:00Z"}`, nil,
			"the audience asks for devices registered since 2026-11-01 00:00:00 +0000 UTC, the device was last registered 2026-10-01 08:00:00 +0000 UTC",
		},
		{
			`{"registered_before":"2026-09-01T00:00:00Z"}`, nil,
			"the audience asks for devices last registered before 2026-09-01 00:00:00 +0000 UTC, the device was 2026-10-01 08:00:00 +0000 UTC",
		},
		{`{"tags":{"any":["gold"]},"locales":["fr"]}`, nil, "the audience asks for tag gold, which the device does not have"},
		{`{"tags":{"any":["gold","silver"]}}`, nil, "the audience asks for tag gold or silver, of which the device has none"},
		{
			`{"tags":{"any":[` + strings.Join(many, ",") + `]}}`, nil,
			"the audience asks for tag tag 0, tag 1, tag 2, tag 3, tag 4 or one of 3 more, of which the device has none",
		},
		{`{"tags":{"all":["news","gold"]}}`, nil, "the audience asks for tag gold, which the device does not have"},
		{`{"tags":{"none":["gold","news"]}}`, nil, "the audience leaves out tag news, which the device has"},
		{`{"locales":["fr","de-CH"]}`, nil, "the audience asks for locale fr or de-ch, the device's is de-AT"},
		{`{"locales":["fr"]}`, func(d *device.Device) { d.Locale = "" }, "the audience asks for locale fr, the device has none"},
		{`{"timezones":["Europe/Zurich","Asia/Tokyo"]}`, nil, "the audience asks for time zone Asia/Tokyo or Europe/Zurich, the device's is Europe/Vienna"},
		{`{"attributes":{"team":["red"],"plan":["silver"]}}`, nil, "the audience asks for attribute plan silver, the device's is gold"},
		{`{"attributes":{"team":["red"],"plan":["gold"]}}`, nil, "the audience asks for attribute team red, the device has none"},
		{`{"app_version":{"min":"2.11"}}`, nil, "the audience asks for app version 2.11 or newer, the device's is 2.10.1"},
		{`{"app_version":{"max":"2.9"}}`, nil, "the audience asks for app version 2.9 or older, the device's is 2.10.1"},
		{`{"app_version":{"min":"1","max":"2.9"}}`, nil, "the audience asks for app version 1 to 2.9, the device's is 2.10.1"},
	} {
		p := compile(t, `{"id":"c","audience":`+tc.audience+`,"notification":{"body":"b"}}`, start)
		d := phone(tc.change)
		got := p.Mismatch(d)
		if got != tc.want || p.Matches(d) != (got == "") {
			t.Errorf("%s: got %q, matches %t; want %q", tc.audience, got, p.Matches(d), tc.want)
		}
	}
}

// Each device token is in the range whose classes its hash falls into.
func TestRangeOf(t *testing.T) {
	t.Parallel()
	if n, ok := (&campaign.Status{}).RangeOf(device.TokenFromRaw("0")); ok {
		t.Errorf("not started: got range %d, want none", n)
	}
	seen := make(map[int]bool)
	s := campaign.Status{Classes: 256, Width: 10}
	for i := range 5000 {
		tok := device.TokenFromRaw(fmt.Sprint(i))
		n, ok := s.RangeOf(tok)
		class, _ := (&campaign.Status{Classes: 256, Width: 1}).RangeOf(tok)
		if !ok || n != class/10 {
			t.Fatalf("got range %d, %t, want class %d / 10", n, ok, class)
		}
		seen[n] = true
	}
	if len(seen) != 26 {
		t.Errorf("ranges: got %d of them, want all 26", len(seen))
	}
}

package campaign_test

import (
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/pushfleet/pushfleet/campaign"
	"github.com/pushfleet/pushfleet/device"
	"github.com/pushfleet/pushfleet/job"
)

// at reads a time.
func at(t testing.TB, s string) time.Time {
	t.Helper()
	v, err := time.Parse(time.RFC3339, s)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// parse reads a campaign that must be good.
func parse(t testing.TB, text string) *campaign.Campaign {
	t.Helper()
	c, err := campaign.Parse([]byte(text))
	if err != nil {
		t.Fatalf("parse %s: got %v, want nil", text, err)
	}
	return c
}

// compile compiles a campaign that must be good, to start at start.
func compile(t testing.TB, text string, start time.Time) *campaign.Plan {
	t.Helper()
	p, err := parse(t, text).Compile(campaign.Options{Start: start, Zones: new(device.Zones)})
	if err != nil {
		t.Fatalf("compile %s: got %v, want nil", text, err)
	}
	return p
}

// problemsOf returns what an error lists, as text.
func problemsOf(t testing.TB, err error) []string {
	t.Helper()
	if err == nil {
		return nil
	}
	var invalid *job.Invalid
	if !errors.As(err, &invalid) {
		t.Fatalf("got error %T %v, want a *job.Invalid", err, err)
	}
	var out []string
	for _, p := range invalid.Problems {
		out = append(out, p.String())
	}
	return out
}

// phone is a device that is registered and may be used.
func phone(change func(*device.Device)) *device.Device {
	d := &device.Device{
		Registration: device.Registration{
			Token: device.TokenFromRaw("0123456789abcdef0123456789abcdef"), User: "ada", InstallID: "i-17", Environment: device.Production,
			Locale: "de-AT", Timezone: "Europe/Vienna", AppVersion: "2.10.1", Tags: []string{"news", "sports"},
			Attributes: map[string]string{"plan": "gold", "first_name": "Ada"},
		},
		Record: device.Record{
			RegisteredAt: time.Date(2026, 10, 1, 8, 0, 0, 0, time.UTC).UnixMilli(), Generation: 1, Environment: device.Production,
			User: device.KeyOf("ada"), Install: device.KeyOf("i-17"), Details: true,
		},
	}
	if change != nil {
		change(d)
	}
	return d
}

// member adds members to the smallest campaign.
func member(members string) string {
	return `{"id":"c","audience":{"all":true},"notification":{"body":"b"},` + members + `}`
}

func quote(s string) string {
	b, err := json.Marshal(s)
	if err != nil {
		panic(err)
	}
	return string(b)
}

package campaign_test

import (
	"testing"

	"github.com/pushfleet/pushfleet/device"
)

// BenchmarkMatches is what each device of the token set costs, whether or not it
// belongs to the audience.
func BenchmarkMatches(b *testing.B) {
	start := at(b, "2026-11-24T09:00:00Z")
	for name, audience := range map[string]string{
		"all":    `"all":true`,
		"record": `"registered_after":"2026-09-01T00:00:00Z","environment":"production"`,
		"tags":   `"tags":{"any":["sports","culture"],"none":["muted"]}`,
		"everything": `"tags":{"any":["sports"]},"locales":["fr","de"],"timezones":["Europe/Vienna"],` +
			`"attributes":{"plan":["silver","gold"]},"app_version":{"min":"2.9"}`,
	} {
		p, d := compile(b, `{"id":"c","audience":{`+audience+`},"notification":{"body":"b"}}`, start), phone(nil)
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if !p.Matches(d) {
					b.Fatal("got false, want true")
				}
			}
		})
	}
}

// BenchmarkDecide is what each device of the audience costs.
func BenchmarkDecide(b *testing.B) {
	start := at(b, "2026-11-24T09:00:00Z")
	for name, members := range map[string]string{
		"nothing": `"ttl":"48h"`,
		"control": `"control_group":{"percent":0.001}`,
		"quiet":   `"quiet_hours":{"from":"22:00","to":"08:00"}`,
		"local":   `"local_time":"12:00"`,
		"everything": `"ttl":"48h","local_time":"12:00","quiet_hours":{"from":"22:00","to":"08:00"},` +
			`"control_group":{"percent":0.001}`,
	} {
		p, d := compile(b, member(members), start), phone(nil)
		now := at(b, "2026-11-24T15:00:00Z")
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				p.Decide(d, now)
			}
		})
	}
}

// BenchmarkPayload is what each notification costs.
func BenchmarkPayload(b *testing.B) {
	start := at(b, "2026-11-24T09:00:00Z")
	const text = `{"title":"Hello {{attributes.first_name|there}}","body":"Your plan {{attributes.plan}} has news for you"}`
	for name, tt := range map[string]struct {
		json string
		vars map[string]string
	}{
		"shared":          {json: member(`"data":{"campaign":"winter"}`)},
		"two attributes":  {json: `{"id":"c","audience":{"all":true},"notification":` + text + `}`},
		"two not ASCII":   {json: `{"id":"c","audience":{"all":true},"notification":{"title":"Grüß dich, {{attributes.name}}","body":"{{attributes.quoted}}!"}}`},
		"localized":       {json: `{"id":"c","audience":{"all":true},"notification":` + text + `,"localizations":{"de":{"title":"Hallo {{attributes.first_name}}"}}}`},
		"two of the file": {json: `{"id":"c","recipients":{"variables":["name","code"]},"notification":{"title":"Hello {{name}}","body":"Your code is {{code}}"}}`, vars: map[string]string{"name": "Ada", "code": "4711"}},
	} {
		p := compile(b, tt.json, start)
		d := phone(func(d *device.Device) { d.Attributes["name"], d.Attributes["quoted"] = "Zoë Müller", `say "hi"` })
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			var dst []byte
			for b.Loop() {
				var err error
				if dst, err = p.Payload(dst[:0], d, tt.vars); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(len(dst)), "bytes")
		})
	}
}

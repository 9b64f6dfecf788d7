package campaign_test

import (
	"bytes"
	"encoding/json"
	"math"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/pushfleet/pushfleet/campaign"
	"github.com/pushfleet/pushfleet/device"
	"github.com/pushfleet/pushfleet/job"
)

func TestParseTakesGoodCampaigns(t *testing.T) {
	t.Parallel()
	for name, data := range good() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := parse(t, data)
			if err := c.Validate(); err != nil {
				t.Errorf("Validate after Parse: got %v, want nil", err)
			}
			roundTrip(t, c)
			if _, err := c.Compile(campaign.Options{Start: at(t, "2026-11-24T09:00:00Z")}); err != nil {
				t.Errorf("Compile: got %v, want nil", err)
			}
		})
	}
}

// roundTrip checks that a campaign survives being written, and that it is written
// the same way twice.
func roundTrip(t testing.TB, c *campaign.Campaign) {
	t.Helper()
	data, err := c.AppendJSON([]byte("before "))
	if err != nil {
		t.Fatalf("AppendJSON: got %v, want nil", err)
	}
	data, found := bytes.CutPrefix(data, []byte("before "))
	again, err := campaign.Parse(data)
	if err != nil || !found {
		t.Fatalf("parse %s: got %v, want nil", data, err)
	}
	if !reflect.DeepEqual(again, c) {
		t.Fatalf("round trip of %s:\ngot  %+v\nwant %+v", data, again, c)
	}
	if twice, err := again.AppendJSON(nil); err != nil || !bytes.Equal(twice, data) {
		t.Errorf("written again: got %s, %v, want %s", twice, err, data)
	}
}

func TestParseTellsEveryProblem(t *testing.T) {
	t.Parallel()
	for _, tt := range append(bad(), broken()...) {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c, err := campaign.Parse([]byte(tt.json))
			if c != nil || err == nil {
				t.Fatalf("got a campaign: %t, error %v, want only an error", c != nil, err)
			}
			if got := problemsOf(t, err); !slices.Equal(got, tt.problems) {
				t.Errorf("problems:\ngot  %q\nwant %q", got, tt.problems)
			}
			if want := "campaign: invalid: " + strings.Join(tt.problems, "; "); err.Error() != want {
				t.Errorf("text:\ngot  %s\nwant %s", err, want)
			}
		})
	}
}

func TestUnmarshalLeavesWhatItRefuses(t *testing.T) {
	t.Parallel()
	c := parse(t, member(`"rate":5`))
	if err := json.Unmarshal([]byte(`{"id":"other"}`), c); err == nil || c.ID != "c" || c.Rate != 5 {
		t.Errorf("got %v and %+v, want an error and the campaign as it was", err, c)
	}
	if err := json.Unmarshal([]byte(member(`"rate":7`)), c); err != nil || c.Rate != 7 {
		t.Errorf("got %v and rate %d, want nil and 7", err, c.Rate)
	}
	data, err := json.Marshal(c)
	if want := `{"id":"c","audience":{"all":true},"notification":{"body":"b"},"rate":7}`; err != nil || string(data) != want {
		t.Errorf("marshal: got %s, %v, want %s", data, err, want)
	}
}

// TestValidate is about what only Go code can write.
func TestValidate(t *testing.T) {
	t.Parallel()
	const both = "must have exactly one of audience, recipients, got 2 of them"
	for name, tt := range map[string]struct {
		change func(*campaign.Campaign)
		want   []string
	}{
		"nothing wrong":          {change: func(*campaign.Campaign) {}},
		"an audience and a file": {change: func(c *campaign.Campaign) { c.Recipients = new(campaign.Recipients) }, want: []string{both}},
		"a job's id":             {change: func(c *campaign.Campaign) { c.Content.ID = "j" }, want: []string{"its content must not have an id, recipients or send_after: the campaign has them"}},
		"a job's recipients": {
			change: func(c *campaign.Campaign) { c.Content.To.Users = []string{"u"} },
			want:   []string{"its content must not have an id, recipients or send_after: the campaign has them"},
		},
		"no audience":       {change: func(c *campaign.Campaign) { c.Audience = campaign.Audience{} }, want: []string{"audience: must have all, or at least one condition"}},
		"a negative rate":   {change: func(c *campaign.Campaign) { c.Rate = -1 }, want: []string{"rate: must be a whole number from 1 to 10000000"}},
		"a percent of none": {change: func(c *campaign.Campaign) { c.ControlGroup = &campaign.ControlGroup{Percent: math.NaN()} }, want: []string{"control_group.percent: must be above 0 and below 100"}},
		"a choice of none":  {change: func(c *campaign.Campaign) { c.LocalTime, c.PastLocalTime = "09:00", "never" }, want: []string{"past_local_time: must be one of next_day, skip"}},
		"the default, said": {change: func(c *campaign.Campaign) { c.LocalTime, c.PastLocalTime = "09:00", campaign.NextDay }},
		"a payload that is none": {
			change: func(c *campaign.Campaign) { c.Content.Data = json.RawMessage(`[]`) },
			want:   []string{"data: must be an object"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := parse(t, member(`"ttl":"4h"`))
			tt.change(c)
			if got := problemsOf(t, c.Validate()); !slices.Equal(got, tt.want) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
			if _, err := c.Compile(campaign.Options{Start: time.Unix(1, 0)}); (err == nil) != (tt.want == nil) {
				t.Errorf("Compile: got %v, want an error: %t", err, tt.want != nil)
			}
		})
	}
	c := parse(t, member(`"ttl":"4h"`))
	c.Localizations = map[string]*job.Notification{"de": nil}
	if err := c.Validate(); err == nil || err.Error() != `encode campaign: localization "de" is nil` {
		t.Errorf("a localization that is nil: got %v, want that", err)
	}
	if _, err := parse(t, member(`"ttl":"4h"`)).Compile(campaign.Options{}); err == nil || err.Error() != `compile campaign "c": its start is not set` {
		t.Errorf("no start: got %v, want that", err)
	}
}

func TestCheck(t *testing.T) {
	t.Parallel()
	now := at(t, "2026-11-24T09:00:00Z")
	for members, want := range map[string][]string{
		`"ttl":"4h"`:                                                            nil,
		`"start_at":"2026-11-24T09:00:00Z"`:                                     nil,
		`"start_at":"2026-11-24T08:59:00Z"`:                                     nil, // a minute's grace
		`"start_at":"2026-11-24T08:58:59Z"`:                                     {"start_at: must not be in the past"},
		`"expires_at":"2026-11-24T09:00:00Z"`:                                   {"expires_at: must not be in the past"},
		`"expires_at":"2026-11-24T09:00:01Z"`:                                   nil,
		`"start_at":"2026-01-01T00:00:00Z","expires_at":"2026-01-02T00:00:00Z"`: {"start_at: must not be in the past", "expires_at: must not be in the past"},
		`"recurrence":{"cron":"0 9 29 2 *"}`:                                    nil,
		`"recurrence":{"cron":"0 9 29 2 *"},"start_at":"2096-03-01T00:00:00Z"`:  {"recurrence.cron: does not come in the next years"},
	} {
		if got := problemsOf(t, parse(t, member(members)).Check(now)); !slices.Equal(got, want) {
			t.Errorf("%s: got %q, want %q", members, got, want)
		}
	}
}

// compileSchema compiles with formats asserted, so that the agreement below is
// tested at its strictest.
func compileSchema(t testing.TB) *jsonschema.Schema {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(campaign.Schema()))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft2020)
	c.AssertFormat()
	if err := c.AddResource("schema.json", doc); err != nil {
		t.Fatalf("add schema: got %v, want nil", err)
	}
	compiled, err := c.Compile("schema.json")
	if err != nil {
		t.Fatalf("compile schema: got %v, want nil", err)
	}
	return compiled
}

func validate(t testing.TB, schema *jsonschema.Schema, data []byte) error {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
	if err != nil {
		t.Fatalf("unmarshal: got %v, want nil", err)
	}
	return schema.Validate(doc)
}

func TestSchemaAgreesWithParse(t *testing.T) {
	t.Parallel()
	schema := compileSchema(t)
	for name, data := range good() {
		if err := validate(t, schema, []byte(data)); err != nil {
			t.Errorf("%s: Parse takes it, the schema says %v", name, err)
		}
		canonical, err := parse(t, data).AppendJSON(nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := validate(t, schema, canonical); err != nil {
			t.Errorf("%s: AppendJSON made %s, the schema says %v", name, canonical, err)
		}
	}
	for _, tt := range bad() {
		if err := validate(t, schema, []byte(tt.json)); (err == nil) != tt.onlyParse {
			t.Errorf("%s: the schema says %v, want it to take it: %t", tt.name, err, tt.onlyParse)
		}
	}
}

// TestSchemaKnowsEveryMember checks that each member of each object has a
// description.
func TestSchemaKnowsEveryMember(t *testing.T) {
	t.Parallel()
	var doc map[string]any
	if err := json.Unmarshal(campaign.Schema(), &doc); err != nil {
		t.Fatalf("got %v, want JSON", err)
	}
	var paths []string
	var walk func(path string, node map[string]any)
	walk = func(path string, node map[string]any) {
		properties, _ := node["properties"].(map[string]any)
		for name, value := range properties {
			p, ok := value.(map[string]any)
			if !ok {
				continue // forbidden
			}
			paths = append(paths, path+name)
			if text, _ := p["description"].(string); len(text) < 3 {
				t.Errorf("%s%s: got description %q, want one", path, name, text)
			}
			walk(path+name+".", p)
		}
	}
	walk("", doc)
	for _, want := range []string{"id", "audience.tags.none", "recipients.variables", "notification.title", "localizations", "quiet_hours.to", "recurrence.cron"} {
		if !slices.Contains(paths, want) {
			t.Errorf("got %q, want %s among them", paths, want)
		}
	}
	if slices.Contains(paths, "to") || slices.Contains(paths, "send_after") {
		t.Errorf("got %q, want neither to nor send_after", paths)
	}
}

// hugeExponent matches numbers that the schema validator would write out: it
// reckons with fractions of any size.
var hugeExponent = regexp.MustCompile(`[0-9][eE][+-]?[0-9]{4,}`)

// FuzzParse checks that what Parse takes survives being written, is taken by the
// schema, and renders to JSON that APNs takes.
func FuzzParse(f *testing.F) {
	for _, data := range good() {
		f.Add([]byte(data))
	}
	for _, tt := range append(bad(), broken()...) {
		f.Add([]byte(tt.json))
	}
	schema := compileSchema(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := campaign.Parse(data)
		if err != nil {
			if problems := problemsOf(t, err); len(problems) == 0 || len(problems) > 50 {
				t.Fatalf("got %d problems, want 1 to 50", len(problems))
			}
			return
		}
		roundTrip(t, c)
		if !hugeExponent.Match(data) {
			if err := validate(t, schema, data); err != nil {
				t.Fatalf("Parse takes what the schema refuses: %v", err)
			}
		}
		start := time.Date(2026, 10, 25, 0, 30, 0, 0, time.UTC)
		p, err := c.Compile(campaign.Options{Start: start, Zones: new(device.Zones)})
		if err != nil {
			t.Fatalf("Compile after Parse: got %v, want nil", err)
		}
		d := phone(nil)
		p.Matches(d)
		if decision := p.Decide(d, start); decision.Action == campaign.Later && !decision.At.After(start) {
			t.Fatalf("got %+v, want a time after the start", decision)
		}
		payload, err := p.Payload(nil, d, nil)
		if err == nil && (!json.Valid(payload) || len(payload) > p.Job().MaxPayload()) {
			t.Fatalf("got payload %s, want JSON of at most %d bytes", payload, p.Job().MaxPayload())
		}
		if next, ok := c.NextRun(start, new(device.Zones)); ok && !next.After(start) {
			t.Fatalf("got a next run at %s, want one after %s", next, start)
		}
	})
}

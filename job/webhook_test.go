package job_test

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pushfleet/pushfleet/device"
	"github.com/pushfleet/pushfleet/job"
)

var stored = time.UnixMilli(1_800_000_000_000).UTC()

// everyEvent is a body with a value in every field.
func everyEvent() *job.Webhook {
	w := new(job.Webhook)
	fill(reflect.ValueOf(w).Elem())
	return w
}

func TestWebhookRoundTrip(t *testing.T) {
	t.Parallel()
	bodies := map[string]*job.Webhook{"every field": everyEvent()}
	for name, o := range goldenOutcomes() {
		if events := o.Events(7, stored, nil); len(events) > 0 {
			bodies[name] = &job.Webhook{App: o.App, Timestamp: stored, Events: events}
		}
	}
	schema := compileSchema(t, job.WebhookSchema())
	for name, want := range bodies {
		data := want.AppendJSON([]byte("kept"))[4:]
		got, err := job.ParseWebhook(data)
		if err != nil {
			t.Errorf("%s: got %v, want nil", name, err)
			continue
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s:\ngot  %+v\nwant %+v", name, got, want)
		}
		if err := validate(t, schema, data); err != nil {
			t.Errorf("%s: the schema says %v", name, err)
		}
	}
	for _, data := range []string{`{}`, `{"type":"x","app":"a","events":[]}`, `{"type":"push.outcomes","app":"a","events":[{"id":"1"}]}`} {
		if err := validate(t, schema, []byte(data)); err == nil {
			t.Errorf("%s: the schema takes it", data)
		}
		if _, err := job.ParseWebhook([]byte(data)); err == nil {
			t.Errorf("%s: ParseWebhook takes it", data)
		}
	}
}

// A receiver reads this: it stays as it is.
func TestWebhookWireFormat(t *testing.T) {
	t.Parallel()
	o := &job.Outcomes{
		App: "shop", Lane: job.Bulk, Worker: "w1", At: time.UnixMilli(1760000000123).UTC(),
		Jobs: []job.JobOutcome{{
			ID: "o-1", Sequence: 17, QueuedAt: time.UnixMilli(1760000000001).UTC(), SentAt: time.UnixMilli(1760000000099).UTC(), Attempt: 1, Environment: device.Production,
			Accepted: []device.Token{device.TokenFromRaw("\x0a\xff")},
			Others: []job.Recipient{
				{DeviceToken: device.TokenFromRaw("\x0c"), Result: job.Rejected, Reason: "Unregistered", Status: 410, Timestamp: 1750000000000, SentAt: time.UnixMilli(1760000000100).UTC()},
				{User: "ada", Result: job.Skipped, Reason: "no devices"},
			},
		}},
	}
	w := job.Webhook{App: "shop", Timestamp: stored, Events: o.Events(18, stored, nil)}
	same := `"job":"o-1","lane":"bulk"`
	times := `"attempt":1,"queued_at":"2025-10-09T08:53:20.001Z"`
	want := `{"type":"push.outcomes","timestamp":"2027-01-15T08:00:00Z","app":"shop","events":[` +
		`{"id":"18-mywpiww0-0",` + same + `,"token":"0aff","environment":"production","result":"accepted","status":200,"apns_id":"` + job.APNsID("shop", "o-1", device.TokenFromRaw("\x0a\xff")).String() + `",` + times + `,"sent_at":"2025-10-09T08:53:20.099Z","at":"2025-10-09T08:53:20.123Z"},` +
		`{"id":"18-mywpiww0-1",` + same + `,"token":"0c","environment":"production","result":"rejected","reason":"Unregistered","status":410,"apns_id":"` + job.APNsID("shop", "o-1", device.TokenFromRaw("\x0c")).String() + `",` + times + `,"sent_at":"2025-10-09T08:53:20.1Z","at":"2025-10-09T08:53:20.123Z","dead_since":"2025-06-15T15:06:40Z"},` +
		`{"id":"18-mywpiww0-2",` + same + `,"user":"ada","environment":"production","result":"skipped","reason":"no devices",` + times + `,"at":"2025-10-09T08:53:20.123Z"}]}`
	if got := string(w.AppendJSON(nil)); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// An event is the same one whatever a filter leaves out beside it.
func TestEventsAreNumberedBeforeTheyAreChosen(t *testing.T) {
	t.Parallel()
	o := goldenOutcomes()["mixed"]
	all := o.Events(18, stored, nil)
	ids := make(map[string]bool)
	for _, e := range all {
		ids[e.ID] = true
	}
	if len(ids) != 8 {
		t.Errorf("got %d ids, want one for each of 8 recipients", len(ids))
	}
	rejected := o.Events(18, stored, func(r job.Result) bool { return r == job.Rejected })
	if len(rejected) != 1 || !reflect.DeepEqual(rejected[0], all[1]) {
		t.Errorf("got %+v, want the second of all alone: %+v", rejected, all[1])
	}
	for _, other := range [][]job.WebhookEvent{o.Events(19, stored, nil), o.Events(18, stored.Add(time.Millisecond), nil)} {
		if ids[other[0].ID] {
			t.Errorf("another message: got id %s again", other[0].ID)
		}
	}
}

// The apns-id is the one that was sent.
func TestEventsKnowTheAPNsID(t *testing.T) {
	t.Parallel()
	token := must2(device.ParseToken(hex64))
	for name, want := range map[string]string{
		"range":    job.APNsID("shop", job.CampaignRoot("spring"), token).String(),
		"redriven": job.APNsID("shop", "order-1", token).String(),
		"accepted": job.APNsID("shop", "o-1", token).String(),
	} {
		if got := goldenOutcomes()[name].Events(1, stored, nil)[0].APNsID; got != want {
			t.Errorf("%s: got %s, want %s", name, got, want)
		}
	}
	for _, e := range goldenOutcomes()["mixed"].Events(1, stored, nil) {
		sent := slices.Contains([]job.Result{job.Accepted, job.Rejected, job.Unknown, job.Failed}, e.Result)
		if sent != (e.APNsID != "") {
			t.Errorf("%s: got apns-id %q", e.Result, e.APNsID)
		}
	}
}

func TestWebhookSplit(t *testing.T) {
	t.Parallel()
	w := &job.Webhook{App: "shop", Timestamp: stored}
	for n := range 10 {
		w.Events = append(w.Events, job.WebhookEvent{ID: fmt.Sprint(n), Job: "j", Result: job.Accepted})
	}
	w.Events[4].Reason = strings.Repeat("x", 1000)
	for _, tt := range []struct {
		name             string
		bytes, events    int
		want             []int
		largest, atLeast int
	}{
		{"without bounds", 0, 0, []int{10}, 1 << 20, 1},
		{"by events", 0, 4, []int{4, 4, 2}, 1 << 20, 1},
		{"by bytes", 430, 0, []int{4, 1, 5}, 1300, 1},
		{"one each", 1, 0, []int{1, 1, 1, 1, 1, 1, 1, 1, 1, 1}, 1300, 1},
	} {
		var sizes []int
		var events []job.WebhookEvent
		for _, part := range w.Split(tt.bytes, tt.events) {
			sizes = append(sizes, len(part.Events))
			events = append(events, part.Events...)
			size := len(part.AppendJSON(nil))
			if size > tt.largest || tt.bytes > 1 && len(part.Events) > 1 && size > tt.bytes {
				t.Errorf("%s: got %d bytes", tt.name, size)
			}
		}
		if !slices.Equal(sizes, tt.want) || !reflect.DeepEqual(events, w.Events) {
			t.Errorf("%s: got parts of %v, want %v with all events in order", tt.name, sizes, tt.want)
		}
	}
	if parts := (&job.Webhook{App: "shop"}).Split(0, 0); len(parts) != 0 {
		t.Errorf("nothing: got %d parts, want none", len(parts))
	}
}

func FuzzParseWebhook(f *testing.F) {
	f.Add(everyEvent().AppendJSON(nil))
	f.Add([]byte(`{"type":"push.outcomes","app":"a","events":[]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		w, err := job.ParseWebhook(data)
		if err != nil {
			return
		}
		again, err := job.ParseWebhook(w.AppendJSON(nil))
		if len(w.Events) > 0 && (err != nil || !reflect.DeepEqual(again, w)) {
			t.Errorf("got %+v, %v, want %+v", again, err, w)
		}
	})
}

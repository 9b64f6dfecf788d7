package job_test

import (
	"slices"
	"testing"
	"time"

	"github.com/pushfleet/pushfleet/device"
	"github.com/pushfleet/pushfleet/job"
)

func TestDerivation(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, job string
		push      job.PushType
		priority  int
		topic     string
		kind      device.Kind
	}{
		{"alert", `"notification":{"subtitle_loc_key":"k"}`, job.PushAlert, 10, "com.shop", device.Alert},
		{"badge", `"notification":{"badge":0}`, job.PushAlert, 10, "com.shop", device.Alert},
		{"sound", `"notification":{"sound":"s"}`, job.PushAlert, 10, "com.shop", device.Alert},
		{"alert that wakes the app", `"notification":{"body":"b","content_available":true}`, job.PushAlert, 10, "com.shop", device.Alert},
		{"background", `"notification":{"content_available":true}`, job.PushBackground, 5, "com.shop", device.Alert},
		{"background with priority 1", `"notification":{"content_available":true},"priority":1`, job.PushBackground, 1, "com.shop", device.Alert},
		{"update", `"notification":{"event":"update","timestamp":1,"content_state":{},"sound":"s"}`, job.PushLiveActivity, 10, "com.shop.push-type.liveactivity", device.LiveActivity},
		{"start", `"notification":{"event":"start","timestamp":1,"content_state":{},"attributes_type":"T","attributes":{},"body":"b"}`, job.PushLiveActivity, 10, "com.shop.push-type.liveactivity", device.LiveActivityStart},
		{"payload alert", `"payload":{"aps":{"alert":{"body":"x"}}}`, job.PushAlert, 10, "com.shop", device.Alert},
		{"payload sound, escaped", `"payload":{"\u0061ps":{"s\u006fund":"x"}}`, job.PushAlert, 10, "com.shop", device.Alert},
		{"payload background", `"payload":{"x":{"aps":{"alert":1}},"aps":{"content-available":1,"x":{"alert":1}}}`, job.PushBackground, 5, "com.shop", device.Alert},
		{"payload start", `"payload":{"aps":{"event":"start","timestamp":1,"content-state":{},"attributes-type":"T","attributes":{},"alert":{}}}`, job.PushLiveActivity, 10, "com.shop.push-type.liveactivity", device.LiveActivityStart},
		{"payload end", `"payload":{"aps":{"event":"end","timestamp":1,"content-state":{}}},"push_type":"liveactivity","priority":5`, job.PushLiveActivity, 5, "com.shop.push-type.liveactivity", device.LiveActivity},
		{"payload mdm", `"payload":{"mdm":"m"}`, job.PushMDM, 10, "com.shop", device.MDM},
		{"voip", `"push_type":"voip","notification":{}`, job.PushVoIP, 10, "com.shop.voip", device.VoIP},
		{"widgets", `"push_type":"widgets","payload":{"aps":{"content-changed":true}}`, job.PushWidgets, 10, "com.shop.push-type.widgets", device.Widget},
		{"controls", `"push_type":"controls","payload":{"aps":{"content-changed":true}}`, job.PushControls, 10, "com.shop.push-type.controls", device.Control},
		{"complication", `"push_type":"complication","payload":{}`, job.PushComplication, 10, "com.shop.complication", device.Complication},
		{"fileprovider", `"push_type":"fileprovider","payload":{}`, job.PushFileProvider, 10, "com.shop.pushkit.fileprovider", device.FileProvider},
		{"location", `"push_type":"location","payload":{}`, job.PushLocation, 10, "com.shop.location-query", device.Location},
		{"pushtotalk", `"push_type":"pushtotalk","payload":{}`, job.PushPushToTalk, 10, "com.shop.voip-ptt", device.PushToTalk},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			j, err := job.Parse([]byte(`{"to":{"users":["u"]},` + tt.job + `}`))
			if err != nil {
				t.Fatalf("got %v, want nil", err)
			}
			if got := j.EffectivePushType(); got != tt.push {
				t.Errorf("push type: got %q, want %q", got, tt.push)
			}
			if got := j.EffectivePriority(); got != tt.priority {
				t.Errorf("priority: got %d, want %d", got, tt.priority)
			}
			if got := j.Topic("com.shop"); got != tt.topic {
				t.Errorf("topic: got %q, want %q", got, tt.topic)
			}
			if got := j.Kind(); got != tt.kind {
				t.Errorf("kind: got %v, want %v", got, tt.kind)
			}
			if got, want := j.MaxPayload(), map[bool]int{true: 5120, false: 4096}[tt.push == job.PushVoIP]; got != want {
				t.Errorf("max payload: got %d, want %d", got, want)
			}
		})
	}
}

func TestPushTypes(t *testing.T) {
	t.Parallel()
	all := job.PushTypes()
	if len(all) != 11 || !slices.IsSorted(all) {
		t.Errorf("got %v, want the 11 push types in order", all)
	}
	for _, p := range all {
		if !p.Known() || !p.Allows(5) || p.Allows(7) || !p.Allows(p.DefaultPriority()) {
			t.Errorf("%s: got known %t, allows 5 %t, 7 %t, its default %t", p, p.Known(), p.Allows(5), p.Allows(7), p.Allows(p.DefaultPriority()))
		}
		if got, want := p.Allows(10), p != job.PushBackground; got != want {
			t.Errorf("%s allows 10: got %t, want %t", p, got, want)
		}
		if got, want := p.Allows(1), p != job.PushLiveActivity; got != want {
			t.Errorf("%s allows 1: got %t, want %t", p, got, want)
		}
	}
	unknown := job.PushType("x")
	if unknown.Known() || unknown.Topic("b") != "b" || unknown.Kind() != device.Alert || unknown.DefaultPriority() != 10 || !unknown.Allows(10) {
		t.Errorf("an unknown push type: got %t %q %v %d", unknown.Known(), unknown.Topic("b"), unknown.Kind(), unknown.DefaultPriority())
	}
}

func TestLanes(t *testing.T) {
	t.Parallel()
	for _, l := range job.Lanes() {
		if got, err := job.ParseLane(l.String()); got != l || err != nil {
			t.Errorf("%v: got %v, %v", l, got, err)
		}
	}
	if _, err := job.ParseLane("Bulk"); err == nil {
		t.Error("Bulk: got no error")
	}
	r := job.Recipients{Tokens: sampleJob(2).To.Tokens, Users: []string{"u"}, Installs: []string{"a", "b", "c"}}
	if got := r.Len(); got != 6 {
		t.Errorf("recipients: got %d, want 6", got)
	}
}

// TestDerivationOfGarbage looks at payloads that nobody validated.
func TestDerivationOfGarbage(t *testing.T) {
	t.Parallel()
	for _, payload := range []string{``, `{`, `"`, `{"`, `{"aps"`, `{"aps":`, `{"aps":{`, `{"aps":{"event":`, `{"aps":{"event":"`, `{"aps":{"event":"start`, `}{`, `[[[`, `{"aps":}`, `{"aps":{"event":"start"`, `{"a\`, `{"aps":{"event":"\u"}}`} {
		j := &job.Job{Payload: []byte(payload)}
		j.EffectivePushType() // must not panic, nor go on for ever
		j.Kind()
		if j.Validate() == nil {
			t.Errorf("%q: got nil, want an error", payload)
		}
		if _, err := j.RenderPayload(); err == nil {
			t.Errorf("RenderPayload of %q: got no error", payload)
		}
	}
}

func TestExpiration(t *testing.T) {
	t.Parallel()
	stored := time.Date(2026, 11, 24, 9, 0, 0, 500, time.UTC)
	for _, tt := range []struct {
		name   string
		job    job.Job
		header int64
		at     time.Time
		once   bool
	}{
		{"none", job.Job{}, -1, time.Time{}, false},
		{"one attempt", job.Job{HasTTL: true}, 0, time.Time{}, true},
		{"ttl", job.Job{TTL: time.Hour, HasTTL: true}, stored.Unix() + 3601, stored.Add(time.Hour), false},
		{"ttl without HasTTL", job.Job{TTL: time.Hour}, stored.Unix() + 3601, stored.Add(time.Hour), false},
		{"ttl from send_after", job.Job{TTL: time.Minute, SendAfter: when(2026, 12, 1, 0)}, when(2026, 12, 1, 0).Unix() + 60, when(2026, 12, 1, 0).Add(time.Minute), false},
		{"ttl below a second", job.Job{TTL: time.Millisecond, SendAfter: when(2026, 12, 1, 0)}, when(2026, 12, 1, 0).Unix() + 1, when(2026, 12, 1, 0).Add(time.Millisecond), false},
		{"expires_at", job.Job{ExpiresAt: when(2026, 12, 1, 0), SendAfter: when(2026, 11, 30, 0)}, when(2026, 12, 1, 0).Unix(), when(2026, 12, 1, 0), false},
	} {
		e := tt.job.Expiration(stored)
		if got := e.Header(); got != tt.header {
			t.Errorf("%s: header: got %d, want %d", tt.name, got, tt.header)
		}
		at, ok := e.Time()
		if !at.Equal(tt.at) || ok == tt.at.IsZero() || e.Once() != tt.once {
			t.Errorf("%s: got %v, %t, once %t, want %v, once %t", tt.name, at, ok, e.Once(), tt.at, tt.once)
		}
		if tt.at.IsZero() {
			if e.Passed(stored.AddDate(100, 0, 0)) {
				t.Errorf("%s: got passed in a hundred years, want never", tt.name)
			}
			continue
		}
		if e.Passed(tt.at.Add(-1)) || !e.Passed(tt.at) {
			t.Errorf("%s: got passed before %t, at %t, want false, true", tt.name, e.Passed(tt.at.Add(-1)), e.Passed(tt.at))
		}
	}
}

func TestRenderPayload(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, job, want string }{
		{"alert", `"notification":{"sound":"default","body":"a<b> & \u00e9\n","title":"t"}`, `{"aps":{"alert":{"title":"t","body":"a<b> & é\n"},"sound":"default"}}`},
		{
			"every alert field", `"notification":{"launch_image":"j","title":"a","title_loc_key":"b","title_loc_args":["c","d"],"subtitle":"e","subtitle_loc_key":"f","subtitle_loc_args":["g"],"body":"h","loc_key":"i","loc_args":["k"]}`,
			`{"aps":{"alert":{"title":"a","title-loc-key":"b","title-loc-args":["c","d"],"subtitle":"e","subtitle-loc-key":"f","subtitle-loc-args":["g"],"body":"h","loc-key":"i","loc-args":["k"],"launch-image":"j"}}}`,
		},
		{
			"every other field", `"notification":{"badge":0,"sound":{"name":"s","critical":true,"volume":0.50},"thread_id":"a","category":"b","content_available":true,"mutable_content":true,"target_content_id":"c","interruption_level":"critical","relevance_score":0,"filter_criteria":"d"}`,
			`{"aps":{"badge":0,"sound":{"critical":1,"name":"s","volume":0.5},"thread-id":"a","category":"b","content-available":1,"mutable-content":1,"target-content-id":"c","interruption-level":"critical","relevance-score":0,"filter-criteria":"d"}}`,
		},
		{"sound with a volume only", `"notification":{"sound":{"name":"s","volume":1}}`, `{"aps":{"sound":{"name":"s","volume":1}}}`},
		{"sound as an object with a name only", `"notification":{"sound":{"name":"s"}}`, `{"aps":{"sound":"s"}}`},
		{"background", `"notification":{"content_available":true},"data":{}`, `{"aps":{"content-available":1}}`},
		{"widgets", `"push_type":"widgets","notification":{"content_changed":true}`, `{"aps":{"content-changed":true}}`},
		{"nothing but data", `"push_type":"voip","notification":{},"data":{"b":1.0,"a":"\u00e9\/<"}`, `{"aps":{},"b":1.0,"a":"\u00e9\/<"}`},
		{"data in its own order", `"notification":{"body":"x"},"data":{ "z" : [ 1 , { } ] , "a" : -1e+2 }`, `{"aps":{"alert":{"body":"x"}},"z":[1,{}],"a":-1e+2}`},
		{
			"live activity start", `"notification":{"event":"start","timestamp":1,"content_state":{ "a" : 1.50 },"stale_date":2,"dismissal_date":0,"attributes_type":"T","attributes":{"b":[ ]},"input_push_token":true,"input_push_channel":"c","title_loc_key":"k","title_loc_args":["1"],"loc_key":"l","sound":"s","relevance_score":75}`,
			`{"aps":{"alert":{"title":{"loc-key":"k","loc-args":["1"]},"body":{"loc-key":"l"},"sound":"s"},"relevance-score":75,"event":"start","timestamp":1,"content-state":{"a":1.50},"stale-date":2,"dismissal-date":0,"attributes-type":"T","attributes":{"b":[]},"input-push-channel":"c","input-push-token":1}}`,
		},
		{"live activity with text", `"notification":{"event":"end","timestamp":1,"content_state":{},"title":"t","body":"b"}`, `{"aps":{"alert":{"title":"t","body":"b"},"event":"end","timestamp":1,"content-state":{}}}`},
		{"payload", `"payload":{ "aps" : { "alert" : "a b\u0063" , "x" : 1.0 } }`, `{"aps":{"alert":"a b\u0063","x":1.0}}`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			j, err := job.Parse([]byte(`{"to":{"users":["u"]},` + tt.job + `}`))
			if err != nil {
				t.Fatalf("got %v, want nil", err)
			}
			for range 2 {
				if got, err := j.RenderPayload(); err != nil || string(got) != tt.want {
					t.Errorf("got  %s, %v\nwant %s", got, err, tt.want)
				}
			}
		})
	}
	j := &job.Job{Notification: &job.Notification{Body: "x"}, Data: []byte(` { "a" : 1 } `)}
	if got, err := j.RenderPayload(); err != nil || string(got) != `{"aps":{"alert":{"body":"x"}},"a":1}` {
		t.Errorf("data with white space: got %s, %v", got, err)
	}
	j = &job.Job{Payload: []byte(` { "a" : 1 } `)}
	if got, err := j.RenderPayload(); err != nil || string(got) != `{"a":1}` {
		t.Errorf("payload with white space: got %s, %v", got, err)
	}
}

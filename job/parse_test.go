package job_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pushfleet/pushfleet/device"
	"github.com/pushfleet/pushfleet/job"
)

func when(year, month, day, hour int) time.Time {
	return time.Date(year, time.Month(month), day, hour, 0, 0, 0, time.UTC)
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

func TestParseTakesGoodJobs(t *testing.T) {
	t.Parallel()
	for name, data := range good() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			before := data
			j, err := job.Parse([]byte(data))
			if err != nil {
				t.Fatalf("got error %v, want none", err)
			}
			if err := j.Validate(); err != nil {
				t.Errorf("Validate after Parse: got %v, want nil", err)
			}
			roundTrip(t, j)
			if data != before {
				t.Error("Parse changed its input")
			}
		})
	}
}

// roundTrip checks that a job survives both encodings, and that encoding twice
// gives the same bytes.
func roundTrip(t testing.TB, j *job.Job) {
	t.Helper()
	asJSON, err := j.AppendJSON(nil)
	must(t, asJSON, err)
	asCompact, err := job.AppendCompact(nil, j)
	must(t, asCompact, err)
	for _, data := range [][]byte{asJSON, asCompact} {
		again, err := job.Parse(data)
		if err != nil {
			t.Fatalf("parse %q: got error %v, want none", data, err)
		}
		if !reflect.DeepEqual(again, j) {
			t.Fatalf("round trip of %s:\ngot  %+v\nwant %+v", asJSON, again, j)
		}
		if twice, err := again.AppendJSON(nil); err != nil || string(twice) != string(asJSON) {
			t.Errorf("encoded again: got %s, %v, want %s", twice, err, asJSON)
		}
	}
	payload, err := j.RenderPayload()
	must(t, payload, err)
	if !json.Valid(payload) {
		t.Errorf("payload %s: got invalid JSON", payload)
	}
	if len(payload) > j.MaxPayload() {
		t.Errorf("payload: got %d bytes, want at most %d", len(payload), j.MaxPayload())
	}
}

func TestParseTellsEveryProblem(t *testing.T) {
	t.Parallel()
	for _, tt := range append(bad(), broken()...) {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			j, err := job.Parse([]byte(tt.json))
			if j != nil || err == nil {
				t.Fatalf("got a job: %t, error %v, want only an error", j != nil, err)
			}
			if got := problemsOf(t, err); !slices.Equal(got, tt.problems) {
				t.Errorf("problems:\ngot  %q\nwant %q", got, tt.problems)
			}
			want := "job: invalid: " + strings.Join(tt.problems, "; ")
			if err.Error() != want {
				t.Errorf("text:\ngot  %s\nwant %s", err, want)
			}
		})
	}
}

func TestParseAtTheLimits(t *testing.T) {
	t.Parallel()
	if _, err := job.Parse([]byte(`{"to":{"users":["u"]},"notification":{"body":"` + strings.Repeat("x", 4067) + `"}}`)); err != nil {
		t.Errorf("4096 bytes: got %v, want nil", err)
	}
	// The same where white space makes the input long, and where the recipients do.
	for _, to := range []string{strings.Repeat(" ", 10_000) + `"users":["u"]`, `"tokens":[` + strings.Repeat(`"0a",`, 999) + `"0b"]`} {
		for size, problems := range map[int]int{4067: 0, 4068: 1} {
			_, err := job.Parse([]byte(`{"to":{` + to + `},"notification":{"body":"` + strings.Repeat("x", size) + `"}}`))
			if got := problemsOf(t, err); len(got) != problems {
				t.Errorf("body of %d bytes: got problems %q, want %d", size, got, problems)
			}
		}
	}
}

// TestParseTimes is about times that Go's own reader takes and RFC 3339 has not.
func TestParseTimes(t *testing.T) {
	t.Parallel()
	for text, good := range map[string]bool{
		"2026-11-24T09:00:00Z": true, "2026-11-24T09:00:00.123456789Z": true, "2026-11-24T09:00:00+23:59": true, "9999-12-31T23:59:59Z": true,
		"2026-11-24T9:00:00Z": false, "2026-11-24T09:00:00,5Z": false, "2026-11-24T09:00:00+24:00": false, "2026-11-24T09:00:00+00:60": false,
		"2026-11-24t09:00:00z": false, "2026-11-24T09:00:60Z": false, "2026-11-24T24:00:00Z": false, "2026-02-30T09:00:00Z": false,
		"9999-12-31T23:59:59-01:00": false, "2026-11-24": false, "": false,
	} {
		_, err := job.Parse([]byte(`{` + ok + `,"expires_at":"` + text + `"}`))
		if (err == nil) != good {
			t.Errorf("%q: got error %v, want it taken: %t", text, err, good)
		}
	}
}

func TestParseBoundsItsError(t *testing.T) {
	t.Parallel()
	bad := strings.Repeat(`"zz",`, 999) + `"zz"`
	_, err := job.Parse([]byte(`{"to":{"tokens":[` + bad + `]},"notification":{"body":"x"}}`))
	var invalid *job.Invalid
	if !errors.As(err, &invalid) {
		t.Fatalf("got %v, want a *job.Invalid", err)
	}
	if len(invalid.Problems) != 50 || invalid.More != 950 {
		t.Errorf("got %d problems and %d more, want 50 and 950", len(invalid.Problems), invalid.More)
	}
	text := err.Error()
	if len(text) > 3000 {
		t.Errorf("text: got %d bytes, want at most 3000", len(text))
	}
	shown := strings.Count(text, "to.tokens[")
	if want := fmt.Sprintf("; and %d more", 1000-shown); !strings.HasSuffix(text, want) {
		t.Errorf("text: got end %q, want %q", text[len(text)-40:], want)
	}
}

// TestParseKeepsSecrets gives secrets to every place that can be wrong.
func TestParseKeepsSecrets(t *testing.T) {
	t.Parallel()
	secret := "5ec4e7" + hex64[6:]
	for _, text := range []string{
		`{"to":{"tokens":["%sx"]}}`, `{"to":{"tokens":["%s0"]}}`, `{"to":{"%s":1}}`, `{"%s":1}`, `{"to":{"users":{"%s":1}}}`,
		`{"notification":{"title":{"%s":1}}}`, `{"notification":{"%s":"x"}}`, `{"push_type":"%s"}`, `{"ttl":"%s"}`, `{"expires_at":"%s"}`,
		`{"data":{"%[1]s":1,"%[1]s":2}}`, `{"data":{"aps":"%s"}}`, `{"data":"%s"}`, `{"payload":{"aps":"%s"}}`, `{"payload":{"aps":{"event":"%s"}}}`,
		`{"data":{"%s":}}`, `{"data":{"x":"%s}`, `{"data":{"x":"\u%s"}}`, `%s`, `{"notification":{"sound":"%s","volume":1}}`, `{"notification":{"interruption_level":"%s"}}`,
	} {
		_, err := job.Parse([]byte(strings.ReplaceAll(strings.ReplaceAll(text, "%[1]s", secret), "%s", secret)))
		if err == nil {
			t.Errorf("%s: got no error", text)
		} else if strings.Contains(err.Error(), secret[:6]) {
			t.Errorf("%s: got the secret in %q", text, err)
		}
	}
}

func TestParseCollapsesRecipients(t *testing.T) {
	t.Parallel()
	for _, n := range []int{3, 500} { // a short list, and one long enough for the table
		j := sampleJob(n)
		want := slices.Clone(j.To.Tokens)
		j.To.Tokens = append(j.To.Tokens, want...)
		slices.Reverse(j.To.Tokens[n:])
		got := must2(job.Parse(must2(j.AppendJSON(nil))))
		if !slices.Equal(got.To.Tokens, want) {
			t.Errorf("%d tokens twice: got %d, want the first %d", n, len(got.To.Tokens), n)
		}
		got = must2(job.Parse(must2(job.AppendCompact(nil, j))))
		if !slices.Equal(got.To.Tokens, want) {
			t.Errorf("%d tokens twice, compact: got %d, want the first %d", n, len(got.To.Tokens), n)
		}
	}
	got := must2(job.Parse([]byte(`{"to":{"tokens":["AB","ab","aB","ac"]},"notification":{"body":"x"}}`)))
	if len(got.To.Tokens) != 2 {
		t.Errorf("one token in several cases: got %d tokens, want 2", len(got.To.Tokens))
	}
	got = must2(job.Parse([]byte(`{"to":{"users":["b","a","b"]},"notification":{"body":"x"}}`)))
	if want := []string{"b", "a"}; !slices.Equal(got.To.Users, want) {
		t.Errorf("users: got %q, want %q", got.To.Users, want)
	}
}

func must2[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func TestParseHoldsNothingOfItsInput(t *testing.T) {
	t.Parallel()
	want := everyField()
	data := must2(want.AppendJSON(nil))
	got := must2(job.Parse(data))
	for i := range data {
		data[i] = 'x'
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("after the input was overwritten: got %+v, want %+v", got, want)
	}
}

func TestParseEveryField(t *testing.T) {
	t.Parallel()
	j := everyField()
	if err := j.Validate(); err != nil {
		t.Fatalf("got %v, want nil", err)
	}
	roundTrip(t, j)
	j.To = job.Recipients{Tokens: []device.Token{tokenNumber(1)}}
	roundTrip(t, j)
	j.To = job.Recipients{Installs: []string{"i"}}
	roundTrip(t, j)

	live := &job.Job{
		To: job.Recipients{Users: []string{"u"}},
		Notification: &job.Notification{
			Title: "t", Event: job.EventStart, Timestamp: new(int64(1)), ContentState: []byte(`{"a":1}`), StaleDate: new(int64(0)),
			DismissalDate: new(int64(3)), AttributesType: "T", Attributes: []byte(`{}`), InputPushChannel: "c", InputPushToken: true,
		},
		TTL: 0, HasTTL: true,
	}
	roundTrip(t, live)
}

// TestValidate checks that Validate says what Parse says, of structs that no JSON
// gives.
func TestValidate(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		change func(j *job.Job)
		want   []string
	}{
		{"good", func(*job.Job) {}, nil},
		{"nothing", func(j *job.Job) { *j = job.Job{} }, []string{"to: must have exactly one of tokens, users, installs", "must have exactly one of notification, payload"}},
		{"two lists", func(j *job.Job) { j.To.Users = []string{"u"} }, []string{"to: must have exactly one of tokens, users, installs, got 2 of them"}},
		{"no token", func(j *job.Job) { j.To.Tokens = append(j.To.Tokens, device.Token{}) }, []string{"to.tokens[2]: device token is empty"}},
		{"long token", func(j *job.Job) { j.To.Tokens[0] = device.TokenFromRaw(strings.Repeat("x", 257)) }, []string{"to.tokens[0]: device token is longer than 256 bytes"}},
		{"1001 tokens", func(j *job.Job) { j.To.Tokens = sampleJob(1001).To.Tokens }, []string{"to.tokens: must have 1 to 1000 items, got 1001"}},
		{"an empty user", func(j *job.Job) { j.To = job.Recipients{Users: []string{"a", ""}} }, []string{"to.users[1]: must not be empty: leave it out instead"}},
		{"not UTF-8", func(j *job.Job) { j.ID, j.Notification.Body = "\xff", "\xff" }, []string{"id: is not valid UTF-8", "notification.body: is not valid UTF-8"}},
		{"data is no JSON", func(j *job.Job) { j.Data = []byte(`{x}`) }, []string{"data: is not valid JSON"}},
		{"data is no object", func(j *job.Job) { j.Data = []byte(` 1`) }, []string{"data: must be an object"}},
		{"data has aps", func(j *job.Job) { j.Data = []byte(` { "a" : {} , "aps" : 1 } `) }, []string{"data: must not have the member aps: its content belongs into notification"}},
		{"data twice", func(j *job.Job) { j.Data = []byte(`{"a":1,"a":2}`) }, []string{"data: holds an object with the same member twice"}},
		{"enumerations", func(j *job.Job) {
			j.PushType, j.OnUnknown, j.Priority, j.Notification.InterruptionLevel = "x", 2, 3, "y"
		}, []string{
			"notification.interruption_level: must be one of passive, active, time-sensitive, critical, got y",
			"push_type: must be one of alert, background, complication, controls, fileprovider, liveactivity, location, mdm, pushtotalk, voip, widgets, got x",
			"priority: must be one of 10, 5, 1, got 3",
			"on_unknown: must be one of resend, drop",
		}},
		{"numbers", func(j *job.Job) {
			j.Notification.Badge, j.Notification.RelevanceScore = new(-1), new(nan())
			j.Notification.Sound = job.Sound{Critical: true, Volume: new(2.0)}
		}, []string{
			"notification.badge: must be a whole number from 0 to 2147483647",
			"notification.sound.volume: must be from 0 to 1", "notification.sound.name: is required",
			"notification.relevance_score: must be a finite number",
		}},
		{"ttl without HasTTL", func(j *job.Job) { j.TTL, j.HasTTL, j.ExpiresAt = time.Second, false, when(2026, 1, 1, 0) }, []string{"must not have more than one of ttl, expires_at"}},
		{"ttl too long", func(j *job.Job) { j.TTL = job.MaxTTL + 1 }, []string{"ttl: must be at most 720h (30 days): APNs stores no longer"}},
		{"ttl negative", func(j *job.Job) { j.TTL = -1 }, []string{"ttl: must not be negative"}},
		{"times", func(j *job.Job) {
			j.HasTTL, j.TTL, j.ExpiresAt, j.SendAfter = false, 0, time.Unix(0, 0), when(10000, 1, 1, 0)
		}, []string{
			"expires_at: must be after 1970 and before the year 10000", "send_after: must be after 1970 and before the year 10000",
			"send_after: must be before expires_at",
		}},
		{"too large", func(j *job.Job) { j.Data = []byte(`{ "x" : "` + strings.Repeat("x", 4096) + `" }`) }, []string{"notification: renders to 4223 bytes, the limit for alert is 4096"}},
		{"white space does not count", func(j *job.Job) { j.Data = []byte(`{` + strings.Repeat(" ", 4096) + `}`) }, nil},
		{"payload", func(j *job.Job) {
			j.Notification, j.Data, j.Payload = nil, nil, []byte(`{ "aps" : { "alert" : "x" , "event" : "end" } }`)
		}, []string{"payload.aps.timestamp: is required for liveactivity", "payload.aps.content-state: is required for liveactivity"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			j := sampleJob(2)
			tt.change(j)
			if got := problemsOf(t, j.Validate()); !slices.Equal(got, tt.want) {
				t.Errorf("problems:\ngot  %q\nwant %q", got, tt.want)
			}
		})
	}
}

func nan() float64 { var zero float64; return zero / zero }

func TestAppendJSONRefusesWhatIsNoJSON(t *testing.T) {
	t.Parallel()
	for _, raw := range []string{`{x}`, `1`, `{"a":1,"a":1}`, `{`} {
		for path, change := range map[string]func(*job.Job){
			"data":                       func(j *job.Job) { j.Data = []byte(raw) },
			"payload":                    func(j *job.Job) { j.Payload = []byte(raw) },
			"notification.content_state": func(j *job.Job) { j.Notification.ContentState = []byte(raw) },
			"notification.attributes":    func(j *job.Job) { j.Notification.Attributes = []byte(raw) },
		} {
			j := sampleJob(1)
			change(j)
			for name, encode := range map[string]func() ([]byte, error){
				"AppendJSON":    func() ([]byte, error) { return j.AppendJSON([]byte("kept")) },
				"AppendCompact": func() ([]byte, error) { return job.AppendCompact([]byte("kept"), j) },
			} {
				dst, err := encode()
				got := problemsOf(t, err)
				if len(got) != 1 || !strings.HasPrefix(got[0], path+": ") || string(dst) != "kept" {
					t.Errorf("%s with %s %s: got %q, %q, want one problem there and dst as it was", name, path, raw, dst, got)
				}
			}
			if _, err := j.RenderPayload(); err == nil {
				t.Errorf("RenderPayload with %s %s: got no error", path, raw)
			}
		}
	}
}

func TestJobIsAJSONMarshaler(t *testing.T) {
	t.Parallel()
	want := everyField()
	data := must2(json.Marshal(struct {
		Job *job.Job `json:"job"`
	}{want}))
	var got struct {
		Job job.Job `json:"job"`
	}
	if err := json.Unmarshal(data, &got); err != nil {
		t.Fatalf("got %v, want nil", err)
	}
	if !reflect.DeepEqual(&got.Job, want) {
		t.Errorf("got %+v, want %+v", got.Job, want)
	}
	if err := json.Unmarshal([]byte(`{"job":{"id":1}}`), &got); err == nil {
		t.Error("a bad job: got no error")
	}
}

func TestNotificationIsAJSONMarshaler(t *testing.T) {
	t.Parallel()
	want := everyField().Notification
	var got job.Notification
	if err := json.Unmarshal(must2(json.Marshal(want)), &got); err != nil {
		t.Fatalf("got %v, want nil", err)
	}
	if !reflect.DeepEqual(&got, want) {
		t.Errorf("got %+v, want %+v", got, *want)
	}
	err := got.UnmarshalJSON([]byte(`{"titel":"x","badge":"1"}`))
	if problems := problemsOf(t, err); !slices.Equal(problems, []string{"titel: unknown field, did you mean title?", "badge: must be a whole number, got a string"}) {
		t.Errorf("problems: got %q", problems)
	}
	if _, err := (&job.Notification{Attributes: []byte(`x`)}).MarshalJSON(); err == nil {
		t.Error("attributes that are no JSON: got no error")
	}
}

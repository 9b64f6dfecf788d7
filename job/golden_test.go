package job_test

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/pushfleet/pushfleet/device"
	"github.com/pushfleet/pushfleet/job"
)

// update writes the golden files that are missing. It never changes one: what
// was once written to a stream must stay readable.
var update = flag.Bool("update", false, "write missing golden files")

// goldenJobs are what the files testdata/jobs/<name>.json and, with device
// tokens, <name>.compact decode to. Rows are added, never changed.
func goldenJobs() map[string]*job.Job {
	tokens := job.Recipients{Tokens: []device.Token{
		must2(device.ParseToken(hex64)), device.TokenFromRaw("\x01"), device.TokenFromRaw(strings.Repeat("\x80\xff", 40)),
	}}
	users := job.Recipients{Users: []string{"u-1", "müller \"x\""}}
	alert := &job.Notification{Body: "b"}
	live := job.Notification{Event: job.EventUpdate, Timestamp: new(int64(1760000000)), ContentState: json.RawMessage(`{"score":"1:0"}`)}
	start, end := live, live
	start.Event, start.Title, start.Body, start.AttributesType, start.Attributes = job.EventStart, "t", "b", "Game", json.RawMessage(`{"id":7}`)
	start.InputPushToken, start.InputPushChannel, start.StaleDate = true, "dHN0", new(int64(1760003600))
	end.Event, end.DismissalDate, end.RelevanceScore = job.EventEnd, new(int64(0)), new(100.5)
	return map[string]*job.Job{
		"readme": {
			ID: "order-4711-shipped", To: tokens,
			Notification: &job.Notification{Title: "Shipped", Body: "Order 4711 is on its way", Badge: new(1), Sound: job.Sound{Name: "default"}, ThreadID: "orders"},
			Data:         json.RawMessage(`{"order":4711}`), PushType: job.PushAlert, Priority: 10, CollapseID: "order-4711",
			TTL: 4 * time.Hour, HasTTL: true, SendAfter: when(2026, 11, 24, 9),
		},
		"every-field":         everyField(),
		"smallest":            {To: tokens, Notification: &job.Notification{Badge: new(0)}},
		"users":               {To: users, Notification: alert},
		"installs":            {To: job.Recipients{Installs: []string{"i"}}, Notification: alert},
		"once":                {To: tokens, Notification: alert, HasTTL: true},
		"ttl":                 {To: users, Notification: alert, TTL: 90*time.Minute + 500*time.Millisecond, HasTTL: true},
		"background":          {To: users, Notification: &job.Notification{ContentAvailable: true}, Data: json.RawMessage(`{"n":1e400}`), Priority: 1},
		"live-start":          {To: tokens, Notification: &start},
		"live-update":         {To: tokens, Notification: &live, Priority: 5},
		"live-end":            {To: users, Notification: &end, PushType: job.PushLiveActivity},
		"payload":             {To: tokens, Payload: json.RawMessage(`{"aps":{"alert":"\u00e9\/","badge":1.0},"x":[]}`), CollapseID: "c"},
		"payload-mdm":         {To: tokens, Payload: json.RawMessage(`{"mdm":"magic"}`)},
		"voip":                {To: tokens, PushType: job.PushVoIP, Notification: &job.Notification{}, Data: json.RawMessage(`{"call":"c"}`)},
		"widgets":             {To: users, PushType: job.PushWidgets, Notification: &job.Notification{ContentChanged: true}},
		"controls":            {To: users, PushType: job.PushControls, Notification: &job.Notification{ContentChanged: true}},
		"location":            {To: users, PushType: job.PushLocation, Payload: json.RawMessage(`{}`)},
		"complication":        {To: users, PushType: job.PushComplication, Payload: json.RawMessage(`{"x":1}`)},
		"fileprovider":        {To: users, PushType: job.PushFileProvider, Payload: json.RawMessage(`{"container-identifier":"c","domain":"d"}`)},
		"pushtotalk":          {To: users, PushType: job.PushPushToTalk, Payload: json.RawMessage(`{"aps":{}}`), Priority: 10, HasTTL: true},
		"written-by-hand":     {ID: "h", To: job.Recipients{Tokens: tokens.Tokens[:1]}, Notification: &job.Notification{Title: "é/", Badge: new(10), MutableContent: true, Sound: job.Sound{Name: "s"}}, Data: json.RawMessage(`{"a":[1,2.0],"b":"\u0041"}`)},
		"written-in-old-ways": {To: job.Recipients{Users: []string{"u"}}, Notification: &job.Notification{Body: "x"}, TTL: 4 * time.Hour, HasTTL: true, ExpiresAt: time.Time{}},
	}
}

// goldenOutcomes are what the files testdata/outcomes/<name>.json decode to. Rows
// are added, never changed.
func goldenOutcomes() map[string]*job.Outcomes {
	at := time.UnixMilli(1760000000123).UTC()
	token := must2(device.ParseToken(hex64))
	return map[string]*job.Outcomes{
		"empty": {App: "shop"},
		"accepted": {App: "shop", Lane: job.Bulk, Worker: "w1", At: at, Jobs: []job.JobOutcome{{
			ID: "o-1", Sequence: 17, QueuedAt: at.Add(-time.Second), Attempt: 1, Environment: device.Production, Whole: true, Complete: true, Total: 3,
			Accepted: []device.Token{token, device.TokenFromRaw("\x01"), device.TokenFromRaw("\x02\x03")}, Fresh: []int{0, 2},
		}}},
		"mixed": {App: "shop", Worker: "w1", At: at, Jobs: []job.JobOutcome{
			{
				ID: "seq-18", Sequence: 18, QueuedAt: at, Attempt: 2, Environment: device.Sandbox, Accepted: []device.Token{token},
				Others: []job.Recipient{
					{DeviceToken: device.TokenFromRaw("\x01"), User: "u", Result: job.Rejected, Reason: "Unregistered", Status: 410, Timestamp: 1750000000000, Generation: 3, SentAt: at},
					{DeviceToken: device.TokenFromRaw("\x02"), Result: job.Unknown, Reason: "no answer", SentAt: at},
					{DeviceToken: device.TokenFromRaw("\x03"), Result: job.Suppressed, Reason: "removed 2026-01-02"},
					{User: "ü\"", Result: job.Skipped, Reason: "no devices"},
					{Install: "i", Result: job.Expired, Reason: "expired"},
				},
			},
			{ID: "o-2", Sequence: 19, Whole: true, Complete: true, Total: 1, Others: []job.Recipient{{Result: job.Duplicate, Reason: "used before"}}},
			{ID: "o-3", Sequence: 1<<53 - 1, Complete: true, Total: 1, Others: []job.Recipient{{DeviceToken: token, Result: job.Failed, Reason: "InternalServerError", Status: 500}}},
		}},
		"wrong-kind": {App: "shop", Jobs: []job.JobOutcome{{ID: "j", Sequence: 1, Others: []job.Recipient{
			{DeviceToken: token, Result: job.Rejected, Reason: "DeviceTokenNotForTopic", Status: 400, Generation: 1, WrongKind: true, SentAt: at},
		}}}},
		"known": {App: "shop", Jobs: []job.JobOutcome{{
			ID: "j", Sequence: 1, Environment: device.Production, Accepted: []device.Token{token, device.TokenFromRaw("\x01")}, Fresh: []int{1}, Known: 1,
			Others: []job.Recipient{{DeviceToken: device.TokenFromRaw("\x02"), Result: job.Rejected, Reason: "BadDeviceToken", Status: 400, Generation: 2, AcceptedBefore: true, SentAt: at}},
		}}},
		"redriven": {App: "shop", Jobs: []job.JobOutcome{{
			ID: "redrive-0011223344556677", Root: "order-1", Sequence: 21, Whole: true, Complete: true, Total: 1, Accepted: []device.Token{token},
		}}},
		"range": {App: "shop", Lane: job.Bulk, Worker: "w1", At: at, Jobs: []job.JobOutcome{
			{ID: "spring/0", Sequence: 22, Attempt: 1, Campaign: "spring", Devices: 1000, Whole: true, Complete: true, Total: 1, Accepted: []device.Token{token}},
			{ID: "spring/4711", Sequence: 23, Attempt: 2, Campaign: "spring", Range: 4711, Devices: 812, Others: []job.Recipient{{DeviceToken: token, Result: job.Skipped, Reason: "quiet hours"}}},
		}},
		"timed": {App: "shop", Worker: "w1", At: at, Jobs: []job.JobOutcome{{
			ID: "o-1", Sequence: 24, QueuedAt: at.Add(-time.Second), TakenAt: at.Add(-900 * time.Millisecond), SentAt: at.Add(-899 * time.Millisecond),
			Attempt: 1, Environment: device.Production, Whole: true, Complete: true, Total: 1, Accepted: []device.Token{token},
		}}},
		"newer-worker": {App: "shop", Lane: job.Bulk, Jobs: []job.JobOutcome{{ID: "j", Others: []job.Recipient{{Result: "postponed"}}}}},
	}
}

// golden reads a file, or writes it if it is missing and -update is given.
func golden(t *testing.T, path string, encode func() []byte) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if os.IsNotExist(err) && *update {
		data = encode()
		if err := os.WriteFile(path, data, 0o644); err != nil {
			t.Fatalf("write golden file: got %v", err)
		}
	} else if err != nil {
		t.Fatalf("got %v, want the file: go test ./job -run Golden -update adds it", err)
	}
	return data
}

func TestGoldenJobs(t *testing.T) {
	t.Parallel()
	names := map[string]bool{}
	for name, want := range goldenJobs() {
		encodings := map[string]func() ([]byte, error){".json": func() ([]byte, error) { return want.AppendJSON(nil) }}
		if len(want.To.Tokens) > 0 {
			encodings[".compact"] = func() ([]byte, error) { return job.AppendCompact(nil, want) }
		}
		for ext, encode := range encodings {
			names[name+ext] = true
			data := golden(t, filepath.Join("testdata", "jobs", name+ext), func() []byte { return must2(encode()) })
			got, err := job.Parse(data)
			if err != nil {
				t.Errorf("%s%s: got %v, want nil", name, ext, err)
			} else if !reflect.DeepEqual(got, want) {
				t.Errorf("%s%s:\ngot  %+v\nwant %+v", name, ext, got, want)
			}
		}
	}
	checkFiles(t, "jobs", names)
}

func TestGoldenOutcomes(t *testing.T) {
	t.Parallel()
	names := map[string]bool{}
	for name, want := range goldenOutcomes() {
		names[name+".json"] = true
		data := golden(t, filepath.Join("testdata", "outcomes", name+".json"), func() []byte { return want.AppendJSON(nil) })
		got, err := job.ParseOutcomes(data)
		if err != nil {
			t.Errorf("%s: got %v, want nil", name, err)
		} else if !reflect.DeepEqual(got, want) {
			t.Errorf("%s:\ngot  %+v\nwant %+v", name, got, want)
		}
	}
	checkFiles(t, "outcomes", names)
}

// checkFiles checks that no file lost its row.
func checkFiles(t *testing.T, dir string, names map[string]bool) {
	t.Helper()
	files, err := os.ReadDir(filepath.Join("testdata", dir))
	must(t, files, err)
	for _, f := range files {
		if !names[f.Name()] {
			t.Errorf("testdata/%s/%s: got a file without a row", dir, f.Name())
		}
	}
}

package api_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/pushfleet/pushfleet/api"
	"github.com/pushfleet/pushfleet/device"
	"github.com/pushfleet/pushfleet/internal/testenv"
	"github.com/pushfleet/pushfleet/job"
	"github.com/pushfleet/pushfleet/store"
	"github.com/pushfleet/pushfleet/stream"
)

var _ api.Fleet = (*stream.Streams)(nil)

// setupGorush is setup with the door for gorush. door, if not nil, changes it.
func setupGorush(t *testing.T, js *testenv.JetStream, door *api.Gorush) *fixture {
	t.Helper()
	if door == nil {
		door = &api.Gorush{App: "shop"}
	}
	return setup(t, func(c *api.Config) {
		c.Queue, c.Jobs, c.Fleet, c.Gorush = js.Streams, c.Keys.(*store.Store), js.Streams, door
		c.Apps = map[string]api.App{
			"shop":     {Environment: device.Production, BundleID: "com.example.shop"},
			"shop-dev": {Environment: device.Sandbox, BundleID: "com.example.shop"},
			"news":     {Environment: device.Production, BundleID: "com.example.news"},
		}
	})
}

func push(body string) request {
	return request{method: http.MethodPost, path: "/api/push", body: body}
}

// waiting returns the jobs in JOBS by app, each as what it holds for APNs, in their order.
func waiting(t *testing.T, js *testenv.JetStream) (jobs []*job.Job, subjects []string) {
	t.Helper()
	b, err := js.Backlog(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	total := uint64(0)
	for _, n := range b.Jobs {
		total += n
	}
	for seq := uint64(1); seq <= total; seq++ {
		msg := stored(t, js, seq)
		j, err := job.Parse(msg.Data)
		if err != nil {
			t.Fatal(err)
		}
		jobs, subjects = append(jobs, j), append(subjects, msg.Subject)
	}
	return jobs, subjects
}

// gorushExample is one of the examples of gorush's README, and what is to come of it.
type gorushExample struct {
	Name     string
	Request  json.RawMessage
	Counts   int
	Logs     int
	Payloads []json.RawMessage
	Refused  string
}

func gorushExamples(t *testing.T) (list []gorushExample) {
	t.Helper()
	text, err := os.ReadFile("testdata/gorush.json")
	if err == nil {
		err = json.Unmarshal(text, &list)
	}
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func same(a, b []byte) bool {
	var x, y any
	return json.Unmarshal(a, &x) == nil && json.Unmarshal(b, &y) == nil && reflect.DeepEqual(x, y)
}

func TestGorushExamples(t *testing.T) {
	t.Parallel()
	for _, tt := range gorushExamples(t) {
		js := testenv.NewJetStream(t)
		f := setupGorush(t, js, nil)
		// As it stands there, nothing in it is a device token.
		a := f.want(http.StatusBadRequest, push(string(tt.Request)))
		if p := into[api.GorushError](t, a); p.Code != 400 || !strings.HasPrefix(p.Message, "notifications[0].") {
			t.Errorf("%s: as it stands: got %+v, want 400 and why", tt.Name, p)
		}
		body := strings.NewReplacer("token_a", token(1), "token_b", token(2)).Replace(string(tt.Request))
		if tt.Refused != "" {
			if p := into[api.GorushError](t, f.want(http.StatusBadRequest, push(body))); p.Message != tt.Refused {
				t.Errorf("%s: got %q, want %q", tt.Name, p.Message, tt.Refused)
			}
			continue
		}
		got := into[api.GorushReply](t, f.want(http.StatusOK, push(body)))
		if got.Success != "ok" || got.Counts != tt.Counts || len(got.Logs) != tt.Logs {
			t.Errorf("%s: got %+v, want %d counts and %d logs", tt.Name, got, tt.Counts, tt.Logs)
		}
		jobs, _ := waiting(t, js)
		if len(jobs) != len(tt.Payloads) {
			t.Fatalf("%s: got %d jobs, want %d", tt.Name, len(jobs), len(tt.Payloads))
		}
		for i, j := range jobs {
			payload, err := j.RenderPayload()
			if err != nil || !same(payload, tt.Payloads[i]) {
				t.Errorf("%s: got %s, %v, want %s", tt.Name, payload, err, tt.Payloads[i])
			}
			if len(j.To.Tokens) != 2 || j.To.Tokens[0].Hex() != token(1) {
				t.Errorf("%s: got %d recipients, want both", tt.Name, len(j.To.Tokens))
			}
		}
	}
}

// Each member of a notification, and what it makes of a job.
func TestGorushMembers(t *testing.T) {
	t.Parallel()
	js := testenv.NewJetStream(t)
	f := setupGorush(t, js, nil)
	const hello = `"message":"Hello"`
	tests := []struct {
		name, members string
		payload       string
		app           string // shop if empty
		check         func(j *job.Job) bool
	}{
		{"title and message", `"title":"T",` + hello, `{"aps":{"alert":{"title":"T","body":"Hello"}}}`, "", nil},
		{"title alone", `"title":"T"`, `{"aps":{"alert":{"title":"T"}}}`, "", nil},
		{"the alert goes first", `"title":"T",` + hello + `,"alert":{"title":"A","body":"B","subtitle":"S"}`, `{"aps":{"alert":{"title":"A","subtitle":"S","body":"B"}}}`, "", nil},
		{"the message stays beside it", hello + `,"alert":{"subtitle":"S"}`, `{"aps":{"alert":{"subtitle":"S","body":"Hello"}}}`, "", nil},
		{
			"localized", `"alert":{"title-loc-key":"T","title-loc-args":["a"],"loc-key":"L","loc-args":["b","c"],"action":"A","launch-image":"i.png","summary-arg":"s","summary-arg-count":2}`,
			`{"aps":{"alert":{"title-loc-key":"T","title-loc-args":["a"],"loc-key":"L","loc-args":["b","c"],"action":"A","launch-image":"i.png","summary-arg":"s","summary-arg-count":2}}}`, "", nil,
		},
		{"badge 0", hello + `,"badge":0`, `{"aps":{"alert":"Hello","badge":0}}`, "", nil},
		{"negative badge", hello + `,"badge":-1`, `{"aps":{"alert":"Hello"}}`, "", nil},
		{"sound", hello + `,"sound":"ping.caf"`, `{"aps":{"alert":"Hello","sound":"ping.caf"}}`, "", nil},
		{"sound in part", hello + `,"sound":{"name":"x","volume":0.5}`, `{"aps":{"alert":"Hello","sound":{"name":"x","volume":0.5}}}`, "", nil},
		{"name", hello + `,"sound":"ping.caf","name":"alarm"`, `{"aps":{"alert":"Hello","sound":{"critical":1,"name":"alarm","volume":1}}}`, "", nil},
		{"volume", hello + `,"volume":0.25`, `{"aps":{"alert":"Hello","sound":{"critical":1,"name":"default","volume":0.25}}}`, "", nil},
		{
			"flags and words", hello + `,"mutable_content":true,"content_available":true,"category":"c","thread-id":"t","interruption_level":"time-sensitive","url-args":["a","b"]`,
			`{"aps":{"alert":"Hello","mutable-content":1,"content-available":1,"category":"c","thread-id":"t","interruption-level":"time-sensitive","url-args":["a","b"]}}`, "", nil,
		},
		{"silent", `"content_available":true,"data":{"a":{"b":[1.50]}}`, `{"aps":{"content-available":1},"a":{"b":[1.50]}}`, "", func(j *job.Job) bool {
			return j.EffectivePushType() == job.PushBackground && j.EffectivePriority() == 5
		}},
		{"normal", hello + `,"priority":"normal"`, `{"aps":{"alert":"Hello"}}`, "", func(j *job.Job) bool { return j.Priority == 5 }},
		{"high", hello + `,"priority":"high","data":{}`, `{"aps":{"alert":"Hello"}}`, "", func(j *job.Job) bool { return j.Priority == 10 }},
		{"expiration", hello + `,"expiration":1900000000`, `{"aps":{"alert":"Hello"}}`, "", func(j *job.Job) bool {
			return j.Expiration(time.Now()).Header() == 1900000000
		}},
		{"one attempt", hello + `,"expiration":0`, `{"aps":{"alert":"Hello"}}`, "", func(j *job.Job) bool { return j.Expiration(time.Now()).Header() == 0 }},
		{"collapse id", hello + `,"collapse_id":"c"`, `{"aps":{"alert":"Hello"}}`, "", func(j *job.Job) bool { return j.CollapseID == "c" }},
		{"notif id", hello + `,"notif_id":"n-1"`, `{"aps":{"alert":"Hello"}}`, "", func(j *job.Job) bool { return j.ID == "n-1" }},
		{"apns id", hello + `,"apns_id":"8E5B7A5C-3F0B-4C7D-9A54-0B6F8E9A1C11"`, `{"aps":{"alert":"Hello"}}`, "", func(j *job.Job) bool {
			return j.ID == "8e5b7a5c-3f0b-4c7d-9a54-0b6f8e9a1c11"
		}},
		{"one more", hello + `,"to":"` + token(3) + `"`, `{"aps":{"alert":"Hello"}}`, "", func(j *job.Job) bool { return len(j.To.Tokens) == 2 }},
		{"topic", hello + `,"topic":"com.example.news"`, `{"aps":{"alert":"Hello"}}`, "news", nil},
		{"topic with a suffix", `"data":{"call":1},"topic":"com.example.shop.voip"`, `{"aps":{},"call":1}`, "", func(j *job.Job) bool { return j.PushType == job.PushVoIP }},
		{"push type", `"data":{"call":1},"push_type":"voip"`, `{"aps":{},"call":1}`, "", func(j *job.Job) bool { return j.PushType == job.PushVoIP }},
		{"production", hello + `,"production":true,"development":false`, `{"aps":{"alert":"Hello"}}`, "", nil},
		{"development", hello + `,"development":true,"topic":"com.example.shop"`, `{"aps":{"alert":"Hello"}}`, "shop-dev", nil},
		{
			"Live Activity", `"event":"update","content-state":{"score":1},"timestamp":1800000000,"stale-date":1800000100,"dismissal-date":0,"topic":"com.example.shop.push-type.liveactivity"`,
			`{"aps":{"event":"update","timestamp":1800000000,"content-state":{"score":1},"stale-date":1800000100}}`, "", func(j *job.Job) bool { return j.PushType == job.PushLiveActivity },
		},
		{"what is not for iOS", hello + `,"image":"i","retry":3,"collapse_key":"k","time_to_live":9,"dry_run":false,"title":null,"sound":null`, `{"aps":{"alert":"Hello"}}`, "", nil},
	}
	for i, tt := range tests {
		got := into[api.GorushReply](t, f.want(http.StatusOK, push(`{"notifications":[{"tokens":["`+token(1)+`"],"platform":1,`+tt.members+`}]}`)))
		if got.Counts == 0 || len(got.Logs) != 0 {
			t.Errorf("%s: got %+v, want it taken", tt.name, got)
		}
		jobs, subjects := waiting(t, js)
		j, subject := jobs[len(jobs)-1], subjects[len(jobs)-1]
		if len(jobs) != i+1 {
			t.Fatalf("%s: got %d jobs, want %d", tt.name, len(jobs), i+1)
		}
		payload, err := j.RenderPayload()
		if err != nil || !same(payload, []byte(tt.payload)) {
			t.Errorf("%s: got %s, %v, want %s", tt.name, payload, err, tt.payload)
		}
		if want := "push.jobs." + orShop(tt.app) + ".transactional"; subject != want {
			t.Errorf("%s: got %s, want %s", tt.name, subject, want)
		}
		if tt.check != nil && !tt.check(j) {
			t.Errorf("%s: got %+v", tt.name, j)
		}
	}
}

func orShop(app string) string {
	if app == "" {
		return "shop"
	}
	return app
}

// Every mistake with its answer: of a request in which nothing else is, 400.
func TestGorushRefused(t *testing.T) {
	t.Parallel()
	js := testenv.NewJetStream(t)
	f := setupGorush(t, js, &api.Gorush{MaxNotifications: 2})
	one := `{"tokens":["` + token(1) + `"],"platform":1,"topic":"com.example.news","message":"m"}`
	with := func(members string) string {
		return `{"notifications":[{"tokens":["` + token(1) + `"],"platform":1,` + members + `}]}`
	}
	const news = `"topic":"com.example.news","message":"m"`
	for _, tt := range []struct{ name, body, want string }{
		{"nothing", `{}`, "Missing notifications field."},
		{"null", `{"notifications":null}`, "Missing notifications field."},
		{"none", `{"notifications":[]}`, "Notifications field is empty."},
		{"too many", `{"notifications":[` + one + `,` + one + `,` + one + `]}`, "Number of notifications(3) over limit(2)"},
		{"not JSON", `notifications`, "the body is not valid JSON"},
		{"no object", `[]`, "must be an object, got an array"},
		{"another member", `{"notifications":[` + one + `],"notification":1}`, "notification: unknown field, did you mean notifications?"},
		{"no platform", `{"notifications":[{"tokens":["` + token(1) + `"],"message":"m"}]}`, "notifications[0].platform: must be 1 (iOS)"},
		{"Huawei", `{"notifications":[{"tokens":["` + token(1) + `"],"platform":3,"message":"m"}]}`, "notifications[0].platform: must be 1 (iOS)"},
		{"no tokens", `{"notifications":[{"platform":1,` + news + `}]}`, "notifications[0].tokens: must not be empty"},
		{"no device token", `{"notifications":[{"tokens":["abc"],"platform":1,` + news + `}]}`, "notifications[0].tokens[0]: device token has an odd number of hex digits"},
		{"a number for text", with(news + `,"title":1`), "notifications[0].title: must be a string, got a number"},
		{"a number for a flag", with(news + `,"mutable_content":1`), "notifications[0].mutable_content: must be a boolean, got a number"},
		{"a fraction", with(news + `,"badge":1.5`), "notifications[0].badge: must be a whole number"},
		{"deep", with(news + `,"alert":{"bodi":"x"}`), "notifications[0].alert.bodi: unknown field, did you mean body?"},
		{"unknown member", with(news + `,"badgee":1`), "notifications[0].badgee: unknown field, did you mean badge?"},
		{"twice", with(news + `,"title":"a","title":"b"`), "notifications[0].title: is given twice"},
		{"unknown topic", with(`"topic":"com.example.other","message":"m"`), "notifications[0].topic: must be the bundle id of an app that the API key is for"},
		{"no topic", with(`"message":"m"`), "notifications[0].topic: is required: the API key is for several apps"},
		{"two apps", with(`"topic":"com.example.shop","message":"m"`), "notifications[0].topic: is that of several apps (shop, shop-dev)"},
		{"no such environment", with(news + `,"development":true`), "notifications[0].development: no app of this topic sends to sandbox"},
		{"both", with(news + `,"development":true,"production":true`), "notifications[0].development: must not stand beside production"},
		{"priority", with(news + `,"priority":"urgent"`), "notifications[0].priority: must be normal or high"},
		{"priority of background", with(`"topic":"com.example.news","content_available":true,"priority":"high"`), "notifications[0].priority: must not be 10 for background"},
		{"nothing to send", with(`"topic":"com.example.news"`), "notifications[0].push_type: is required"},
		{"push type", with(news + `,"push_type":"carrier-pigeon"`), "notifications[0].push_type: must be one of"},
		{"push type and topic", with(`"topic":"com.example.news.voip","push_type":"complication","message":"m"`), "notifications[0].topic: must be com.example.news.complication for complication"},
		{"apns id", with(news + `,"apns_id":"1"`), "notifications[0].apns_id: must be a UUID"},
		{"two ids", with(news + `,"notif_id":"a","apns_id":"8E5B7A5C-3F0B-4C7D-9A54-0B6F8E9A1C11"`), "notifications[0].apns_id: must not stand beside notif_id"},
		{"reserved id", with(news + `,"notif_id":"seq-1"`), "notifications[0].notif_id: must not be seq- and a number"},
		{"collapse id", with(news + `,"collapse_id":"` + strings.Repeat("c", 65) + `"`), "notifications[0].collapse_id: is 65 bytes long"},
		{"milliseconds", with(news + `,"expiration":1900000000000`), "notifications[0].expiration: must be Unix seconds"},
		{"dry run", with(news + `,"dry_run":true`), "notifications[0].dry_run: must be false"},
		{"aps in data", with(news + `,"data":{"aps":{}}`), "notifications[0]"},
		{"too large", with(`"topic":"com.example.news","message":"` + strings.Repeat("m", 4096) + `"`), "notifications[0]: renders to"},
		{"several mistakes", `{"notifications":[{"platform":1,"priority":"x"},{"platform":2}]}`, "notifications[0].tokens: must not be empty; notifications[0].priority: must be normal or high; notifications[1].platform: must be 1 (iOS): pushfleet sends to APNs alone"},
	} {
		a := f.want(http.StatusBadRequest, push(tt.body))
		if p := into[api.GorushError](t, a); p.Code != 400 || !strings.HasPrefix(p.Message, tt.want) {
			t.Errorf("%s: got %+v, want %q", tt.name, p, tt.want)
		}
	}
	if jobs, _ := waiting(t, js); len(jobs) != 0 {
		t.Errorf("got %d jobs, want none", len(jobs))
	}
}

// What is wrong with one notification, or device token, concerns that alone.
func TestGorushLogs(t *testing.T) {
	t.Parallel()
	js := testenv.NewJetStream(t)
	f := setupGorush(t, js, nil)
	body := `{"notifications":[
		{"notif_id":"a","tokens":["` + token(1) + `","nonsense","` + token(2) + `"],"platform":1,"message":"one"},
		{"notif_id":"b","tokens":["` + token(1) + `","xyz"],"platform":2,"message":"two"},
		{"notif_id":"a","tokens":["` + token(1) + `"],"platform":1,"message":"three"},
		{"tokens":[],"platform":1,"message":"` + strings.Repeat("4", 300) + `"}]}`
	got := into[api.GorushReply](t, f.want(http.StatusOK, push(body)))
	shown := token(1)[:6] + "…"
	const ios = "platform: must be 1 (iOS): pushfleet sends to APNs alone"
	want := api.GorushReply{Success: "ok", Counts: 2, Logs: []api.GorushLog{
		{ID: "a", Type: "failed-push", Platform: "ios", Message: "one", Error: "tokens[1]: device token holds something other than hex digits"},
		{ID: "b", Type: "failed-push", Platform: "android", Token: shown, Message: "two", Error: ios},
		{ID: "b", Type: "failed-push", Platform: "android", Message: "two", Error: ios},
		{ID: "a", Type: "failed-push", Platform: "ios", Token: shown, Message: "three", Error: "notif_id: is that of notifications[0] too: it names one notification"},
		{Type: "failed-push", Platform: "ios", Message: strings.Repeat("4", 256), Error: "tokens: must not be empty"},
	}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	// A request that is repeated is sent once, as it has ids.
	if again := into[api.GorushReply](t, f.want(http.StatusOK, push(body))); again.Counts != 2 {
		t.Errorf("again: got %+v, want the same", again)
	}
	if jobs, _ := waiting(t, js); len(jobs) != 1 {
		t.Errorf("got %d jobs, want 1", len(jobs))
	}
}

// More device tokens than a job may have are several jobs.
func TestGorushManyTokens(t *testing.T) {
	t.Parallel()
	js := testenv.NewJetStream(t)
	f := setupGorush(t, js, nil)
	var all []string
	for n := range 2500 {
		all = append(all, fmt.Sprintf(`"%064x"`, n+1))
	}
	body := `{"notifications":[{"notif_id":"n","tokens":[` + strings.Join(all, ",") + `],"platform":1,"message":"m"}]}`
	if got := into[api.GorushReply](t, f.want(http.StatusOK, request{method: http.MethodPost, path: "/api/push?lane=bulk", body: body})); got.Counts != 2500 {
		t.Errorf("got %+v, want 2500 counts", got)
	}
	jobs, subjects := waiting(t, js)
	var ids []string
	total := 0
	for _, j := range jobs {
		ids, total = append(ids, j.ID), total+len(j.To.Tokens)
	}
	if strings.Join(ids, " ") != "n n.2 n.3" || total != 2500 || subjects[2] != "push.jobs.shop.bulk" {
		t.Errorf("got %v with %d device tokens in %v, want three jobs of all in bulk", ids, total, subjects)
	}
	long := strings.Replace(body, `"n"`, `"`+strings.Repeat("n", 127)+`"`, 1)
	if p := into[api.GorushError](t, f.want(http.StatusBadRequest, push(long))); !strings.Contains(p.Message, "notif_id: must leave room") {
		t.Errorf("long id: got %+v, want it refused", p)
	}
}

// Who may, and as whom.
func TestGorushKeys(t *testing.T) {
	t.Parallel()
	js := testenv.NewJetStream(t)
	f := setupGorush(t, js, nil)
	one := func(more string) string {
		return `{"notifications":[{"tokens":["` + token(1) + `"],"platform":1,"message":"m"` + more + `}]}`
	}
	for _, tt := range []struct {
		name, key, body string
		status          int
		want            string
	}{
		{"none", "none", one(""), 401, "an API key is needed"},
		{"to read", f.keyFor("shop", api.ScopeRead, api.ScopeDevices, api.ScopeCampaigns), one(""), 403, "needs the scope send"},
		{"of the app", f.keyFor("shop", api.ScopeSend), one(`,"topic":"com.example.shop"`), 200, ""},
		{"of one app, which needs no topic", f.keyFor("shop", api.ScopeSend), one(""), 200, ""},
		{"of another app", f.keyFor("news", api.ScopeSend), one(`,"topic":"com.example.shop"`), 400, "topic: must be the bundle id of an app that the API key is for"},
		{"of another app than the default", f.keyFor("news", api.ScopeSend), one(""), 400, "topic: there is no such app that the API key is for"},
	} {
		r := push(tt.body)
		r.key = tt.key
		if a := f.want(tt.status, r); !strings.Contains(string(a.text), tt.want) {
			t.Errorf("%s: got %s, want %q", tt.name, a.text, tt.want)
		}
	}
	r := push(one(""))
	r.path, r.key = "/api/push?app=news", f.keyFor("news", api.ScopeSend)
	f.want(http.StatusOK, r)
	jobs, subjects := waiting(t, js)
	if len(jobs) != 3 || subjects[2] != "push.jobs.news.transactional" {
		t.Errorf("got %v, want the app of the URL at the end", subjects)
	}
}

// Callers that bring no key are those of the configured one, as long as it is good.
func TestGorushWithoutKeys(t *testing.T) {
	t.Parallel()
	js := testenv.NewJetStream(t)
	f := setup(t, nil)
	text, record, err := api.NewKey(api.KeyConfig{Scopes: []api.Scope{api.ScopeSend}, Apps: []string{"shop"}}, f.clock.now())
	if err != nil {
		t.Fatal(err)
	}
	if err := f.set.CreateAPIKey(t.Context(), record); err != nil {
		t.Fatal(err)
	}
	f.server.Close()
	f.start(func(c *api.Config) {
		c.Queue, c.Jobs, c.Fleet, c.Gorush = js.Streams, f.set, js.Streams, &api.Gorush{Key: text}
	})
	r := push(`{"notifications":[{"tokens":["` + token(1) + `"],"platform":1,"message":"m"}]}`)
	r.key = "none"
	f.want(http.StatusOK, r)
	// Nothing else is open.
	f.want(http.StatusUnauthorized, request{method: http.MethodPut, path: path("shop", 1), key: "none"})
	f.want(http.StatusUnauthorized, request{method: http.MethodPost, path: notifications, key: "none", body: `{}`})
	r.key = text[:len(text)-1] + "x"
	f.want(http.StatusUnauthorized, r) // a wrong one is not made good
	if ok, err := f.set.RevokeAPIKey(t.Context(), record.ID, f.clock.now()); err != nil || !ok {
		t.Fatal(ok, err)
	}
	f.clock.move(api.KeyAge)
	r.key = "none"
	f.want(http.StatusUnauthorized, r)
}

func TestGorushIsShut(t *testing.T) {
	t.Parallel()
	f := setupNotifications(t, testenv.NewJetStream(t), nil)
	f.want(http.StatusNotFound, push(`{"notifications":[]}`))
	f.want(http.StatusNotFound, request{method: http.MethodGet, path: "/api/stat/app"})
}

func TestGorushStatus(t *testing.T) {
	t.Parallel()
	js := testenv.NewJetStream(t)
	f := setupGorush(t, js, nil)
	f.want(http.StatusOK, push(`{"notifications":[{"tokens":["`+token(1)+`","`+token(2)+`"],"platform":1,"message":"m"}]}`))
	if err := f.set.CountTold(t.Context(), []store.Told{
		{App: "shop", Sequence: 1, At: f.clock.now(), Counts: store.Counts{Accepted: 7, Failed: 2}},
		{App: "news", Sequence: 2, At: f.clock.now(), Counts: store.Counts{Accepted: 100}},
		{App: "shop", Sequence: 3, At: f.clock.now(), Counts: store.Counts{Accepted: 3}},
	}); err != nil {
		t.Fatal(err)
	}
	ask := func(key string) api.GorushStatus {
		return into[api.GorushStatus](t, f.want(http.StatusOK, request{method: http.MethodGet, path: "/api/stat/app", key: key}))
	}
	got := ask(f.keyFor("shop", api.ScopeSend))
	if got.QueueMax < 1000 {
		t.Errorf("queue_max: got %d, want more than a thousand", got.QueueMax)
	}
	got.QueueMax = 0
	if want := (api.GorushStatus{Version: "dev", QueueUsage: 1, TotalCount: 2, IOS: api.GorushCounts{PushSuccess: 10, PushError: 2}}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if got := ask(""); got.IOS.PushSuccess != 110 {
		t.Errorf("of all apps: got %+v, want 110", got)
	}
	f.want(http.StatusForbidden, request{method: http.MethodGet, path: "/api/stat/app", key: f.keyFor("shop", api.ScopeDevices)})
}

func TestGorushQueueOutOfReach(t *testing.T) {
	t.Parallel()
	js := testenv.NewJetStream(t)
	f := setup(t, func(c *api.Config) {
		c.Queue, c.Jobs, c.Fleet, c.Gorush = broken{}, c.Keys.(*store.Store), js.Streams, &api.Gorush{App: "shop"}
	})
	a := f.want(http.StatusServiceUnavailable, push(`{"notifications":[{"tokens":["`+token(1)+`"],"platform":1,"message":"m"}]}`))
	if p := into[api.GorushError](t, a); p.Code != 503 || a.header.Get("Retry-After") == "" {
		t.Errorf("got %+v, Retry-After %q, want 503 and a time", p, a.header.Get("Retry-After"))
	}
}

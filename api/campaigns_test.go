package api_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/pushfleet/pushfleet/api"
	"github.com/pushfleet/pushfleet/campaign"
	"github.com/pushfleet/pushfleet/internal/embedded"
	"github.com/pushfleet/pushfleet/internal/testenv"
	"github.com/pushfleet/pushfleet/job"
	"github.com/pushfleet/pushfleet/store"
	"github.com/pushfleet/pushfleet/stream"
)

// setupCampaigns is setup with campaigns, on a real JetStream.
func setupCampaigns(t *testing.T) (*fixture, *testenv.JetStream) {
	t.Helper()
	js := testenv.NewJetStreamOf(t, embedded.NATSConfig{}, stream.Config{JobsBytes: 1 << 20, OutcomesBytes: 1 << 20, CampaignsBytes: 64 << 10})
	var f *fixture
	f = setup(t, func(c *api.Config) { c.Campaigns, c.Totals = js.Streams, totalsOf{&f} })
	return f, js
}

// totalsOf is a fixture's store, which is there before the fixture is.
type totalsOf struct{ f **fixture }

func (t totalsOf) CampaignTotals(ctx context.Context, app, id string, ranges int) (store.Totals, error) {
	return (*t.f).set.CampaignTotals(ctx, app, id, ranges)
}

const campaigns = "/v1/apps/shop/campaigns"

func spring(more string) string {
	return `{"id":"spring sale/2027","audience":{"all":true},"notification":{"body":"b"}` + more + `}`
}

const springPath = campaigns + "/spring%20sale%2F2027"

func TestCampaigns(t *testing.T) {
	t.Parallel()
	f, js := setupCampaigns(t)
	made := into[api.CreatedCampaign](t, f.want(200, request{method: "POST", path: campaigns, body: spring(`,"rate":70`)}))
	if !made.Created || made.State != "scheduled" || made.ID != "spring sale/2027" || made.App != "shop" || made.Rate != 70 || !made.CreatedAt.Equal(f.clock.now()) {
		t.Errorf("create: got %+v, want it scheduled", made)
	}
	again := into[api.CreatedCampaign](t, f.want(200, request{method: "POST", path: campaigns, body: " " + spring(`, "rate":70`)}))
	if again.Created || !reflect.DeepEqual(again.CampaignSummary, made.CampaignSummary) {
		t.Errorf("again: got %+v, want %+v, not created", again, made)
	}

	for _, step := range []struct {
		method, path, body, state string
		rate                      int
	}{
		{"POST", springPath + "/pause", "", "paused", 70},
		{"POST", springPath + "/pause", "", "paused", 70},
		{"PATCH", springPath, `{"rate":1e3}`, "paused", 1000},
		{"POST", springPath + "/resume", "", "scheduled", 1000},
		{"PATCH", springPath, `{"rate":0}`, "scheduled", 0},
		{"POST", springPath + "/cancel", "", "cancelled", 0},
		{"POST", springPath + "/cancel", "", "cancelled", 0},
	} {
		r := request{method: step.method, path: step.path}
		if step.body != "" {
			r.body = step.body
		}
		got := into[api.CampaignSummary](t, f.want(200, r))
		if got.State != step.state || got.Rate != step.rate {
			t.Errorf("%s %s: got %s, rate %d, want %s, %d", step.method, step.path, got.State, got.Rate, step.state, step.rate)
		}
	}

	// Other apps' campaigns are theirs.
	if _, _, err := js.CreateCampaign(t.Context(), campaign.Status{App: "news", ID: "n", State: campaign.Done, Definition: []byte("{}")}); err != nil {
		t.Fatal(err)
	}
	later := spring(`,"start_at":"2027-01-16T00:00:00Z"`)
	f.want(200, request{method: "POST", path: campaigns, body: strings.Replace(later, "spring sale/2027", "later", 1)})
	for query, want := range map[string]string{
		"": "later spring sale/2027 false", "?limit=1": "later true", "?state=cancelled": "spring sale/2027 false", "?state=done": " false", "?state=scheduled&limit=1": "later false",
	} {
		list := into[api.CampaignList](t, f.want(200, request{method: "GET", path: campaigns + query}))
		var ids []string
		for _, c := range list.Campaigns {
			ids = append(ids, c.ID)
		}
		if got := fmt.Sprint(strings.Join(ids, " "), " ", list.More); got != want {
			t.Errorf("list %s: got %s, want %s", query, got, want)
		}
	}
}

// A campaign can be deleted once it has ended and nothing of it is on its way.
func TestDeleteCampaign(t *testing.T) {
	t.Parallel()
	f, js := setupCampaigns(t)
	f.want(200, request{method: "POST", path: campaigns, body: spring("")})
	refused := func(when string) {
		t.Helper()
		if a := f.want(409, request{method: "DELETE", path: springPath}); !strings.Contains(string(a.text), "wrong_state") || !strings.Contains(string(a.text), "closed") {
			t.Errorf("%s: got %s, want what it takes", when, a.text)
		}
	}
	refused("scheduled")
	f.want(200, request{method: "POST", path: springPath + "/cancel"})
	refused("not closed")
	if _, err := js.ChangeCampaign(t.Context(), "shop", "spring sale/2027", func(st *campaign.Status) error {
		st.Closed = true
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	f.want(403, request{method: "DELETE", path: springPath, key: f.keyFor("shop", api.ScopeRead)})
	f.want(204, request{method: "DELETE", path: springPath})
	f.want(404, request{method: "DELETE", path: springPath})
	f.want(404, request{method: "GET", path: springPath})
	// A request that comes once more does not send all of it again.
	f.want(409, request{method: "POST", path: campaigns, body: spring("")})
}

// The counts are those of the store, ordered.
func TestCampaignCounts(t *testing.T) {
	t.Parallel()
	f, js := setupCampaigns(t)
	f.want(200, request{method: "POST", path: campaigns, body: spring("")})
	if _, err := js.ChangeCampaign(t.Context(), "shop", "spring sale/2027", func(st *campaign.Status) error {
		st.Ranges, st.Devices, st.Expanded = 300, 5000, true
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	settle := func(n int, labels ...string) {
		t.Helper()
		st := store.Settlement{
			Job: store.JobKey{App: "shop", Lane: job.Bulk, ID: fmt.Sprint("r", n), Campaign: "spring sale/2027", Range: n}, Sequence: uint64(n + 1),
			Whole: true, Complete: true, Total: len(labels), Devices: 10,
		}
		for i, label := range labels {
			result, _, _ := strings.Cut(label, ":")
			st.Hashes, st.Results, st.Labels = append(st.Hashes, uint64(i)), append(st.Results, job.Result(result)), append(st.Labels, label)
		}
		if _, err := f.set.Settle(t.Context(), []store.Settlement{st}); err != nil {
			t.Fatal(err)
		}
	}
	settle(0, "accepted", "accepted", "rejected:Unregistered", "skipped:quiet hours", "rejected:BadDeviceToken", "rejected:Unregistered")
	settle(299, "accepted", "expired", "skipped:control group", "skipped:quiet hours", "rejected:TooManyRequests")
	got := into[api.Campaign](t, f.want(200, request{method: "GET", path: springPath}))
	want := api.CampaignCounts{
		Ranges: 2, Devices: 20, Remaining: 4980, Matched: 11, Removed: 2, Quarantine: 1,
		Results: map[string]int64{"accepted": 3, "rejected": 4, "skipped": 3, "expired": 1},
		Reasons: []api.CampaignReason{
			{Result: "rejected", Reason: "Unregistered", Count: 2},
			{Result: "skipped", Reason: "quiet hours", Count: 2},
			{Result: "rejected", Reason: "BadDeviceToken", Count: 1},
			{Result: "rejected", Reason: "TooManyRequests", Count: 1},
			{Result: "skipped", Reason: "control group", Count: 1},
		},
	}
	if !reflect.DeepEqual(got.Counts, want) {
		t.Errorf("got  %+v\nwant %+v", got.Counts, want)
	}
	if _, err := campaign.Parse(got.Definition); err != nil || got.Ranges != 300 || !got.Expanded {
		t.Errorf("got %+v, definition %v, want the whole campaign", got, err)
	}
}

func TestCampaignMistakes(t *testing.T) {
	t.Parallel()
	f, js := setupCampaigns(t)
	f.want(200, request{method: "POST", path: campaigns, body: spring("")})
	if _, _, err := js.CreateCampaign(t.Context(), campaign.Status{App: "shop", ID: "over", State: campaign.Done, Definition: []byte("{}")}); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name   string
		r      request
		status int
		code   string
		text   string
	}{
		{"not JSON", request{method: "POST", path: campaigns, body: "{"}, 400, "malformed", "JSON"},
		{"invalid", request{method: "POST", path: campaigns, body: spring(`,"rate":0,"colour":"red"`)}, 422, "invalid", `"path":"rate"`},
		{"in the past", request{method: "POST", path: campaigns, body: strings.Replace(spring(`,"start_at":"2020-01-01T00:00:00Z"`), "spring", "old", 1)}, 422, "invalid", `"path":"start_at"`},
		{"of a file", request{method: "POST", path: campaigns, body: `{"id":"x","recipients":{},"notification":{"body":"b"}}`}, 422, "invalid", `"path":"recipients"`},
		{"of other content", request{method: "POST", path: campaigns, body: spring(`,"rate":9`)}, 409, "campaign_exists", "once"},
		{"too large", request{method: "POST", path: campaigns, body: strings.Repeat(" ", campaign.MaxBytes+1)}, 413, "body_too_large", ""},
		{"no such", request{method: "GET", path: campaigns + "/none"}, 404, "unknown_campaign", ""},
		{"pause of none", request{method: "POST", path: campaigns + "/none/pause"}, 404, "unknown_campaign", ""},
		{"resume of one that is over", request{method: "POST", path: campaigns + "/over/resume"}, 409, "wrong_state", ""},
		{"pace of one that is over", request{method: "PATCH", path: campaigns + "/over", body: `{"rate":7}`}, 409, "wrong_state", ""},
		{"cancel of one that is done", request{method: "POST", path: campaigns + "/over/cancel"}, 409, "wrong_state", ""},
		{"no rate", request{method: "PATCH", path: springPath, body: `{}`}, 422, "invalid", `"path":"rate"`},
		{"part of a rate", request{method: "PATCH", path: springPath, body: `{"rate":1.5}`}, 422, "invalid", "whole number"},
		{"below zero", request{method: "PATCH", path: springPath, body: `{"rate":-1}`}, 422, "invalid", "whole number"},
		{"above all", request{method: "PATCH", path: springPath, body: `{"rate":10000001}`}, 422, "invalid", "whole number"},
		{"another member", request{method: "PATCH", path: springPath, body: `{"rate":1,"state":"done"}`}, 422, "invalid", "state"},
		{"broken", request{method: "PATCH", path: springPath, body: `{`}, 400, "malformed", ""},
		{"limit", request{method: "GET", path: campaigns + "?limit=0"}, 422, "invalid", "{limit}"},
		{"state", request{method: "GET", path: campaigns + "?state=gone"}, 422, "invalid", "{state}"},
		{"to read only", request{method: "POST", path: springPath + "/pause", key: f.keyFor("shop", api.ScopeRead)}, 403, "missing_scope", "campaigns"},
		{"to send only", request{method: "GET", path: springPath, key: f.keyFor("shop", api.ScopeSend)}, 403, "missing_scope", ""},
		{"of another app", request{method: "GET", path: springPath, key: f.keyFor("news", api.ScopeAdmin)}, 403, "wrong_app", ""},
	} {
		a := f.send(tc.r)
		var p api.Problem
		if err := json.Unmarshal(a.text, &p); err != nil {
			t.Fatal(err)
		}
		if a.status != tc.status || p.Code != tc.code || !strings.Contains(string(a.text), tc.text) {
			t.Errorf("%s: got %d %s, want %d %s with %q", tc.name, a.status, a.text, tc.status, tc.code, tc.text)
		}
	}
	f.want(200, request{method: "GET", path: springPath, key: f.keyFor("shop", api.ScopeRead)})
	f.want(200, request{method: "POST", path: springPath + "/pause", key: f.keyFor("shop", api.ScopeCampaigns)})

	// Until there is no room.
	for n := 0; ; n++ {
		body := fmt.Sprintf(`{"id":"c%d","audience":{"all":true},"notification":{"body":%q}}`, n, strings.Repeat("b", 3000))
		a := f.send(request{method: "POST", path: campaigns, body: body})
		if a.status == http.StatusInsufficientStorage && strings.Contains(string(a.text), "no_room") {
			break
		}
		if a.status != 200 || n > 100 {
			t.Fatalf("campaign %d: got %d %s, want 507 at last", n, a.status, a.text)
		}
	}
}

// lost is a place of campaigns that cannot be reached.
type lost struct{}

var errLost = errors.New("lost")

func (lost) NewCampaign(context.Context, string, *campaign.Campaign, time.Time) (campaign.Status, bool, error) {
	return campaign.Status{}, false, errLost
}

func (lost) Campaign(context.Context, string, string) (campaign.Status, error) {
	return campaign.Status{}, errLost
}
func (lost) Campaigns(context.Context, string) ([]campaign.Status, error) { return nil, errLost }
func (lost) ChangeCampaign(context.Context, string, string, func(*campaign.Status) error) (campaign.Status, error) {
	return campaign.Status{}, errLost
}
func (lost) DeleteCampaign(context.Context, string, string) error { return errLost }

// Without the queue there are no campaigns, and devices all the same.
func TestCampaignsOutOfReach(t *testing.T) {
	t.Parallel()
	var f *fixture
	f = setup(t, func(c *api.Config) { c.Campaigns, c.Totals = lost{}, totalsOf{&f} })
	for _, r := range []request{
		{method: "POST", path: campaigns, body: spring("")},
		{method: "GET", path: campaigns},
		{method: "GET", path: springPath},
		{method: "POST", path: springPath + "/cancel"},
		{method: "PATCH", path: springPath, body: `{"rate":1}`},
		{method: "DELETE", path: springPath},
	} {
		a := f.want(503, r)
		if a.header.Get("Retry-After") == "" || !strings.Contains(string(a.text), "unavailable") {
			t.Errorf("%s %s: got %s, want it to be repeated", r.method, r.path, a.text)
		}
	}
	f.want(200, request{method: "PUT", path: path("shop", 1), body: "{}"})

	// Not configured at all, there is nothing there.
	without := setup(t, nil)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, without.server.URL+campaigns, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := without.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusNotFound {
		t.Errorf("without campaigns: got %d, want 404", resp.StatusCode)
	}
	if _, err := api.New(api.Config{Keys: f.set, Registrations: f.set, TokenSet: f.set, Campaigns: lost{}}); err == nil {
		t.Error("campaigns without totals: got no error")
	}
}

// The document has the schema of campaigns, as the command line prints it.
func TestCampaignSchema(t *testing.T) {
	t.Parallel()
	f, _ := setupCampaigns(t)
	doc := f.openAPI()
	c := jsonschema.NewCompiler()
	if err := c.AddResource("http://api/openapi.json", doc); err != nil {
		t.Fatal(err)
	}
	body := dict(dict(dict(dict(doc)["paths"])[strings.Replace(campaigns, "shop", "{app}", 1)])["post"])["requestBody"]
	if dict(body)["required"] != true {
		t.Errorf("the body: got %v, want it required", dict(body)["required"])
	}
	s, err := c.Compile("http://api/openapi.json#/paths/~1v1~1apps~1%7Bapp%7D~1campaigns/post/requestBody/content/application~1json/schema")
	if err != nil {
		t.Fatal(err)
	}
	for text, ok := range map[string]bool{spring(""): true, spring(`,"colour":"red"`): false, `{"id":"x"}`: false, spring(`,"rate":0`): false} {
		v, err := jsonschema.UnmarshalJSON(strings.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Validate(v); (err == nil) != ok {
			t.Errorf("%s: got %v, want it valid %t", text, err, ok)
		}
	}
}

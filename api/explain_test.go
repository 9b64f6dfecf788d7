package api_test

import (
	"context"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/pushfleet/pushfleet/api"
	"github.com/pushfleet/pushfleet/campaign"
	"github.com/pushfleet/pushfleet/device"
	"github.com/pushfleet/pushfleet/explain"
	"github.com/pushfleet/pushfleet/internal/testenv"
	"github.com/pushfleet/pushfleet/job"
	"github.com/pushfleet/pushfleet/store"
)

func setupExplain(t *testing.T) (*fixture, *testenv.JetStream) {
	t.Helper()
	js := testenv.NewJetStream(t)
	f := setup(t, func(c *api.Config) {
		c.Explainer = &explain.Explainer{Streams: js.Streams, Set: c.Keys.(*store.Store)}
		c.Now = time.Now // OUTCOMES is stored by the server's clock
	})
	return f, js
}

func (f *fixture) explain(query string) explain.Explanation {
	f.t.Helper()
	return into[explain.Explanation](f.t, f.want(200, request{method: "GET", path: "/v1/apps/shop/explain?" + query}))
}

func TestExplainJob(t *testing.T) {
	t.Parallel()
	f, js := setupExplain(t)
	f.put(path("shop", 1), api.Registration{User: "ada"})
	f.put(path("shop", 2), api.Registration{User: "ada"})
	raw := func(n int) device.Token {
		parsed, err := device.ParseToken(token(n))
		if err != nil {
			t.Fatal(err)
		}
		return parsed
	}
	jo := outcome("order", 17, raw(1))
	jo.Others = []job.Recipient{{DeviceToken: raw(2), Result: job.Rejected, Reason: "PayloadTooLarge", Status: 413}, {User: "bob", Result: job.Skipped, Reason: "no device"}}
	jo.Total = 3
	f.told(js, jo)

	x := f.explain("job=order&user=ada")
	if x.App != "shop" || x.Job != "order" || x.Lane != "transactional" || x.State != "complete" || len(x.Devices) != 2 || x.SearchedUntil != nil {
		t.Fatalf("got %+v, want the job complete, and two devices", x)
	}
	verdicts := map[string]string{}
	for _, d := range x.Devices {
		verdicts[d.Token] = d.Verdict
	}
	if want := map[string]string{raw(1).String(): "accepted", raw(2).String(): "rejected"}; !reflect.DeepEqual(verdicts, want) {
		t.Errorf("got %v, want %v, device tokens shortened", verdicts, want)
	}
	// The job that continues it after it was redriven is told too.
	again := outcome("redrive-1", 18, raw(2))
	again.Root = "order"
	f.told(js, again)
	x = f.explain("job=order&token=" + token(2))
	if d := x.Devices[0]; d.Token != token(2) || d.Verdict != "accepted" || len(d.Told) != 2 || d.Told[0].Reason != "PayloadTooLarge" || !strings.Contains(d.Text, "accepted by APNs") {
		t.Errorf("redriven: got %+v, want both outcomes of the device token that was given", x)
	}
	if x = f.explain("job=order&user=bob"); x.Devices[0].Verdict != "skipped" || x.Devices[0].User != "bob" {
		t.Errorf("bob: got %+v, want him skipped", x)
	}
	if x = f.explain("job=order&install=i&lane=bulk"); x.State != "unknown" || x.Devices[0].Verdict != explain.Nothing {
		t.Errorf("the other lane: got %+v, want nothing told", x)
	}
	theirs := into[explain.Explanation](t, f.want(200, request{method: "GET", path: "/v1/apps/news/explain?job=order&user=ada"}))
	if theirs.State != "unknown" || len(theirs.Devices) != 1 || theirs.Devices[0].Token != "" || theirs.Devices[0].Verdict != explain.Nothing {
		t.Errorf("the other app: got %+v, want nothing known", theirs)
	}
}

func TestExplainCampaign(t *testing.T) {
	t.Parallel()
	f, js := setupExplain(t)
	f.put(path("shop", 1), api.Registration{User: "ada", Tags: []string{"beta"}})
	f.put(path("shop", 2), api.Registration{User: "bob"})
	create := func(text string) {
		t.Helper()
		def, err := campaign.Parse([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := js.NewCampaign(t.Context(), "shop", def, time.Now()); err != nil {
			t.Fatal(err)
		}
	}
	create(`{"id":"spring","audience":{"tags":{"any":["beta"]}},"notification":{"title":"t"},"start_at":"2099-01-01T00:00:00Z"}`)
	create(`{"id":"weekly","audience":{"all":true},"notification":{"title":"t"},"recurrence":{"cron":"0 9 * * 1","timezone":"UTC"}}`)
	x := f.explain("campaign=spring&user=ada")
	if d := x.Devices[0]; x.State != "scheduled" || len(x.Devices) != 1 || d.Verdict != explain.Waiting || d.Until == nil || d.Until.Year() != 2099 {
		t.Errorf("ada: got %+v, want her device to wait for the start", x)
	}
	if d := f.explain("campaign=spring&user=bob").Devices[0]; d.Verdict != explain.Outside || !strings.Contains(d.Text, "tag") {
		t.Errorf("bob: got %+v, want him outside, for want of the tag", d)
	}
	if p := into[api.Problem](t, f.want(404, request{method: "GET", path: "/v1/apps/shop/explain?campaign=summer&user=ada"})); p.Code != "unknown_campaign" {
		t.Errorf("unknown: got %+v", p)
	}
	f.want(404, request{method: "GET", path: "/v1/apps/news/explain?campaign=spring&user=ada"})
	if p := into[api.Problem](t, f.want(409, request{method: "GET", path: "/v1/apps/shop/explain?campaign=weekly&user=ada"})); p.Code != "wrong_state" || !strings.Contains(p.Detail, "recurs") {
		t.Errorf("recurring: got %+v, want it refused, with why", p)
	}
}

type noExplainer struct{}

func (noExplainer) Explain(context.Context, *explain.Question) (*explain.Explanation, error) {
	return nil, errAway
}

func TestExplainRefused(t *testing.T) {
	t.Parallel()
	f := setup(t, func(c *api.Config) { c.Explainer = noExplainer{} })
	const which, who = ": must have exactly one of the parameters job, campaign", ": must have exactly one of the parameters user, install, token"
	for query, want := range map[string][]string{
		"":                                       {which, who},
		"job=a&campaign=b&user=ada":              {which},
		"job=a&user=ada&install=i":               {who},
		"job=a&token=xyz":                        {"{token}: device token has an odd number of hex digits"},
		"job=a&user=ada&lane=fast&since=soon":    {"{lane}: must be transactional or bulk", "{since}: must be a duration such as 36h or 7d"},
		"job=a&user=" + strings.Repeat("x", 257): {"{user}: must be at most 256 bytes, got 257"},
		"job=a&install=%ff":                      {"{install}: must be UTF-8"},
	} {
		p := into[api.Problem](t, f.want(422, request{method: "GET", path: "/v1/apps/shop/explain?" + query}))
		got := faultsOf(p.Errors)
		for i := range want {
			want[i] = strings.TrimPrefix(want[i], ": ")
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %q, want %q", query, got, want)
		}
	}
	if p := into[api.Problem](t, f.want(503, request{method: "GET", path: "/v1/apps/shop/explain?job=a&user=ada"})); p.Code != "unavailable" {
		t.Errorf("without JetStream: got %+v, want unavailable", p)
	}
}

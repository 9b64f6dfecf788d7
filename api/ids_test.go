package api_test

import (
	"net/http"
	"net/url"
	"testing"

	"github.com/pushfleet/pushfleet/api"
	"github.com/pushfleet/pushfleet/internal/testenv"
	"github.com/pushfleet/pushfleet/store"
)

// oddIDs may be the ids of jobs, campaigns and users, and mean something in a URL.
func oddIDs() []string {
	return []string{
		"//", "a/b", "a/../b", "/a", "a/", "...", ".a", "..a", "./", "batch", "pause", "%", "%2F", "%2e", "%zz", "?x=1", "#", "a b", "a+b", "a;b", "a:b", `\`, "*", "{id}", "ü/ö", "日本",
	}
}

// What may be an id can be asked for, and what can not is refused.
func TestIDsInURLs(t *testing.T) {
	t.Parallel()
	js := testenv.NewJetStream(t)
	f := setup(t, func(c *api.Config) {
		set := c.Keys.(*store.Store)
		c.Queue, c.Jobs, c.Campaigns, c.Totals = js.Streams, set, js.Streams, set
	})
	type object = map[string]any
	job := func(id string) object {
		return object{"id": id, "to": object{"users": []string{"u"}}, "notification": object{"body": "b"}}
	}
	made := func(id string) object {
		return object{"id": id, "audience": object{"all": true}, "notification": object{"body": "b"}}
	}
	for _, id := range oddIDs() {
		in := into[api.HandedIn](t, f.want(http.StatusAccepted, request{method: http.MethodPost, path: notifications, body: job(id)}))
		got := into[api.Notification](t, f.want(http.StatusOK, request{method: http.MethodGet, path: in.StatusURL}))
		if got.ID != id || got.State != "queued" {
			t.Errorf("job %q: got %q, %s, want it queued", id, got.ID, got.State)
		}

		f.want(http.StatusOK, request{method: http.MethodPost, path: campaigns, body: made(id)})
		at := campaigns + "/" + url.PathEscape(id)
		if got := into[api.Campaign](t, f.want(http.StatusOK, request{method: http.MethodGet, path: at})); got.ID != id {
			t.Errorf("campaign %q: got %q", id, got.ID)
		}
		if got := into[api.CampaignSummary](t, f.want(http.StatusOK, request{method: http.MethodPost, path: at + "/pause"})); got.ID != id || got.State != "paused" {
			t.Errorf("pause campaign %q: got %q, %s", id, got.ID, got.State)
		}
	}
	const nameless = `{"to":{"users":["u"]},"notification":{"body":"b"}}`
	for _, id := range []string{".", "..", "/"} {
		for _, r := range []request{
			{method: http.MethodPost, path: notifications, body: job(id)},
			{method: http.MethodPost, path: notifications, body: nameless, header: map[string]string{"Idempotency-Key": id}},
			{method: http.MethodPost, path: campaigns, body: made(id)},
		} {
			p := into[api.Problem](t, f.want(http.StatusUnprocessableEntity, r))
			if len(p.Errors) != 1 || p.Errors[0].Message != "must not be ., .. or /: no URL could name it" {
				t.Errorf("%s %s %s: got %+v, want the id refused", r.path, r.body, r.header, p.Errors)
			}
		}
	}
}

// A user's id is not ours to refuse: one that is a step in a path is answered for to
// those who escape it, and whose HTTP client leaves that as it is.
func TestUsersInURLs(t *testing.T) {
	t.Parallel()
	f := setup(t, nil)
	for n, id := range append(oddIDs(), ".", "..") {
		f.want(http.StatusOK, request{method: http.MethodPut, path: path("shop", n), body: map[string]any{"user": id}})
		at := url.PathEscape(id)
		switch id {
		case ".":
			at = "%2E"
		case "..":
			at = "%2E%2E"
		}
		got := into[api.Devices](t, f.want(http.StatusOK, request{method: http.MethodGet, path: "/v1/apps/shop/users/" + at + "/devices"}))
		if len(got.Devices) != 1 || got.Devices[0].User != id {
			t.Errorf("user %q: got %+v, want its device", id, got.Devices)
		}
	}
}

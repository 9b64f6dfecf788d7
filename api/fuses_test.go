package api_test

import (
	"context"
	"errors"
	"net/http"
	"reflect"
	"testing"
	"time"

	"github.com/pushfleet/pushfleet/api"
	"github.com/pushfleet/pushfleet/device"
	"github.com/pushfleet/pushfleet/feedback"
	"github.com/pushfleet/pushfleet/internal/testenv"
	"github.com/pushfleet/pushfleet/store"
	"github.com/pushfleet/pushfleet/stream"
)

// fuses resets fuses as the API process does.
type fuses struct {
	*stream.Streams
	set *store.Store
}

func (f fuses) ResetFuse(ctx context.Context, app string, env device.Environment, by string) (bool, error) {
	return feedback.NewFuse(feedback.FuseConfig{Streams: f.Streams, Store: f.set, Name: "api"}).Reset(ctx, app, env, by)
}

// Each key sees its own apps, and what it may do there.
func TestApps(t *testing.T) {
	t.Parallel()
	f := setup(t, func(c *api.Config) {
		c.Apps = map[string]api.App{
			"shop": {Environment: device.Production, BundleID: "com.example.shop"},
			"news": {Environment: device.Sandbox},
		}
	})
	shop := func(scopes ...string) api.OwnApp {
		return api.OwnApp{Name: "shop", BundleID: "com.example.shop", Environment: "production", Scopes: scopes}
	}
	for _, tt := range []struct {
		key  string
		want api.OwnApps
	}{
		{f.keyFor("shop", api.ScopeSend, api.ScopeRead), api.OwnApps{Apps: []api.OwnApp{shop("send", "read")}}},
		{f.keyFor("gone", api.ScopeDevices), api.OwnApps{Apps: []api.OwnApp{}}},
		{f.admin, api.OwnApps{AllApps: true, Apps: []api.OwnApp{{Name: "news", Environment: "sandbox", Scopes: []string{"admin"}}, shop("admin")}}},
	} {
		got := into[api.OwnApps](t, f.want(200, request{method: "GET", path: "/v1/apps", key: tt.key}))
		if !reflect.DeepEqual(got, tt.want) {
			t.Errorf("got %+v, want %+v", got, tt.want)
		}
	}
	f.want(401, request{method: "GET", path: "/v1/apps", key: "none"})
}

// A fuse that has tripped is shown to its app alone, and reset by who may.
func TestFuses(t *testing.T) {
	t.Parallel()
	js := testenv.NewJetStream(t)
	f := setup(t, func(c *api.Config) { c.Fuses = fuses{js.Streams, c.Keys.(*store.Store)} })
	const all, reset = "/v1/apps/shop/fuses", "/v1/apps/shop/fuses/sandbox/reset"
	list := func(path string) []api.Fuse {
		t.Helper()
		return into[api.FuseList](t, f.want(200, request{method: "GET", path: path})).Fuses
	}
	closed := api.Fuse{App: "shop", Environment: "production"}
	if got := list(all); !reflect.DeepEqual(got, []api.Fuse{closed}) {
		t.Errorf("before: got %+v, want the app's own, closed", got)
	}
	at := time.Date(2026, 11, 24, 9, 0, 0, 0, time.UTC)
	for _, app := range []string{"shop", "news"} {
		_, err := js.Streams.SetFuse(t.Context(), stream.Fuse{App: app, Environment: device.Sandbox, Tripped: true, TrippedAt: at, TrippedBy: "w1", Rejected: 260, Sent: 300})
		if err != nil {
			t.Fatal(err)
		}
	}
	tripped := api.Fuse{App: "shop", Environment: "sandbox", Tripped: true, TrippedAt: &at, TrippedBy: "w1", Rejected: 260, Sent: 300}
	if got := list(all); !reflect.DeepEqual(got, []api.Fuse{closed, tripped}) {
		t.Errorf("tripped: got %+v, want %+v beside the closed one", got, tripped)
	}

	f.want(403, request{method: "POST", path: reset, key: f.keyFor("shop", api.ScopeRead, api.ScopeSend, api.ScopeDevices, api.ScopeCampaigns)})
	p := into[api.Problem](t, f.want(422, request{method: "POST", path: "/v1/apps/shop/fuses/development/reset"}))
	if got := faultsOf(p.Errors); !reflect.DeepEqual(got, []string{"{environment}: must be production or sandbox"}) {
		t.Errorf("another environment: got %q", got)
	}
	key := f.keyFor("shop", api.ScopeAdmin)
	done := into[api.ResetFuse](t, f.want(200, request{method: "POST", path: reset, key: key}))
	if !done.Reset || done.Tripped || done.ResetAt == nil || done.ResetBy != "API key "+key[3:19] || !done.Undone {
		t.Errorf("reset: got %+v, want it closed by the key", done)
	}
	if e, err := js.Streams.Fuse(t.Context(), "shop", device.Sandbox); err != nil || e.Tripped {
		t.Errorf("entry: got %+v, %v, want it closed", e, err)
	}
	if again := into[api.ResetFuse](t, f.want(200, request{method: "POST", path: reset})); again.Reset || again.ResetBy != done.ResetBy {
		t.Errorf("again: got %+v, want nothing changed", again)
	}
	if got := list("/v1/apps/news/fuses"); len(got) != 1 || !got[0].Tripped {
		t.Errorf("the other app: got %+v, want it tripped still", got)
	}
}

// away is JetStream that cannot be reached.
type away struct{}

var errAway = errors.New("there is no connection to JetStream")

func (away) Fuses(context.Context) ([]stream.Fuse, error) { return nil, errAway }
func (away) Fuse(context.Context, string, device.Environment) (stream.Fuse, error) {
	return stream.Fuse{}, errAway
}

func (away) ResetFuse(context.Context, string, device.Environment, string) (bool, error) {
	return false, errAway
}

func TestFusesWithoutJetStream(t *testing.T) {
	t.Parallel()
	f := setup(t, func(c *api.Config) { c.Fuses = away{} })
	for method, path := range map[string]string{http.MethodGet: "/v1/apps/shop/fuses", http.MethodPost: "/v1/apps/shop/fuses/production/reset"} {
		a := f.want(503, request{method: method, path: path})
		if p := into[api.Problem](t, a); p.Code != "unavailable" || a.header.Get("Retry-After") == "" {
			t.Errorf("%s: got %+v, want unavailable, and when to come again", path, p)
		}
	}
}

package api_test

import (
	"net/http"
	"testing"

	"github.com/pushfleet/pushfleet/api"
	"github.com/pushfleet/pushfleet/device"
	"github.com/pushfleet/pushfleet/internal/testenv"
)

// apply changes the settings of the API.
func (f *fixture) apply(s api.Settings) {
	f.t.Helper()
	if err := f.door.Apply(s); err != nil {
		f.t.Fatal(err)
	}
}

// Apps come and go while the API serves, and another environment is in force at once.
func TestApplyApps(t *testing.T) {
	t.Parallel()
	f := setup(t, nil)
	early := f.keyFor("bank", api.ScopeDevices, api.ScopeRead) // before the app is there
	bank := request{method: http.MethodPut, path: path("bank", 1), key: early}
	shop := request{method: http.MethodPut, path: path("shop", 1)}
	f.want(http.StatusNotFound, bank)
	f.want(http.StatusOK, shop)

	f.apply(api.Settings{Apps: map[string]api.App{"bank": {Environment: device.Sandbox}}})
	f.want(http.StatusOK, bank)
	if p := into[api.Problem](t, f.want(http.StatusNotFound, shop)); p.Code != "unknown_app" {
		t.Errorf("a removed app: got %s, want unknown_app", p.Code)
	}
	bank.method = http.MethodGet
	if got := into[api.Device](t, f.want(http.StatusOK, bank)); got.Environment != "sandbox" {
		t.Errorf("environment: got %s, want sandbox", got.Environment)
	}
}

// A lower rate counts for keys that are known already.
func TestApplyRate(t *testing.T) {
	t.Parallel()
	f := setup(t, nil)
	apps := map[string]api.App{"shop": {Environment: device.Production}}
	r := request{method: http.MethodPut, path: path("shop", 1), key: f.keyFor("shop", api.ScopeDevices)}
	for range 20 {
		f.want(http.StatusOK, r)
	}
	f.apply(api.Settings{Apps: apps, RateLimit: 2})
	for range 2 {
		f.want(http.StatusOK, r)
	}
	f.want(http.StatusTooManyRequests, r)
	f.apply(api.Settings{Apps: apps})
	for range 20 {
		f.want(http.StatusOK, r)
	}
}

// The door for gorush takes another key, app and number.
func TestApplyGorush(t *testing.T) {
	t.Parallel()
	f := setupGorush(t, testenv.NewJetStream(t), nil)
	news := map[string]api.App{"news": {Environment: device.Production, BundleID: "com.example.news"}}
	r := push(`{"notifications":[{"tokens":["` + token(1) + `"],"platform":1,"message":"m"},{"tokens":["` + token(1) + `"],"platform":1,"message":"m"}]}`)
	r.key = "none"
	f.want(http.StatusUnauthorized, r)
	key := f.keyFor("news", api.ScopeSend)
	f.apply(api.Settings{Apps: news, Gorush: &api.Gorush{Key: key, App: "news"}})
	f.want(http.StatusOK, r)
	f.apply(api.Settings{Apps: news, Gorush: &api.Gorush{Key: key, App: "news", MaxNotifications: 1}})
	f.want(http.StatusBadRequest, r)
}

// Settings that cannot be used change nothing.
func TestApplyRefuses(t *testing.T) {
	t.Parallel()
	f := setup(t, nil)
	shop := map[string]api.App{"shop": {Environment: device.Production}}
	for name, s := range map[string]api.Settings{
		"no environment":    {Apps: map[string]api.App{"shop": {}}},
		"a negative rate":   {Apps: shop, RateLimit: -1},
		"gorush was closed": {Apps: shop, Gorush: &api.Gorush{App: "shop"}},
	} {
		if err := f.door.Apply(s); err == nil {
			t.Errorf("%s: got no error", name)
		}
	}
	f.want(http.StatusOK, request{method: http.MethodPut, path: path("news", 1)})
}

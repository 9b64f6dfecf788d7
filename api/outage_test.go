package api_test

import (
	"net/http"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/pushfleet/pushfleet/api"
	"github.com/pushfleet/pushfleet/internal/testenv"
	"github.com/pushfleet/pushfleet/store"
)

// While Redis is down or takes no writes every request is answered with 503,
// and what was answered with 200 is there afterwards.
func TestRedisDown(t *testing.T) {
	t.Parallel()
	server, ok := testenv.StartRedis(t)
	if !ok {
		t.Log("no redis-server here: nothing to stop")
		return
	}
	client := redis.NewClient(&redis.Options{Addr: server.Addr, MaxRetries: -1})
	t.Cleanup(func() { _ = client.Close() })
	f := &fixture{t: t, set: store.New(client, store.Config{}), clock: newClock()}
	f.start(nil)
	f.admin = f.key(api.KeyConfig{Scopes: []api.Scope{api.ScopeAdmin}, AllApps: true})
	all := []request{
		{method: http.MethodPut, path: path("shop", 1)},
		{method: http.MethodGet, path: path("shop", 1)},
		{method: http.MethodDelete, path: path("shop", 1)},
		{method: http.MethodGet, path: "/v1/apps/shop/users/ada/devices"},
		{method: http.MethodPost, path: "/v1/apps/shop/devices", body: `{"devices":[{"token":"aa"},{"token":"ab"}]}`},
	}
	refused := func(when string, r request) {
		t.Helper()
		a := f.want(http.StatusServiceUnavailable, r)
		if p := into[api.Problem](t, a); p.Code != "unavailable" || a.header.Get("Retry-After") == "" {
			t.Errorf("%s: got %+v, Retry-After %q, want unavailable and a time", when, p, a.header.Get("Retry-After"))
		}
	}
	f.want(http.StatusOK, all[0])

	if err := client.ConfigSet(t.Context(), "maxmemory", "1").Err(); err != nil {
		t.Fatal(err)
	}
	refused("out of memory", all[0])
	refused("out of memory", all[4])
	f.want(http.StatusOK, all[1]) // reading still works
	if err := client.ConfigSet(t.Context(), "maxmemory", "0").Err(); err != nil {
		t.Fatal(err)
	}
	f.want(http.StatusOK, all[0])

	server.Kill()
	for _, r := range all {
		refused("stopped", r)
	}
	if f.logs.Len() == 0 {
		t.Error("got no log line, want it said")
	}
}

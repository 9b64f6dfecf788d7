package api_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pushfleet/pushfleet/api"
	"github.com/pushfleet/pushfleet/store"
)

func TestNewKey(t *testing.T) {
	t.Parallel()
	at := time.UnixMilli(1_800_000_000_000)
	cfg := api.KeyConfig{Name: "backend", Scopes: []api.Scope{api.ScopeDevices}, Apps: []string{"shop"}}
	text, record, err := api.NewKey(cfg, at)
	if err != nil {
		t.Fatal(err)
	}
	prefix := "pf_" + record.ID + "_"
	secret, ok := strings.CutPrefix(text, prefix)
	if !ok || len(secret) != 52 || record.Hash != sha256.Sum256([]byte(secret)) {
		t.Errorf("got %s… and a hash of something else, want pf_<id>_<secret> and the secret's hash", text[:4])
	}
	if other, _, err := api.NewKey(cfg, at); err != nil || other == text {
		t.Errorf("a second key: got the same, %v, want another", err)
	}
	for name, cfg := range map[string]api.KeyConfig{
		"no scope":         {Apps: []string{"shop"}},
		"unknown scope":    {Scopes: []api.Scope{"root"}, Apps: []string{"shop"}},
		"no app":           {Scopes: []api.Scope{api.ScopeRead}},
		"all apps and one": {Scopes: []api.Scope{api.ScopeRead}, Apps: []string{"shop"}, AllApps: true},
		"long name":        {Scopes: []api.Scope{api.ScopeRead}, Apps: []string{"shop"}, Name: strings.Repeat("n", 101)},
	} {
		if text, _, err := api.NewKey(cfg, at); err == nil || text != "" {
			t.Errorf("%s: got %q, %v, want an error", name, text, err)
		}
	}
}

func TestRateLimit(t *testing.T) {
	t.Parallel()
	f := setup(t, func(cfg *api.Config) { cfg.RateLimit = 5 })
	one, other := f.keyFor("shop", api.ScopeDevices), f.keyFor("shop", api.ScopeDevices)
	r := request{method: http.MethodPut, path: path("shop", 1), key: one}
	for range 5 {
		f.want(http.StatusOK, r)
	}
	a := f.want(http.StatusTooManyRequests, r)
	if p := into[api.Problem](t, a); p.Code != "rate_limited" || a.header.Get("Retry-After") != "1" {
		t.Errorf("got %+v, Retry-After %q, want rate_limited and 1", p, a.header.Get("Retry-After"))
	}
	f.want(http.StatusOK, request{method: http.MethodPut, path: path("shop", 1), key: other}) // has a rate of its own
	f.clock.move(200 * time.Millisecond)
	f.want(http.StatusOK, r)
	f.want(http.StatusTooManyRequests, r)

	// A batch counts as many as it has devices, at the most a second's worth.
	f.clock.move(time.Second)
	batch := request{method: http.MethodPost, path: "/v1/apps/shop/devices", key: one, body: `{"devices":[{"token":"aa"},{"token":"ab"},{"token":"ac"}]}`}
	f.want(http.StatusOK, batch)
	f.want(http.StatusTooManyRequests, batch)
	f.clock.move(2 * time.Second)
	batch.body = `{"devices":[{"token":"aa"},{"token":"ab"},{"token":"ac"},{"token":"ad"},{"token":"ae"},{"token":"af"}]}`
	f.want(http.StatusOK, batch) // more than a second's worth: all that there is
	f.want(http.StatusTooManyRequests, batch)
	f.clock.move(2 * time.Second)

	// Requests that are refused for other reasons count too.
	other = f.keyFor("news", api.ScopeDevices)
	for range 5 {
		f.want(http.StatusForbidden, request{method: http.MethodPut, path: path("shop", 1), key: other})
	}
	f.want(http.StatusTooManyRequests, request{method: http.MethodPut, path: path("shop", 1), key: other})
}

func TestRevocation(t *testing.T) {
	t.Parallel()
	f := setup(t, nil)
	key := f.keyFor("shop", api.ScopeDevices)
	r := request{method: http.MethodPut, path: path("shop", 1), key: key}
	f.want(http.StatusOK, r)
	if ok, err := f.set.RevokeAPIKey(t.Context(), key[3:19], f.clock.now()); err != nil || !ok {
		t.Fatalf("RevokeAPIKey: %v, %v, want true", ok, err)
	}
	f.clock.move(api.KeyAge)
	f.want(http.StatusUnauthorized, r)

	// An id that nobody knew may be made later.
	text, record, err := api.NewKey(api.KeyConfig{Scopes: []api.Scope{api.ScopeDevices}, AllApps: true}, f.clock.now())
	if err != nil {
		t.Fatal(err)
	}
	r.key = text
	f.want(http.StatusUnauthorized, r)
	if err := f.set.CreateAPIKey(t.Context(), record); err != nil {
		t.Fatal(err)
	}
	f.clock.move(api.KeyAge)
	f.want(http.StatusOK, r)
}

// Keys are not read at every request, and a key is good for a while, but no
// longer than KeyAge, when they cannot be read.
func TestKeysAreRemembered(t *testing.T) {
	t.Parallel()
	var reads atomic.Int64
	var down atomic.Bool
	f := setup(t, func(cfg *api.Config) {
		keys := cfg.Keys
		cfg.Keys = keysFunc(func(ctx context.Context, id string) (store.APIKey, bool, error) {
			reads.Add(1)
			if down.Load() {
				return store.APIKey{}, false, errors.New("redis: connection refused")
			}
			return keys.APIKey(ctx, id)
		})
	})
	r := request{method: http.MethodPut, path: path("shop", 1)}
	unknown := request{method: http.MethodPut, path: path("shop", 1), key: "pf_aaaaaaaaaaaaaaaa" + f.admin[19:]}
	for range 50 {
		f.want(http.StatusOK, r)
		f.want(http.StatusUnauthorized, unknown)
	}
	if got := reads.Load(); got != 2 {
		t.Errorf("got %d reads, want one for each key", got)
	}
	down.Store(true)
	f.clock.move(api.KeyAge - time.Millisecond)
	f.want(http.StatusOK, r)
	a := f.want(http.StatusServiceUnavailable, unknown)
	if a.header.Get("Retry-After") == "" {
		t.Error("got no Retry-After, want one")
	}
	f.clock.move(time.Millisecond)
	start := time.Now()
	const failing = 200
	for range failing {
		f.want(http.StatusServiceUnavailable, r)
	}
	if got, most := f.logs.Len(), 3+int(time.Since(start).Seconds()); got == 0 || got > most {
		t.Errorf("got %d log lines for %d requests, want it said, and at most once a second (%d)", got, failing, most)
	}
	down.Store(false)
	f.want(http.StatusOK, r)
}

package api_test

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/pushfleet/pushfleet/api"
	"github.com/pushfleet/pushfleet/store"
)

func setupKeys(t *testing.T) (*fixture, *observer.ObservedLogs) {
	t.Helper()
	core, lines := observer.New(zap.InfoLevel)
	return setup(t, func(c *api.Config) { c.KeyStore, c.Audit = c.Keys.(*store.Store), zap.New(core) }), lines
}

// A key is made over HTTP, shown once, works, is listed, and is worthless when revoked.
func TestKeysOverHTTP(t *testing.T) {
	t.Parallel()
	f, audit := setupKeys(t)
	made := f.want(201, request{method: "POST", path: "/v1/keys", body: `{"name":"shop backend","scopes":["devices","read"],"apps":["shop"]}`})
	key := into[api.CreatedKey](t, made)
	want := api.APIKey{ID: key.ID, Name: "shop backend", Scopes: []string{"devices", "read"}, Apps: []string{"shop"}, CreatedAt: f.clock.now().UTC()}
	if !reflect.DeepEqual(key.APIKey, want) || !strings.HasPrefix(key.Key, "pf_"+key.ID+"_") {
		t.Errorf("made: got %+v, want %+v and the key", key, want)
	}
	secret := key.Key[len("pf_"+key.ID+"_"):]
	f.want(404, request{method: "GET", path: path("shop", 1), key: key.Key})
	f.want(403, request{method: "GET", path: path("news", 1), key: key.Key})

	list := f.want(200, request{method: "GET", path: "/v1/keys"})
	keys := into[api.APIKeyList](t, list).Keys
	if len(keys) != 2 || !reflect.DeepEqual(keys[0], want) && !reflect.DeepEqual(keys[1], want) || strings.Contains(string(list.text), secret) {
		t.Errorf("list: got %s, want the admin's and this one, without its secret", list.text)
	}
	whole := into[api.CreatedKey](t, f.want(201, request{method: "POST", path: "/v1/keys", body: `{"scopes":["admin"],"all_apps":true}`}))
	f.want(200, request{method: "GET", path: "/v1/keys", key: whole.Key})

	f.want(204, request{method: "DELETE", path: "/v1/keys/" + key.ID})
	f.clock.move(api.KeyAge)
	f.want(401, request{method: "GET", path: path("shop", 1), key: key.Key})
	f.want(204, request{method: "DELETE", path: "/v1/keys/" + key.ID})
	for _, k := range into[api.APIKeyList](t, f.want(200, request{method: "GET", path: "/v1/keys"})).Keys {
		if (k.RevokedAt != nil) != (k.ID == key.ID) {
			t.Errorf("revoked: got %+v, want %s alone revoked", k, key.ID)
		}
	}

	// What the log has of it, and of who gives a whole key for its id.
	f.want(422, request{method: "DELETE", path: "/v1/keys/" + whole.Key})
	f.want(403, request{method: "DELETE", path: "/v1/keys/" + whole.Key, key: f.keyFor("shop", api.ScopeAdmin)})
	var got []string
	for _, e := range audit.All() {
		m := e.ContextMap()
		got = append(got, fmt.Sprint(e.Message, " ", m["object"], " ", m["result"]))
		if text := fmt.Sprint(m); strings.Contains(text, secret) || strings.Contains(text, whole.Key) {
			t.Errorf("audit log: got a secret in %s", text)
		}
	}
	wantLines := []string{
		"key.create " + key.ID + " done", "key.create " + whole.ID + " done", "key.revoke " + key.ID + " done", "key.revoke " + key.ID + " done",
		"key.revoke " + whole.ID + " invalid", "key.revoke " + whole.ID + " wrong_app",
	}
	if !reflect.DeepEqual(got, wantLines) {
		t.Errorf("audit log: got %q, want %q", got, wantLines)
	}
	if m := audit.All()[0].ContextMap(); m["name"] != "shop backend" || fmt.Sprint(m["scopes"], m["apps"], m["all_apps"]) != "[devices read] [shop] false" {
		t.Errorf("audit log: got %v, want what the key is good for", m)
	}
}

func TestKeysRefused(t *testing.T) {
	t.Parallel()
	f, _ := setupKeys(t)
	for _, tt := range []struct {
		r      request
		status int
		code   string
		errors []string
	}{
		{request{method: "POST", path: "/v1/keys", body: `{`}, 400, "malformed", nil},
		{request{method: "POST", path: "/v1/keys", body: `{}`}, 422, "invalid", []string{"scopes: is required"}},
		{request{method: "POST", path: "/v1/keys", body: `{"scopes":[],"name":"` + strings.Repeat("n", 101) + `"}`}, 422, "invalid", []string{"name: must be at most 100 bytes, got 101"}},
		{request{method: "POST", path: "/v1/keys", body: `{"scopes":["root"],"apps":["shop","nosuch"],"all_apps":true}`}, 422, "invalid", []string{
			"apps: must be named, or be all, and not both", "scopes[0]: must be one of [send devices campaigns read admin]", "apps[1]: no app with this name is configured",
		}},
		{request{method: "POST", path: "/v1/keys", body: `{"scopes":["read"]}`}, 422, "invalid", []string{"apps: must be named, or be all, and not both"}},
		{request{method: "POST", path: "/v1/keys", body: `{"scopes":["read","read","read","read","read","read"],"all_apps":true}`}, 422, "invalid", []string{"scopes: must be at most 5, got 6"}},
		{request{method: "DELETE", path: "/v1/keys/nosuch"}, 404, "unknown_key", nil},
	} {
		p := into[api.Problem](t, f.want(tt.status, tt.r))
		if got := faultsOf(p.Errors); p.Code != tt.code || !reflect.DeepEqual(got, tt.errors) {
			t.Errorf("%s %.60v: got %s %q, want %s %q", tt.r.method, tt.r.body, p.Code, got, tt.code, tt.errors)
		}
	}
	if keys := into[api.APIKeyList](t, f.want(200, request{method: "GET", path: "/v1/keys"})).Keys; len(keys) != 1 {
		t.Errorf("got %d keys, want the admin's alone", len(keys))
	}
}

// One that cannot be read does not hide the others.
func TestDamagedKeyIsTold(t *testing.T) {
	t.Parallel()
	f, _ := setupKeys(t)
	names, err := f.redis.Keys(t.Context(), "*apikeys*").Result()
	if err != nil || len(names) != 1 {
		t.Fatalf("the hash of API keys: got %q, %v", names, err)
	}
	if err := f.redis.HSet(t.Context(), names[0], "broken", "{").Err(); err != nil {
		t.Fatal(err)
	}
	got := into[api.APIKeyList](t, f.want(200, request{method: "GET", path: "/v1/keys"}))
	if len(got.Keys) != 1 || len(got.Problems) != 1 || !strings.Contains(got.Problems[0], "broken") {
		t.Errorf("got %+v, want the admin's key, and a word about the other", got)
	}
}

// down is a Redis that answers nothing.
type down struct{}

var errDown = errors.New("connection refused")

func (down) CreateAPIKey(context.Context, store.APIKey) error              { return errDown }
func (down) APIKeys(context.Context) ([]store.APIKey, error)               { return nil, errDown }
func (down) RevokeAPIKey(context.Context, string, time.Time) (bool, error) { return false, errDown }

func TestKeysWithoutRedis(t *testing.T) {
	t.Parallel()
	f := setup(t, func(c *api.Config) { c.KeyStore = down{} })
	for _, r := range []request{
		{method: "GET", path: "/v1/keys"},
		{method: "DELETE", path: "/v1/keys/x"},
		{method: "POST", path: "/v1/keys", body: `{"scopes":["read"],"all_apps":true}`},
	} {
		if p := into[api.Problem](t, f.want(503, r)); p.Code != "unavailable" {
			t.Errorf("%s: got %+v, want unavailable", r.method, p)
		}
	}
}

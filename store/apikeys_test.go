package store_test

import (
	"crypto/sha256"
	"errors"
	"reflect"
	"testing"
	"time"

	"github.com/pushfleet/pushfleet/store"
)

func TestAPIKeys(t *testing.T) {
	onBoth(t, func(t *testing.T, f *fixture) {
		ctx := t.Context()
		made := time.UnixMilli(1_800_000_000_123)
		first := store.APIKey{
			ID: "aaaa", Name: "backend", Hash: sha256.Sum256([]byte("one")),
			Scopes: []string{"devices", "read"}, Apps: []string{app}, CreatedAt: made,
		}
		second := store.APIKey{ID: "0000", Hash: sha256.Sum256([]byte("two")), Scopes: []string{"admin"}, AllApps: true, CreatedAt: made.Add(time.Second)}
		for _, k := range []store.APIKey{second, first} {
			if err := f.CreateAPIKey(ctx, k); err != nil {
				t.Fatalf("CreateAPIKey %s: %v", k.ID, err)
			}
		}
		if err := f.CreateAPIKey(ctx, first); !errors.Is(err, store.ErrAPIKeyExists) {
			t.Errorf("creating it again: got %v, want %v", err, store.ErrAPIKeyExists)
		}
		if err := f.CreateAPIKey(ctx, store.APIKey{ID: "bbbb"}); err == nil {
			t.Error("a key without a hash: got no error, want one")
		}
		if got, ok, err := f.APIKey(ctx, "aaaa"); err != nil || !ok || !reflect.DeepEqual(got, first) {
			t.Errorf("APIKey: got %+v, %v, %v, want %+v", got, ok, err, first)
		}
		if got, ok, err := f.APIKey(ctx, "cccc"); err != nil || ok {
			t.Errorf("unknown API key: got %+v, %v, %v, want none", got, ok, err)
		}
		if got, err := f.APIKeys(ctx); err != nil || !reflect.DeepEqual(got, []store.APIKey{first, second}) {
			t.Errorf("APIKeys: got %+v, %v, want both, the oldest first", got, err)
		}

		at := made.Add(time.Hour)
		if ok, err := f.RevokeAPIKey(ctx, "aaaa", at); err != nil || !ok {
			t.Fatalf("RevokeAPIKey: got %v, %v, want true", ok, err)
		}
		if ok, err := f.RevokeAPIKey(ctx, "aaaa", at.Add(time.Hour)); err != nil || !ok {
			t.Errorf("revoking it again: got %v, %v, want true", ok, err)
		}
		if ok, err := f.RevokeAPIKey(ctx, "cccc", at); err != nil || ok {
			t.Errorf("revoking an unknown one: got %v, %v, want false", ok, err)
		}
		first.RevokedAt = at
		if got, _, err := f.APIKey(ctx, "aaaa"); err != nil || !got.Revoked() || !reflect.DeepEqual(got, first) {
			t.Errorf("revoked API key: got %+v, %v, want %+v", got, err, first)
		}
	})
}

func TestAPIKeyOfAnotherVersion(t *testing.T) {
	onBoth(t, func(t *testing.T, f *fixture) {
		ctx := t.Context()
		for id, text := range map[string]string{
			"newer":   `{"v":2,"sha256":"` + "LCa0a2j/xo/5m0U8HTBBNBNCLXBkg7+g+YpeiGJm564=" + `","scopes":["read"],"all_apps":true}`,
			"short":   `{"v":1,"sha256":"LCa0","scopes":["read"],"all_apps":true}`,
			"damaged": `{"v":1,`,
		} {
			if err := f.client.HSet(ctx, "pf:apikeys", id, text).Err(); err != nil {
				t.Fatal(err)
			}
			if got, ok, err := f.APIKey(ctx, id); err == nil || ok {
				t.Errorf("%s: got %+v, %v, %v, want an error", id, got, ok, err)
			}
		}
		good := store.APIKey{ID: "good", Hash: sha256.Sum256([]byte("x")), Scopes: []string{"read"}, CreatedAt: time.UnixMilli(1)}
		if err := f.CreateAPIKey(ctx, good); err != nil {
			t.Fatal(err)
		}
		got, err := f.APIKeys(ctx)
		if err == nil || len(got) != 1 || got[0].ID != "good" {
			t.Errorf("APIKeys: got %+v, %v, want the good one and an error about the others", got, err)
		}
	})
}

package api_test

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/pushfleet/pushfleet/api"
	"github.com/pushfleet/pushfleet/device"
	"github.com/pushfleet/pushfleet/store"
)

// FuzzBodies reads any body as a device and as a batch: it is taken or refused,
// and what is taken is a JSON object without unknown members.
func FuzzBodies(f *testing.F) {
	for _, seed := range []string{
		``, `{}`, `[]`, `null`, `{"user":"ada","tags":["a",""],"attributes":{"a":"b","a":1}}`,
		`{"devices":[{"token":"aa","kind":"voip"},{"token":"a"},7]}`, `{"devices":[]} x`, `{"user":"\ud800"}`,
		`{"timezone":"Europe/Vienna","environment":"sandbox","previous_token":"AB"}`,
	} {
		f.Add([]byte(seed))
	}
	key, record, err := api.NewKey(api.KeyConfig{Scopes: []api.Scope{api.ScopeDevices}, AllApps: true}, time.Now())
	if err != nil {
		f.Fatal(err)
	}
	door, err := api.New(api.Config{
		Keys:          keysFunc(func(context.Context, string) (store.APIKey, bool, error) { return record, true, nil }),
		Registrations: instantly{}, TokenSet: instantly{}, Apps: map[string]api.App{"shop": {Environment: device.Production}},
	})
	if err != nil {
		f.Fatal(err)
	}
	defer door.Close()
	f.Fuzz(func(t *testing.T, body []byte) {
		for method, path := range map[string]string{http.MethodPut: path("shop", 1), http.MethodPost: "/v1/apps/shop/devices"} {
			w := httptest.NewRecorder()
			r := httptest.NewRequestWithContext(t.Context(), method, path, bytes.NewReader(body))
			r.Header.Set("Authorization", "Bearer "+key)
			door.ServeHTTP(w, r)
			switch w.Code {
			case http.StatusOK:
				var v map[string]any
				if err := json.Unmarshal(body, &v); err != nil && len(body) > 0 {
					t.Errorf("%s: took what is not JSON: %v", method, err)
				}
			case http.StatusBadRequest, http.StatusUnprocessableEntity, http.StatusRequestEntityTooLarge:
				var p api.Problem
				if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil || p.Status != w.Code || p.Detail == "" {
					t.Errorf("%s: got %d %s, want a problem document", method, w.Code, w.Body)
				}
			default:
				t.Errorf("%s: got %d %s, want it taken or refused", method, w.Code, w.Body)
			}
		}
	})
}

package api_test

import (
	"bytes"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/pushfleet/pushfleet/api"
)

// TestRefused has every mistake with its answer.
func TestRefused(t *testing.T) {
	t.Parallel()
	f := setup(t, nil)
	const put, get, post, del = http.MethodPut, http.MethodGet, http.MethodPost, http.MethodDelete
	const batch, single = "/v1/apps/shop/devices", "/v1/apps/shop/devices/"
	ok := single + token(1)
	tests := []struct {
		name   string
		r      request
		status int
		code   string
		errors []string
	}{
		// The URL.
		{"unknown app", request{method: put, path: path("nosuch", 1)}, 404, "unknown_app", nil},
		{"odd hex", request{method: put, path: single + "abc"}, 422, "invalid", []string{"{token}: device token has an odd number of hex digits"}},
		{"not hex", request{method: get, path: single + strings.Repeat("zz", 32)}, 422, "invalid", []string{"{token}: device token holds something other than hex digits"}},
		{"300 bytes", request{method: put, path: single + strings.Repeat("ab", 300)}, 422, "invalid", []string{"{token}: device token is longer than 256 bytes"}},
		{"300 bytes, removed", request{method: del, path: single + strings.Repeat("ab", 300)}, 422, "invalid", []string{"{token}: device token is longer than 256 bytes"}},
		{"long user", request{method: get, path: "/v1/apps/shop/users/" + strings.Repeat("u", 257) + "/devices"}, 422, "invalid", []string{"{user}: must be at most 256 bytes, got 257"}},
		{"user not UTF-8", request{method: get, path: "/v1/apps/shop/users/%ff/devices"}, 422, "invalid", []string{"{user}: must be UTF-8"}},
		{"no such path", request{method: get, path: "/v1/apps/shop/gadgets"}, 404, "no_route", nil},
		{"no token", request{method: put, path: single}, 404, "no_route", nil},
		{"wrong method", request{method: post, path: ok}, 405, "method_not_allowed", nil},
		{"wrong method of a batch", request{method: put, path: batch}, 405, "method_not_allowed", nil},

		// The key.
		{"no key", request{method: put, path: ok, key: "none"}, 401, "unauthorized", nil},
		{"another scheme", request{method: put, path: ok, header: map[string]string{"Authorization": "Basic dXNlcjpwYXNz"}}, 401, "unauthorized", nil},
		{"no key at all", request{method: put, path: ok, key: "pf_"}, 401, "unauthorized", nil},
		{"damaged key", request{method: put, path: ok, key: f.admin[:len(f.admin)-1]}, 401, "unauthorized", nil},
		{"unknown key", request{method: put, path: ok, key: "pf_aaaaaaaaaaaaaaaa" + f.admin[19:]}, 401, "unauthorized", nil},
		{"wrong secret", request{method: put, path: ok, key: f.admin[:20] + strings.Repeat("a", len(f.admin)-20)}, 401, "unauthorized", nil},
		{"key of another app", request{method: put, path: ok, key: f.keyFor("news", api.ScopeAdmin)}, 403, "wrong_app", nil},
		{"key of another app, and an unknown one", request{method: put, path: path("nosuch", 1), key: f.keyFor("news", api.ScopeAdmin)}, 403, "wrong_app", nil},
		{"scope to read only", request{method: put, path: ok, key: f.keyFor("shop", api.ScopeRead)}, 403, "missing_scope", nil},
		{"scope to read only, batch", request{method: post, path: batch, key: f.keyFor("shop", api.ScopeRead)}, 403, "missing_scope", nil},
		{"scope to send only", request{method: get, path: ok, key: f.keyFor("shop", api.ScopeSend, api.ScopeCampaigns)}, 403, "missing_scope", nil},

		// The body.
		{"10 MB", request{method: put, path: ok, body: bytes.NewReader(make([]byte, 10<<20))}, 413, "body_too_large", nil},
		{"10 MB of unsaid length", request{method: put, path: ok, body: unsized{bytes.NewReader(make([]byte, 10<<20))}}, 413, "body_too_large", nil},
		{"10 MB batch", request{method: post, path: batch, body: bytes.NewReader(make([]byte, 10<<20))}, 413, "body_too_large", nil},
		{"zipped", request{method: put, path: ok, body: "{}", header: map[string]string{"Content-Encoding": "gzip"}}, 415, "unsupported_encoding", nil},
		{"not JSON", request{method: put, path: ok, body: "user=ada"}, 400, "malformed", nil},
		{"half a JSON", request{method: put, path: ok, body: `{"user": "ada"`}, 400, "malformed", nil},
		{"two JSONs", request{method: put, path: ok, body: `{} {}`}, 400, "malformed", nil},
		{"not UTF-8", request{method: put, path: ok, body: "{\"user\": \"\xff\"}"}, 400, "malformed", nil},
		{"deep", request{method: put, path: ok, body: `{"x":` + strings.Repeat("[", 20_000)}, 400, "malformed", nil},
		{"an array", request{method: put, path: ok, body: "[]"}, 422, "invalid", []string{"must be an object, got an array"}},
		{"unknown member", request{method: put, path: ok, body: `{"User": "ada", "` + token(2) + `": {"a": 1}}`}, 422, "invalid", []string{"User: unknown field, did you mean user?", "has a member that is not known (its name is not printed)"}},
		{"given twice", request{method: put, path: ok, body: `{"user": "a", "user": "b"}`}, 422, "invalid", []string{"user: is given twice"}},
		{"null", request{method: put, path: ok, body: `{"user": null}`}, 422, "invalid", []string{"user: must be a string, got null: leave it out instead"}},
		{"unknown time zone", request{method: put, path: ok, body: `{"timezone": "Europe/Atlantis"}`}, 422, "invalid", []string{"timezone: must be a time zone of the IANA database, such as Europe/Vienna"}},
		{"a file for a time zone", request{method: put, path: ok, body: `{"timezone": "../../etc/passwd"}`}, 422, "invalid", []string{"timezone: must be a time zone of the IANA database, such as Europe/Vienna"}},
		{"this machine's time zone", request{method: put, path: ok, body: `{"timezone": "Local"}`}, 422, "invalid", []string{"timezone: must be a time zone of the IANA database, such as Europe/Vienna"}},
		{"wrong environment", request{method: put, path: ok, body: `{"environment": "development"}`}, 422, "invalid", []string{"environment: must be production or sandbox"}},
		{"empty environment", request{method: put, path: ok, body: `{"environment": ""}`}, 422, "invalid", []string{"environment: must be production or sandbox"}},
		{"unknown kind", request{method: put, path: ok, body: `{"kind": "fax"}`}, 422, "invalid", []string{"kind: must be one of alert, voip, liveactivity, liveactivity_start, widget, control, location, complication, fileprovider, pushtotalk, mdm"}},
		{"previous token in base64", request{method: put, path: ok, body: `{"previous_token": "AKH_-w=="}`}, 422, "invalid", []string{"previous_token: device token holds something other than hex digits"}},
		{"empty previous token", request{method: put, path: ok, body: `{"previous_token": ""}`}, 422, "invalid", []string{"previous_token: device token is empty"}},
		{"tag too long", request{method: put, path: ok, body: `{"tags": ["a", "` + strings.Repeat("t", 129) + `"]}`}, 422, "invalid", []string{"tags[1]: must be at most 128 bytes, got 129"}},
		{"too many tags", request{method: put, path: ok, body: `{"tags": ["a"` + strings.Repeat(`,"a"`, 100) + `]}`}, 422, "invalid", []string{"tags: must be at most 100, got 101"}},
		{"attributes", request{method: put, path: ok, body: `{"attributes": {"a": "1", "": "2", "b": 3, "a": "4", "` + strings.Repeat("n", 129) + `": "5", "c": "` + strings.Repeat("v", 513) + `"}}`}, 422, "invalid", []string{
			"attributes.*: must not have an empty name", "attributes.b: must be a string, got a number", "attributes.a: is given twice",
			"attributes.*: its name must be at most 128 bytes, got 129", "attributes.c: must be at most 512 bytes, got 513",
		}},
		{"everything at once", request{
			method: put, path: single + "abc",
			body: `{"user": "` + strings.Repeat("u", 257) + `", "install_id": 1, "locale": {}, "timezone": [1], "app_version": true, "tags": "a", "attributes": []}`,
		}, 422, "invalid", []string{
			"user: must be at most 256 bytes, got 257", "install_id: must be a string, got a number", "locale: must be a string, got an object",
			"timezone: must be a string, got an array", "app_version: must be a string, got a boolean", "tags: must be an array, got a string",
			"attributes: must be an object, got an array", "{token}: device token has an odd number of hex digits",
		}},
		{"batch without devices", request{method: post, path: batch, body: `{}`}, 422, "invalid", []string{"devices: is required"}},
		{"empty batch", request{method: post, path: batch, body: `{"devices": []}`}, 422, "invalid", []string{"devices: must not be empty"}},
		{"batch without a body", request{method: post, path: batch}, 400, "malformed", nil},
		{"batch of another shape", request{method: post, path: batch, body: `{"devices": {"token": "aa"}}`}, 422, "invalid", []string{"devices: must be an array, got an object"}},
		{"broken batch", request{method: post, path: batch, body: `{"devices": [{"token": "aa"}, {"token": ]}`}, 400, "malformed", nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := into[api.Problem](t, f.want(tt.status, tt.r))
			got := faultsOf(p.Errors)
			if p.Code != tt.code || !reflect.DeepEqual(got, tt.errors) {
				t.Errorf("got %s %q, want %s %q", p.Code, got, tt.code, tt.errors)
			}
		})
	}
	// None of that did anything.
	f.want(http.StatusNotFound, request{method: get, path: ok})
}

// unsized hides the length of a body.
type unsized struct{ r *bytes.Reader }

func (u unsized) Read(p []byte) (int, error) { return u.r.Read(p) }

func TestHeadersOfProblems(t *testing.T) {
	t.Parallel()
	f := setup(t, nil)
	a := f.want(http.StatusUnauthorized, request{method: http.MethodPut, path: path("shop", 1), key: "none"})
	if got := a.header.Get("WWW-Authenticate"); !strings.HasPrefix(got, "Bearer") {
		t.Errorf("WWW-Authenticate: got %q, want Bearer", got)
	}
	a = f.want(http.StatusMethodNotAllowed, request{method: http.MethodPatch, path: path("shop", 1)})
	if got := a.header.Get("Allow"); got != "GET, PUT, DELETE" {
		t.Errorf("Allow: got %q, want GET, PUT, DELETE", got)
	}
	mine := map[string]string{"X-Request-Id": "abc-1.2_3"}
	if got := f.send(request{method: http.MethodGet, path: path("shop", 1), header: mine}).header.Get("X-Request-Id"); got != "abc-1.2_3" {
		t.Errorf("X-Request-Id: got %q, want the caller's own", got)
	}
	mine["X-Request-Id"] = "a b\tc"
	if got := f.send(request{method: http.MethodGet, path: path("shop", 1), header: mine}).header.Get("X-Request-Id"); strings.ContainsAny(got, " \t") {
		t.Errorf("X-Request-Id: got %q, want a new one", got)
	}
}

// What a scope and an app allow.
func TestScopes(t *testing.T) {
	t.Parallel()
	f := setup(t, nil)
	for _, tt := range []struct {
		scope       api.Scope
		read, write bool
	}{
		{api.ScopeSend, false, false},
		{api.ScopeCampaigns, false, false},
		{api.ScopeRead, true, false},
		{api.ScopeDevices, true, true},
		{api.ScopeAdmin, true, true},
	} {
		key := f.keyFor("shop", tt.scope)
		for _, r := range []struct {
			request
			allowed bool
			ok      []int
		}{
			{request{method: http.MethodGet, path: path("shop", 1)}, tt.read, []int{200, 404}},
			{request{method: http.MethodGet, path: "/v1/apps/shop/users/ada/devices"}, tt.read, []int{200}},
			{request{method: http.MethodPut, path: path("shop", 1)}, tt.write, []int{200}},
			{request{method: http.MethodPost, path: "/v1/apps/shop/devices", body: `{"devices":[{"token":"aa"}]}`}, tt.write, []int{200}},
			{request{method: http.MethodDelete, path: path("shop", 1)}, tt.write, []int{204}},
		} {
			r.key = key
			want := []int{http.StatusForbidden}
			if r.allowed {
				want = r.ok
			}
			if got := f.send(r.request).status; !slices.Contains(want, got) {
				t.Errorf("scope %s: %s %s: got %d, want one of %v", tt.scope, r.method, r.path, got, want)
			}
		}
	}
	two := f.key(api.KeyConfig{Scopes: []api.Scope{api.ScopeDevices}, Apps: []string{"shop", "news"}})
	f.want(http.StatusOK, request{method: http.MethodPut, path: path("shop", 1), key: two})
	f.want(http.StatusOK, request{method: http.MethodPut, path: path("news", 1), key: two})
}

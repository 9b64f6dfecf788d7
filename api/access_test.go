package api_test

import (
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/pushfleet/pushfleet/api"
	"github.com/pushfleet/pushfleet/internal/testenv"
)

// access is, for every route, which scopes may and what the audit log calls it. A new
// route has no place until it stands here.
var access = map[string]struct {
	scopes []api.Scope
	audit  string // empty: it reads, or is what callers do all day
}{
	"PUT /v1/apps/{app}/devices/{token}":        {[]api.Scope{api.ScopeDevices}, ""},
	"GET /v1/apps/{app}/devices/{token}":        {[]api.Scope{api.ScopeDevices, api.ScopeRead}, ""},
	"DELETE /v1/apps/{app}/devices/{token}":     {[]api.Scope{api.ScopeDevices}, ""},
	"POST /v1/apps/{app}/devices":               {[]api.Scope{api.ScopeDevices}, ""},
	"GET /v1/apps/{app}/users/{user}/devices":   {[]api.Scope{api.ScopeDevices, api.ScopeRead}, ""},
	"POST /v1/apps/{app}/notifications":         {[]api.Scope{api.ScopeSend}, ""},
	"POST /v1/apps/{app}/notifications/batch":   {[]api.Scope{api.ScopeSend}, ""},
	"GET /v1/apps/{app}/notifications/{id}":     {[]api.Scope{api.ScopeRead}, ""},
	"POST /v1/apps/{app}/campaigns":             {[]api.Scope{api.ScopeCampaigns}, "campaign.create"},
	"GET /v1/apps/{app}/campaigns":              {[]api.Scope{api.ScopeCampaigns, api.ScopeRead}, ""},
	"GET /v1/apps/{app}/campaigns/{id}":         {[]api.Scope{api.ScopeCampaigns, api.ScopeRead}, ""},
	"PATCH /v1/apps/{app}/campaigns/{id}":       {[]api.Scope{api.ScopeCampaigns}, "campaign.pace"},
	"DELETE /v1/apps/{app}/campaigns/{id}":      {[]api.Scope{api.ScopeCampaigns}, "campaign.delete"},
	"POST /v1/apps/{app}/campaigns/{id}/pause":  {[]api.Scope{api.ScopeCampaigns}, "campaign.pause"},
	"POST /v1/apps/{app}/campaigns/{id}/resume": {[]api.Scope{api.ScopeCampaigns}, "campaign.resume"},
	"POST /v1/apps/{app}/campaigns/{id}/cancel": {[]api.Scope{api.ScopeCampaigns}, "campaign.cancel"},
	"GET /v1/apps":                                  {[]api.Scope{api.ScopeSend, api.ScopeDevices, api.ScopeCampaigns, api.ScopeRead}, ""},
	"GET /v1/apps/{app}/fuses":                      {[]api.Scope{api.ScopeRead}, ""},
	"POST /v1/apps/{app}/fuses/{environment}/reset": {[]api.Scope{api.ScopeAdmin}, "fuse.reset"},
	"GET /v1/apps/{app}/dead-letters":               {[]api.Scope{api.ScopeRead}, ""},
	"GET /v1/apps/{app}/dead-letters/{sequence}":    {[]api.Scope{api.ScopeRead}, ""},
	"POST /v1/apps/{app}/dead-letters/redrive":      {[]api.Scope{api.ScopeAdmin}, "dead-letter.redrive"},
	"POST /v1/apps/{app}/dead-letters/purge":        {[]api.Scope{api.ScopeAdmin}, "dead-letter.purge"},
	"GET /v1/apps/{app}/explain":                    {[]api.Scope{api.ScopeRead}, ""},
	"GET /v1/keys":                                  {[]api.Scope{api.ScopeAdmin}, ""},
	"POST /v1/keys":                                 {[]api.Scope{api.ScopeAdmin}, "key.create"},
	"DELETE /v1/keys/{id}":                          {[]api.Scope{api.ScopeAdmin}, "key.revoke"},
	"POST /api/push":                                {[]api.Scope{api.ScopeSend}, ""},
	"GET /api/stat/app":                             {[]api.Scope{api.ScopeSend, api.ScopeRead}, ""},
}

// setupAccess is an API with all routes that there are, and its audit log.
func setupAccess(t *testing.T) (*fixture, *observer.ObservedLogs) {
	t.Helper()
	js := testenv.NewJetStream(t)
	core, lines := observer.New(zap.InfoLevel)
	f := setup(t, func(c *api.Config) {
		everyRoute(c, js)
		c.Audit = zap.New(core)
	})
	return f, lines
}

func TestScopesOfRoutes(t *testing.T) {
	t.Parallel()
	f, _ := setupAccess(t)
	var routes []string
	for path, item := range dict(dict(f.openAPI())["paths"]) {
		for method := range dict(item) {
			routes = append(routes, strings.ToUpper(method)+" "+path)
		}
	}
	routes = slices.DeleteFunc(routes, func(r string) bool { return r == "GET /openapi.json" })
	slices.Sort(routes)
	if want := slices.Sorted(maps.Keys(access)); !slices.Equal(routes, want) {
		t.Fatalf("routes: got %q, want each in the table: %q", routes, want)
	}
	keys, whole := make(map[api.Scope]string), make(map[api.Scope]string)
	for _, scope := range api.Scopes() {
		keys[scope] = f.keyFor("shop", scope)
		whole[scope] = f.key(api.KeyConfig{Scopes: []api.Scope{scope}, AllApps: true})
	}
	foreign := f.keyFor("news", api.ScopeAdmin)
	for _, name := range routes {
		method, path, _ := strings.Cut(name, " ")
		r := request{method: method, path: strings.NewReplacer("{app}", "shop", "{token}", token(1), "{user}", "ada", "{id}", "spring", "{environment}", "production", "{sequence}", "1").Replace(path)}
		if method != http.MethodGet && method != http.MethodDelete {
			r.body = "{"
		}
		of := keys
		if strings.HasPrefix(path, "/v1/keys") { // no key for one app may, whatever its scope
			for _, key := range keys {
				r.key = key
				f.want(http.StatusForbidden, r)
			}
			of = whole
		}
		for scope, key := range of {
			r.key = key
			a := f.send(r)
			may := scope == api.ScopeAdmin || slices.Contains(access[name].scopes, scope)
			if a.status == http.StatusUnauthorized || (a.status == http.StatusForbidden) == may {
				t.Errorf("%s with the scope %s: got %d %s, want it to be allowed: %t", name, scope, a.status, a.text, may)
			}
		}
		r.key = "none"
		f.want(http.StatusUnauthorized, r)
		if strings.Contains(path, "{app}") {
			r.key = foreign
			f.want(http.StatusForbidden, r)
		}
	}
}

// Who changes something leaves one line: done or not, and of nothing that was read.
func TestAudit(t *testing.T) {
	t.Parallel()
	f, lines := setupAccess(t)
	key := f.keyFor("shop", api.ScopeCampaigns, api.ScopeDevices, api.ScopeSend, api.ScopeRead)
	reader := f.keyFor("shop", api.ScopeRead)
	const all = "/v1/apps/shop/campaigns"
	def := `{"id":"spring","audience":{"all":true},"notification":{"title":"t"},"start_at":"2100-01-01T00:00:00Z"}`
	for _, tt := range []struct {
		r                    request
		what, object, result string
		status               int
	}{
		{request{method: http.MethodPost, path: all, body: def}, "campaign.create", "spring", "done", 200},
		{request{method: http.MethodPost, path: all, body: `{"id":"spring"}`}, "campaign.create", "", "invalid", 422},
		{request{method: http.MethodPost, path: all + "/spring/pause"}, "campaign.pause", "spring", "done", 200},
		{request{method: http.MethodPost, path: all + "/spring/resume", key: reader}, "campaign.resume", "spring", "missing_scope", 403},
		{request{method: http.MethodPost, path: all + "/spring/resume"}, "campaign.resume", "spring", "done", 200},
		{request{method: http.MethodPatch, path: all + "/spring", body: `{"rate":5}`}, "campaign.pace", "spring", "done", 200},
		{request{method: http.MethodPost, path: all + "/spring/cancel"}, "campaign.cancel", "spring", "done", 200},
		{request{method: http.MethodPost, path: all + "/spring/resume"}, "campaign.resume", "spring", "wrong_state", 409},
		{request{method: http.MethodPost, path: all + "/" + strings.Repeat("x", 300) + "/cancel"}, "campaign.cancel", strings.Repeat("x", 128), "unknown_campaign", 404},
		{request{method: http.MethodPost, path: all + "/spring/cancel", key: "none"}, "", "", "", 401},
		{request{method: http.MethodGet, path: all}, "", "", "", 200},
		{request{method: http.MethodPut, path: path("shop", 1)}, "", "", "", 200},
		{request{method: http.MethodDelete, path: path("shop", 1)}, "", "", "", 204},
	} {
		if tt.r.key == "" {
			tt.r.key = key
		}
		a := f.want(tt.status, tt.r)
		got := lines.TakeAll()
		if tt.what == "" {
			if len(got) != 0 {
				t.Errorf("%s %.40s: got %v, want no line", tt.r.method, tt.r.path, got)
			}
			continue
		}
		if len(got) != 1 {
			t.Fatalf("%s %.40s: got %d lines, want one", tt.r.method, tt.r.path, len(got))
		}
		want := map[string]any{
			"who": "API key " + tt.r.key[3:19], "app": "shop", "object": tt.object, "result": tt.result, "status": int64(tt.status), "request_id": a.header.Get("X-Request-Id"),
		}
		if e := got[0]; e.LoggerName != "audit" || e.Message != tt.what || !maps.Equal(e.ContextMap(), want) {
			t.Errorf("%s %.40s: got %s %s %v, want audit %s %v", tt.r.method, tt.r.path, e.LoggerName, e.Message, e.ContextMap(), tt.what, want)
		}
	}
}

// Every route that the table calls audited is.
func TestAuditedRoutes(t *testing.T) {
	t.Parallel()
	f, lines := setupAccess(t)
	for name, a := range access {
		method, path, _ := strings.Cut(name, " ")
		r := request{method: method, path: strings.NewReplacer("{app}", "shop", "{token}", token(1), "{user}", "ada", "{id}", "spring", "{environment}", "production", "{sequence}", "1").Replace(path)}
		if method != http.MethodGet && method != http.MethodDelete {
			r.body = "{"
		}
		f.send(r)
		var got []string
		for _, e := range lines.TakeAll() {
			got = append(got, e.Message)
		}
		if strings.Join(got, " ") != a.audit {
			t.Errorf("%s: got %q in the audit log, want %q", name, got, a.audit)
		}
	}
}

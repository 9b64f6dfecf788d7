package api_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/pushfleet/pushfleet/api"
	"github.com/pushfleet/pushfleet/device"
	"github.com/pushfleet/pushfleet/explain"
	"github.com/pushfleet/pushfleet/internal/testenv"
	"github.com/pushfleet/pushfleet/store"
	"github.com/pushfleet/pushfleet/stream"
)

type object = map[string]any

// dict is a part of the document that must be an object.
func dict(v any) object { return v.(object) }

// Every operation of the document is answered, by something else than "no such
// route", and its schemas are schemas. That answers are as the document says is
// checked at every request of the other tests.
func TestOpenAPI(t *testing.T) {
	t.Parallel()
	f := setupAll(t)
	doc := dict(f.openAPI())
	if doc["openapi"] != "3.1.0" {
		t.Errorf("openapi: got %v, want 3.1.0", doc["openapi"])
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("http://api/openapi.json", doc); err != nil {
		t.Fatal(err)
	}
	for name, s := range dict(dict(doc["components"])["schemas"]) {
		meta, err := jsonschema.NewCompiler().Compile("https://json-schema.org/draft/2020-12/schema")
		if err != nil {
			t.Fatal(err)
		}
		if err := meta.Validate(s); err != nil {
			t.Errorf("schema %s: %v", name, err)
		}
		if _, err := c.Compile("http://api/openapi.json#/components/schemas/" + name); err != nil {
			t.Errorf("schema %s: %v", name, err)
		}
	}
	var got []string
	ids := make(map[string]bool)
	for path, item := range dict(doc["paths"]) {
		for method, op := range dict(item) {
			got = append(got, strings.ToUpper(method)+" "+path)
			op := dict(op)
			if id := fmt.Sprint(op["operationId"]); ids[id] {
				t.Errorf("operationId %s: got it twice, want it once", id)
			} else {
				ids[id] = true
			}
			url := strings.NewReplacer("{app}", "shop", "{token}", token(1), "{user}", "ada", "{id}", "spring", "{environment}", "production", "{sequence}", "1").Replace(path)
			r := request{method: strings.ToUpper(method), path: url}
			if path == "/v1/events" {
				r.key = "none" // else it is answered for ever
			}
			a := f.send(r)
			if a.status == http.StatusMethodNotAllowed || strings.Contains(string(a.text), "no_route") {
				t.Errorf("%s %s: got %d, want a route", method, path, a.status)
			}
			params := 0
			if list, ok := op["parameters"].([]any); ok {
				for _, p := range list {
					if dict(p)["in"] == "path" {
						params++
					}
				}
			}
			if want := strings.Count(path, "{"); params != want {
				t.Errorf("%s %s: got %d parameters, want %d", method, path, params, want)
			}
		}
	}
	slices.Sort(got)
	want := []string{
		"DELETE /v1/apps/{app}/campaigns/{id}", "DELETE /v1/apps/{app}/devices/{token}", "DELETE /v1/keys/{id}", "GET /api/stat/app", "GET /openapi.json", "GET /v1/apps", "GET /v1/apps/{app}/campaigns", "GET /v1/apps/{app}/campaigns/{id}",
		"GET /v1/apps/{app}/dead-letters", "GET /v1/apps/{app}/dead-letters/{sequence}", "GET /v1/apps/{app}/devices/{token}", "GET /v1/apps/{app}/explain", "GET /v1/apps/{app}/fuses", "GET /v1/apps/{app}/notifications/{id}", "GET /v1/apps/{app}/users/{user}/devices", "GET /v1/events", "GET /v1/fleet", "GET /v1/keys", "PATCH /v1/apps/{app}/campaigns/{id}",
		"POST /api/push", "POST /v1/apps/{app}/campaigns", "POST /v1/apps/{app}/campaigns/{id}/cancel", "POST /v1/apps/{app}/campaigns/{id}/pause",
		"POST /v1/apps/{app}/campaigns/{id}/resume", "POST /v1/apps/{app}/dead-letters/purge", "POST /v1/apps/{app}/dead-letters/redrive", "POST /v1/apps/{app}/devices", "POST /v1/apps/{app}/fuses/{environment}/reset",
		"POST /v1/apps/{app}/notifications", "POST /v1/apps/{app}/notifications/batch", "POST /v1/keys", "PUT /v1/apps/{app}/devices/{token}",
	}
	if !slices.Equal(got, want) {
		t.Errorf("operations: got %q, want %q", got, want)
	}
}

// setupAll is setup with all routes that there are.
func setupAll(t *testing.T) *fixture {
	t.Helper()
	js := testenv.NewJetStream(t)
	return setup(t, func(c *api.Config) {
		everyRoute(c, js)
		watched(t, c, js.Streams)
	})
}

// everyRoute opens all routes that there are.
func everyRoute(c *api.Config, js *testenv.JetStream) {
	set := c.Keys.(*store.Store)
	c.Campaigns, c.Totals, c.Queue, c.Jobs = js.Streams, set, js.Streams, set
	c.Gorush, c.Fleet = &api.Gorush{}, js.Streams
	c.Fuses = fuses{js.Streams, set}
	c.DeadLetters, c.KeyStore = js.Streams, set
	c.Explainer = &explain.Explainer{Streams: js.Streams, Set: set}
}

// Every example is as its schema says, and the notifications have one for each body.
func TestExamples(t *testing.T) {
	t.Parallel()
	f := setupAll(t)
	doc := dict(f.openAPI())
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	if err := c.AddResource("http://api/openapi.json", doc); err != nil {
		t.Fatal(err)
	}
	escape := strings.NewReplacer("~", "~0", "/", "~1", "{", "%7B", "}", "%7D").Replace
	for path, item := range dict(doc["paths"]) {
		for method, op := range dict(item) {
			bodies := map[string]any{}
			if body, ok := dict(op)["requestBody"]; ok {
				bodies["/requestBody"] = body
			}
			for status, answer := range dict(dict(op)["responses"]) {
				if status < "300" {
					bodies["/responses/"+status] = answer
				}
			}
			for at, body := range bodies {
				content, ok := dict(body)["content"]
				if !ok {
					continue
				}
				media, ok := dict(content)["application/json"]
				if !ok { // events: they are no JSON, what is in them is
					continue
				}
				example, ok := dict(media)["example"]
				if !ok {
					if strings.Contains(path, "/notifications") || strings.Contains(path, "/fuses") || strings.Contains(path, "/explain") || strings.Contains(path, "/dead-letters") || path == "/v1/apps" || strings.HasPrefix(path, "/v1/keys") {
						t.Errorf("%s %s%s: got no example, want one", method, path, at)
					}
					continue
				}
				ref := "http://api/openapi.json#/paths/" + escape(path) + "/" + method + at + "/content/application~1json/schema"
				s, err := c.Compile(ref)
				if err != nil {
					t.Fatal(err)
				}
				err = s.Validate(example)
				// One of the two jobs is there to be refused.
				if isBatch := at == "/requestBody" && strings.HasSuffix(path, "/batch"); (err != nil) != isBatch {
					t.Errorf("%s %s%s: the example is not as the schema says: %v", method, path, at, err)
				}
			}
		}
	}
}

// What the document says of a body and what is read are the same: a body with
// every member is taken and comes back, and so does its schema.
func TestBodiesAgree(t *testing.T) {
	t.Parallel()
	f := setup(t, nil)
	doc := dict(f.openAPI())
	schemas := dict(dict(doc["components"])["schemas"])
	c := jsonschema.NewCompiler()
	if err := c.AddResource("http://api/openapi.json", doc); err != nil {
		t.Fatal(err)
	}
	full := map[string]any{
		"user": "ada", "install_id": "i", "previous_token": token(9), "environment": "sandbox", "kind": "alert", "locale": "de-AT",
		"timezone": "Europe/Vienna", "app_version": "1", "tags": []any{"a"}, "attributes": map[string]any{"b": "c"},
	}
	properties := dict(dict(schemas["Registration"])["properties"])
	for name := range properties {
		if full[name] == nil {
			t.Errorf("%s: the document has it, this test does not", name)
		}
	}
	validate := func(name string, v any) error {
		s, err := c.Compile("http://api/openapi.json#/components/schemas/" + name)
		if err != nil {
			t.Fatal(err)
		}
		return s.Validate(v)
	}
	bodies := []struct {
		body map[string]any
		ok   bool
	}{
		{full, true},
		{map[string]any{}, true},
		{map[string]any{"colour": "red"}, false},
		{map[string]any{"environment": "development"}, false},
		{map[string]any{"kind": "fax"}, false},
		{map[string]any{"previous_token": "abc"}, false},
		{map[string]any{"user": nil}, false},
		{map[string]any{"tags": nil}, false},
		{map[string]any{"attributes": map[string]any{"a": 1.0}}, false},
		{map[string]any{"user": strings.Repeat("u", 257)}, false},
	}
	for _, kind := range device.KindNames() {
		bodies = append(bodies, struct {
			body map[string]any
			ok   bool
		}{map[string]any{"kind": kind}, true})
	}
	for _, b := range bodies {
		if err := validate("Registration", b.body); (err == nil) != b.ok {
			t.Errorf("schema of %v: got %v, want ok %v", b.body, err, b.ok)
		}
		if a := f.send(request{method: http.MethodPut, path: path("shop", 1), body: b.body}); (a.status == http.StatusOK) != b.ok {
			t.Errorf("PUT %v: got %d %s, want ok %v", b.body, a.status, a.text, b.ok)
		}
		item := map[string]any{"token": token(1)}
		for k, v := range b.body {
			item[k] = v
		}
		batch := map[string]any{"devices": []any{item}}
		if err := validate("Batch", batch); (err == nil) != b.ok {
			t.Errorf("schema of a batch of %v: got %v, want ok %v", b.body, err, b.ok)
		}
		got := into[api.BatchResult](t, f.want(http.StatusOK, request{method: http.MethodPost, path: "/v1/apps/shop/devices", body: batch}))
		if (got.Registered == 1) != b.ok {
			t.Errorf("POST %v: got %+v, want ok %v", b.body, got, b.ok)
		}
	}
	f.want(http.StatusOK, request{method: http.MethodPut, path: path("shop", 2), body: full})
	text, err := json.Marshal(f.get(path("shop", 2)))
	if err != nil {
		t.Fatal(err)
	}
	var back map[string]any
	if err := json.Unmarshal(text, &back); err != nil {
		t.Fatal(err)
	}
	for name, want := range full {
		if name != "previous_token" && !reflect.DeepEqual(back[name], want) {
			t.Errorf("%s: got %v back, want %v", name, back[name], want)
		}
	}
}

// metric reads a counter or gauge, or the count of a histogram.
func (f *fixture) metric(name string, labels map[string]string) float64 {
	f.t.Helper()
	families, err := f.reg.Gather()
	if err != nil {
		f.t.Fatal(err)
	}
	total := 0.0
	for _, family := range families {
		if family.GetName() != name {
			continue
		}
		for _, m := range family.GetMetric() {
			if slices.ContainsFunc(m.GetLabel(), func(l *dto.LabelPair) bool {
				want, ok := labels[l.GetName()]
				return ok && want != l.GetValue()
			}) {
				continue
			}
			total += m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
		}
	}
	return total
}

func TestMetrics(t *testing.T) {
	t.Parallel()
	f := setup(t, nil)
	f.put(path("shop", 1), api.Registration{})
	f.put(path("shop", 2), api.Registration{})
	f.send(request{method: http.MethodPut, path: path("shop", 1), key: "none"})
	f.send(request{method: http.MethodGet, path: "/" + token(1)})
	const route = "/v1/apps/{app}/devices/{token}"
	for _, tt := range []struct {
		name   string
		labels map[string]string
		want   float64
	}{
		{"pushfleet_http_requests_total", map[string]string{"method": "PUT", "route": route, "class": "2xx"}, 2},
		{"pushfleet_http_requests_total", map[string]string{"method": "PUT", "route": route, "class": "4xx"}, 1},
		{"pushfleet_http_requests_total", map[string]string{"route": "other", "class": "4xx"}, 1},
		{"pushfleet_http_request_seconds", map[string]string{"method": "PUT", "route": route}, 3},
		{"pushfleet_api_registration_batch_devices", nil, 2},
		{"pushfleet_api_registrations_waiting", nil, 0},
	} {
		if got := f.metric(tt.name, tt.labels); got != tt.want {
			t.Errorf("%s %v: got %v, want %v", tt.name, tt.labels, got, tt.want)
		}
	}
	families, err := f.reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	if text := fmt.Sprint(families); strings.Contains(text, token(1)) {
		t.Error("metrics: got a device token in a label, want none")
	}
}

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	for name, cfg := range map[string]api.Config{
		"nothing":        {},
		"negative limit": {RateLimit: -1},
		"half a queue":   {Queue: (*stream.Streams)(nil), Keys: (*store.Store)(nil), Registrations: (*store.Store)(nil), TokenSet: (*store.Store)(nil)},
		"no environment": {Apps: map[string]api.App{"shop": {}}},
	} {
		cfg.Metrics = prometheus.NewRegistry()
		if _, err := api.New(cfg); err == nil {
			t.Errorf("%s: got no error, want one", name)
		}
	}
}

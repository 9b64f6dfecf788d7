package api_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/pushfleet/pushfleet/api"
	"github.com/pushfleet/pushfleet/device"
	"github.com/pushfleet/pushfleet/internal/testenv"
	"github.com/pushfleet/pushfleet/store"
	"github.com/pushfleet/pushfleet/stream"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(provoked{testenv.HoldRedis(m)}, goleak.IgnoreAnyFunction(testenv.RedisDialing))
}

var _ interface {
	api.Keys
	api.Registrations
	api.TokenSet
	api.Totals
	api.Jobs
} = (*store.Store)(nil)

var _ interface {
	api.Campaigns
	api.Queue
} = (*stream.Streams)(nil)

// fixture is an API behind a real HTTP server, on a real Redis where there is one.
type fixture struct {
	t      *testing.T
	set    *store.Store
	redis  redis.UniversalClient
	server *httptest.Server
	door   *api.API
	client *http.Client
	clock  *clock
	logs   *observer.ObservedLogs
	reg    *prometheus.Registry
	schema func(operation, status, contentType string) *jsonschema.Schema
	paths  object // of the OpenAPI document

	admin string // a key for everything
}

// setup starts an API; change, if not nil, changes how.
func setup(t *testing.T, change func(*api.Config)) *fixture {
	t.Helper()
	client := testenv.Redis(t).Client
	f := &fixture{t: t, set: store.New(client, store.Config{Buckets: 4}), redis: client, clock: newClock()}
	f.start(change)
	f.admin = f.key(api.KeyConfig{Scopes: []api.Scope{api.ScopeAdmin}, AllApps: true})
	return f
}

func (f *fixture) start(change func(*api.Config)) {
	f.t.Helper()
	core, logs := observer.New(zap.DebugLevel)
	f.logs, f.reg = logs, prometheus.NewRegistry()
	cfg := api.Config{
		Keys: f.set, Registrations: f.set, TokenSet: f.set,
		Apps: map[string]api.App{
			"shop": {Environment: device.Production},
			"news": {Environment: device.Sandbox},
		},
		Logger: zap.New(core), Metrics: f.reg, Now: f.clock.now,
	}
	if change != nil {
		change(&cfg)
	}
	door, err := api.New(cfg)
	if err != nil {
		f.t.Fatalf("New: %v", err)
	}
	f.door, f.server = door, httptest.NewServer(door)
	f.client = f.server.Client()
	f.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	f.t.Cleanup(func() {
		f.server.Close()
		if err := door.Close(); err != nil {
			f.t.Errorf("Close: %v", err)
		}
	})
	f.schema = f.readSchemas()
}

// key stores a new API key.
func (f *fixture) key(cfg api.KeyConfig) string {
	f.t.Helper()
	text, record, err := api.NewKey(cfg, f.clock.now())
	if err != nil {
		f.t.Fatalf("NewKey: %v", err)
	}
	if err := f.set.CreateAPIKey(f.t.Context(), record); err != nil {
		f.t.Fatalf("CreateAPIKey: %v", err)
	}
	return text
}

func (f *fixture) keyFor(app string, scopes ...api.Scope) string {
	return f.key(api.KeyConfig{Scopes: scopes, Apps: []string{app}})
}

// answer is a response that was read.
type answer struct {
	status int
	header http.Header
	text   []byte
}

// request is one request; the key is admin's if it is not said.
type request struct {
	method, path string
	body         any // nil, text, a reader, or what becomes JSON
	key          string
	header       map[string]string
}

// send sends a request, and holds every answer to the OpenAPI document.
func (f *fixture) send(r request) answer {
	f.t.Helper()
	var body io.Reader
	switch b := r.body.(type) {
	case nil:
	case string:
		body = strings.NewReader(b)
	case io.Reader:
		body = b
	default:
		text, err := json.Marshal(b)
		if err != nil {
			f.t.Fatal(err)
		}
		body = bytes.NewReader(text)
	}
	req, err := http.NewRequestWithContext(f.t.Context(), r.method, f.server.URL+r.path, body)
	if err != nil {
		f.t.Fatal(err)
	}
	switch r.key {
	case "":
		req.Header.Set("Authorization", "Bearer "+f.admin)
	case "none":
	default:
		req.Header.Set("Authorization", "Bearer "+r.key)
	}
	for name, value := range r.header {
		req.Header.Set(name, value)
	}
	resp, err := f.client.Do(req)
	if err != nil {
		f.t.Fatalf("%s %.60s: %v", r.method, r.path, err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		f.t.Fatalf("%s %.60s: read answer: %v", r.method, r.path, err)
	}
	a := answer{status: resp.StatusCode, header: resp.Header, text: text}
	f.hold(r, a)
	return a
}

// want sends a request, and wants a status.
func (f *fixture) want(status int, r request) answer {
	f.t.Helper()
	a := f.send(r)
	if a.status != status {
		f.t.Fatalf("%s %.60s: got %d %s, want %d", r.method, r.path, a.status, a.text, status)
	}
	return a
}

// hold checks what every answer must be.
func (f *fixture) hold(r request, a answer) {
	f.t.Helper()
	what := fmt.Sprintf("%s %.60s: %d %.300s", r.method, r.path, a.status, a.text)
	if a.header.Get("X-Request-Id") == "" {
		f.t.Errorf("%s: got no X-Request-Id, want one", what)
	}
	if a.status/100 >= 4 && strings.HasPrefix(r.path, "/api/") {
		f.secret(what, string(a.text), r)
	} else if a.status/100 >= 4 {
		var p api.Problem
		if err := json.Unmarshal(a.text, &p); err != nil {
			f.t.Fatalf("%s: %v, want a problem document", what, err)
		}
		if got := a.header.Get("Content-Type"); got != "application/problem+json" {
			f.t.Errorf("%s: got content type %q, want application/problem+json", what, got)
		}
		if p.Status != a.status || p.RequestID != a.header.Get("X-Request-Id") || p.Code == "" || p.Detail == "" {
			f.t.Errorf("%s: got %+v, want the status, the request's id, a code and a detail", what, p)
		}
		f.secret(what, string(a.text), r)
		answered.Store(fmt.Sprint(p.Status, " ", p.Code), true)
	}
	for _, e := range f.logs.All() {
		f.secret("log", fmt.Sprint(e.Message, e.ContextMap()), r)
	}
	op := f.operation(r)
	if op == "" || a.status == http.StatusNoContent {
		return
	}
	contentType, _, _ := strings.Cut(a.header.Get("Content-Type"), ";")
	var v any
	if err := json.Unmarshal(a.text, &v); err != nil {
		f.t.Fatalf("%s: %v", what, err)
	}
	if err := f.schema(op, strconv.Itoa(a.status), contentType).Validate(v); err != nil {
		f.t.Errorf("%s: it is not as the OpenAPI document says: %v", what, err)
	}
}

// secret wants no device token of the request, and not its key, in a text.
func (f *fixture) secret(what, text string, r request) {
	f.t.Helper()
	text = strings.ToLower(text)
	for part := range strings.SplitSeq(r.path, "/") {
		if len(part) >= 32 && strings.Contains(text, strings.ToLower(part)) {
			f.t.Errorf("%s: got the device token of the URL, want none", what)
		}
	}
	for n := range 64 {
		if strings.Contains(text, token(n)) {
			f.t.Errorf("%s: got a whole device token, want none", what)
		}
	}
	if secret := r.key[strings.LastIndexByte(r.key, '_')+1:]; len(secret) > 8 && strings.Contains(text, secret) {
		f.t.Errorf("%s: got the key's secret, want none", what)
	}
}

// operation is the path of a request's operation in the OpenAPI document, or "".
func (f *fixture) operation(r request) string {
	parts := strings.Split(strings.SplitN(r.path, "?", 2)[0], "/")
	best, params := "", len(parts)
	for path, item := range f.paths {
		if _, ok := dict(item)[strings.ToLower(r.method)]; !ok {
			continue
		}
		// Of two that fit, the one with fewer parameters is meant.
		if n, ok := fits(strings.Split(path, "/"), parts); ok && n < params {
			best, params = "/paths/"+strings.ReplaceAll(path, "/", "~1")+"/"+strings.ToLower(r.method), n
		}
	}
	return best
}

// fits reports whether a path is one of a route's, and how many of its parts are
// parameters.
func fits(route, path []string) (params int, ok bool) {
	if len(route) != len(path) {
		return 0, false
	}
	for i, part := range route {
		switch {
		case strings.HasPrefix(part, "{") && path[i] != "":
			params++
		case part != path[i]:
			return 0, false
		}
	}
	return params, true
}

// readSchemas compiles schemas of the served document.
func (f *fixture) readSchemas() func(operation, status, contentType string) *jsonschema.Schema {
	f.t.Helper()
	doc := f.openAPI()
	f.paths = dict(dict(doc)["paths"])
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	if err := c.AddResource("http://api/openapi.json", doc); err != nil {
		f.t.Fatal(err)
	}
	var mu sync.Mutex
	return func(operation, status, contentType string) *jsonschema.Schema {
		f.t.Helper()
		mu.Lock()
		defer mu.Unlock()
		at := operation + "/responses/" + status + "/content/" + strings.ReplaceAll(contentType, "/", "~1") + "/schema"
		s, err := c.Compile("http://api/openapi.json#" + strings.NewReplacer("{", "%7B", "}", "%7D").Replace(at))
		if err != nil {
			f.t.Fatalf("the OpenAPI document has no %s: %v", at, err)
		}
		return s
	}
}

func (f *fixture) openAPI() any {
	f.t.Helper()
	resp, err := f.client.Get(f.server.URL + "/openapi.json")
	if err != nil {
		f.t.Fatal(err)
	}
	defer resp.Body.Close()
	doc, err := jsonschema.UnmarshalJSON(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		f.t.Fatalf("GET /openapi.json: %d, %v", resp.StatusCode, err)
	}
	return doc
}

func into[T any](t *testing.T, a answer) T {
	t.Helper()
	var v T
	d := json.NewDecoder(bytes.NewReader(a.text))
	d.DisallowUnknownFields()
	if err := d.Decode(&v); err != nil {
		t.Fatalf("%s: %v", a.text, err)
	}
	return v
}

// token is the nth device token, in hexadecimal.
func token(n int) string { return fmt.Sprintf("%02xa1b2c3%056x", n, n) }

func path(app string, n int) string { return "/v1/apps/" + app + "/devices/" + token(n) }

// clock stands still until it is moved.
type clock struct {
	mu sync.Mutex
	at time.Time
}

func newClock() *clock { return &clock{at: time.UnixMilli(1_800_000_000_000)} }

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) move(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

// keysFunc stands in for where keys are kept.
type keysFunc func(ctx context.Context, id string) (store.APIKey, bool, error)

func (k keysFunc) APIKey(ctx context.Context, id string) (store.APIKey, bool, error) {
	return k(ctx, id)
}

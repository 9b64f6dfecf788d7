package remote_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pushfleet/pushfleet/internal/remote"
)

const (
	key   = "pf_aaaabbbbccccdddd_secret"
	token = "8f3a55d1c7e04b228f3a55d1c7e04b228f3a55d1c7e04b228f3a55d1c7e04b22"
)

// answers is a server that answers one request after the other, the last answer for ever.
type answers struct {
	list []answer
	seen []*http.Request
	body []string
}

type answer struct {
	status int
	header http.Header
	body   string
	err    error
}

func (a *answers) RoundTrip(r *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	n := min(len(a.seen), len(a.list)-1)
	a.seen, a.body = append(a.seen, r), append(a.body, string(body))
	one := a.list[n]
	if one.err != nil {
		return nil, one.err
	}
	h := http.Header{}
	if one.header != nil {
		h = one.header
	}
	return &http.Response{StatusCode: one.status, Header: h, Body: io.NopCloser(strings.NewReader(one.body)), Request: r}, nil
}

// problem is a problem document.
func problem(status int, code, retryAfter string) answer {
	h := http.Header{"Content-Type": {"application/problem+json"}}
	if retryAfter != "" {
		h.Set("Retry-After", retryAfter)
	}
	return answer{status: status, header: h, body: `{"code":"` + code + `","detail":"it is so","request_id":"r-1"}`}
}

func client(t *testing.T, rt http.RoundTripper) *remote.Client {
	t.Helper()
	c, err := remote.New(remote.Config{URL: "https://push.example.com/prefix/", Key: key, UserAgent: "pushfleet/test", Transport: rt})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// What was not carried out is called again, what may have been only if that does no harm,
// and after what the server says.
func TestDoAgain(t *testing.T) {
	t.Parallel()
	good := answer{status: 200, body: `{}`}
	refused := answer{err: &net.OpError{Op: "dial", Err: errors.New("connection refused")}}
	broken := answer{err: io.ErrUnexpectedEOF}
	for name, tt := range map[string]struct {
		answers     []answer
		repeatable  bool
		tries       int
		least, most time.Duration
		want        string // of the error
	}{
		"good":                        {answers: []answer{good}, tries: 1},
		"a limit":                     {answers: []answer{problem(429, "rate_limited", "3"), good}, tries: 2, least: 3 * time.Second, most: 5 * time.Second},
		"limits for ever":             {answers: []answer{problem(429, "rate_limited", "1")}, tries: -1, least: 40 * time.Second, most: time.Minute, want: "it is so (HTTP 429, rate_limited, request r-1)"},
		"a limit beyond all patience": {answers: []answer{problem(429, "rate_limited", "3600"), good}, tries: 1, want: "rate_limited"},
		"down":                        {answers: []answer{problem(503, "unavailable", "5"), good}, tries: 1, want: "unavailable"},
		"down, repeatable":            {answers: []answer{problem(503, "unavailable", "5"), good}, repeatable: true, tries: 2, least: 5 * time.Second, most: 8 * time.Second},
		"overloaded":                  {answers: []answer{problem(503, "overloaded", "1"), good}, tries: 2, least: time.Second, most: 2 * time.Second},
		"no room":                     {answers: []answer{problem(503, "no_room", ""), problem(503, "no_room", ""), good}, tries: 3, least: 750 * time.Millisecond, most: 2 * time.Second},
		"no room for campaigns":       {answers: []answer{problem(507, "no_room", ""), good}, repeatable: true, tries: 1, want: "HTTP 507"},
		"a bad gateway":               {answers: []answer{{status: 502, body: "<html>"}, good}, repeatable: true, tries: 2, most: time.Second},
		"a bad gateway, once":         {answers: []answer{{status: 502, body: "<html>"}, good}, tries: 1, want: "push.example.com gave no answer of the API's"},
		"forbidden":                   {answers: []answer{problem(403, "missing_scope", "")}, repeatable: true, tries: 1, want: "missing_scope"},
		"invalid":                     {answers: []answer{problem(422, "invalid", "")}, repeatable: true, tries: 1, want: "invalid"},
		"nobody there":                {answers: []answer{refused}, tries: 4, most: 5 * time.Second, want: "ask push.example.com: dial: connection refused"},
		"nobody there at first":       {answers: []answer{refused, good}, tries: 2, most: time.Second},
		"cut off":                     {answers: []answer{broken, good}, tries: 1, want: "unexpected EOF"},
		"cut off, repeatable":         {answers: []answer{broken, good}, repeatable: true, tries: 2, most: time.Second},
		"elsewhere":                   {answers: []answer{{status: 302, header: http.Header{"Location": {"https://evil.example.com/"}}}, good}, repeatable: true, tries: 1, want: "sends elsewhere"},
		"something else":              {answers: []answer{{status: 200, body: "<html>"}}, tries: 1, want: "the answer is none of the API's"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				server := &answers{list: tt.answers}
				began := time.Now()
				var out struct{}
				err := client(t, server).Do(t.Context(), &remote.Call{
					Method: http.MethodPut, Path: []string{"v1", "apps", "shop", "devices", token}, In: map[string]int{"n": 1}, Out: &out, Repeatable: tt.repeatable,
				})
				took := time.Since(began)
				if got := len(server.seen); tt.tries >= 0 && got != tt.tries {
					t.Errorf("got %d tries, want %d", got, tt.tries)
				}
				if took < tt.least || took > tt.most {
					t.Errorf("took %s, want %s to %s", took, tt.least, tt.most)
				}
				if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
					t.Errorf("got %v, want %q", err, tt.want)
				}
				if err != nil && (strings.Contains(err.Error(), token[:12]) || strings.Contains(err.Error(), "secret")) {
					t.Errorf("got %v, want no device token and no key in it", err)
				}
				for i, r := range server.seen {
					if r.URL.Host != "push.example.com" || r.Header.Get("Authorization") != "Bearer "+key || r.Header.Get("User-Agent") != "pushfleet/test" || server.body[i] != `{"n":1}` {
						t.Errorf("try %d: got %s, %v, %s, want the same each time", i, r.URL, r.Header, server.body[i])
					}
				}
			})
		})
	}
}

// Whoever interrupts does not wait.
func TestDoEndsWithItsContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeoutCause(t.Context(), 2*time.Second, errors.New("enough of that"))
		defer cancel()
		began := time.Now()
		err := client(t, &answers{list: []answer{problem(429, "rate_limited", "10")}}).Do(ctx, &remote.Call{Method: http.MethodGet, Path: []string{"v1", "apps"}})
		if took := time.Since(began); err == nil || took != 2*time.Second {
			t.Errorf("got %v after %s, want an error after 2s", err, took)
		}
	})
}

func TestErrorListsFaults(t *testing.T) {
	t.Parallel()
	a := problem(422, "invalid", "")
	a.body = `{"code":"invalid","detail":"the request has 2 problems","request_id":"r-2","errors":[{"path":"tags[3]","message":"must not be empty"},{"path":"","message":"must be an object"}]}`
	err := client(t, &answers{list: []answer{a}}).Do(t.Context(), &remote.Call{Method: http.MethodPost, Path: []string{"v1"}})
	const want = "the request has 2 problems:\n  tags[3]: must not be empty\n  must be an object\n  (HTTP 422, invalid, request r-2)"
	if err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	if !remote.Is(err, "gone", "invalid") || remote.Is(err, "gone") || remote.Is(errors.New("x"), "") {
		t.Errorf("got another code of %v, want invalid", err)
	}
}

// Ids reach the server as they are, whatever is in them.
func TestPathsAreEscaped(t *testing.T) {
	t.Parallel()
	for _, tt := range [][2]string{
		{"ada", "/prefix/v1/users/ada"},
		{"a/b c?d%", "/prefix/v1/users/a%2Fb%20c%3Fd%25"},
		{"..", "/prefix/v1/users/%2E%2E"},
		{".", "/prefix/v1/users/%2E"},
		{"größe", "/prefix/v1/users/gr%C3%B6%C3%9Fe"},
	} {
		server := &answers{list: []answer{{status: 204}}}
		if err := client(t, server).Do(t.Context(), &remote.Call{Method: http.MethodGet, Path: []string{"v1", "users", tt[0]}, Query: url.Values{"q": {"&"}}}); err != nil {
			t.Fatal(err)
		}
		if got := server.seen[0].URL; got.EscapedPath() != tt[1] || got.RawQuery != "q=%26" {
			t.Errorf("%q: got %s, want %s", tt[0], got, tt[1])
		}
	}
}

func TestNew(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		url, want string
		allow     bool
	}{
		{url: "https://push.example.com"},
		{url: "https://push.example.com:8443/fleet/"},
		{url: "http://127.0.0.1:8080"},
		{url: "http://localhost:8080"},
		{url: "http://[::1]:8080"},
		{url: "http://push.example.com", want: "could read the API key"},
		{url: "http://10.0.0.7:8080", want: "could read the API key"},
		{url: "http://127.0.0.1.example.com", want: "could read the API key"},
		{url: "http://push.example.com", allow: true},
		{url: "push.example.com", want: "must be an http or https URL"},
		{url: "ftp://push.example.com", want: "must be an http or https URL"},
		{url: "https://", want: "must be an http or https URL"},
		{url: "https://me:secret@push.example.com", want: "must not hold a name or a password"},
		{url: "https://push.example.com/?key=secret", want: "parameters have no place"},
	} {
		_, err := remote.New(remote.Config{URL: tt.url, AllowHTTP: tt.allow})
		if (err == nil) != (tt.want == "") || err != nil && (!strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "secret")) {
			t.Errorf("%s: got %v, want %q", tt.url, err, tt.want)
		}
	}
}

// A server is trusted by whom it was said, and by nobody else.
func TestTrust(t *testing.T) {
	t.Parallel()
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "{}") }))
	defer server.Close()
	call := &remote.Call{Method: http.MethodGet, Path: []string{"v1", "apps"}}
	c, err := remote.New(remote.Config{URL: server.URL, Key: key})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Do(t.Context(), call); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("unknown authority: got %v, want it refused", err)
	}
	pool := server.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs
	if c, err = remote.New(remote.Config{URL: server.URL, Key: key, RootCAs: pool}); err != nil {
		t.Fatal(err)
	}
	if err := c.Do(t.Context(), call); err != nil {
		t.Errorf("known authority: got %v", err)
	}
}

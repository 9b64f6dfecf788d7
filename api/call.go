package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/zap"
	"golang.org/x/time/rate"

	"github.com/pushfleet/pushfleet/store"
)

// call is one request on its way.
type call struct {
	api  *API
	live *Settings // while it is answered
	r    *http.Request
	ctx  context.Context //nolint:containedctx // as long-lived as the request, whose own it is but for a deadline
	id   string

	key     *store.APIKey // nil where none is needed
	limiter *rate.Limiter
	appName string
	app     App
	body    []byte
	details []zap.Field // more for the audit log
	// unaudited: it would only have changed something.
	unaudited bool
	object    string     // for the audit log, where the URL does not name it
	span      trace.Span // nil: it has none
}

// callTimeout is the patience with all that one request asks of Redis.
const callTimeout = 8 * time.Second

// serve answers a request of a route.
func (a *API) serve(rt *route, m *routeMetrics, w http.ResponseWriter, r *http.Request) {
	start := time.Now()
	c := &call{api: a, live: a.live.Load(), r: r, id: requestID(r)}
	status, body, p := c.answer(rt, w)
	if stream, ok := body.(streamed); ok && p == nil {
		// It is answered once it has begun: how long it goes on is the caller's affair.
		m.observe(status, time.Since(start))
		c.endTrace(status)
		w.Header().Set(headerRequestID, c.id)
		stream(w)
		return
	}
	if p != nil {
		status = p.Status
		a.logProblem(rt, c, p)
		a.writeProblem(w, c.id, p, rt.fail)
	} else {
		a.write(w, c.id, status, body)
	}
	a.audit(rt, c, status, p)
	c.endTrace(status)
	m.observe(status, time.Since(start))
}

// answer carries the request out.
func (c *call) answer(rt *route, w http.ResponseWriter) (status int, body any, p *Problem) {
	defer func() {
		if v := recover(); v != nil {
			p = internal(fmt.Errorf("panic: %v", v))
		}
	}()
	ctx, cancel := context.WithTimeoutCause(c.r.Context(), callTimeout, errPatience)
	defer cancel()
	c.ctx = ctx
	if len(rt.scopes) > 0 {
		if p := c.authorize(rt); p != nil {
			return 0, nil, p
		}
		c.trace(rt)
	}
	if rt.body > 0 {
		if p := c.readBody(rt, w); p != nil {
			return 0, nil, p
		}
	}
	return rt.handle(c)
}

// authorize decides whether the request may be carried out: the key, its rate,
// its apps, and its scopes. A key learns nothing of apps that are not its own.
func (c *call) authorize(rt *route) *Problem {
	if p := c.identify(rt); p != nil {
		return p
	}
	if rt.allApps && !c.key.AllApps {
		return problemf(http.StatusForbidden, codeWrongApp, "an API key for all apps is needed")
	}
	if !rt.appless {
		if p := c.enter(); p != nil {
			return p
		}
	}
	if !may(c.key, rt.scopes) {
		return problemf(http.StatusForbidden, codeMissingScope, "the API key %s needs the scope %s", c.key.ID, orScopes(rt.scopes))
	}
	return nil
}

// identify finds the key of the request, and counts the request against its rate.
func (c *call) identify(rt *route) *Problem {
	header := c.r.Header.Get("Authorization")
	if header == "" && rt.gorush && c.live.Gorush.Key != "" {
		header = "Bearer " + c.live.Gorush.Key
	}
	id, secret, p := bearer(header)
	if p != nil {
		return p
	}
	key, limiter, err := c.api.keyring.find(c.ctx, id)
	if err != nil {
		p := unavailable(err)
		p.Detail = "API keys cannot be read: repeat the request later"
		return p
	}
	if key == nil || !matches(key, secret) {
		return unauthorized("the API key is not known, or was revoked")
	}
	c.key, c.limiter = key, limiter
	return c.charge()
}

// enter finds the app of the URL.
func (c *call) enter() *Problem {
	c.appName = c.r.PathValue("app")
	if !c.mine(c.appName) {
		return problemf(http.StatusForbidden, codeWrongApp, "the API key %s is not for this app", c.key.ID)
	}
	app, ok := c.live.Apps[c.appName]
	if !ok {
		return problemf(http.StatusNotFound, codeUnknownApp, "no app with this name is configured")
	}
	c.app = app
	return nil
}

// mine reports whether the key is for an app.
func (c *call) mine(app string) bool { return c.key.AllApps || slices.Contains(c.key.Apps, app) }

// bearer reads the API key of a header Authorization.
func bearer(header string) (id, secret string, p *Problem) {
	if header == "" {
		return "", "", unauthorized("an API key is needed: Authorization: Bearer pf_…")
	}
	scheme, text, _ := strings.Cut(header, " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return "", "", unauthorized("the header Authorization must be Bearer and an API key")
	}
	id, secret, ok := splitKey(strings.TrimSpace(text))
	if !ok {
		return "", "", unauthorized("the API key must be pf_<id>_<secret>, as it was shown when it was made")
	}
	return id, secret, nil
}

func unauthorized(detail string) *Problem {
	return problemf(http.StatusUnauthorized, codeUnauthorized, "%s", detail)
}

// charge counts the request against the key's rate.
func (c *call) charge() *Problem { return c.charged(c.api.keyring.take(c.limiter, 1)) }

// chargeMore counts n more against it: what a batch has besides the first.
func (c *call) chargeMore(n int) *Problem { return c.charged(c.api.keyring.takeMore(c.limiter, n)) }

// charged is the problem of a rate that was exceeded.
func (c *call) charged(wait time.Duration) *Problem {
	if wait == 0 {
		return nil
	}
	p := problemf(http.StatusTooManyRequests, codeRateLimited,
		"the API key %s may make %d requests a second here, each device of a batch counted as one", c.key.ID, c.live.RateLimit)
	p.retryAfter = wait
	return p
}

func orScopes(scopes []Scope) string {
	words := make([]string, 0, len(scopes)+1)
	for _, sc := range scopes {
		if sc != ScopeAdmin {
			words = append(words, string(sc))
		}
	}
	return strings.Join(append(words, string(ScopeAdmin)), " or ")
}

// readBody reads the body, if it is not too long.
func (c *call) readBody(rt *route, w http.ResponseWriter) *Problem {
	if enc := c.r.Header.Get("Content-Encoding"); enc != "" && !strings.EqualFold(enc, "identity") {
		return problemf(http.StatusUnsupportedMediaType, codeEncoding, "the body must not be encoded: send it without Content-Encoding")
	}
	tooLarge := func() *Problem {
		return problemf(http.StatusRequestEntityTooLarge, codeBodyTooLarge, "the body must be at most %d bytes", rt.body)
	}
	if c.r.ContentLength > rt.body {
		// Not read at all: the connection ends with the answer.
		w.Header().Set("Connection", "close")
		return tooLarge()
	}
	var err error
	limited := http.MaxBytesReader(w, c.r.Body, rt.body)
	if n := c.r.ContentLength; n >= 0 {
		c.body = make([]byte, n)
		_, err = io.ReadFull(limited, c.body)
	} else {
		c.body, err = io.ReadAll(limited)
	}
	var tooMany *http.MaxBytesError
	switch {
	case errors.As(err, &tooMany):
		return tooLarge()
	case err != nil:
		p := problemf(http.StatusBadRequest, codeMalformed, "the body could not be read to its end")
		p.cause = err
		return p
	}
	return nil
}

const headerRequestID = "X-Request-Id"

// requestID is the caller's own id of the request, if it can be logged as it is,
// or a new one.
func requestID(r *http.Request) string {
	id := r.Header.Get(headerRequestID)
	if id == "" || len(id) > 64 {
		return uuid.NewString()
	}
	for i := range len(id) {
		switch c := id[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '_', c == '.':
		default:
			return uuid.NewString()
		}
	}
	return id
}

// write writes an answer. A body of bytes is JSON already.
func (a *API) write(w http.ResponseWriter, id string, status int, body any) {
	h := w.Header()
	h.Set(headerRequestID, id)
	if body == nil {
		w.WriteHeader(status)
		return
	}
	text, ok := body.([]byte)
	if !ok {
		text = encode(body)
	}
	h.Set("Content-Type", contentType)
	h.Set("Content-Length", strconv.Itoa(len(text)))
	w.WriteHeader(status)
	_, _ = w.Write(text) // a caller that has gone
}

// writeProblem writes a problem document, or what in makes of the problem.
func (a *API) writeProblem(w http.ResponseWriter, id string, p *Problem, in func(*Problem) any) {
	p.RequestID = id
	h := w.Header()
	h.Set(headerRequestID, id)
	var body any = p
	h.Set("Content-Type", contentTypeProblem)
	if in != nil {
		body = in(p)
		h.Set("Content-Type", contentType)
	}
	switch {
	case p.Status == http.StatusUnauthorized:
		h.Set("WWW-Authenticate", `Bearer realm="pushfleet"`)
	case p.allow != "":
		h.Set("Allow", p.allow)
	}
	if p.retryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(int((p.retryAfter+time.Second-1)/time.Second)))
	}
	w.WriteHeader(p.Status)
	_, _ = w.Write(encode(body))
}

// encode returns a line of JSON. It is for programs and people: nobody puts it
// into HTML.
func encode(v any) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		panic(fmt.Sprintf("api: encode %T: %v", v, err))
	}
	return b.Bytes()
}

// logProblem logs what is our own fault, at most once a second: when Redis is
// down every request fails.
func (a *API) logProblem(rt *route, c *call, p *Problem) {
	if p.Status < 500 || c.r.Context().Err() != nil {
		return
	}
	a.logged.Do(func() {
		fields := []zap.Field{
			zap.String("route", rt.method+" "+rt.path), zap.Int("status", p.Status), zap.String("code", p.Code),
			zap.String("request_id", c.id), zap.String("app", c.appName), zap.Error(p.cause),
		}
		if c.key != nil {
			fields = append(fields, zap.String("api_key", c.key.ID))
		}
		a.cfg.Logger.Warn("request failed", fields...)
	})
}

package api

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/zap"
	"golang.org/x/time/rate"

	"github.com/pushfleet/pushfleet/device"
	"github.com/pushfleet/pushfleet/internal/strictjson"
)

// Defaults of a [Config].
const (
	DefaultMaxBatchBytes = 1 << 20
)

// Config is what an API is made of. Keys, Registrations and TokenSet are needed;
// a [store.Store] is all three.
type Config struct {
	Keys          Keys
	Registrations Registrations
	TokenSet      TokenSet

	// Campaigns and Totals, together: where campaigns are kept and counted. nil: there
	// are no routes for them.
	Campaigns Campaigns
	Totals    Totals

	// Queue and Jobs, together: where notifications are handed in, and what is known of
	// them. nil: there are no routes for them.
	Queue Queue
	Jobs  Jobs

	// Gorush, with Queue and Fleet: the door for callers of gorush. nil: there is none.
	Gorush *Gorush
	Fleet  Fleet

	// Fuses is where fuses are kept. nil: there are no routes for them.
	Fuses Fuses
	// DeadLetters is where dead letters are. nil: there are no routes for them.
	DeadLetters DeadLetters
	// Explainer says what became of devices. nil: there is no route for it.
	Explainer Explainer
	// KeyStore is where API keys are made and revoked. nil: there are no routes for them.
	KeyStore KeyStore
	// Overview says what the fleet does. nil: there are no routes for it.
	Overview Overview
	// Followers is how many may follow events at once here, and KeyFollowers how many of
	// them with one API key. Zero is [DefaultFollowers] and [DefaultKeyFollowers].
	Followers, KeyFollowers int
	// EventPatience is how long a follower may take to read what it is sent. Zero is
	// [DefaultEventPatience].
	EventPatience time.Duration

	Apps map[string]App // by name; not changed afterwards but by [API.Apply], as are Gorush and RateLimit

	// RateLimit is how many requests a second each API key may make here, with
	// bursts of a second's worth; a batch counts as many as it has devices or jobs.
	// Zero: without limit.
	RateLimit int
	// MaxBatchBytes is the most bytes of the body of a batch. Zero is
	// [DefaultMaxBatchBytes].
	MaxBatchBytes int64

	// Dashboard has the page served, at the root and below /page/.
	Dashboard bool

	Version string                // for the OpenAPI document; empty: dev
	Logger  *zap.Logger           // nil: none
	Audit   *zap.Logger           // of what API keys change; nil: none
	Metrics prometheus.Registerer // nil: none
	Tracer  trace.Tracer          // of requests; nil: they have no spans
	Now     func() time.Time      // for keys and rates; nil: time.Now
}

// App is what the API knows of an app.
type App struct {
	// Environment is that of registrations that do not say.
	Environment device.Environment
	// BundleID finds the app of a topic. Only the door for gorush needs it.
	BundleID string
}

// API is the HTTP API, an [http.Handler]. It is safe for concurrent use.
type API struct {
	cfg       Config
	live      atomic.Pointer[Settings] // in place of those in cfg
	mux       *http.ServeMux
	keyring   *keyring
	meters    meters
	registrar *registrar
	followers *followers
	metrics   *metrics

	publishing room
	zones      device.Zones
	single     strictjson.Object[device.Registration] // of a PUT
	item       strictjson.Object[device.Registration] // of a batch

	workTime    time.Duration // of requests that redrive or purge
	gorush      strictjson.Object[gorushNotification]
	gorushCount atomic.Int64 // device tokens that came through its door
	document    []byte       // OpenAPI
	logged      rate.Sometimes
}

// New returns the API. Close it when nothing is served by it any more.
func New(cfg Config) (*API, error) {
	var errs []error
	if cfg.Keys == nil || cfg.Registrations == nil || cfg.TokenSet == nil {
		errs = append(errs, errors.New("api: needs keys, registrations and a token set"))
	}
	if (cfg.Campaigns == nil) != (cfg.Totals == nil) {
		errs = append(errs, errors.New("api: needs campaigns and their totals, or neither"))
	}
	if (cfg.Queue == nil) != (cfg.Jobs == nil) {
		errs = append(errs, errors.New("api: needs a queue and what is known of jobs, or neither"))
	}
	if cfg.Gorush != nil && (cfg.Queue == nil || cfg.Fleet == nil) {
		errs = append(errs, errors.New("api: the door for gorush needs a queue and the fleet"))
	}
	if cfg.MaxBatchBytes < 0 || cfg.Followers < 0 || cfg.KeyFollowers < 0 || cfg.EventPatience < 0 {
		errs = append(errs, errors.New("api: limits must not be negative"))
	}
	first := Settings{Apps: cfg.Apps, Gorush: cfg.Gorush, RateLimit: cfg.RateLimit}
	errs = append(errs, first.check()...)
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	if cfg.MaxBatchBytes == 0 {
		cfg.MaxBatchBytes = DefaultMaxBatchBytes
	}
	if cfg.Version == "" {
		cfg.Version = "dev"
	}
	if cfg.Logger == nil {
		cfg.Logger = zap.NewNop()
	}
	cfg.Logger = cfg.Logger.Named("api")
	if cfg.Audit == nil {
		cfg.Audit = zap.NewNop()
	}
	cfg.Audit = cfg.Audit.Named("audit")
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	cfg.EventPatience = cmp.Or(cfg.EventPatience, DefaultEventPatience)
	a := &API{
		cfg: cfg, mux: http.NewServeMux(), keyring: newKeyring(cfg.Keys, cfg.RateLimit, cfg.Now),
		followers: newFollowers(cmp.Or(cfg.Followers, DefaultFollowers), cmp.Or(cfg.KeyFollowers, DefaultKeyFollowers)),
		workTime:  workTime,
		logged:    rate.Sometimes{First: 1, Interval: time.Second},
	}
	a.live.Store(first.withDefaults())
	a.single, a.item = device.RegistrationMembers(&a.zones, false), device.RegistrationMembers(&a.zones, true)
	if cfg.Gorush != nil {
		a.gorush = gorushMembers()
	}
	m := newMetrics(cfg.Metrics, func() int { return a.registrar.queued() }, func() int64 { return a.publishing.used.Load() }, a.followers.count)
	a.metrics = m
	a.registrar = newRegistrar(cfg.Registrations, m.batch)
	routes := a.routes()
	for i := range routes {
		rt := &routes[i]
		of := m.of(rt.method, rt.path)
		a.mux.HandleFunc(rt.method+" "+rt.path, func(w http.ResponseWriter, r *http.Request) { a.serve(rt, of, w, r) })
	}
	if cfg.Dashboard {
		if err := a.servePage(); err != nil {
			return nil, fmt.Errorf("api: %w", err)
		}
	}
	other := &route{method: "any", path: "other", handle: a.noRoute}
	ofOther := m.of(other.method, other.path)
	a.mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { a.serve(other, ofOther, w, r) })
	var err error
	if a.document, err = document(routes, cfg.Version); err != nil {
		return nil, fmt.Errorf("api: make OpenAPI document: %w", err)
	}
	return a, nil
}

// ServeHTTP implements [http.Handler].
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) { a.mux.ServeHTTP(w, r) }

// EndEvents ends the answers to those who follow events, and begins no more. It is for
// when the server stops: it would wait for them.
func (a *API) EndEvents() { a.followers.end() }

// Close waits for registrations that are under way; those that come later are
// answered with 503.
func (a *API) Close() error {
	a.EndEvents()
	a.registrar.close()
	return nil
}

func (a *API) getOpenAPI(*call) (int, any, *Problem) { return http.StatusOK, a.document, nil }

// noRoute answers what no route is for.
func (a *API) noRoute(c *call) (int, any, *Problem) {
	var allowed []string
	for _, method := range []string{http.MethodGet, http.MethodPut, http.MethodPost, http.MethodPatch, http.MethodDelete} {
		r := c.r.Clone(c.r.Context())
		r.Method = method
		if _, pattern := a.mux.Handler(r); pattern != "/" {
			allowed = append(allowed, method)
		}
	}
	if len(allowed) == 0 {
		return 0, nil, problemf(http.StatusNotFound, codeNoRoute, "there is nothing at this path: see /openapi.json")
	}
	p := problemf(http.StatusMethodNotAllowed, codeMethod, "this path takes %s", strings.Join(allowed, ", "))
	p.allow = strings.Join(allowed, ", ")
	return 0, nil, p
}

package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/pushfleet/pushfleet/apns"
	"github.com/pushfleet/pushfleet/config"
	"github.com/pushfleet/pushfleet/device"
	"github.com/pushfleet/pushfleet/worker"
)

// fleetApps are the apps of a configuration, as a worker serves them. What is as it was
// in the configuration before is the same: apps, routes, clients.
type fleetApps struct {
	apps   []*worker.App
	routes map[routeLabels]*openRoute
}

// routeLabels tell a route from others in the metrics.
type routeLabels struct{ app, environment, credential string }

// openRoute is a route with the client that it needs.
type openRoute struct {
	spec   routeSpec
	client *apns.Client
	route  *worker.Route
}

// routeSpec is what makes a client what it is.
type routeSpec struct {
	credential  apns.Credential
	environment device.Environment
	url         string
	roots       *x509.CertPool

	connections, maxConnections int
	requestTimeout              time.Duration
}

func (s *routeSpec) equal(o *routeSpec) bool {
	return s.credential.Equal(o.credential) && s.environment == o.environment && s.url == o.url && s.roots.Equal(o.roots) &&
		s.connections == o.connections && s.maxConnections == o.maxConnections && s.requestTimeout == o.requestTimeout
}

// openApps makes the apps of a configuration, with an APNs client for each app,
// environment and credential that there was not before. What is wrong with any of them
// is told together, and nothing is left open.
func (f *fleet) openApps(cfg *config.Config) (*fleetApps, error) {
	if len(cfg.Apps) == 0 {
		return nil, errors.New("apps: none is configured, so there is nothing to send for")
	}
	next := &fleetApps{routes: make(map[routeLabels]*openRoute)}
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(cfg.Apps)) {
		app := cfg.Apps[name]
		a := &worker.App{Name: name, BundleID: app.BundleID, Environment: app.Environment, Canaries: app.Canaries}
		for i, cred := range app.Credentials {
			routes, err := f.openCredential(cfg, name, app, cred, next)
			if err != nil {
				errs = append(errs, fmt.Errorf("app %s, credential %d: %w", name, i+1, err))
			}
			a.Routes = append(a.Routes, routes...)
		}
		next.apps = append(next.apps, f.apps.same(a))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, errors.Join(err, next.closeBut(f.apps))
	}
	return next, nil
}

func (f *fleet) openCredential(cfg *config.Config, name string, app config.App, cred config.Credential, next *fleetApps) ([]*worker.Route, error) {
	loaded, err := loadCredential(cred)
	if err != nil {
		return nil, err
	}
	target, roots, err := endpoint(app)
	if err != nil {
		return nil, err
	}
	var routes []*worker.Route
	for _, env := range environments(app, cred) {
		labels := routeLabels{name, env.String(), loaded.String()}
		if next.routes[labels] != nil {
			return nil, fmt.Errorf("%s is given twice for %s: name all its topics in one place", loaded, env)
		}
		spec := routeSpec{
			credential: loaded, environment: env, url: target, roots: roots,
			connections: cfg.Worker.Connections, maxConnections: cfg.Worker.MaxConnections, requestTimeout: cfg.Worker.RequestTimeout,
		}
		open, err := f.openRoute(labels, spec, cred.Topics)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", env, err)
		}
		next.routes[labels] = open
		routes = append(routes, open.route)
	}
	return routes, nil
}

// openRoute returns the route that there is, if it is as is wanted, or a new one.
func (f *fleet) openRoute(labels routeLabels, spec routeSpec, topics []string) (*openRoute, error) {
	before := f.apps.route(labels)
	if before != nil && before.spec.equal(&spec) {
		if slices.Equal(before.route.Topics, topics) {
			return before, nil
		}
		return &openRoute{spec: spec, client: before.client, route: &worker.Route{Environment: spec.environment, Topics: topics, Sender: before.client}}, nil
	}
	client, err := apns.New(apns.ClientConfig{
		Credential: spec.credential, Environment: spec.environment, URL: spec.url, RootCAs: spec.roots,
		Connections: spec.connections, MaxConnections: spec.maxConnections, RequestTimeout: spec.requestTimeout,
		Hold:  func() bool { return !f.pulse.Beats() },
		Proxy: proxy(), Wall: f.clock.Now,
		Logger: f.log.With(zap.String("app", labels.app), zap.Stringer("environment", spec.environment)),
	})
	if err != nil {
		return nil, err
	}
	return &openRoute{spec: spec, client: client, route: &worker.Route{Environment: spec.environment, Topics: topics, Sender: client}}, nil
}

// route returns the route with labels, or nil.
func (a *fleetApps) route(labels routeLabels) *openRoute {
	if a == nil {
		return nil
	}
	return a.routes[labels]
}

// same returns the app as it is already served, if it is like another one, or that one.
func (a *fleetApps) same(app *worker.App) *worker.App {
	if a == nil {
		return app
	}
	for _, b := range a.apps {
		if b.Name == app.Name && b.BundleID == app.BundleID && b.Environment == app.Environment &&
			slices.Equal(b.Canaries, app.Canaries) && slices.Equal(b.Routes, app.Routes) {
			return b
		}
	}
	return app
}

// has reports whether a client is one of a's.
func (a *fleetApps) has(c *apns.Client) bool {
	if a == nil {
		return false
	}
	for _, r := range a.routes {
		if r.client == c {
			return true
		}
	}
	return false
}

// closeBut closes the clients that are not other's too.
func (a *fleetApps) closeBut(other *fleetApps) error {
	var errs []error
	if a != nil {
		for _, r := range a.routes {
			if !other.has(r.client) {
				errs = append(errs, r.client.Close())
			}
		}
	}
	return errors.Join(errs...)
}

// connectFor is how long new connections are waited for before they are used: as long
// as two attempts may take. choice: what APNs does not let in by then it would not let
// in at a start of the worker either.
const connectFor = 5 * time.Second

// connect opens the connections of clients that are not before's too, so that nothing
// waits for them once they are used.
func (a *fleetApps) connect(ctx context.Context, before *fleetApps, log *zap.Logger) {
	ctx, cancel := context.WithTimeout(ctx, connectFor)
	defer cancel()
	var wg sync.WaitGroup
	for labels, r := range a.routes {
		if before.has(r.client) {
			continue
		}
		wg.Go(func() {
			if err := r.client.Connect(ctx); err != nil {
				log.Warn("a new credential is used before its connections are open", zap.String("app", labels.app),
					zap.String("environment", labels.environment), zap.String("credential", labels.credential), zap.Error(err))
			}
		})
	}
	wg.Wait()
}

// show registers the metrics of clients that are not before's too, in place of those
// that are only before's.
func (a *fleetApps) show(before *fleetApps, reg prometheus.Registerer) error {
	if before != nil {
		for _, r := range before.routes {
			if !a.has(r.client) {
				r.client.Hide()
			}
		}
	}
	var errs []error
	for labels, r := range a.routes {
		if !before.has(r.client) {
			errs = append(errs, r.client.Show(prometheus.WrapRegistererWith(prometheus.Labels{
				"app": labels.app, "environment": labels.environment, "credential": labels.credential,
			}, reg)))
		}
	}
	return errors.Join(errs...)
}

// prepare makes ready what another configuration needs.
func (f *fleet) prepare(cfg *config.Config) (*prepared, error) {
	next, err := f.openApps(cfg)
	if err != nil {
		return nil, err
	}
	return &prepared{
		use:     func(ctx context.Context) error { return f.use(ctx, cfg, next) },
		discard: func() { _ = next.closeBut(f.apps) }, // it always works
	}, nil
}

// use has the fleet send for other apps. It returns when nothing is on its way any more
// by what they replace, or the drain timeout is over; then that is closed.
func (f *fleet) use(ctx context.Context, cfg *config.Config, next *fleetApps) error {
	f.using.Lock()
	defer f.using.Unlock()
	was, before := f.cfg, f.apps
	if f.closed {
		return next.closeBut(before)
	}
	next.connect(ctx, before, f.log)
	if err := f.worker.Resize(cfg.Worker.MaxInFlight); err != nil {
		return errors.Join(err, next.closeBut(before))
	}
	f.put(cfg, next)
	if err := f.worker.Apply(ctx, next.apps); err != nil {
		// Nothing has changed: what is sent goes the former way, also while the worker
		// drains.
		f.put(was, before)
		_ = f.worker.Resize(was.Worker.MaxInFlight) // as it was before
		if errors.Is(err, worker.ErrStopped) {
			err = nil // it was on its way out
		}
		return errors.Join(err, next.closeBut(before))
	}
	f.logChange(before)
	return before.closeBut(next)
}

// put makes apps those that the fleet tells of and looks after.
func (f *fleet) put(cfg *config.Config, apps *fleetApps) {
	before := f.apps
	if err := apps.show(before, f.reg); err != nil {
		f.log.Error("metrics of connections cannot be told", zap.Error(err)) // a fault of ours; it sends all the same
	}
	f.cfg, f.apps = cfg, apps
	f.expect(before)
	f.setApps(cfg)
}

// logChange says what is different from before.
func (f *fleet) logChange(before *fleetApps) {
	was := make(map[string]*worker.App, len(before.apps))
	for _, a := range before.apps {
		was[a.Name] = a
	}
	for _, a := range f.apps.apps {
		switch b := was[a.Name]; {
		case b == nil:
			f.log.Info("an app was added", zap.String("app", a.Name))
		case b != a:
			f.log.Info("an app was changed", zap.String("app", a.Name))
		}
		delete(was, a.Name)
	}
	for _, name := range slices.Sorted(maps.Keys(was)) {
		f.log.Warn("an app was removed: its jobs wait for a worker that knows it, and are given up if none does for a minute", zap.String("app", name))
	}
}

// expect shows the fuses of apps, and drops those of apps that are gone.
func (f *fleet) expect(before *fleetApps) {
	served := make(map[string]bool)
	for labels, r := range f.apps.routes {
		served[labels.app] = true
		f.fuse.Expect(labels.app, r.spec.environment)
	}
	if before != nil {
		for labels := range before.routes {
			if !served[labels.app] {
				f.fuse.Forget(labels.app)
			}
		}
	}
}

// setApps tells the rest of the fleet which apps there are.
func (f *fleet) setApps(cfg *config.Config) {
	f.sweeper.SetApps(slices.Sorted(maps.Keys(cfg.Apps)), pruneAfter(cfg))
	if f.registrar != nil {
		f.registrar.SetApps(environmentsOf(cfg))
	}
}

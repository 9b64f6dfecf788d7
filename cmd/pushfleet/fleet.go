package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/zap"
	"golang.org/x/net/http/httpproxy"
	"golang.org/x/sync/errgroup"

	"github.com/pushfleet/pushfleet/apns"
	"github.com/pushfleet/pushfleet/config"
	"github.com/pushfleet/pushfleet/device"
	"github.com/pushfleet/pushfleet/feedback"
	"github.com/pushfleet/pushfleet/internal/clock"
	"github.com/pushfleet/pushfleet/store"
	"github.com/pushfleet/pushfleet/stream"
	"github.com/pushfleet/pushfleet/worker"
)

// fleet is what one worker process runs: worker, publisher, recorder, registrar
// and fuse on the same streams and token set.
//
//	worker -> publisher -> OUTCOMES -> recorder -> token set
//	   ▲                        fuse ◄────┘            ▲
//	   └─────────────────────────┘   registrar ────────┘ <- DEVICES
type fleet struct {
	worker    *worker.Worker
	publisher *feedback.Publisher
	fuse      *feedback.Fuse
	recorder  *feedback.Recorder  // nil: other processes record
	registrar *feedback.Registrar // nil as well
	sweeper   *feedback.Sweeper
	clock     *clock.Clock
	pulse     *worker.Pulse
	log       *zap.Logger
	reg       prometheus.Registerer

	using  sync.Mutex
	closed bool           // guarded by using: it has stopped
	cfg    *config.Config // of apps; only changed as they are
	apps   *fleetApps     // only changed by newFleet and use; guarded by using for close
}

// newFleet wires a worker process; without a tracer it traces nothing.
func newFleet(cfg *config.Config, streams *stream.Streams, set *store.Store, tracer trace.Tracer, log *zap.Logger, reg prometheus.Registerer) (*fleet, error) {
	f := &fleet{clock: clock.New(clock.Config{Logger: log, Metrics: reg}), pulse: worker.NewPulse(), log: log, reg: reg, cfg: cfg}
	var err error
	if f.apps, err = f.openApps(cfg); err != nil {
		return nil, err
	}
	f.publisher = feedback.NewPublisher(feedback.PublisherConfig{Streams: streams, Worker: cfg.Worker.Name, Logger: log, Now: f.clock.Now})
	f.fuse = feedback.NewFuse(feedback.FuseConfig{Streams: streams, Store: set, Name: cfg.Worker.Name, Logger: log, Metrics: reg, Now: f.clock.Now})
	if cfg.Worker.Recorder {
		f.recorder = feedback.NewRecorder(feedback.RecorderConfig{Streams: streams, TokenSet: set, Ledger: set, Fuse: f.fuse, Logger: log, Metrics: reg})
		f.registrar = feedback.NewRegistrar(feedback.RegistrarConfig{Streams: streams, Devices: set, Apps: environmentsOf(cfg), Logger: log, Metrics: reg, Now: f.clock.Now})
	}
	f.sweeper = feedback.NewSweeper(set, slices.Sorted(maps.Keys(cfg.Apps)), 0, reg, log)
	f.sweeper.PruneAfter(set, pruneAfter(cfg))
	f.expect(nil)
	if err := f.apps.show(nil, reg); err != nil {
		return nil, errors.Join(err, f.close())
	}
	f.worker, err = worker.New(worker.Config{
		Name: cfg.Worker.Name, Version: version, Apps: f.apps.apps,
		MaxInFlight: cfg.Worker.MaxInFlight, DrainTimeout: cfg.Worker.DrainTimeout,
		Streams: streams, Devices: set, Progress: set, Outcomes: f.publisher, Campaigns: set,
		Fuses: f.fuse, Pulse: f.pulse, KeepRejected: set.FuseWindow() + keepSlack,
		Logger: log, Metrics: reg, Tracer: tracer, Now: f.clock.Now,
	})
	if err != nil {
		return nil, errors.Join(err, f.close())
	}
	return f, nil
}

// environmentsOf are those that devices of each app are in if they do not say.
func environmentsOf(cfg *config.Config) map[string]device.Environment {
	environments := make(map[string]device.Environment, len(cfg.Apps))
	for name, app := range cfg.Apps {
		environments[name] = app.Environment
	}
	return environments
}

// pruneAfter is for how long devices of each app are kept without a registration.
func pruneAfter(cfg *config.Config) map[string]time.Duration {
	after := make(map[string]time.Duration)
	for name, app := range cfg.Apps {
		if app.PruneAfter > 0 {
			after[name] = app.PruneAfter
		}
	}
	return after
}

// keepSlack is how much longer than the fuse's window a message with a rejection
// that may be taken back is kept: for clocks that differ.
const keepSlack = 5 * time.Second

// environments returns those that a credential of an app is used in.
func environments(app config.App, cred config.Credential) []device.Environment {
	list := []device.Environment{cred.Environment}
	if cred.Environment == device.EnvironmentUnset {
		list = []device.Environment{device.Production, device.Sandbox}
	}
	if app.Endpoint != nil {
		// A stand-in is one environment: the app's.
		list = slices.DeleteFunc(list, func(e device.Environment) bool { return e != app.Environment })
	}
	return list
}

// endpoint returns what an app is sent to in place of Apple, and whom to trust
// there; both are zero where it is Apple.
func endpoint(app config.App) (target string, roots *x509.CertPool, err error) {
	if app.Endpoint == nil {
		return "", nil, nil
	}
	if app.Endpoint.CAFile != "" {
		if roots, err = certPool(app.Endpoint.CAFile); err != nil {
			return "", nil, fmt.Errorf("endpoint: %w", err)
		}
	}
	return app.Endpoint.URL, roots, nil
}

func loadCredential(cred config.Credential) (apns.Credential, error) {
	if cred.Key != nil {
		return apns.LoadKey(apns.KeyConfig{
			Path: cred.Key.Path, Base64: cred.Key.Base64.Reveal(), KeyID: cred.Key.KeyID, TeamID: cred.Key.TeamID,
		})
	}
	return apns.LoadCertificate(apns.CertificateConfig{Path: cred.Certificate.Path, Password: cred.Certificate.Password.Reveal()})
}

// proxy reads HTTPS_PROXY and NO_PROXY.
func proxy() func(*url.URL) (*url.URL, error) { return httpproxy.FromEnvironment().ProxyFunc() }

// parts are what runs beside the worker, and feeds on it.
func (f *fleet) parts() []func(context.Context) error {
	parts := []func(context.Context) error{f.clock.Run, f.publisher.Run, f.fuse.Run, f.sweeper.Run}
	if f.recorder != nil {
		parts = append(parts, f.recorder.Run)
	}
	return parts
}

// run works until ctx or one of the parts ends, and the worker has drained. What feeds
// on the worker stops after it.
func (f *fleet) run(ctx context.Context) error {
	after, stopAfter := context.WithCancel(context.WithoutCancel(ctx))
	defer stopAfter()
	g, ctx := errgroup.WithContext(ctx)
	ctx, stopAll := context.WithCancel(ctx)
	defer stopAll()
	var tail errgroup.Group
	for _, part := range f.parts() {
		tail.Go(func() error {
			// A worker without one of them would work on, and nobody notice what is missing.
			defer stopAll()
			return part(after)
		})
	}
	if f.registrar != nil {
		// Device changes are taken for as long as jobs are.
		g.Go(func() error { return f.registrar.Run(ctx) })
	}
	g.Go(func() error { return f.worker.Run(ctx) })
	err := g.Wait()
	stopAfter()
	return errors.Join(err, tail.Wait(), f.close())
}

func (f *fleet) close() error {
	f.using.Lock()
	defer f.using.Unlock()
	f.closed = true
	return f.apps.closeBut(nil)
}

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"runtime/debug"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/pushfleet/pushfleet/api"
	"github.com/pushfleet/pushfleet/config"
	"github.com/pushfleet/pushfleet/internal/clock"
	"github.com/pushfleet/pushfleet/stream"
)

func newAPI(g *globals) *cobra.Command {
	return &cobra.Command{
		Use:   "api",
		Short: "Serve the HTTP API, and tell webhooks what became of notifications",
		Long: `api serves the HTTP API on api.listen: devices are registered, read and removed
there, notifications handed in and followed, campaigns created and steered, with API keys
that "pushfleet key create" makes. Start as many as you like. What there is stands at
/openapi.json. Without JetStream devices are served, the rest is not.

Apps with a webhook are told there what became of their notifications, by whichever
of the processes is free.

Apps, their webhooks, the rate of API keys and the certificate can be changed while it
serves: it reads the configuration again when its files change, and at SIGHUP. One that
cannot be used is refused whole.

SIGTERM stops it taking connections; requests that came are answered within
api.drain_timeout. It serves /livez, /readyz and /metrics on the same address.`,
		Example: "  pushfleet api --config pushfleet.yaml\n  pushfleet api -c pushfleet.yaml --log-format json",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return runAPIProcess(cmd.Context(), g, nil) },
	}
}

// runAPIProcess is all of an API process. serving, if not nil, is told where.
func runAPIProcess(ctx context.Context, g *globals, serving func(net.Addr)) error {
	source, cfg, err := g.source()
	if err != nil {
		return err
	}
	log, err := logger(cfg.Log)
	if err != nil {
		return err
	}
	defer log.Sync() //nolint:errcheck // a terminal cannot be synced
	audit, err := auditLogger(cfg.Log)
	if err != nil {
		return err
	}
	defer audit.Sync() //nolint:errcheck // as above
	settings, err := apiSettings(cfg)
	if err != nil {
		return err
	}
	served := &servedAPI{first: cfg.API.Gorush}
	served.apps.Store(&cfg.Apps)
	if first, err := readServerTLS(cfg.API); err != nil {
		return err
	} else if first != nil {
		served.tls = new(servedTLS)
		served.tls.current.Store(first)
	}
	set, client, err := connectRedis(cfg.Redis)
	if err != nil {
		return err
	}
	defer client.Close()
	if os.Getenv("GOGC") == "" {
		// Little is live and much is allocated: at the default of 100 a tenth of the
		// time is the collector's.
		debug.SetGCPercent(400)
	}
	reg := newRegistry()
	watch := newRedisWatch(set, log, reg)
	day := clock.New(clock.Config{Logger: log, Metrics: reg})
	hooks, err := newWebhooks(cfg, log, reg, day.Now)
	if err != nil {
		return err
	}
	host, err := os.Hostname()
	if err != nil {
		host = "api"
	}
	spans, err := startTraces(ctx, cfg.Telemetry, os.Getenv, host, log)
	if err != nil {
		return err
	}
	defer spans.stop()
	queue := &apiQueue{set: set}
	view := newOverview(served.configured, queue.reach, set, log)
	defer view.Close()
	door, err := api.New(api.Config{
		Overview: view,
		Keys:     set, Registrations: set, TokenSet: set, Campaigns: queue, Totals: set, Queue: queue, Jobs: set, Apps: settings.Apps,
		Gorush: settings.Gorush, Fleet: queue, Fuses: queue, DeadLetters: queue, Explainer: queue, KeyStore: set,
		RateLimit: settings.RateLimit, MaxBatchBytes: int64(cfg.API.MaxBatchBytes),
		Version: version, Logger: log, Audit: audit, Metrics: reg, Tracer: spans.tracer("api"), Now: day.Now,
		Dashboard: cfg.API.Dashboard,
	})
	if err != nil {
		return err
	}
	served.door, served.hooks = door, hooks
	follow := newReloader(reloaderConfig{
		source: source, first: cfg, log: log, reg: reg, prepare: served.prepare,
		own: []string{"nats", "redis", "api", "log", "telemetry", "apps"}, live: served.live(),
	})
	checks := follow.checks(func(d *doctor) check { return d.running(queue.streams.Load, set) })
	probes := newOps(reg, watch.ready, checks, day.Notes, watch.notes, queue.notes, hooks.Notes)
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/livez", "/readyz", "/metrics":
			probes.ServeHTTP(w, r)
		default:
			door.ServeHTTP(w, r)
		}
	})
	watching, stopWatching := context.WithCancel(ctx)
	var watchers sync.WaitGroup
	watchers.Go(func() { watch.run(watching) })
	watchers.Go(func() { follow.run(watching) })
	watchers.Go(func() { _ = day.Run(watching) }) // it returns nil
	watchers.Go(func() {
		queue.run(watching, cfg, log, func(streams *stream.Streams) {
			_ = hooks.Run(watching, streams) // it returns nil
		})
	})
	err = serveAPI(ctx, cfg.API, served.tls, h, door.EndEvents, log, func(a net.Addr) {
		if settings.Gorush != nil && settings.Gorush.Key != "" {
			log.Warn("gorush's door is open: whoever reaches this address may send (api.gorush.api_key)")
		}
		log.Info("serves the HTTP API", zap.Stringer("address", a), zap.Bool("tls", cfg.API.CertFile != ""))
		if serving != nil {
			serving(a)
		}
	})
	stopWatching()
	watchers.Wait()
	return errors.Join(err, door.Close())
}

// serveAPI serves h until ctx ends and what came has been answered. stopping is told when
// it begins to stop, to end answers that would not end by themselves.
func serveAPI(ctx context.Context, cfg config.API, served *servedTLS, h http.Handler, stopping func(), log *zap.Logger, started func(net.Addr)) error {
	quiet, err := zap.NewStdLogAt(log.Named("http"), zap.DebugLevel) // mostly callers that went away
	if err != nil {
		return fmt.Errorf("make logger: %w", err)
	}
	srv := &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       30 * time.Second, // a batch over a slow line
		WriteTimeout:      60 * time.Second, // from the headers on: reading, Redis, writing
		IdleTimeout:       2 * time.Minute,  // longer than the minute of most load balancers, so that they close first
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          quiet,
	}
	srv.RegisterOnShutdown(stopping)
	if served != nil {
		srv.TLSConfig = served.tlsConfig()
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", cfg.Listen)
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	started(l.Addr())
	work, done := context.WithCancel(ctx)
	var g errgroup.Group
	g.Go(func() error {
		<-work.Done()
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), cfg.DrainTimeout)
		defer cancel()
		if err := srv.Shutdown(end); err != nil {
			_ = srv.Close() // what took longer; the callers see their connection end
			return fmt.Errorf("stop serving within %s: %w", cfg.DrainTimeout, err)
		}
		return nil
	})
	if srv.TLSConfig != nil {
		err = srv.ServeTLS(l, "", "")
	} else {
		err = srv.Serve(l)
	}
	done()
	stopped := g.Wait()
	if !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve %s: %w", cfg.Listen, err)
	}
	return stopped
}

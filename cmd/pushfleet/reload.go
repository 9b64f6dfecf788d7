package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/pushfleet/pushfleet/config"
)

// lookEvery is how often the files of the configuration are looked at. What has changed
// is in force after two looks. choice: within seconds of a change, for a few reads of
// small files.
const lookEvery = 2 * time.Second

// reloader has a process follow its configuration: at SIGHUP, and when what the files
// hold has changed. What cannot be used is refused whole.
type reloader struct {
	reloaderConfig
	hangUp  chan os.Signal
	started config.Settings // what cannot be changed is as it was then
	running config.Settings
	again   bool // it could not be read as it was at one moment

	successful, successAt prometheus.Gauge
	reloads               *prometheus.CounterVec

	mu      sync.Mutex
	found   finding  // guarded by mu: for people
	pending []string // guarded by mu: what takes effect at the next start
	apps    []string // guarded by mu: that are configured now, in order
}

// reloaderConfig is what a reloader is made of.
type reloaderConfig struct {
	source *config.Source
	first  *config.Config // that it has started with
	// own are the sections that the process has, and live the keys in them, or what they
	// begin with, that can change while it runs.
	own, live []string
	// prepare makes ready what another configuration needs, without changing anything.
	prepare func(*config.Config) (*prepared, error)
	log     *zap.Logger
	reg     prometheus.Registerer
}

// prepared is another configuration that is about to be used, or not.
type prepared struct {
	use     func(ctx context.Context) error // its error: it could not, and nothing has changed
	discard func()
}

// newReloader returns the reloader of a process that has started with what its source has
// read. From here on SIGHUP does not end the process.
func newReloader(cfg reloaderConfig) *reloader {
	r := &reloader{
		reloaderConfig: cfg, hangUp: make(chan os.Signal, 1), started: cfg.source.Settings(), running: cfg.source.Settings(),
		successful: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "pushfleet_config_reload_successful",
			Help: "0 while the configuration was changed and refused, so that the one before is in force; else 1.",
		}),
		successAt: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "pushfleet_config_reload_success_timestamp_seconds",
			Help: "When the configuration that is in force was read, in Unix seconds.",
		}),
		reloads: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "pushfleet_config_reloads_total",
			Help: "Changes of the configuration while the process ran, by what became of them: applied or refused.",
		}, []string{"result"}),
	}
	r.log = cfg.log.Named("config")
	for _, result := range []string{"applied", "refused"} {
		r.reloads.WithLabelValues(result)
	}
	r.succeeded(cfg.first, "since the start")
	cfg.reg.MustRegister(r.successful, r.successAt, r.reloads)
	signal.Notify(r.hangUp, syscall.SIGHUP)
	return r
}

// run follows the configuration until ctx ends.
func (r *reloader) run(ctx context.Context) {
	defer signal.Stop(r.hangUp)
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		select {
		case <-r.hangUp:
			r.reload(ctx)
		case <-tick.C:
			if r.again || r.source.Changed() {
				r.reload(ctx)
			}
		case <-ctx.Done():
			return
		}
	}
}

// reload reads the configuration and uses it, or says why not.
func (r *reloader) reload(ctx context.Context) {
	r.again = false
	cfg, err := r.source.Read()
	var next *prepared
	if err == nil {
		next, err = r.prepare(cfg)
	}
	if errors.Is(err, config.ErrChanging) || !r.source.Still() {
		r.again = true // what was read of the files may be of two moments
		if next != nil {
			next.discard()
		}
		return
	}
	if err == nil {
		err = next.use(ctx)
	}
	if ctx.Err() != nil {
		return
	}
	if err != nil {
		r.refused(err)
		return
	}
	changes := r.running.Changes(r.source.Settings())
	r.running = r.source.Settings()
	r.reloads.WithLabelValues("applied").Inc()
	r.succeeded(cfg, "read again at "+time.Now().UTC().Format(time.RFC3339))
	r.log.Info("the configuration was read again, and is in force", zap.Strings("changed", few(changes)))
	if len(r.pending) > 0 {
		r.log.Warn("takes effect at the next start: " + strings.Join(few(r.pending), ", "))
	}
}

// refused tells that what was read is not in force.
func (r *reloader) refused(err error) {
	r.reloads.WithLabelValues("refused").Inc()
	r.successful.Set(0)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.found = failed("configuration", "Mend the files; they are read again by themselves. Until then this process must not be restarted.",
		"it was changed at %s and refused, the one before is in force: %v", time.Now().UTC().Format(time.RFC3339), err)
	r.log.Error("the configuration was changed and cannot be used: the one before stays in force", zap.Strings("problems", strings.Split(err.Error(), "\n")))
}

// succeeded tells that what was read is in force.
func (r *reloader) succeeded(cfg *config.Config, when string) {
	r.successful.Set(1)
	r.successAt.Set(float64(time.Now().UnixMilli()) / 1000)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.apps = slices.Sorted(maps.Keys(cfg.Apps))
	r.pending = r.notLive(r.started.Changes(r.source.Settings()))
	r.found = ok("configuration", "in force, %s", when)
	if len(r.pending) > 0 {
		r.found = warning("configuration", "Restart the process when it suits.", "in force, %s; takes effect at the next start: %s", when, strings.Join(few(r.pending), ", "))
	}
}

// notLive returns those of keys that are the process's and cannot change while it runs.
func (r *reloader) notLive(keys []string) []string {
	begins := func(key string, with []string) bool {
		return slices.ContainsFunc(with, func(w string) bool { return key == w || strings.HasPrefix(key, w+".") })
	}
	return slices.DeleteFunc(keys, func(key string) bool { return !begins(key, r.own) || begins(key, r.live) })
}

// checks are what is known of the configuration, and then what a doctor looks at: with
// the settings that the process has started with, for the apps that it has now.
func (r *reloader) checks(look func(*doctor) check) check {
	return func(ctx context.Context) []finding {
		d := newDoctorOf(r.first)
		r.mu.Lock()
		found := r.found
		d.apps = r.apps
		r.mu.Unlock()
		return append([]finding{found}, look(d)(ctx)...)
	}
}

// few is so many of keys as can be read in a line.
func few(keys []string) []string {
	const most = 20
	if len(keys) <= most {
		return keys
	}
	return append(slices.Clone(keys[:most]), fmt.Sprintf("and %d more", len(keys)-most))
}

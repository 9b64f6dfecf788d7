package feedback

import (
	"context"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/pushfleet/pushfleet/store"
)

// growthPeriod is how long one process is at the growth of an app's token set
// before any may take its place, and how often it is looked at whether it should
// grow.
const growthPeriod = 10 * time.Second

// Grown grows with what is registered; see [store.Store].
type Grown interface {
	Growth(ctx context.Context, app string) (store.Growth, error)
	ClaimGrowth(ctx context.Context, app string, period time.Duration) (bool, error)
	Grow(ctx context.Context, app string) (store.Growth, error)
}

// growth doubles the buckets of token sets that have become too full.
type growth struct {
	set     Grown
	buckets *prometheus.GaugeVec
	split   *prometheus.GaugeVec
	devices *prometheus.GaugeVec
	log     *zap.Logger
}

func newGrowth(set Grown, metrics prometheus.Registerer, log *zap.Logger) *growth {
	g := &growth{
		set: set, log: log,
		buckets: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "pushfleet_tokenset_buckets",
			Help: "Buckets of the app's token set; while they double, how many there were before.",
		}, []string{"app"}),
		split: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "pushfleet_tokenset_split_ratio",
			Help: "While the buckets of the app's token set double, the share of them that is split; else 0.",
		}, []string{"app"}),
		devices: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "pushfleet_device_tokens",
			Help: "About how many device tokens the app's token set has, quarantined and remembered ones among them. Only the process that looked last tells it: take the maximum.",
		}, []string{"app"}),
	}
	if metrics != nil {
		metrics.MustRegister(g.buckets, g.split, g.devices)
	}
	return g
}

// run looks at every app now and then, until ctx ends.
func (g *growth) run(ctx context.Context, apps func() []string) {
	var before []string
	for ctx.Err() == nil {
		begun := time.Now()
		list := apps()
		for _, app := range before {
			if !slices.Contains(list, app) {
				g.forget(app)
			}
		}
		before = list
		for _, app := range list {
			if err := g.look(ctx, app, growthPeriod/time.Duration(len(list))); err != nil && ctx.Err() == nil {
				g.log.Warn("cannot let the token set grow", zap.String("app", app), zap.Error(err))
			}
		}
		pause(ctx, growthPeriod-time.Since(begun))
	}
}

// forget drops what is told of an app.
func (g *growth) forget(app string) {
	g.buckets.DeleteLabelValues(app)
	g.split.DeleteLabelValues(app)
	g.devices.DeleteLabelValues(app)
}

// look shows how far the buckets of app are, and takes steps of doubling them for
// a while if that is due and nobody else is at it. One app must not keep the others
// waiting.
func (g *growth) look(ctx context.Context, app string, while time.Duration) error {
	now, err := g.set.Growth(ctx, app)
	if err != nil {
		return err
	}
	g.show(app, now)
	mine, err := g.set.ClaimGrowth(ctx, app, growthPeriod)
	if err != nil || !mine {
		g.devices.DeleteLabelValues(app) // others know better by now
		return err
	}
	until := time.Now().Add(while)
	for ctx.Err() == nil && time.Now().Before(until) {
		step := time.Now()
		now, err := g.set.Grow(ctx, app)
		if err != nil {
			return err
		}
		g.show(app, now)
		g.tell(app, now)
		if !now.Doubling {
			return nil
		}
		// choice: gentle. What is sent meanwhile has Redis for at least half of the time.
		pause(ctx, time.Since(step))
	}
	if now, err = g.set.Growth(ctx, app); err == nil && now.Doubling {
		g.log.Info("the token set doubles its buckets", zap.String("app", app),
			zap.Int("buckets", now.Buckets), zap.Int("split", now.Split))
	}
	return err
}

func (g *growth) tell(app string, now store.Growth) {
	switch {
	case now.Began:
		g.log.Info("the token set begins to double its buckets", zap.String("app", app), zap.Int("buckets", now.Buckets))
	case now.Ended:
		g.log.Info("the token set has doubled its buckets", zap.String("app", app), zap.Int("buckets", now.Buckets))
	}
}

func (g *growth) show(app string, now store.Growth) {
	g.buckets.WithLabelValues(app).Set(float64(now.Buckets))
	ratio := 0.0
	if now.Doubling && now.Buckets > 0 {
		ratio = float64(now.Split) / float64(now.Buckets)
	}
	g.split.WithLabelValues(app).Set(ratio)
	if now.Devices >= 0 {
		g.devices.WithLabelValues(app).Set(float64(now.Devices))
	}
}

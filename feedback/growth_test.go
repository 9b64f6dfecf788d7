package feedback_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/pushfleet/pushfleet/device"
	"github.com/pushfleet/pushfleet/feedback"
	"github.com/pushfleet/pushfleet/internal/testenv"
	"github.com/pushfleet/pushfleet/store"
)

// watched tells when the buckets have doubled.
type watched struct {
	*store.Store
	failures int // steps that fail first
	ended    chan struct{}
}

func (w *watched) Grow(ctx context.Context, app string) (store.Growth, error) {
	if w.failures--; w.failures >= 0 {
		return store.Growth{}, errors.New("redis is away")
	}
	g, err := w.Store.Grow(ctx, app)
	if g.Ended {
		close(w.ended)
	}
	return g, err
}

func TestSweeperLetsTheTokenSetGrow(t *testing.T) {
	t.Parallel()
	set := &watched{
		Store: store.New(testenv.Redis(t), store.Config{Buckets: 4, DevicesPerBucket: 10}), ended: make(chan struct{}),
	}
	var regs []device.Registration
	for i := range 60 {
		regs = append(regs, device.Registration{Token: device.TokenFromRaw(fmt.Sprintf("%032d", i)), Environment: device.Production})
	}
	if _, err := set.RegisterMany(t.Context(), "shop", regs); err != nil {
		t.Fatal(err)
	}
	core, logs := observer.New(zapcore.InfoLevel)
	metrics := prometheus.NewPedanticRegistry()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	stopped := make(chan error, 1)
	s := feedback.NewSweeper(set, []string{"shop"}, 0, metrics, zap.New(core))
	go func() { stopped <- s.Run(ctx) }()
	select {
	case <-set.ended:
	case <-time.After(20 * time.Second):
		t.Fatal("the buckets do not double")
	}
	cancel()
	if err := <-stopped; err != nil {
		t.Errorf("Run: %v", err)
	}
	if n, err := set.Buckets(t.Context(), "shop"); err != nil || n != 8 {
		t.Errorf("buckets: got %d, %v, want 8", n, err)
	}
	for _, message := range []string{"the token set begins to double its buckets", "the token set has doubled its buckets"} {
		if n := logs.FilterMessage(message).Len(); n != 1 {
			t.Errorf("log %q: got %d times, want once", message, n)
		}
	}
	families, err := metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := make(map[string]float64)
	for _, f := range families {
		got[f.GetName()] = f.GetMetric()[0].GetGauge().GetValue()
	}
	if got["pushfleet_tokenset_buckets"] != 8 || got["pushfleet_tokenset_split_ratio"] != 0 {
		t.Errorf("metrics: got %v, want 8 buckets, none being split", got)
	}
	// All four buckets were looked at before they doubled.
	if got["pushfleet_device_tokens"] != 60 {
		t.Errorf("metrics: got %v device tokens, want 60", got["pushfleet_device_tokens"])
	}
}

// One process is at it; what goes wrong is told, and its turn comes again.
func TestSweeperSaysWhyNothingGrows(t *testing.T) {
	t.Parallel()
	set := &watched{
		Store: store.New(testenv.Redis(t), store.Config{Buckets: 4}), failures: 1 << 30, ended: make(chan struct{}),
	}
	core, logs := observer.New(zapcore.WarnLevel)
	told := make(chan struct{}, 100)
	log := zap.New(core, zap.Hooks(func(zapcore.Entry) error {
		told <- struct{}{}
		return nil
	}))
	run(t, feedback.NewSweeper(set, []string{"shop"}, 0, nil, log).Run)
	select {
	case <-told:
	case <-time.After(20 * time.Second):
		t.Fatal("nothing is told")
	}
	if n := logs.FilterMessage("cannot let the token set grow").Len(); n == 0 {
		t.Errorf("log: got %v, want a warning", logs.All())
	}
}

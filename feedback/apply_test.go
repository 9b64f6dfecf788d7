package feedback_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/pushfleet/pushfleet/device"
	"github.com/pushfleet/pushfleet/feedback"
	"github.com/pushfleet/pushfleet/internal/testenv"
	"github.com/pushfleet/pushfleet/job"
	"github.com/pushfleet/pushfleet/store"
	"github.com/pushfleet/pushfleet/stream"
)

// applying runs webhooks that are changed while they run.
func (tl *teller) applying(receivers map[string]feedback.Receiver) *feedback.Webhooks {
	tl.t.Helper()
	streams, err := stream.Open(tl.t.Context(), testenv.Connect(tl.t, tl.js.Server.URL()), stream.Config{OutcomesBytes: 1 << 30})
	if err != nil {
		tl.t.Fatal(err)
	}
	hooks, err := feedback.NewWebhooks(feedback.WebhooksConfig{Receivers: receivers, Metrics: tl.reg, DrainTimeout: 10 * time.Second})
	if err != nil {
		tl.t.Fatal(err)
	}
	run(tl.t, func(ctx context.Context) error { return hooks.Run(ctx, streams) })
	return hooks
}

// A receiver that moves is told at its new address what it has not taken at the old
// one, each outcome once; one that stays is not disturbed, and one that goes is left
// alone.
func TestWebhookMoves(t *testing.T) {
	tl := newTeller(t, "bank")
	former, next, bank := newBackend(t, httptest.NewServer), newBackend(t, httptest.NewServer), newBackend(t, httptest.NewServer)
	release := make(chan struct{})
	bank.answers(func(w http.ResponseWriter, _ *http.Request) {
		<-release
		w.WriteHeader(http.StatusNoContent)
	})
	hooks := tl.applying(map[string]feedback.Receiver{"shop": receiver(former), "bank": receiver(bank)})
	tl.tell("bank", job.Bulk, 1)
	bank.next()
	tl.tell("shop", job.Bulk, 100)
	former.until(100)
	if err := hooks.Apply(map[string]feedback.Receiver{"shop": receiver(next), "bank": receiver(bank)}); err != nil {
		t.Fatal(err)
	}
	tl.eventually("the new receiver is told", func() bool {
		tl.tell("shop", job.Bulk, 1)
		next.mu.Lock()
		defer next.mu.Unlock()
		return len(next.taken) > 0
	})
	told := tl.n - 2 // without the two before the move
	tl.eventually("all of it", func() bool {
		former.mu.Lock()
		next.mu.Lock()
		defer former.mu.Unlock()
		defer next.mu.Unlock()
		return len(former.taken)+len(next.taken) == 100+told
	})
	next.once(len(next.taken))
	for id := range next.taken {
		if former.taken[id] > 0 {
			t.Errorf("event %s: both have it", id)
		}
	}
	close(release)
	bank.until(1)
	bank.once(1) // not cut off by the change

	if err := hooks.Apply(map[string]feedback.Receiver{"bank": receiver(bank)}); err != nil {
		t.Fatal(err)
	}
	tl.eventually("its metrics are gone", func() bool { return seriesOf(t, tl.reg, "shop") == 0 })
	before := len(next.posts())
	tl.tell("shop", job.Bulk, 1)
	tl.tell("bank", job.Bulk, 1)
	bank.until(2)
	if got := len(next.posts()); got != before {
		t.Errorf("POSTs after it was removed: got %d, want %d", got, before)
	}
}

// seriesOf counts what a registry has of an app.
func seriesOf(t *testing.T, reg *prometheus.Registry, app string) (n int) {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if l.GetName() == "app" && l.GetValue() == app {
					n++
				}
			}
		}
	}
	return n
}

// A receiver that cannot be used changes nothing.
func TestWebhookApplyRefuses(t *testing.T) {
	tl := newTeller(t)
	b := newBackend(t, httptest.NewServer)
	hooks := tl.applying(map[string]feedback.Receiver{"shop": receiver(b)})
	bad := receiver(b)
	bad.URL = "ftp://example.com"
	if err := hooks.Apply(map[string]feedback.Receiver{"bank": bad}); err == nil || !strings.Contains(err.Error(), "webhook of bank") {
		t.Errorf("got %v, want it refused by its app", err)
	}
	tl.tell("shop", job.Bulk, 3)
	b.until(3)
}

// Changes that wait for an app are applied once it is there.
func TestRegistrarSetApps(t *testing.T) {
	d := newDesk(t)
	reg := prometheus.NewRegistry()
	r := feedback.NewRegistrar(feedback.RegistrarConfig{
		Streams: d.js.Streams, Devices: d.set, Metrics: reg, Apps: map[string]device.Environment{"shop": device.Production},
	})
	run(t, r.Run)
	register := func(app string, n int) {
		d.publish(app, fmt.Sprintf(`{"action":"register","token":%q}`, token(n).Hex()))
	}
	register("shop", 1)
	d.done()
	r.SetApps(map[string]device.Environment{"bank": device.Sandbox})
	register("bank", 2)
	d.done()
	if got, ok := d.device("bank", token(2)); !ok || got.Environment != device.Sandbox {
		t.Errorf("bank: got %+v, %t, want it in the sandbox", got, ok)
	}
	if shop, bank := seriesOf(t, reg, "shop"), seriesOf(t, reg, "bank"); shop != 0 || bank == 0 {
		t.Errorf("metrics: got %d series of shop and %d of bank, want bank's alone", shop, bank)
	}
	register("shop", 3)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for messages(t, d.js, stream.Devices) != 1 {
		select {
		case <-tick.C:
		case <-d.ctx.Done():
			t.Fatal("the change of a removed app does not wait")
		}
	}
	if _, ok := d.device("shop", token(3)); ok {
		t.Error("shop: got it registered after the app was removed")
	}
}

// counted counts what is swept, of token sets of one bucket.
type counted struct {
	mu     sync.Mutex
	swept  map[string]int
	pruned map[string]time.Duration
}

func (c *counted) Buckets(context.Context, string) (int, error) { return 1, nil }
func (c *counted) Growth(context.Context, string) (store.Growth, error) {
	return store.Growth{Buckets: 1, Devices: 7}, nil
}

func (c *counted) ClaimGrowth(context.Context, string, time.Duration) (bool, error) { return true, nil }

func (c *counted) Grow(ctx context.Context, app string) (store.Growth, error) {
	return c.Growth(ctx, app)
}

func (c *counted) Sweep(_ context.Context, app string, _ int) (store.Swept, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.swept[app]++
	return store.Swept{}, nil
}

func (c *counted) PruneBucket(_ context.Context, app string, _ int, after time.Duration) (store.Pruned, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.pruned[app] = after
	return store.Pruned{}, nil
}

func (c *counted) sweeps(app string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.swept[app]
}

func TestSweeperSetApps(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		set := &counted{swept: make(map[string]int), pruned: make(map[string]time.Duration)}
		reg := prometheus.NewRegistry()
		s := feedback.NewSweeper(set, []string{"shop"}, time.Second, reg, zap.NewNop())
		s.PruneAfter(set, nil)
		ctx, cancel := context.WithCancel(t.Context())
		stopped := make(chan error, 1)
		go func() { stopped <- s.Run(ctx) }()
		<-time.After(30 * time.Second)
		s.SetApps([]string{"bank"}, map[string]time.Duration{"bank": time.Hour})
		<-time.After(2 * time.Second)
		shop := set.sweeps("shop")
		<-time.After(30 * time.Second)
		cancel()
		if err := <-stopped; err != nil {
			t.Error(err)
		}
		if got := set.sweeps("shop"); shop == 0 || got != shop {
			t.Errorf("shop: swept %d times, and %d after it was removed, want some and none", shop, got-shop)
		}
		if got := set.sweeps("bank"); got == 0 {
			t.Error("bank: not swept")
		}
		if got := set.pruned["bank"]; got != time.Hour {
			t.Errorf("bank: pruned after %s, want an hour", got)
		}
		if shop, bank := seriesOf(t, reg, "shop"), seriesOf(t, reg, "bank"); shop != 0 || bank == 0 {
			t.Errorf("metrics: got %d series of shop and %d of bank, want bank's alone", shop, bank)
		}
	})
}

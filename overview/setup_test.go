package overview_test

import (
	"context"
	"encoding/base64"
	"fmt"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"

	"github.com/pushfleet/pushfleet/apns"
	"github.com/pushfleet/pushfleet/apns/apnstest"
	"github.com/pushfleet/pushfleet/device"
	"github.com/pushfleet/pushfleet/feedback"
	"github.com/pushfleet/pushfleet/internal/testenv"
	"github.com/pushfleet/pushfleet/job"
	"github.com/pushfleet/pushfleet/overview"
	"github.com/pushfleet/pushfleet/store"
	"github.com/pushfleet/pushfleet/stream"
	"github.com/pushfleet/pushfleet/worker"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(testenv.HoldRedis(m), goleak.IgnoreAnyFunction(testenv.RedisDialing))
}

const bundle = "com.example.shop"

// fixture is JetStream, Redis, the simulator, and a watcher of them.
type fixture struct {
	t   *testing.T
	ctx context.Context
	js  *testenv.JetStream
	set *store.Store
	sim *apnstest.Server

	*overview.Watcher
}

func setup(t *testing.T, cfg apnstest.Config) *fixture {
	t.Helper()
	t.Parallel()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	f := &fixture{t: t, ctx: ctx, js: testenv.NewJetStream(t), set: store.New(testenv.Redis(t), store.Config{Buckets: 16})}
	var err error
	if f.sim, err = apnstest.New(cfg); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.sim.Close() })
	f.Watcher = f.watcher(func() (*stream.Streams, error) { return f.js.Streams, nil })
	return f
}

// watcher is one that looks often and does not linger.
func (f *fixture) watcher(streams func() (*stream.Streams, error)) *overview.Watcher {
	f.t.Helper()
	w := overview.New(overview.Config{
		Streams: streams, Devices: f.set, Every: 50 * time.Millisecond, Linger: 50 * time.Millisecond,
		Apps: func() map[string]overview.AppConfig {
			return map[string]overview.AppConfig{"shop": {BundleID: bundle, Environment: "production"}, "news": {Environment: "sandbox"}}
		},
	})
	f.t.Cleanup(w.Close)
	return w
}

// start runs a worker that sends to the simulator, until stop.
func (f *fixture) start(name string) (stop func()) {
	f.t.Helper()
	pem, err := f.sim.KeyPEM()
	if err != nil {
		f.t.Fatal(err)
	}
	cred, err := apns.LoadKey(apns.KeyConfig{Base64: encode(pem), KeyID: f.sim.KeyID(), TeamID: f.sim.TeamID()})
	if err != nil {
		f.t.Fatal(err)
	}
	return f.startWith(name, cred, f.sim.URL())
}

func (f *fixture) startWith(name string, cred apns.Credential, url string) (stop func()) {
	f.t.Helper()
	log := zaptest.NewLogger(f.t, zaptest.Level(zap.ErrorLevel))
	client, err := apns.New(apns.ClientConfig{Credential: cred, Environment: device.Production, URL: url, RootCAs: f.sim.CAPool()})
	if err != nil {
		f.t.Fatal(err)
	}
	pub := feedback.NewPublisher(feedback.PublisherConfig{Streams: f.js.Streams, Worker: name, Logger: log})
	rec := feedback.NewRecorder(feedback.RecorderConfig{Streams: f.js.Streams, TokenSet: f.set, Ledger: f.set, Logger: log})
	w, err := worker.New(worker.Config{
		Name: name, Version: "test", DrainTimeout: 5 * time.Second, MaxInFlight: 4 * job.MaxRecipients,
		StrayInterval: 50 * time.Millisecond, BacklogInterval: 50 * time.Millisecond, ReportInterval: 100 * time.Millisecond,
		Apps: []*worker.App{{
			Name: "shop", BundleID: bundle, Environment: device.Production,
			Routes: []*worker.Route{{Environment: device.Production, Sender: client}},
		}},
		Streams: f.js.Streams, Devices: f.set, Progress: f.set, Outcomes: pub, Campaigns: f.set, Logger: log,
	})
	if err != nil {
		f.t.Fatal(err)
	}
	work, stopWork := context.WithCancel(context.Background())
	tail, stopTail := context.WithCancel(context.Background())
	var head, tails sync.WaitGroup
	head.Go(func() {
		if err := w.Run(work); err != nil {
			f.t.Errorf("worker: %v", err)
		}
	})
	tails.Go(func() { _ = pub.Run(tail) })
	tails.Go(func() { _ = rec.Run(tail) })
	stop = sync.OnceFunc(func() {
		stopWork()
		head.Wait()
		stopTail()
		tails.Wait()
		_ = client.Close()
	})
	f.t.Cleanup(stop)
	return stop
}

func encode(pem []byte) string { return base64.StdEncoding.EncodeToString(pem) }

// token returns the n-th device token of the tests.
func token(n int) device.Token { return device.TokenFromRaw(fmt.Sprintf("token-%026d", n)) }

// publish publishes a job to each of n device tokens, from first on.
func (f *fixture) publish(lane job.Lane, first, n int) {
	f.t.Helper()
	for i := first; i < first+n; i++ {
		j := &job.Job{ID: fmt.Sprintf("%s-%d", lane, i), To: job.Recipients{Tokens: []device.Token{token(i)}}, Notification: &job.Notification{Title: "hello"}}
		if _, err := f.js.PublishJob(f.ctx, "shop", lane, j); err != nil {
			f.t.Fatal(err)
		}
	}
}

// until follows the fleet until it is as it should be, and returns it.
func (f *fixture) until(what string, is func(*overview.Fleet) bool) *overview.Fleet {
	f.t.Helper()
	follower, err := f.Follow()
	if err != nil {
		f.t.Fatal(err)
	}
	defer follower.Close()
	var last *overview.Fleet
	for {
		fleet, _, err := follower.Next(f.ctx)
		if err != nil {
			f.t.Fatalf("%s: %v; got %s", what, err, show(last))
		}
		if last = fleet; is(fleet) {
			return fleet
		}
	}
}

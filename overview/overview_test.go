package overview_test

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/pushfleet/pushfleet/apns"
	"github.com/pushfleet/pushfleet/apns/apnstest"
	"github.com/pushfleet/pushfleet/campaign"
	"github.com/pushfleet/pushfleet/device"
	"github.com/pushfleet/pushfleet/job"
	"github.com/pushfleet/pushfleet/overview"
	"github.com/pushfleet/pushfleet/stream"
)

func show(f *overview.Fleet) string {
	text, err := json.Marshal(f)
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// What two workers sent is what the fleet says.
func TestFleetAgreesWithWhatWasSent(t *testing.T) {
	f := setup(t, apnstest.Config{Latency: 30 * time.Millisecond})
	const sent, dead = 400, 20
	gone := time.Now().Add(time.Minute) // after the registration, whatever the clocks say
	for i := range dead {
		if err := f.sim.SetDevice(token(i).Hex(), apnstest.Device{DeadSince: &gone}); err != nil {
			t.Fatal(err)
		}
		if _, err := f.set.Register(f.ctx, "shop", device.Registration{Token: token(i), Environment: device.Production}); err != nil {
			t.Fatal(err)
		}
	}
	f.start("w1")
	f.start("w2")
	f.until("both workers", func(fl *overview.Fleet) bool {
		return len(fl.Workers) == 2 && fl.Workers[0].SeenAt != nil && fl.Workers[1].SeenAt != nil
	})
	f.publish(job.Transactional, 0, sent/2)
	f.publish(job.Bulk, sent/2, sent/2)
	var fastest, p99 float64
	var connections, inFlight int
	fl := f.until("all is sent", func(fl *overview.Fleet) bool {
		a := fl.Apps["shop"]
		fastest = max(fastest, a.PerSecond)
		if a.P99 != nil {
			p99 = max(p99, *a.P99)
		}
		accepted, rejected := int64(0), int64(0)
		for _, w := range fl.Workers {
			accepted += w.Apps["shop"].Accepted
			rejected += w.Apps["shop"].Rejected
			connections = max(connections, w.Apps["shop"].Connections)
			inFlight = max(inFlight, w.InFlight)
			if w.Apps["shop"].Failed != 0 {
				t.Fatalf("failed: got %s, want none", show(fl))
			}
		}
		return accepted == sent-dead && rejected == dead && a.Backlog["bulk"].Messages == 0 && a.Backlog["transactional"].Messages == 0
	})
	if got := f.sim.Stats().Accepted; got != sent-dead {
		t.Errorf("the simulator accepted %d, want %d", got, sent-dead)
	}
	for _, w := range fl.Workers {
		if w.Version != "test" || w.Since == nil || w.Problem != "" || w.Apps["shop"].Held != "" || w.Apps["shop"].Accepted == 0 {
			t.Errorf("worker: got %+v, want one that sends, and says since when", w)
		}
	}
	if fastest <= 0 || connections < 1 {
		t.Errorf("got at most %v per second over %d connections, want some", fastest, connections)
	}
	// The simulator takes 30 ms for each.
	if p99 < 25 || p99 > 5000 {
		t.Errorf("p99 of APNs: got %v ms, want 30 or more", p99)
	}
	if len(fl.Unknown) > 0 || len(fl.Apps["shop"].Fuses) != 1 || fl.Apps["shop"].BundleID != bundle {
		t.Errorf("got %s, want an app that is wholly known", show(fl))
	}
	// It is over: the window moves on, and nothing waits.
	f.until("nothing is sent any more", func(fl *overview.Fleet) bool { return fl.Apps["shop"].PerSecond == 0 && fl.Apps["shop"].P99 == nil })

	// A census of its own: the one of the session may be a minute old.
	w := f.watcher(func() (*stream.Streams, error) { return f.js.Streams, nil })
	got, err := w.Fleet(f.ctx)
	if err != nil {
		t.Fatal(err)
	}
	if d := got.Apps["shop"].Devices; d == nil || d.Removed != dead || d.Estimated || got.Apps["shop"].RemovedByReason["Unregistered"] != dead {
		t.Errorf("devices: got %s, want %d removed as Unregistered", show(got), dead)
	}
}

// What waits is told, with how old it is; nobody takes it.
func TestBacklogWithoutWorkers(t *testing.T) {
	f := setup(t, apnstest.Config{})
	f.publish(job.Bulk, 0, 3)
	fl := f.until("the backlog", func(fl *overview.Fleet) bool { return fl.Apps["shop"].Backlog["bulk"].Messages == 3 })
	if b := fl.Apps["shop"].Backlog["bulk"]; b.Notifications != 3 || b.OldestMS <= 0 || b.OldestMS > time.Minute.Milliseconds() {
		t.Errorf("backlog: got %+v, want three, and how old the first is", b)
	}
	if b := fl.Apps["shop"].Backlog["transactional"]; b != (overview.FleetLane{}) {
		t.Errorf("backlog of the other lane: got %+v, want nothing", b)
	}
	if len(fl.Workers) != 0 {
		t.Errorf("workers: got %+v, want none", fl.Workers)
	}
}

// A worker that stops goes at once; one that is killed counts for nothing after five
// seconds, and goes with its presence.
func TestWorkersGo(t *testing.T) {
	f := setup(t, apnstest.Config{})
	follower, err := f.Follow() // one session for all
	if err != nil {
		t.Fatal(err)
	}
	defer follower.Close()
	stop := f.start("w1")
	f.until("the worker", func(fl *overview.Fleet) bool { return len(fl.Workers) == 1 && fl.Workers[0].SeenAt != nil })
	begun := time.Now()
	stop()
	f.until("no worker", func(fl *overview.Fleet) bool { return len(fl.Workers) == 0 })
	if took := time.Since(begun); took > 4*time.Second {
		t.Errorf("a worker that stopped was shown for %s, want it gone at once", took)
	}

	report := stream.Report{Worker: "killed", Version: "test", Since: time.Now(), Seconds: 5, Apps: map[string]stream.AppReport{
		"shop": {Connections: 2, Wanted: 2, InFlight: 7, Total: stream.Settled{Accepted: 10}, Recent: stream.Settled{Accepted: 10}},
	}}
	if err := f.js.Announce(f.ctx, "killed", stream.Presence{Version: "test", Apps: []string{"shop"}}); err != nil {
		t.Fatal(err)
	}
	f.until("what it does", func(fl *overview.Fleet) bool {
		if err := f.js.Report(&report); err != nil {
			t.Fatal(err)
		}
		return len(fl.Workers) == 1 && fl.Workers[0].InFlight == 7 && fl.Apps["shop"].PerSecond == 2
	})
	fl := f.until("it is silent", func(fl *overview.Fleet) bool { return len(fl.Workers) == 1 && fl.Workers[0].Problem != "" })
	if w := fl.Workers[0]; !strings.HasPrefix(w.Problem, "not heard for ") || w.InFlight != 0 || w.Apps["shop"].Connections != 0 || w.Apps["shop"].Accepted != 10 || fl.Apps["shop"].PerSecond != 0 {
		t.Errorf("got %s, want a worker that does not count", show(fl))
	}
	// Its presence goes by itself after 30 s: here it is taken away.
	js, err := jetstream.New(f.js.NC)
	if err != nil {
		t.Fatal(err)
	}
	kv, err := js.KeyValue(f.ctx, "pushfleet-workers")
	if err == nil {
		err = kv.Delete(f.ctx, "killed")
	}
	if err != nil {
		t.Fatal(err)
	}
	f.until("it is gone", func(fl *overview.Fleet) bool { return len(fl.Workers) == 0 })
}

// A worker that cannot send says why.
func TestWorkersSayWhy(t *testing.T) {
	f := setup(t, apnstest.Config{})
	other, err := apnstest.New(apnstest.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = other.Close() })
	pem, err := other.KeyPEM()
	if err != nil {
		t.Fatal(err)
	}
	cred, err := apns.LoadKey(apns.KeyConfig{Path: "", Base64: encode(pem), KeyID: other.KeyID(), TeamID: other.TeamID()})
	if err != nil {
		t.Fatal(err)
	}
	f.startWith("stranger", cred, f.sim.URL())
	f.startWith("lonely", cred, "https://127.0.0.1:1")
	f.publish(job.Bulk, 0, 50)
	seen := make(map[string]string)
	f.until("why", func(fl *overview.Fleet) bool {
		for _, w := range fl.Workers {
			if held := w.Apps["shop"].Held; held != "" {
				seen[w.Name] = held
			}
		}
		return strings.Contains(seen["stranger"], "ProviderToken") && strings.Contains(seen["lonely"], "production: no connection to APNs: ")
	})
}

// Campaigns are told whole at first, and then what changes.
func TestCampaigns(t *testing.T) {
	f := setup(t, apnstest.Config{})
	create := func(app, id string) {
		t.Helper()
		def, err := campaign.Parse([]byte(`{"id":"` + id + `","audience":{"all":true},"notification":{"title":"x"},"start_at":"2100-01-01T00:00:00Z"}`))
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := f.js.NewCampaign(f.ctx, app, def, time.Now()); err != nil {
			t.Fatal(err)
		}
	}
	create("shop", "spring")
	create("news", "daily")
	early, err := f.Follow()
	if err != nil {
		t.Fatal(err)
	}
	defer early.Close()
	next := func(fo *overview.Follower) *overview.Changes {
		t.Helper()
		for {
			_, c, err := fo.Next(f.ctx)
			if err != nil {
				t.Fatal(err)
			}
			if c != nil {
				return c
			}
		}
	}
	if c := next(early); !c.Whole || len(c.Campaigns) != 2 {
		t.Errorf("at first: got %+v, want both", c)
	}
	begun := time.Now()
	if _, err := f.js.ChangeCampaign(f.ctx, "shop", "spring", func(st *campaign.Status) error { return st.Pause(time.Now()) }); err != nil {
		t.Fatal(err)
	}
	if c := next(early); c.Whole || len(c.Campaigns) != 1 || c.Campaigns[0].ID != "spring" || c.Campaigns[0].State != campaign.Paused {
		t.Errorf("after a pause: got %+v, want that alone", c)
	}
	if took := time.Since(begun); took > 2*time.Second {
		t.Errorf("a pause was seen after %s, want it at once", took)
	}
	late, err := f.Follow()
	if err != nil {
		t.Fatal(err)
	}
	defer late.Close()
	if c := next(late); !c.Whole || len(c.Campaigns) != 2 {
		t.Errorf("who comes later: got %+v, want both", c)
	}
	js, err := jetstream.New(f.js.NC)
	if err != nil {
		t.Fatal(err)
	}
	kv, err := js.KeyValue(f.ctx, "pushfleet-campaigns")
	if err == nil {
		err = kv.Delete(f.ctx, "news.daily")
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, fo := range []*overview.Follower{early, late} {
		if c := next(fo); c.Whole || len(c.Campaigns) != 0 || len(c.Deleted) != 1 || c.Deleted[0] != (overview.DeletedCampaign{App: "news", ID: "daily"}) {
			t.Errorf("after a deletion: got %+v, want that", c)
		}
	}
}

// Without JetStream, devices are told, and what is not known.
func TestFleetWithoutJetStream(t *testing.T) {
	f := setup(t, apnstest.Config{})
	if _, err := f.set.Register(f.ctx, "shop", device.Registration{Token: token(1), Environment: device.Production}); err != nil {
		t.Fatal(err)
	}
	w := f.watcher(func() (*stream.Streams, error) { return nil, errors.New("there is none") })
	fl, err := w.Fleet(f.ctx)
	if err != nil {
		t.Fatal(err)
	}
	if d := fl.Apps["shop"].Devices; d == nil || d.Active != 1 {
		t.Errorf("got %s, want a device", show(fl))
	}
	if len(fl.Unknown) != 1 || !strings.Contains(fl.Unknown[0], "workers, backlog, fuses and campaigns: there is none") || fl.Apps["shop"].Backlog != nil {
		t.Errorf("got %s, want that the rest is not known", show(fl))
	}
}

// Whoever follows when it is closed is told, and nothing goes on.
func TestClose(t *testing.T) {
	f := setup(t, apnstest.Config{})
	follower, err := f.Follow()
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := follower.Next(f.ctx); err != nil {
		t.Fatal(err)
	}
	f.Close()
	for err == nil { // a picture may be there yet
		_, _, err = follower.Next(f.ctx)
	}
	if !errors.Is(err, overview.ErrClosed) {
		t.Errorf("Next: got %v, want ErrClosed", err)
	}
	follower.Close()
	if _, err := f.Follow(); !errors.Is(err, overview.ErrClosed) {
		t.Errorf("Follow: got %v, want ErrClosed", err)
	}
	if _, err := f.Fleet(context.Background()); !errors.Is(err, overview.ErrClosed) {
		t.Errorf("Fleet: got %v, want ErrClosed", err)
	}
}

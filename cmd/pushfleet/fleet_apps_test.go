package main

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/pushfleet/pushfleet/config"
	"github.com/pushfleet/pushfleet/device"
	"github.com/pushfleet/pushfleet/internal/testenv"
	"github.com/pushfleet/pushfleet/store"
	"github.com/pushfleet/pushfleet/worker"
)

// twoApps are apps with a key in both environments.
func twoApps(t *testing.T) *config.Config {
	t.Helper()
	key := func(id string) []config.Credential {
		return []config.Credential{{Key: &config.Key{Path: keyFile(t), KeyID: id, TeamID: "ABCDEFGHIJ"}}}
	}
	return &config.Config{
		Worker: config.Worker{Name: "w1", MaxInFlight: 20_000, DrainTimeout: time.Second, Connections: 1, MaxConnections: 1, RequestTimeout: time.Second},
		Apps: map[string]config.App{
			"shop": {BundleID: "com.example.shop", Environment: device.Production, Credentials: key("SHOPKEY001")},
			"news": {BundleID: "com.example.news", Environment: device.Production, Credentials: key("NEWSKEY001")},
		},
	}
}

// A configuration takes over what is as it was, and opens only what is not.
func TestOpenAppsKeepsWhatStays(t *testing.T) {
	t.Parallel()
	cfg := twoApps(t)
	f, err := newFleet(cfg, testenv.NewJetStream(t).Streams, store.New(testenv.Redis(t), store.Config{}), nil, zap.NewNop(), newRegistry())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.close() })
	news, shop := f.apps.apps[0], f.apps.apps[1]
	for _, tc := range []struct {
		name                           string
		change                         func(c *config.Config)
		sameShop, sameRoute, sameNews  bool
		sameClient, sameClientInOthers bool
	}{
		{name: "nothing", change: func(*config.Config) {}, sameShop: true, sameRoute: true, sameClient: true, sameNews: true, sameClientInOthers: true},
		{name: "the bundle id", change: func(c *config.Config) {
			a := c.Apps["shop"]
			a.BundleID = "com.example.other"
			c.Apps["shop"] = a
		}, sameRoute: true, sameClient: true, sameNews: true, sameClientInOthers: true},
		{name: "the topics", change: func(c *config.Config) {
			c.Apps["shop"].Credentials[0].Topics = []string{"com.example.shop"}
		}, sameClient: true, sameNews: true, sameClientInOthers: true},
		{name: "the key's file", change: func(c *config.Config) {
			c.Apps["shop"].Credentials[0].Key.Path = keyFile(t)
		}, sameNews: true, sameClientInOthers: true},
		{name: "the connections", change: func(c *config.Config) { c.Worker.MaxConnections = 2 }},
	} {
		next := twoApps(t)
		for name, app := range cfg.Apps { // the same keys, in structs of their own
			key := *app.Credentials[0].Key
			app.Credentials = []config.Credential{{Key: &key}}
			next.Apps[name] = app
		}
		tc.change(next)
		apps, err := f.openApps(next)
		if err != nil {
			t.Fatalf("%s: %v", tc.name, err)
		}
		s, n := apps.apps[1], apps.apps[0]
		same := func(what string, got, want bool) {
			if got != want {
				t.Errorf("%s changed: the same %s: got %t, want %t", tc.name, what, got, want)
			}
		}
		same("app", s == shop, tc.sameShop)
		same("route", s.Routes[0] == shop.Routes[0], tc.sameRoute)
		same("client", s.Routes[0].Sender == shop.Routes[0].Sender, tc.sameClient)
		same("other app", n == news, tc.sameNews)
		same("client of the other", n.Routes[1].Sender == news.Routes[1].Sender, tc.sameClientInOthers)
		if err := apps.closeBut(f.apps); err != nil {
			t.Error(err)
		}
	}
}

// A change that comes while the worker is told to stop takes no connections away from
// what it still sends.
func TestUseThatComesTooLate(t *testing.T) {
	t.Parallel()
	cfg := twoApps(t)
	f, err := newFleet(cfg, testenv.NewJetStream(t).Streams, store.New(testenv.Redis(t), store.Config{}), nil, zap.NewNop(), newRegistry())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.close() })
	before := f.apps
	changed := twoApps(t)
	delete(changed.Apps, "news")
	next, err := f.openApps(changed)
	if err != nil {
		t.Fatal(err)
	}
	stopped, stop := context.WithCancel(t.Context())
	stop()
	if err := f.use(stopped, changed, next); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want that it was cancelled", err)
	}
	if f.apps != before || f.cfg != cfg {
		t.Error("other apps are told of than are served")
	}
	closed := func(a *fleetApps) (n int) {
		for _, r := range a.routes {
			if err := r.client.Connect(stopped); strings.Contains(err.Error(), "closed") {
				n++
			}
		}
		return n
	}
	if n := closed(before); n != 0 {
		t.Errorf("%d of %d clients are closed that are still sent by", n, len(before.routes))
	}
	if n := closed(next); n != len(next.routes) {
		t.Errorf("%d of %d clients are closed that nobody will send by", n, len(next.routes))
	}
}

// All that is wrong with credentials is told at once.
func TestOpenAppsTellsAllThatIsWrong(t *testing.T) {
	t.Parallel()
	cfg := twoApps(t)
	if err := os.WriteFile(cfg.Apps["shop"].Credentials[0].Key.Path, []byte("half a k"), 0o600); err != nil {
		t.Fatal(err)
	}
	app := cfg.Apps["news"]
	twice := app.Credentials[0]
	twice.Topics = []string{"com.example.news.voip"}
	app.Credentials = append(app.Credentials, twice)
	cfg.Apps["news"] = app
	f := &fleet{log: zap.NewNop(), pulse: worker.NewPulse()}
	_, err := f.openApps(cfg)
	for _, want := range []string{"app shop, credential 1: read signing key SHOPKEY001", "app news, credential 2: key NEWSKEY001 of team ABCDEFGHIJ is given twice for"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q in it", err, want)
		}
	}
	if _, err := f.openApps(&config.Config{}); err == nil || !strings.Contains(err.Error(), "none is configured") {
		t.Errorf("without apps: got %v", err)
	}
}

package api_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/pushfleet/pushfleet/api"
	"github.com/pushfleet/pushfleet/campaign"
	"github.com/pushfleet/pushfleet/internal/testenv"
	"github.com/pushfleet/pushfleet/overview"
	"github.com/pushfleet/pushfleet/store"
	"github.com/pushfleet/pushfleet/stream"
)

// watched adds what tells what the fleet does, with a picture every some milliseconds.
func watched(t *testing.T, c *api.Config, streams *stream.Streams) {
	t.Helper()
	apps := make(map[string]overview.AppConfig)
	for name, app := range c.Apps {
		apps[name] = overview.AppConfig{Environment: app.Environment.String()}
	}
	w := overview.New(overview.Config{
		Streams: func() (*stream.Streams, error) { return streams, nil }, Devices: c.Keys.(*store.Store),
		Apps: func() map[string]overview.AppConfig { return apps }, Every: 20 * time.Millisecond, Linger: time.Millisecond,
	})
	t.Cleanup(w.Close)
	c.Overview = w
}

// setupEvents is setup with what tells what the fleet does, and two workers that report.
func setupEvents(t *testing.T, change func(*api.Config)) (*fixture, *testenv.JetStream) {
	t.Helper()
	js := testenv.NewJetStream(t)
	f := setup(t, func(c *api.Config) {
		watched(t, c, js.Streams)
		c.Campaigns, c.Totals = js.Streams, c.Keys.(*store.Store)
		if change != nil {
			change(c)
		}
	})
	for worker, apps := range map[string][]string{"w1": {"shop", "news"}, "w2": {"news"}} {
		r := stream.Report{Worker: worker, Version: "test", Since: time.Now(), Seconds: 5, Apps: make(map[string]stream.AppReport)}
		for _, app := range apps {
			r.Apps[app] = stream.AppReport{Connections: 2, InFlight: 10, Recent: stream.Settled{Accepted: 50}}
		}
		if err := js.Announce(t.Context(), worker, stream.Presence{Apps: apps}); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan struct{})
		go func() {
			defer close(done)
			tick := time.NewTicker(20 * time.Millisecond)
			defer tick.Stop()
			for ctx.Err() == nil {
				_ = js.Report(&r) // the connection ends with the test
				select {
				case <-tick.C:
				case <-ctx.Done():
				}
			}
		}()
		t.Cleanup(func() { cancel(); <-done })
	}
	return f, js
}

// follower is one who follows events.
type follower struct {
	t      *testing.T
	resp   *http.Response
	lines  *bufio.Scanner
	cancel context.CancelFunc
}

func (f *fixture) follow(key, query string) *follower {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	f.t.Cleanup(cancel)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, f.server.URL+"/v1/events"+query, nil)
	if err != nil {
		f.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+key)
	resp, err := f.client.Do(req)
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { _ = resp.Body.Close() })
	fo := &follower{t: f.t, resp: resp, lines: bufio.NewScanner(resp.Body), cancel: cancel}
	fo.lines.Buffer(nil, 1<<20)
	return fo
}

// next returns the next event, or io.EOF.
func (fo *follower) next() (name string, data []byte, err error) {
	for fo.lines.Scan() {
		line := fo.lines.Text()
		switch {
		case line == "" && name != "":
			return name, data, nil
		case strings.HasPrefix(line, "event: "):
			name = strings.TrimPrefix(line, "event: ")
		case strings.HasPrefix(line, "data: "):
			data = []byte(strings.TrimPrefix(line, "data: "))
		case line != "" && !strings.HasPrefix(line, ":"):
			fo.t.Fatalf("line of events: got %q, want event, data or a comment", line)
		}
	}
	if err := fo.lines.Err(); err != nil {
		return "", nil, err
	}
	return "", nil, io.EOF
}

// until reads events of a name until one is as it should be.
func until[T any](fo *follower, name string, is func(T) bool) T {
	fo.t.Helper()
	for {
		got, data, err := fo.next()
		if err != nil {
			fo.t.Fatalf("wait for event %s: %v", name, err)
		}
		if got != name {
			continue
		}
		var v T
		if err := json.Unmarshal(data, &v); err != nil {
			fo.t.Fatalf("event %s: %s: %v", name, data, err)
		}
		if is(v) {
			return v
		}
	}
}

// ended reads until the answer ends, and wants that to be soon and clean.
func (fo *follower) ended(why string) {
	fo.t.Helper()
	begun := time.Now()
	for {
		_, _, err := fo.next()
		if err == nil {
			continue
		}
		if !errors.Is(err, io.EOF) || time.Since(begun) > 8*time.Second {
			fo.t.Errorf("%s: got %v after %s, want the end of the answer, soon", why, err, time.Since(begun))
		}
		return
	}
}

// A key is told of its own apps and of nothing else.
func TestFleetIsOfTheKeysApps(t *testing.T) {
	t.Parallel()
	f, _ := setupEvents(t, nil)
	shop := f.keyFor("shop", api.ScopeRead)
	both := func(fl overview.Fleet) bool { return len(fl.Workers) == 2 && fl.Workers[0].InFlight == 20 }
	until(f.follow(f.admin, ""), "fleet", both)
	own := func(fl overview.Fleet) bool {
		if len(fl.Workers) != 1 || fl.Workers[0].Name != "w1" || len(fl.Workers[0].Apps) != 1 || len(fl.Apps) != 1 {
			t.Errorf("got workers %+v, apps %+v, want those of shop alone", fl.Workers, fl.Apps)
		}
		return fl.Workers[0].InFlight == 10 && fl.Apps["shop"].PerSecond == 10
	}
	until(f.follow(shop, ""), "fleet", own)
	until(f.follow(f.admin, "?app=shop"), "fleet", own)
	own(into[overview.Fleet](t, f.want(http.StatusOK, request{method: http.MethodGet, path: "/v1/fleet", key: shop})))
	all := into[overview.Fleet](t, f.want(http.StatusOK, request{method: http.MethodGet, path: "/v1/fleet"}))
	if !both(all) || all.Apps["news"].PerSecond != 20 {
		t.Errorf("got %+v, want both workers and the sum of what they do", all)
	}
	for _, path := range []string{"/v1/fleet", "/v1/events"} {
		f.want(http.StatusForbidden, request{method: http.MethodGet, path: path + "?app=news", key: shop})
		f.want(http.StatusNotFound, request{method: http.MethodGet, path: path + "?app=other"})
		f.want(http.StatusForbidden, request{method: http.MethodGet, path: path, key: f.keyFor("shop", api.ScopeSend)})
		f.want(http.StatusUnauthorized, request{method: http.MethodGet, path: path, key: "none"})
	}
}

func TestEventsOfCampaigns(t *testing.T) {
	t.Parallel()
	f, js := setupEvents(t, nil)
	for app, id := range map[string]string{"shop": "spring", "news": "daily"} {
		def, err := campaign.Parse([]byte(`{"id":"` + id + `","audience":{"all":true},"notification":{"title":"x"},"start_at":"2100-01-01T00:00:00Z"}`))
		if err == nil {
			_, _, err = js.NewCampaign(t.Context(), app, def, f.clock.now())
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	fo := f.follow(f.keyFor("shop", api.ScopeRead), "")
	if got := fo.resp.Header.Get("Content-Type"); got != "text/event-stream" || fo.resp.Header.Get("X-Request-Id") == "" {
		t.Errorf("headers: got %v, want events, and the request's id", fo.resp.Header)
	}
	first := until(fo, "campaigns", func(api.CampaignEvent) bool { return true })
	if first.App != "shop" || !first.Whole || len(first.Campaigns) != 1 || first.Campaigns[0].ID != "spring" {
		t.Errorf("at first: got %+v, want all of shop", first)
	}
	begun := time.Now()
	f.want(http.StatusOK, request{method: http.MethodPost, path: "/v1/apps/news/campaigns/daily/pause"})
	f.want(http.StatusOK, request{method: http.MethodPost, path: "/v1/apps/shop/campaigns/spring/pause"})
	got := until(fo, "campaigns", func(e api.CampaignEvent) bool {
		if e.App != "shop" {
			t.Errorf("got %+v, want none of another app", e)
		}
		return true
	})
	if got.Whole || len(got.Campaigns) != 1 || got.Campaigns[0].State != "paused" {
		t.Errorf("after a pause: got %+v, want it paused", got)
	}
	if took := time.Since(begun); took > 2*time.Second {
		t.Errorf("a pause was seen after %s, want within two seconds", took)
	}
}

// Who stops reading is dropped, and others are not kept waiting.
func TestSlowFollowerIsDropped(t *testing.T) {
	t.Parallel()
	f, _ := setupEvents(t, func(c *api.Config) { c.EventPatience = 300 * time.Millisecond })
	// Little fits between the two: what is not read is noticed soon.
	slow := f.slowServer()
	conn, err := net.Dial("tcp", slow)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.(*net.TCPConn).SetReadBuffer(2048); err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Fprintf(conn, "GET /v1/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n\r\n", f.admin); err != nil {
		t.Fatal(err)
	}
	f.eventually("the follower is there", func() bool { return f.metric("pushfleet_api_followers", nil) == 1 })
	f.eventually("the follower is dropped", func() bool { return f.metric("pushfleet_api_followers", nil) == 0 })
	fo := f.follow(f.admin, "")
	for range 20 {
		until(fo, "fleet", func(overview.Fleet) bool { return true })
	}
}

// slowServer serves the same API on connections with small buffers.
func (f *fixture) slowServer() (addr string) {
	f.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		f.t.Fatal(err)
	}
	srv := &httptest.Server{Listener: smallBuffers{l}, Config: &http.Server{Handler: f.server.Config.Handler, ReadHeaderTimeout: 5 * time.Second}}
	srv.Start()
	f.t.Cleanup(srv.Close)
	return l.Addr().String()
}

type smallBuffers struct{ net.Listener }

func (l smallBuffers) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err == nil {
		err = conn.(*net.TCPConn).SetWriteBuffer(2048)
	}
	return conn, err
}

// eventually polls what other goroutines do, and for which there is no event.
func (f *fixture) eventually(what string, is func() bool) {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !is() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			f.t.Fatalf("waited in vain: %s", what)
		}
	}
}

// The server's own deadlines are not for those who follow.
func TestEventsOutliveTheServersDeadlines(t *testing.T) {
	t.Parallel()
	f, _ := setupEvents(t, nil)
	f.server.Close()
	f.server = httptest.NewUnstartedServer(f.server.Config.Handler)
	const deadline = 200 * time.Millisecond
	f.server.Config.ReadTimeout, f.server.Config.WriteTimeout = deadline, deadline
	f.server.Start()
	f.client = f.server.Client()
	f.t.Cleanup(f.server.Close)
	fo := f.follow(f.admin, "")
	for begun := time.Now(); time.Since(begun) < 5*deadline; {
		until(fo, "fleet", func(overview.Fleet) bool { return true })
	}
}

// There are bounds, for a key and for all.
func TestFollowersAreBounded(t *testing.T) {
	t.Parallel()
	f, _ := setupEvents(t, func(c *api.Config) { c.Followers, c.KeyFollowers = 3, 2 })
	other := f.keyFor("shop", api.ScopeRead)
	first := f.follow(f.admin, "")
	f.follow(f.admin, "")
	if a := f.want(http.StatusTooManyRequests, request{method: http.MethodGet, path: "/v1/events"}); a.header.Get("Retry-After") == "" {
		t.Error("one more of a key: got no Retry-After, want one")
	}
	f.follow(other, "")
	f.want(http.StatusServiceUnavailable, request{method: http.MethodGet, path: "/v1/events", key: other})
	first.cancel()
	f.eventually("it has gone", func() bool { return f.metric("pushfleet_api_followers", nil) == 2 })
	until(f.follow(f.admin, ""), "fleet", func(overview.Fleet) bool { return true })
}

// A revoked key follows no longer, and a process that stops ends all.
func TestEventsEnd(t *testing.T) {
	t.Parallel()
	f, _ := setupEvents(t, nil)
	key := f.keyFor("shop", api.ScopeRead)
	revoked, stopped := f.follow(key, ""), f.follow(f.admin, "")
	for _, fo := range []*follower{revoked, stopped} {
		until(fo, "fleet", func(overview.Fleet) bool { return true })
	}
	id := strings.Split(key, "_")[1]
	if _, err := f.set.RevokeAPIKey(t.Context(), id, f.clock.now()); err != nil {
		t.Fatal(err)
	}
	f.clock.move(api.KeyAge)
	revoked.ended("a revoked key")
	until(stopped, "fleet", func(overview.Fleet) bool { return true })
	f.server.Config.Handler.(*api.API).EndEvents()
	stopped.ended("the process stops")
	f.want(http.StatusServiceUnavailable, request{method: http.MethodGet, path: "/v1/events"})
}

package api_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pushfleet/pushfleet/api"
	"github.com/pushfleet/pushfleet/device"
	"github.com/pushfleet/pushfleet/store"
)

// gate lets calls into the token set pass one by one.
type gate struct {
	api.Registrations
	calls chan []device.Registration // each call that comes
	pass  chan struct{}
}

func newGate(set api.Registrations) *gate {
	return &gate{Registrations: set, calls: make(chan []device.Registration), pass: make(chan struct{})}
}

func (g *gate) RegisterMany(ctx context.Context, app string, regs []device.Registration) ([]store.Registered, error) {
	g.calls <- append([]device.Registration(nil), regs...)
	<-g.pass
	return g.Registrations.RegisterMany(ctx, app, regs)
}

// While one call is under way, registrations gather for the next one, in their
// order.
func TestRegistrationsGather(t *testing.T) {
	t.Parallel()
	var g *gate
	f := setup(t, func(cfg *api.Config) {
		g = newGate(cfg.Registrations)
		cfg.Registrations = g
	})
	var wg sync.WaitGroup
	put := func(user string) {
		wg.Go(func() {
			r := request{method: http.MethodPut, path: path("shop", 1), body: api.Registration{User: user}}
			if a := f.send(r); a.status != http.StatusOK {
				t.Errorf("got %d %s, want 200", a.status, a.text)
			}
		})
	}
	put("first")
	if got := <-g.calls; len(got) != 1 || got[0].User != "first" {
		t.Fatalf("got %v, want the first at once", got)
	}
	const more = 40
	for n := range more {
		put(fmt.Sprint("u", n))
		f.waiting(n + 1) // so that they come in this order
	}
	g.pass <- struct{}{}
	second := <-g.calls
	if len(second) != more {
		t.Errorf("got %d registrations in the second call, want the %d that came meanwhile", len(second), more)
	}
	for n, r := range second {
		if want := fmt.Sprint("u", n); r.User != want {
			t.Errorf("position %d: got %s, want %s", n, r.User, want)
		}
	}
	g.pass <- struct{}{}
	wg.Wait()
	f.waiting(0)
	if got := f.get(path("shop", 1)); got.User != fmt.Sprint("u", more-1) || got.Generation != more+1 {
		t.Errorf("got %+v, want the last user and generation %d", got, more+1)
	}
}

// waiting waits until n registrations wait.
func (f *fixture) waiting(n int) {
	f.t.Helper()
	for f.metric("pushfleet_api_registrations_waiting", nil) != float64(n) {
		if f.t.Context().Err() != nil {
			f.t.Fatalf("waited for %d waiting registrations", n)
		}
	}
}

// A caller that goes away does not keep its registration, or anybody else's, from
// being carried out.
func TestCallerGoesAway(t *testing.T) {
	t.Parallel()
	var g *gate
	f := setup(t, func(cfg *api.Config) {
		g = newGate(cfg.Registrations)
		cfg.Registrations = g
	})
	ctx, cancel := context.WithCancel(t.Context())
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, f.server.URL+path("shop", 1), nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+f.admin)
	gone := make(chan error, 1)
	go func() {
		resp, err := f.client.Do(req)
		if err == nil {
			resp.Body.Close()
		}
		gone <- err
	}()
	<-g.calls
	cancel()
	if err := <-gone; err == nil {
		t.Error("got an answer, want none")
	}
	g.pass <- struct{}{}
	done := make(chan answer, 1)
	go func() { done <- f.send(request{method: http.MethodPut, path: path("shop", 1)}) }()
	<-g.calls
	g.pass <- struct{}{}
	if got := into[api.Registered](t, <-done); got.Generation != 2 {
		t.Errorf("got %+v, want generation 2: the first was carried out", got)
	}
}

// instantly is a token set that takes everything.
type instantly struct{ api.TokenSet }

func (instantly) RegisterMany(_ context.Context, _ string, regs []device.Registration) ([]store.Registered, error) {
	return make([]store.Registered, len(regs)), nil
}

// Close waits for what is under way; what comes later is refused.
func TestClose(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		key, record, err := api.NewKey(api.KeyConfig{Scopes: []api.Scope{api.ScopeDevices}, AllApps: true}, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		g := newGate(instantly{})
		door, err := api.New(api.Config{
			Keys:          keysFunc(func(context.Context, string) (store.APIKey, bool, error) { return record, true, nil }),
			Registrations: g, TokenSet: instantly{}, Apps: map[string]api.App{"shop": {Environment: device.Production}},
		})
		if err != nil {
			t.Fatal(err)
		}
		put := func() int {
			w := httptest.NewRecorder()
			r := httptest.NewRequestWithContext(t.Context(), http.MethodPut, path("shop", 1), nil)
			r.Header.Set("Authorization", "bearer "+key)
			door.ServeHTTP(w, r)
			return w.Code
		}
		status, closed := make(chan int, 1), make(chan error, 1)
		go func() { status <- put() }()
		<-g.calls
		go func() { closed <- door.Close() }()
		synctest.Wait()
		select {
		case err := <-closed:
			t.Errorf("Close returned %v, want it to wait", err)
		default:
		}
		if got := put(); got != http.StatusServiceUnavailable {
			t.Errorf("after Close: got %d, want 503", got)
		}
		g.pass <- struct{}{}
		if err := <-closed; err != nil {
			t.Errorf("Close: %v", err)
		}
		if got := <-status; got != http.StatusOK {
			t.Errorf("got %d, want 200: it was under way", got)
		}
	})
}

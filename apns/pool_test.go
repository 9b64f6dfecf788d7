package apns_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/pushfleet/pushfleet/apns"
	"github.com/pushfleet/pushfleet/apns/apnstest"
	"github.com/pushfleet/pushfleet/job"
)

// keepSending sends bulk with several callers until the returned function is
// called, which waits for them.
func keepSending(t testing.TB, c *apns.Client, callers, size int) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for i := range callers {
		wg.Go(func() {
			for at := 1 << 24 * (i + 1); ctx.Err() == nil; at += size {
				sendCtx(ctx, t, c, job.Bulk, batch(at, size))
			}
		})
	}
	return func() {
		cancel()
		wg.Wait()
	}
}

func TestPoolGrowsAndShrinks(t *testing.T) {
	t.Parallel()
	clk, reg := &clock{}, prometheus.NewRegistry()
	c, srv := setup(t, apnstest.Config{Now: clk.now, Streams: 10, Latency: 20 * time.Millisecond},
		apns.ClientConfig{Connections: 1, MaxConnections: 3, Now: clk.now, Metrics: reg})
	stop := keepSending(t, c, 4, 200)
	await(t, srv, "three connections", func(st apnstest.Stats) bool { return st.ConnectionsOpen == 3 })
	for metric(t, reg, "pushfleet_apns_connections", "state=ready") < 3 {
		apns.Tick(c) // the client may know of the third a moment later
	}
	stop()
	apns.Tick(c)
	// It lets go of them one by one, each after ten minutes.
	for want := int64(2); want >= 1; want-- {
		clk.advance(9 * time.Minute)
		apns.Tick(c)
		if got := srv.Stats().ConnectionsOpen; got != want+1 {
			t.Fatalf("after 9 minutes: got %d connections, want %d", got, want+1)
		}
		clk.advance(2 * time.Minute)
		apns.Tick(c)
		await(t, srv, "one connection less", func(st apnstest.Stats) bool { return st.ConnectionsOpen == want })
	}
	clk.advance(30 * time.Minute)
	apns.Tick(c)
	if got := metric(t, reg, "pushfleet_apns_connections", "state=ready"); got != 1 {
		t.Errorf("connections kept: got %v, want 1; the simulator has %+v", got, srv.Connections())
	}
}

func TestConnectionsAreReplacedByAge(t *testing.T) {
	t.Parallel()
	clk := &clock{}
	// The simulator's clock stands, and lets the provider token change all the same.
	faults := apnstest.Faults{
		Latency: apnstest.Latency{Constant: apnstest.Duration(time.Millisecond)},
		Auth:    apnstest.AuthFaults{UpdateInterval: -1},
	}
	c, srv := setup(t, apnstest.Config{Now: clk.now, Faults: faults}, apns.ClientConfig{Connections: 2, MaxConnections: 2, Now: clk.now})
	useTwo(t, c, srv)
	clk.advance(5*time.Hour + 59*time.Minute)
	apns.Tick(c)
	wantAccepted(t, batch(1, 1), send(t, c, job.Bulk, batch(1, 1)))
	if got := srv.Stats().ConnectionsTotal; got != 2 {
		t.Errorf("after 5:59 hours: got %d connections, want the first 2", got)
	}
	clk.advance(19 * time.Hour)
	stop := keepSending(t, c, 2, 100)
	await(t, srv, "both to be replaced", func(st apnstest.Stats) bool {
		return st.ConnectionsTotal == 4 && st.ConnectionsOpen == 2
	})
	stop()
	// Nothing was lost on the way, and never was there nobody to send.
	if st := srv.Stats(); st.Duplicates != 0 || st.MaxConnectionsOpen > 4 {
		t.Errorf("got %d duplicates, at most %d connections at once, want 0, at most 4", st.Duplicates, st.MaxConnectionsOpen)
	}
}

func TestIdleClientDoesNotReconnect(t *testing.T) {
	t.Parallel()
	clk, reg := &clock{}, prometheus.NewRegistry()
	c, srv := setup(t, apnstest.Config{Now: clk.now}, apns.ClientConfig{Connections: 1, MaxConnections: 1, Now: clk.now, Metrics: reg})
	wantAccepted(t, batch(0, 1), send(t, c, job.Bulk, batch(0, 1)))
	clk.advance(time.Hour)
	if _, err := srv.Do(apnstest.Action{GoAway: &apnstest.GoAway{Reason: "IdleTimeout"}}); err != nil {
		t.Fatal(err)
	}
	await(t, srv, "the end of the connection", func(st apnstest.Stats) bool { return st.ConnectionsOpen == 0 })
	for end := time.Now().Add(3 * dialGap); time.Now().Before(end); {
		apns.Tick(c)
		if got := metric(t, reg, "pushfleet_apns_connections", "state=dialing"); got != 0 {
			t.Fatal("idle: a connection is opened, want none")
		}
	}
	wantAccepted(t, batch(1, 1), send(t, c, job.Transactional, batch(1, 1)))
}

// Each connection is ended at once, in every way: the attempts stay few.
func TestNoReconnectStorm(t *testing.T) {
	t.Parallel()
	for name, f := range map[string]apnstest.ConnectionFault{
		"refused":     {Refuse: true},
		"goaway":      {Do: &apnstest.Action{GoAway: &apnstest.GoAway{Code: "ENHANCE_YOUR_CALM", Last: "zero", Then: "close"}}},
		"goaway text": {Do: &apnstest.Action{GoAway: &apnstest.GoAway{Code: "REFUSED_STREAM", Last: "zero", Debug: "go away", Then: "close"}}},
		"reset":       {Do: &apnstest.Action{Close: "rst"}},
		"closed":      {Do: &apnstest.Action{Close: "tls"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, srv := setup(t, apnstest.Config{Faults: apnstest.Faults{Connections: []apnstest.ConnectionFault{f}}}, apns.ClientConfig{Connections: 4, DialsPerMinute: 1000})
			ctx, cancel := context.WithTimeout(t.Context(), 30*dialGap)
			defer cancel()
			for i := 0; ctx.Err() == nil; i++ {
				sendCtx(ctx, t, c, job.Bulk, batch(i, 10))
			}
			// Ever fewer: at the soonest after 1, 2, 4, 8, 16 and 32 gaps. Without backing
			// off it would be 30, but for the bound per minute, which is out of the way.
			if st := srv.Stats(); st.MaxConnectsPerMinute > 10 || st.MaxConnectsPerMinute < 2 {
				t.Errorf("attempts in 30 gaps: got %d, want 2 to 10", st.MaxConnectsPerMinute)
			}
		})
	}
}

func TestSilentServerIsReplaced(t *testing.T) {
	t.Parallel()
	clk := &clock{}
	c, srv := setup(t, apnstest.Config{Now: clk.now, Faults: apnstest.Faults{Requests: []apnstest.RequestFault{
		{Match: apnstest.Match{Connection: 1, Skip: 5}, NeverAnswer: true},
	}}}, apns.ClientConfig{Connections: 1, MaxConnections: 1, RequestTimeout: 3 * time.Second, Now: clk.now})
	wantAccepted(t, batch(0, 5), send(t, c, job.Bulk, batch(0, 5)))
	clk.advance(11 * time.Second)
	apns.Tick(c)
	for _, r := range send(t, c, job.Bulk, batch(10, 20)) {
		if r.Err == nil {
			t.Fatalf("silent server: got %+v, want no answer", r)
		}
	}
	clk.advance(11 * time.Second)
	apns.Tick(c)
	wantAccepted(t, batch(50, 5), send(t, c, job.Bulk, batch(50, 5)))
	if got := srv.Stats().ConnectionsTotal; got != 2 {
		t.Errorf("connections: got %d, want 2", got)
	}
}

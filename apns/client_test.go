package apns_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pushfleet/pushfleet/apns"
	"github.com/pushfleet/pushfleet/apns/apnstest"
	"github.com/pushfleet/pushfleet/job"
)

func TestSend(t *testing.T) {
	t.Parallel()
	c, srv := setup(t, apnstest.Config{}, apns.ClientConfig{})
	ns := batch(0, 5000)
	wantAccepted(t, ns, send(t, c, job.Bulk, ns))
	if st := srv.Stats(); st.Accepted != 5000 || st.Duplicates != 0 || st.RefusedStreams != 0 {
		t.Errorf("simulator: got %d accepted, %d duplicates, %d refused streams, want 5000, 0, 0", st.Accepted, st.Duplicates, st.RefusedStreams)
	}
}

func TestSendNothing(t *testing.T) {
	t.Parallel()
	c, srv := setup(t, apnstest.Config{}, apns.ClientConfig{})
	send(t, c, job.Bulk, nil)
	if got := srv.Stats().ConnectionsTotal; got != 0 {
		t.Errorf("connections: got %d, want 0", got)
	}
}

func TestSendFromManyCallers(t *testing.T) {
	t.Parallel()
	c, srv := setup(t, apnstest.Config{Latency: time.Millisecond}, apns.ClientConfig{})
	var wg sync.WaitGroup
	for caller := range 50 {
		wg.Go(func() {
			for i := range 20 {
				lane := job.Lanes()[(caller+i)%2]
				ns := batch(1000*caller+10*i, 1+i%3)
				wantAccepted(t, ns, send(t, c, lane, ns))
			}
		})
	}
	wg.Wait()
	if st := srv.Stats(); st.Duplicates != 0 || st.RefusedStreams != 0 {
		t.Errorf("simulator: got %d duplicates, %d refused streams, want none", st.Duplicates, st.RefusedStreams)
	}
}

func TestSendWithCertificate(t *testing.T) {
	t.Parallel()
	srv := serve(t, apnstest.Config{})
	cert, err := srv.ClientCertificate(apnstest.CertificateConfig{BundleID: "com.example.app", Topics: []string{"com.example.app"}})
	if err != nil {
		t.Fatal(err)
	}
	c := connect(t, srv, apns.ClientConfig{Credential: apns.CertificateCredential(cert)})
	ns := batch(0, 100)
	wantAccepted(t, ns, send(t, c, job.Bulk, ns))
}

func TestSandboxTellsUniqueIDs(t *testing.T) {
	t.Parallel()
	c, _ := setup(t, apnstest.Config{Environment: apnstest.Sandbox}, apns.ClientConfig{})
	ns := batch(0, 3)
	rs := send(t, c, job.Bulk, ns)
	wantAccepted(t, ns, rs)
	for i, r := range rs {
		if len(r.UniqueID) != 36 {
			t.Errorf("apns-unique-id of %d: got %q, want a UUID", i, r.UniqueID)
		}
	}
}

func TestRejections(t *testing.T) {
	t.Parallel()
	c, srv := setup(t, apnstest.Config{}, apns.ClientConfig{})
	since := time.UnixMilli(1_790_000_000_123)
	ns := batch(0, 5)
	for i, d := range []apnstest.Device{
		{DeadSince: &since},
		{DeadSince: &since, DeadReason: "ExpiredToken"},
		{Bad: true},
		{Topic: "com.example.other"},
		{Answer: &apnstest.Answer{Status: 429, Reason: "NeverHeardOf"}},
	} {
		if err := srv.SetDevice(ns[i].DeviceToken.Hex(), d); err != nil {
			t.Fatal(err)
		}
	}
	rs := send(t, c, job.Bulk, ns)
	for i, want := range []apns.Response{
		{Status: 410, Reason: apns.Unregistered, Timestamp: since.UnixMilli()},
		{Status: 410, Reason: apns.ExpiredToken, Timestamp: since.UnixMilli()},
		{Status: 400, Reason: apns.BadDeviceToken},
		{Status: 400, Reason: apns.DeviceTokenNotForTopic},
		{Status: 429, Reason: "NeverHeardOf"},
	} {
		want.APNsID, want.Connection = ns[i].APNsID, max(1, rs[i].Connection)
		if rs[i] != want {
			t.Errorf("response %d: got %+v, want %+v", i, rs[i], want)
		}
	}
}

func TestUnusualResponses(t *testing.T) {
	t.Parallel()
	for name, faults := range map[string]apnstest.ResponseFaults{
		"continuation":  {Continuation: true},
		"padding":       {Padding: 255},
		"informational": {Informational: true},
		"trailers":      {Trailers: true},
		"split body":    {SplitBody: true},
		"index":         {Index: true},
		"early":         {Early: true},
		"unknown":       {Unknown: true},
		"all":           {Continuation: true, Padding: 9, Informational: true, Trailers: true, SplitBody: true, Index: true, Unknown: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, _ := setup(t, apnstest.Config{DeadShare: 0.5, Faults: apnstest.Faults{Responses: faults}}, apns.ClientConfig{})
			ns := batch(0, 500)
			for i, r := range send(t, c, job.Bulk, ns) {
				ok := r.Status == 200 || r.Status == 410 && r.Reason == apns.Unregistered && r.Timestamp > 0
				if r.Err != nil || !ok || r.APNsID != ns[i].APNsID {
					t.Fatalf("response %d: got %+v, want 200 or a 410 with its timestamp", i, r)
				}
			}
		})
	}
}

func TestFlowControl(t *testing.T) {
	t.Parallel()
	small, none, tiny := uint32(600), uint32(0), uint32(100)
	for name, flow := range map[string]apnstest.FlowFaults{
		"small windows": {InitialWindow: &small, UpdateBytes: 99},
		"no table":      {TableSize: &none},
		"tiny table":    {TableSize: &tiny},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, srv := setup(t, apnstest.Config{Faults: apnstest.Faults{Flow: flow}}, apns.ClientConfig{})
			ns := batch(0, 300)
			for i := range ns {
				ns[i].Payload = make([]byte, 50*(i%80)+1)
			}
			wantAccepted(t, ns, send(t, c, job.Bulk, ns))
			for _, r := range srv.Ledger(apnstest.Filter{}) {
				if r.Topic != "com.example.app" || r.PushType != "alert" || r.Priority != 10 {
					t.Fatalf("record: got %+v, want topic, push type and priority", r)
				}
			}
		})
	}
}

func TestRefusedStreamsAreSentAgain(t *testing.T) {
	t.Parallel()
	c, srv := setup(t, apnstest.Config{Faults: apnstest.Faults{Requests: []apnstest.RequestFault{
		{Match: apnstest.Match{Skip: 5, Every: 3, Times: 200}, Reset: &apnstest.Reset{Code: "REFUSED_STREAM", Twice: true}},
	}}}, apns.ClientConfig{})
	ns := batch(0, 1000)
	wantAccepted(t, ns, send(t, c, job.Bulk, ns))
	if st := srv.Stats(); st.Faulted != 200 || st.Duplicates != 0 {
		t.Errorf("simulator: got %d refused, %d duplicates, want 200, 0", st.Faulted, st.Duplicates)
	}
}

// What one connection refuses goes to another one, also when that is busy and
// the first is not.
func TestRefusedByOneConnection(t *testing.T) {
	t.Parallel()
	c, srv := setup(t, apnstest.Config{Streams: 10}, apns.ClientConfig{Connections: 2, MaxConnections: 2})
	useTwo(t, c, srv)
	if err := srv.SetFaults(apnstest.Faults{
		Latency: apnstest.Latency{Constant: apnstest.Duration(5 * time.Millisecond)},
		Requests: []apnstest.RequestFault{
			{Match: apnstest.Match{Connection: 1}, Reset: &apnstest.Reset{Code: "REFUSED_STREAM"}},
		},
	}); err != nil {
		t.Fatal(err)
	}
	ns := batch(0, 300)
	wantAccepted(t, ns, send(t, c, job.Bulk, ns))
	if got := srv.Stats().Faulted; got == 0 || got > 300 {
		t.Errorf("refused: got %d, want some, each at most once", got)
	}
}

// What avoids the connection that it was answered on goes out on the other one,
// also where all transactional notifications use the first. If there is no other,
// it goes out all the same.
func TestAvoid(t *testing.T) {
	t.Parallel()
	for _, lane := range job.Lanes() {
		for _, connections := range []int{1, 2} {
			t.Run(fmt.Sprintf("%s, %d connections", lane, connections), func(t *testing.T) {
				t.Parallel()
				c, srv := setup(t, apnstest.Config{}, apns.ClientConfig{Connections: connections, MaxConnections: connections, RequestTimeout: 5 * time.Second})
				if connections == 2 {
					useTwo(t, c, srv)
				}
				for n := range 20 {
					ns := batch(10*n, 3)
					first := send(t, c, lane, ns)
					wantAccepted(t, ns, first)
					for i := range ns {
						ns[i].Avoid = first[i].Connection
					}
					again := send(t, c, lane, ns)
					wantAccepted(t, ns, again)
					other := connections == 2
					for i := range ns {
						if (again[i].Connection != first[i].Connection) != other || again[i].Connection == 0 {
							t.Fatalf("notification %d of round %d: answered on %d and then on %d", i, n, first[i].Connection, again[i].Connection)
						}
					}
				}
			})
		}
	}
}

// Whatever the machine's clock is set to, APNs gets a provider token that it
// accepts: at first by the time of day, and if that is what is wrong, by the machine's.
func TestProviderTokensOfAWrongClock(t *testing.T) {
	t.Parallel()
	for _, off := range []time.Duration{-2 * time.Hour, 2 * time.Hour} {
		wrong := func() time.Time { return time.Now().Add(off) }
		for name, cfg := range map[string]apns.ClientConfig{
			"machine":     {Now: wrong, Wall: time.Now},
			"time of day": {Now: time.Now, Wall: wrong},
		} {
			t.Run(fmt.Sprintf("%s, %s", name, off), func(t *testing.T) {
				t.Parallel()
				cfg.Connections = 1
				c, srv := setup(t, apnstest.Config{}, cfg)
				ns := batch(0, 3)
				wantAccepted(t, ns, send(t, c, job.Transactional, ns))
				if st := srv.Stats(); name == "machine" && st.MaxConnectionsOpen != 1 {
					t.Errorf("connections: got %d, want one, and nothing refused", st.MaxConnectionsOpen)
				}
			})
		}
	}
}

// A connection that is gone is avoided anyway.
func TestAvoidWhatIsGone(t *testing.T) {
	t.Parallel()
	c, _ := setup(t, apnstest.Config{}, apns.ClientConfig{})
	ns := batch(0, 2)
	for i := range ns {
		ns[i].Avoid = 1000
	}
	wantAccepted(t, ns, send(t, c, job.Transactional, ns))
}

// What the connection for transactional refuses goes out on another one.
func TestRefusedByTheUrgentConnection(t *testing.T) {
	t.Parallel()
	c, srv := setup(t, apnstest.Config{}, apns.ClientConfig{Connections: 2, MaxConnections: 2, RequestTimeout: 5 * time.Second})
	useTwo(t, c, srv)
	ns := batch(0, 1)
	rs := send(t, c, job.Transactional, ns)
	wantAccepted(t, ns, rs)
	if err := srv.SetFaults(apnstest.Faults{Requests: []apnstest.RequestFault{
		{Match: apnstest.Match{Times: 1}, Reset: &apnstest.Reset{Code: "REFUSED_STREAM"}},
	}}); err != nil {
		t.Fatal(err)
	}
	ns = batch(1, 1)
	again := send(t, c, job.Transactional, ns)
	wantAccepted(t, ns, again)
	if again[0].Connection == rs[0].Connection {
		t.Errorf("answered on connection %d, which had refused it", again[0].Connection)
	}
}

func TestRefusedForEver(t *testing.T) {
	t.Parallel()
	c, srv := setup(t, apnstest.Config{Faults: apnstest.Faults{Requests: []apnstest.RequestFault{
		{Reset: &apnstest.Reset{Code: "REFUSED_STREAM"}},
	}}}, apns.ClientConfig{})
	rs := send(t, c, job.Bulk, batch(0, 1))
	if !errors.Is(rs[0].Err, apns.ErrNotSent) {
		t.Errorf("error: got %v, want %v", rs[0].Err, apns.ErrNotSent)
	}
	if got := srv.Stats().Faulted; got != 6 {
		t.Errorf("tries: got %d, want 6", got)
	}
}

func TestOtherResetsAreNotSentAgain(t *testing.T) {
	t.Parallel()
	c, srv := setup(t, apnstest.Config{Faults: apnstest.Faults{Requests: []apnstest.RequestFault{
		{Match: apnstest.Match{Skip: 1, Times: 1}, Reset: &apnstest.Reset{Code: "INTERNAL_ERROR", When: "after"}},
	}}}, apns.ClientConfig{Connections: 1, MaxConnections: 1})
	ns := batch(0, 2)
	unknown := 0
	for _, r := range send(t, c, job.Bulk, ns) {
		if r.Err != nil {
			unknown++
			if errors.Is(r.Err, apns.ErrNotSent) {
				t.Errorf("error: got %v, want one that says nothing about being sent", r.Err)
			}
		}
	}
	if st := srv.Stats(); unknown != 1 || st.Duplicates != 0 {
		t.Errorf("unknown: got %d, with %d duplicates, want 1, 0", unknown, st.Duplicates)
	}
}

func TestStreamLimitCutAfterErrors(t *testing.T) {
	t.Parallel()
	c, srv := setup(t, apnstest.Config{
		DeadShare: 0, BadShare: 0.3,
		Faults: apnstest.Faults{Score: apnstest.ErrorScore{Mode: "one"}},
	}, apns.ClientConfig{Connections: 1, MaxConnections: 8})
	ns := batch(0, 2000)
	for i, r := range send(t, c, job.Bulk, ns) {
		if r.Err != nil {
			t.Fatalf("response %d: got error %v, want an answer", i, r.Err)
		}
	}
	if got := srv.Stats().ConnectionsTotal; got > 1 {
		t.Errorf("connections: got %d, want 1: a cut limit is no reason for more", got)
	}
}

func TestCutStreamLimitOpensNoConnection(t *testing.T) {
	t.Parallel()
	c, srv := setup(t, apnstest.Config{Streams: 100, Latency: 10 * time.Millisecond}, apns.ClientConfig{Connections: 1, MaxConnections: 4})
	wantAccepted(t, batch(0, 200), send(t, c, job.Bulk, batch(0, 200)))
	one := uint32(1)
	if _, err := srv.Do(apnstest.Action{Settings: &apnstest.Settings{MaxConcurrentStreams: &one}}); err != nil {
		t.Fatal(err)
	}
	// Longer than a pool waits before it grows.
	ctx, cancel := context.WithTimeout(t.Context(), 1500*time.Millisecond)
	defer cancel()
	sendCtx(ctx, t, c, job.Bulk, batch(1000, 1000))
	if got := srv.Stats().ConnectionsTotal; got != 1 {
		t.Errorf("connections: got %d, want 1", got)
	}
}

func TestStreamLimitFlaps(t *testing.T) {
	t.Parallel()
	c, srv := setup(t, apnstest.Config{
		Latency: time.Millisecond,
		Faults:  apnstest.Faults{Streams: apnstest.StreamFaults{FlapEvery: apnstest.Duration(5 * time.Millisecond)}},
	}, apns.ClientConfig{})
	ns := batch(0, 5000)
	wantAccepted(t, ns, send(t, c, job.Bulk, ns))
	if st := srv.Stats(); st.Duplicates != 0 {
		t.Errorf("duplicates: got %d, want 0", st.Duplicates)
	}
}

func TestCancel(t *testing.T) {
	t.Parallel()
	c, srv := setup(t, apnstest.Config{Streams: 10}, apns.ClientConfig{Connections: 1, MaxConnections: 1})
	wantAccepted(t, batch(0, 1), send(t, c, job.Bulk, batch(0, 1)))
	if err := srv.SetFaults(apnstest.Faults{Requests: []apnstest.RequestFault{{NeverAnswer: true}}}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cause := errors.New("enough")
	go func() {
		await(t, srv, "ten requests", func(st apnstest.Stats) bool { return st.Pending == 10 })
		cancel(cause)
	}()
	unknown, notSent := 0, 0
	for i, r := range sendCtx(ctx, t, c, job.Bulk, batch(100, 50)) {
		if !errors.Is(r.Err, cause) {
			t.Errorf("error of %d: got %v, want one that wraps %q", i, r.Err, cause)
		}
		if errors.Is(r.Err, apns.ErrNotSent) {
			notSent++
		} else {
			unknown++
		}
	}
	if unknown != 10 || notSent != 40 {
		t.Errorf("results: got %d unknown and %d not sent, want 10 and 40", unknown, notSent)
	}
	// The streams are reset, their slots come back, and the connection goes on.
	if err := srv.SetFaults(apnstest.Faults{}); err != nil {
		t.Fatal(err)
	}
	ns := batch(200, 50)
	wantAccepted(t, ns, send(t, c, job.Bulk, ns))
	if st := srv.Stats(); st.Cancelled != 10 || st.ConnectionsTotal != 1 || st.RefusedStreams != 0 {
		t.Errorf("simulator: got %d cancelled, %d connections, %d refused, want 10, 1, 0", st.Cancelled, st.ConnectionsTotal, st.RefusedStreams)
	}
}

func TestCancelledBefore(t *testing.T) {
	t.Parallel()
	c, srv := setup(t, apnstest.Config{}, apns.ClientConfig{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, r := range sendCtx(ctx, t, c, job.Bulk, batch(0, 3)) {
		if !errors.Is(r.Err, apns.ErrNotSent) || !errors.Is(r.Err, context.Canceled) {
			t.Errorf("error: got %v, want not sent, cancelled", r.Err)
		}
	}
	if got := srv.Stats().Received; got != 0 {
		t.Errorf("received: got %d, want 0", got)
	}
}

func TestRequestTimeout(t *testing.T) {
	t.Parallel()
	c, srv := setup(t, apnstest.Config{}, apns.ClientConfig{RequestTimeout: 300 * time.Millisecond})
	wantAccepted(t, batch(0, 1), send(t, c, job.Bulk, batch(0, 1)))
	ns := batch(1, 20)
	if err := srv.SetDevice(ns[7].DeviceToken.Hex(), apnstest.Device{NeverAnswer: true}); err != nil {
		t.Fatal(err)
	}
	rs := send(t, c, job.Bulk, ns)
	if r := rs[7]; r.Err == nil || errors.Is(r.Err, apns.ErrNotSent) || r.APNsID != ns[7].APNsID {
		t.Errorf("without an answer: got %+v, want an error, unknown", r)
	}
	wantAccepted(t, slices.Delete(ns, 7, 8), slices.Delete(rs, 7, 8))
}

func TestNoConnection(t *testing.T) {
	t.Parallel()
	c, _ := setup(t, apnstest.Config{Faults: apnstest.Faults{Connections: []apnstest.ConnectionFault{{Refuse: true}}}},
		apns.ClientConfig{RequestTimeout: 300 * time.Millisecond})
	for _, r := range send(t, c, job.Transactional, batch(0, 3)) {
		if !errors.Is(r.Err, apns.ErrNotSent) {
			t.Errorf("error: got %v, want not sent", r.Err)
		}
	}
}

func TestClose(t *testing.T) {
	t.Parallel()
	srv := serve(t, apnstest.Config{Streams: 10})
	c := connect(t, srv, apns.ClientConfig{Connections: 1, MaxConnections: 1})
	wantAccepted(t, batch(0, 1), send(t, c, job.Bulk, batch(0, 1)))
	if err := srv.SetFaults(apnstest.Faults{Requests: []apnstest.RequestFault{{NeverAnswer: true}}}); err != nil {
		t.Fatal(err)
	}
	go func() {
		await(t, srv, "ten requests", func(st apnstest.Stats) bool { return st.Pending == 10 })
		_ = c.Close()
	}()
	notSent := 0
	for _, r := range send(t, c, job.Bulk, batch(1, 20)) {
		if errors.Is(r.Err, apns.ErrNotSent) {
			notSent++
		} else if r.Err == nil {
			t.Errorf("result: got %+v, want an error", r)
		}
	}
	if notSent != 10 {
		t.Errorf("not sent: got %d, want 10", notSent)
	}
	for _, r := range send(t, c, job.Bulk, batch(1, 2)) {
		if !errors.Is(r.Err, apns.ErrNotSent) {
			t.Errorf("after Close: got %v, want not sent", r.Err)
		}
	}
}

func TestNewChecksItsConfig(t *testing.T) {
	t.Parallel()
	srv := serve(t, apnstest.Config{})
	for name, cfg := range map[string]apns.ClientConfig{
		"no credential": {},
		"http":          {Credential: keyOf(t, srv), URL: "http://127.0.0.1:1"},
		"no host":       {Credential: keyOf(t, srv), URL: "https://"},
		"with a path":   {Credential: keyOf(t, srv), URL: "https://127.0.0.1:1/3/device"},
		"not a url":     {Credential: keyOf(t, srv), URL: "https://%zz"},
	} {
		if c, err := apns.New(cfg); err == nil {
			_ = c.Close()
			t.Errorf("%s: got no error", name)
		}
	}
}

// Transactional notifications keep being answered within their time while bulk
// takes all it can get; and they have a connection of their own.
func TestUrgentBesideBulk(t *testing.T) {
	t.Parallel()
	const hold = 20 * time.Millisecond
	c, srv := setup(t, apnstest.Config{Latency: hold, Streams: 50}, apns.ClientConfig{Connections: 2, MaxConnections: 2})
	useTwo(t, c, srv)
	wantAccepted(t, batch(0, 1), send(t, c, job.Transactional, batch(0, 1)))
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	var bulk atomic.Int64
	for i := range 4 {
		wg.Go(func() {
			for at := 1 << 20 * (i + 1); ctx.Err() == nil; at += 500 {
				for _, r := range sendCtx(ctx, t, c, job.Bulk, batch(at, 500)) {
					if r.Err == nil {
						bulk.Add(1)
					}
				}
			}
		})
	}
	var took []time.Duration
	urgent := map[string]bool{}
	for i := range 50 {
		ns := batch(10+i, 1)
		urgent[ns[0].APNsID.String()] = true
		start := time.Now()
		wantAccepted(t, ns, send(t, c, job.Transactional, ns))
		took = append(took, time.Since(start))
	}
	if bulk.Load() < 1000 {
		t.Errorf("bulk beside it: got %d, want at least 1000", bulk.Load())
	}
	// Behind bulk they would wait for 20 rounds of 20 ms each.
	slices.Sort(took)
	if median := took[len(took)/2]; median > 8*hold {
		t.Errorf("median of 50: got %v, want less than %v", median, 8*hold)
	}
	on := map[uint64]int{}
	for _, r := range srv.Ledger(apnstest.Filter{}) {
		if urgent[r.APNsID] {
			on[r.Connection]++
		}
	}
	if len(on) != 1 {
		t.Errorf("connections used by transactional: got %v, want one", on)
	}
}

// What is held waits; what is given up unsent is told so, and what was sent is
// waited for.
func TestHoldAndUnsent(t *testing.T) {
	t.Parallel()
	var held atomic.Bool
	held.Store(true)
	c, srv := setup(t, apnstest.Config{Streams: 10, Latency: 300 * time.Millisecond}, apns.ClientConfig{Connections: 1, MaxConnections: 1, Hold: held.Load})
	const n = 50
	ctx, stop := context.WithCancelCause(t.Context())
	defer stop(nil)
	var accepted, notSent atomic.Int32
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		c.Send(ctx, job.Bulk, batch(0, n), func(_ int, r apns.Response) {
			switch {
			case r.Err == nil && r.Status == 200:
				accepted.Add(1)
			case errors.Is(r.Err, apns.ErrNotSent) && errors.Is(r.Err, errTest):
				notSent.Add(1)
			default:
				t.Errorf("got %+v", r)
			}
		})
	}()
	await(t, srv, "the connection", func(s apnstest.Stats) bool { return s.ConnectionsOpen == 1 })
	if got := srv.Stats().Pending + srv.Stats().Received; got != 0 {
		t.Errorf("sent while held: got %d, want none", got)
	}
	held.Store(false)
	await(t, srv, "some on their way", func(s apnstest.Stats) bool { return s.Pending > 1 })
	stop(&apns.UnsentError{Cause: errTest})
	<-ended
	if a, u := accepted.Load(), notSent.Load(); a == 0 || u == 0 || a+u != n || int64(a) != srv.Stats().Accepted {
		t.Errorf("accepted %d, not sent %d of %d; simulator accepted %d", a, u, n, srv.Stats().Accepted)
	}
}

var errTest = errors.New("test")

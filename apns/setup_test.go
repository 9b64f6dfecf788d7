package apns_test

import (
	"context"
	"encoding/base64"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"go.uber.org/goleak"

	"github.com/pushfleet/pushfleet/apns"
	"github.com/pushfleet/pushfleet/apns/apnstest"
	"github.com/pushfleet/pushfleet/device"
	"github.com/pushfleet/pushfleet/job"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// dialGap is what is a second in life.
const dialGap = 20 * time.Millisecond

// serve starts a simulator.
func serve(t testing.TB, cfg apnstest.Config) *apnstest.Server {
	t.Helper()
	srv, err := apnstest.New(cfg)
	if err != nil {
		t.Fatalf("start simulator: %v", err)
	}
	t.Cleanup(func() {
		if err := srv.Close(); err != nil {
			t.Errorf("close simulator: %v", err)
		}
	})
	return srv
}

// keyOf returns the credential of a provider key of srv.
func keyOf(t testing.TB, srv *apnstest.Server) apns.Credential {
	t.Helper()
	pem, err := srv.KeyPEM()
	if err != nil {
		t.Fatalf("key of simulator: %v", err)
	}
	cred, err := apns.LoadKey(apns.KeyConfig{
		Base64: base64.StdEncoding.EncodeToString(pem), KeyID: srv.KeyID(), TeamID: srv.TeamID(),
	})
	if err != nil {
		t.Fatalf("load key: %v", err)
	}
	return cred
}

// connect returns a client of srv; cfg may say what is not the default.
func connect(t testing.TB, srv *apnstest.Server, cfg apns.ClientConfig) *apns.Client {
	t.Helper()
	if cfg.Credential == (apns.Credential{}) {
		cfg.Credential = keyOf(t, srv)
	}
	if cfg.URL == "" {
		cfg.URL = srv.URL()
	}
	cfg.RootCAs = srv.CAPool()
	c, err := apns.New(apns.WithDialGap(cfg, dialGap))
	if err != nil {
		t.Fatalf("new client: %v", err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Errorf("close client: %v", err)
		}
	})
	return c
}

// setup is serve and connect.
func setup(t testing.TB, scfg apnstest.Config, cfg apns.ClientConfig) (*apns.Client, *apnstest.Server) {
	t.Helper()
	srv := serve(t, scfg)
	return connect(t, srv, cfg), srv
}

// batch makes n notifications to n device tokens, numbered from first.
func batch(first, n int) []apns.Notification {
	ns := make([]apns.Notification, n)
	for i := range ns {
		raw := make([]byte, 32)
		for j, v := 0, first+i; v > 0; j, v = j+1, v/256 {
			raw[31-j] = byte(v)
		}
		ns[i] = apns.Notification{
			DeviceToken: device.TokenFromRaw(string(raw)),
			APNsID:      uuid.NewSHA1(uuid.Nil, raw),
			Topic:       "com.example.app",
			PushType:    job.PushAlert,
			Priority:    10,
			Expiration:  -1,
			Payload:     []byte(`{"aps":{"alert":"hello"}}`),
		}
	}
	return ns
}

// send sends a batch and returns what became of each; it fails the test if one
// was told twice or not at all.
func send(t testing.TB, c *apns.Client, lane job.Lane, ns []apns.Notification) []apns.Response {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	return sendCtx(ctx, t, c, lane, ns)
}

func sendCtx(ctx context.Context, t testing.TB, c *apns.Client, lane job.Lane, ns []apns.Notification) []apns.Response {
	t.Helper()
	var mu sync.Mutex
	told := make([]int, len(ns))
	rs := make([]apns.Response, len(ns))
	c.Send(ctx, lane, ns, func(i int, r apns.Response) {
		mu.Lock()
		defer mu.Unlock()
		told[i]++
		rs[i] = r
	})
	mu.Lock()
	defer mu.Unlock()
	for i, n := range told {
		if n != 1 {
			t.Errorf("notification %d: told %d times, want once", i, n)
		}
	}
	return rs
}

// useTwo sends until the client uses the second of its connections: one that the
// simulator calls open the client may not have taken up yet.
func useTwo(t testing.TB, c *apns.Client, srv *apnstest.Server) {
	t.Helper()
	used := func(r apnstest.Record) bool { return r.Connection == 2 }
	for i := 1_000_000; !slices.ContainsFunc(srv.Ledger(apnstest.Filter{}), used); i++ {
		ns := batch(i, 1)
		wantAccepted(t, ns, send(t, c, job.Bulk, ns))
	}
}

// wantAccepted checks that all were answered 200 with their own apns-id.
func wantAccepted(t testing.TB, ns []apns.Notification, rs []apns.Response) {
	t.Helper()
	for i, r := range rs {
		if r.Err != nil || r.Status != 200 || r.APNsID != ns[i].APNsID {
			t.Fatalf("notification %d of %d: got status %d %s, apns-id %v, error %v, want 200, %v",
				i, len(rs), r.Status, r.Reason, r.APNsID, r.Err, ns[i].APNsID)
		}
	}
}

// await waits until the simulator's statistics are as wanted.
func await(t testing.TB, srv *apnstest.Server, what string, ok func(apnstest.Stats) bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := srv.Wait(ctx, ok); err != nil {
		t.Fatalf("wait for %s: %v, statistics %+v", what, err, srv.Stats())
	}
}

package apns_test

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/pushfleet/pushfleet/apns"
	"github.com/pushfleet/pushfleet/apns/apnstest"
	"github.com/pushfleet/pushfleet/job"
)

// wantRouteError checks that a route is stopped, and returns until when.
func wantRouteError(t testing.TB, r apns.Response, reason apns.Reason) time.Time {
	t.Helper()
	var re *apns.RouteError
	if !errors.Is(r.Err, apns.ErrNotSent) || !errors.As(r.Err, &re) || re.Reason != reason {
		t.Fatalf("response: got %+v, want not sent, because the route is stopped by %s", r, reason)
	}
	return re.Until
}

func TestCertificateFaultStopsTheRoute(t *testing.T) {
	t.Parallel()
	clk := &clock{}
	srv := serve(t, apnstest.Config{})
	cert, err := srv.ClientCertificate(apnstest.CertificateConfig{
		BundleID: "com.example.app", Topics: []string{"com.example.app"}, Environments: []apnstest.Environment{apnstest.Sandbox},
	})
	if err != nil {
		t.Fatal(err)
	}
	// One wanted: a second may be opened until the first answer is there.
	c := connect(t, srv, apns.ClientConfig{
		Credential: apns.CertificateCredential(cert), Connections: 1, MaxConnections: 1, Now: clk.now,
	})
	ns := batch(0, 50)
	for _, r := range send(t, c, job.Bulk, ns) {
		wantRouteError(t, r, apns.BadCertificateEnvironment)
	}
	for range 20 { // no loop: they fail without a connection
		wantRouteError(t, send(t, c, job.Transactional, ns[:1])[0], apns.BadCertificateEnvironment)
	}
	if got := srv.Stats().ConnectionsTotal; got != 1 {
		t.Errorf("connections: got %d, want 1", got)
	}
	// After the pause one connection tries again; each stop lasts longer.
	clk.advance(61 * time.Second)
	until := wantRouteError(t, send(t, c, job.Transactional, ns[:1])[0], apns.BadCertificateEnvironment)
	if got := until.Sub(clk.now()); got < 110*time.Second || got > 2*time.Minute {
		t.Errorf("second stop: got %v, want about 2m", got)
	}
	if got := srv.Stats().ConnectionsTotal; got != 2 {
		t.Errorf("connections: got %d, want 2", got)
	}
}

func TestRefusedKeyStopsTheRoute(t *testing.T) {
	t.Parallel()
	clk := &clock{}
	c, srv := setup(t, apnstest.Config{Now: clk.now}, apns.ClientConfig{Connections: 1, MaxConnections: 1, Now: clk.now})
	ns := batch(0, 10)
	wantAccepted(t, ns, send(t, c, job.Bulk, ns))
	if err := srv.SetFaults(apnstest.Faults{Auth: apnstest.AuthFaults{Revoked: []string{srv.KeyID()}}}); err != nil {
		t.Fatal(err)
	}
	before := srv.Stats().ConnectionsTotal
	if r := send(t, c, job.Bulk, batch(10, 1))[0]; r.Err != nil || r.Reason != apns.Forbidden {
		t.Errorf("response: got %+v, want Forbidden", r)
	}
	wantRouteError(t, send(t, c, job.Bulk, batch(11, 1))[0], apns.Forbidden)
	// Mended: the trial proves it, and all goes on.
	if err := srv.SetFaults(apnstest.Faults{}); err != nil {
		t.Fatal(err)
	}
	wantRouteError(t, send(t, c, job.Bulk, batch(11, 1))[0], apns.Forbidden)
	clk.advance(61 * time.Second)
	ns = batch(20, 500)
	wantAccepted(t, ns, send(t, c, job.Bulk, ns))
	if got := srv.Stats().ConnectionsTotal - before; got != 1 {
		t.Errorf("new connections: got %d, want 1", got)
	}
}

// After the pause one connection tries, however many are wanted.
func TestTrialIsOneConnection(t *testing.T) {
	t.Parallel()
	clk := &clock{}
	faults := apnstest.Faults{
		Latency:  apnstest.Latency{Constant: apnstest.Duration(20 * dialGap)},
		Requests: []apnstest.RequestFault{{Answer: &apnstest.Answer{Status: 403, Reason: "Forbidden"}}},
	}
	c, srv := setup(t, apnstest.Config{Now: clk.now, Faults: faults}, apns.ClientConfig{Connections: 4, Now: clk.now})
	send(t, c, job.Bulk, batch(0, 1))
	before := srv.Stats().ConnectionsTotal
	clk.advance(61 * time.Second)
	if r := send(t, c, job.Bulk, batch(1, 1))[0]; r.Err != nil || r.Reason != apns.Forbidden {
		t.Errorf("trial: got %+v, want Forbidden", r)
	}
	if got := srv.Stats().ConnectionsTotal - before; got != 1 {
		t.Errorf("connections on trial: got %d, want 1", got)
	}
}

// What is sent again because of an answer is sent again once.
func TestAnswersAreReactedToOnce(t *testing.T) {
	t.Parallel()
	c, srv := setup(t, apnstest.Config{Faults: apnstest.Faults{Requests: []apnstest.RequestFault{
		{Answer: &apnstest.Answer{Status: 400, Reason: "IdleTimeout"}},
	}}}, apns.ClientConfig{})
	if r := send(t, c, job.Bulk, batch(0, 1))[0]; r.Err != nil || r.Reason != apns.IdleTimeout {
		t.Errorf("response: got %+v, want IdleTimeout", r)
	}
	if got := srv.Stats().Received; got != 2 {
		t.Errorf("requests: got %d, want 2", got)
	}
}

func TestOtherRefusals(t *testing.T) {
	t.Parallel()
	for _, reason := range []apns.Reason{
		apns.BadCertificate, apns.MissingProviderToken, apns.BadEnvironmentKeyIDInToken, apns.BadEnvironmentKeyInToken,
	} {
		t.Run(string(reason), func(t *testing.T) {
			t.Parallel()
			c, srv := setup(t, apnstest.Config{Faults: apnstest.Faults{Requests: []apnstest.RequestFault{
				{Answer: &apnstest.Answer{Status: 403, Reason: string(reason)}},
			}}}, apns.ClientConfig{Connections: 1, MaxConnections: 1})
			answered := 0
			for _, r := range send(t, c, job.Bulk, batch(0, 20)) {
				if r.Err == nil && r.Reason == reason {
					answered++
				} else {
					wantRouteError(t, r, reason)
				}
			}
			if got := srv.Stats().ConnectionsTotal; answered == 0 || got > 1 {
				t.Errorf("got %d answers on %d connections, want at least one on 1", answered, got)
			}
		})
	}
}

// A thousand requests are answered ExpiredProviderToken at once: one new token,
// one more try each, on new connections.
func TestExpiredTokenStampede(t *testing.T) {
	t.Parallel()
	c, srv := setup(t, apnstest.Config{Latency: 20 * time.Millisecond}, apns.ClientConfig{Connections: 1, MaxConnections: 1})
	ns := batch(0, 10)
	wantAccepted(t, ns, send(t, c, job.Bulk, ns))
	if _, err := srv.Do(apnstest.Action{Wedge: true}); err != nil {
		t.Fatal(err)
	}
	ns = batch(10, 900)
	wantAccepted(t, ns, send(t, c, job.Bulk, ns))
	st := srv.Stats()
	if st.Reasons["ExpiredProviderToken"] == 0 || st.Reasons["TooManyProviderTokenUpdates"] != 0 {
		t.Errorf("reasons: got %v, want ExpiredProviderToken only", st.Reasons)
	}
	if st.ConnectionsTotal != 2 || st.Duplicates != 0 {
		t.Errorf("got %d connections, %d duplicates, want 2, 0", st.ConnectionsTotal, st.Duplicates)
	}
}

func TestTokensThatAreAlwaysRefused(t *testing.T) {
	t.Parallel()
	for reason, auth := range map[apns.Reason]apnstest.AuthFaults{
		apns.ExpiredProviderToken: {ClockSkew: apnstest.Duration(2 * time.Hour)},
		apns.InvalidProviderToken: {OnlyKeyID: "SOMEOTHER1"},
	} {
		t.Run(string(reason), func(t *testing.T) {
			t.Parallel()
			c, srv := setup(t, apnstest.Config{Faults: apnstest.Faults{Auth: auth}}, apns.ClientConfig{Connections: 1, MaxConnections: 1})
			answered := 0
			for _, r := range send(t, c, job.Bulk, batch(0, 20)) {
				if r.Err == nil && r.Reason == reason {
					answered++
				} else {
					wantRouteError(t, r, reason)
				}
			}
			// One connection with each of two tokens.
			if got := srv.Stats().ConnectionsTotal; answered == 0 || got > 2 {
				t.Errorf("got %d answers on %d connections, want at least one on at most 2", answered, got)
			}
			wantRouteError(t, send(t, c, job.Bulk, batch(0, 1))[0], reason)
		})
	}
}

func TestAnswersThatAreAboutTheConnection(t *testing.T) {
	t.Parallel()
	for _, a := range []apnstest.Answer{
		{Status: 403, Reason: "UnrelatedKeyIdInToken"},
		{Status: 400, Reason: "IdleTimeout"},
		{Status: 429, Reason: "TooManyProviderTokenUpdates"},
		{Status: 403, Reason: "InvalidProviderToken"},
		{Status: 403, Reason: "ExpiredProviderToken"},
	} {
		t.Run(a.Reason, func(t *testing.T) {
			t.Parallel()
			c, srv := setup(t, apnstest.Config{Latency: time.Millisecond, Faults: apnstest.Faults{Requests: []apnstest.RequestFault{
				{Match: apnstest.Match{Skip: 20, Times: 3, Connection: 1}, Answer: &a},
			}}}, apns.ClientConfig{Connections: 1, MaxConnections: 1})
			ns := batch(0, 1000)
			wantAccepted(t, ns, send(t, c, job.Bulk, ns))
			if st := srv.Stats(); st.ConnectionsTotal != 2 || st.Reasons[a.Reason] == 0 {
				t.Errorf("got %d connections, reasons %v, want 2, %s", st.ConnectionsTotal, st.Reasons, a.Reason)
			}
		})
	}
}

func TestShutdownAnswerDrains(t *testing.T) {
	t.Parallel()
	c, srv := setup(t, apnstest.Config{Faults: apnstest.Faults{Requests: []apnstest.RequestFault{
		{Match: apnstest.Match{Skip: 5, Times: 1}, Answer: &apnstest.Answer{Status: 503, Reason: "Shutdown"}},
	}}}, apns.ClientConfig{Connections: 1, MaxConnections: 1})
	shutdown := 0
	for _, r := range send(t, c, job.Bulk, batch(0, 200)) {
		switch {
		case r.Err != nil:
			t.Errorf("response: got %v, want an answer", r.Err)
		case r.Reason == apns.Shutdown:
			shutdown++
		}
	}
	wantAccepted(t, batch(200, 1), send(t, c, job.Bulk, batch(200, 1)))
	if got := srv.Stats().ConnectionsTotal; shutdown != 1 || got != 2 {
		t.Errorf("got %d answers Shutdown, %d connections, want 1, 2", shutdown, got)
	}
}

func TestServerErrorsReplaceTheConnection(t *testing.T) {
	t.Parallel()
	c, srv := setup(t, apnstest.Config{Faults: apnstest.Faults{Requests: []apnstest.RequestFault{
		{Match: apnstest.Match{Connection: 1, Skip: 1}, Answer: &apnstest.Answer{Status: 500, Reason: "InternalServerError"}},
	}}}, apns.ClientConfig{Connections: 1, MaxConnections: 1})
	for i := range 12 {
		send(t, c, job.Bulk, batch(i, 1))
	}
	wantAccepted(t, batch(20, 1), send(t, c, job.Bulk, batch(20, 1)))
	if got := srv.Stats().ConnectionsTotal; got != 2 {
		t.Errorf("connections: got %d, want 2", got)
	}
}

func TestNewTopicOnAnOldConnection(t *testing.T) {
	t.Parallel()
	clk := &clock{}
	c, srv := setup(t, apnstest.Config{Now: clk.now, Topics: []string{"com.example.app"}}, apns.ClientConfig{Connections: 1, MaxConnections: 1, Now: clk.now})
	wantAccepted(t, batch(0, 1), send(t, c, job.Bulk, batch(0, 1)))
	ns := batch(1, 5)
	for i := range ns {
		ns[i].Topic = "com.example.new"
	}
	// The connection is young: it is not to blame.
	for _, r := range send(t, c, job.Bulk, ns) {
		if r.Reason != apns.TopicDisallowed {
			t.Errorf("on a young connection: got %+v, want TopicDisallowed", r)
		}
	}
	clk.advance(2 * time.Minute)
	if err := srv.SetTopics("com.example.app", "com.example.new"); err != nil {
		t.Fatal(err)
	}
	wantAccepted(t, ns, send(t, c, job.Bulk, ns))
	if got := srv.Stats().ConnectionsTotal; got != 2 {
		t.Errorf("connections: got %d, want 2", got)
	}
	// A topic that stays disallowed costs one new connection per hour at most.
	clk.advance(2 * time.Minute)
	for i := range ns {
		ns[i].Topic = "com.example.never"
	}
	for range 3 {
		for _, r := range send(t, c, job.Bulk, ns) {
			if r.Reason != apns.TopicDisallowed {
				t.Errorf("never allowed: got %+v, want TopicDisallowed", r)
			}
		}
		clk.advance(2 * time.Minute)
	}
	if got := srv.Stats().ConnectionsTotal; got != 3 {
		t.Errorf("connections: got %d, want 3", got)
	}
}

func TestProviderTokenRotatesOnTheConnection(t *testing.T) {
	t.Parallel()
	clk, reg := &clock{}, prometheus.NewRegistry()
	c, srv := setup(t, apnstest.Config{Now: clk.now, Faults: apnstest.Faults{Auth: apnstest.AuthFaults{UpdateInterval: -1}}},
		apns.ClientConfig{Connections: 1, MaxConnections: 1, Now: clk.now, Metrics: reg})
	var ages []time.Duration
	for i := range 16 { // four hours
		apns.Tick(c) // in life a token does not grow old from one notification to the next
		ns := batch(10*i, 10)
		wantAccepted(t, ns, send(t, c, job.Bulk, ns))
		apns.Tick(c)
		age := time.Duration(metric(t, reg, "pushfleet_apns_provider_token_age_seconds") * float64(time.Second))
		ages = append(ages, age.Round(time.Minute))
		clk.advance(15 * time.Minute)
	}
	const m = time.Minute
	if want := []time.Duration{0, 15 * m, 30 * m, 45 * m, 0, 15 * m, 30 * m, 45 * m, 0, 15 * m, 30 * m, 45 * m, 0, 15 * m, 30 * m, 45 * m}; !slices.Equal(ages, want) {
		t.Errorf("token ages: got %v, want %v", ages, want)
	}
	if st := srv.Stats(); st.ConnectionsTotal != 1 || len(st.Reasons) != 0 {
		t.Errorf("got %d connections, reasons %v, want 1, none", st.ConnectionsTotal, st.Reasons)
	}
}

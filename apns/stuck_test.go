package apns_test

import (
	"testing"
	"time"

	"github.com/pushfleet/pushfleet/apns"
	"github.com/pushfleet/pushfleet/apns/apnstest"
	"github.com/pushfleet/pushfleet/job"
)

// One 500 in a hundred is not ten in a row: the connection stays.
func TestScatteredServerErrorsKeepTheConnection(t *testing.T) {
	t.Parallel()
	c, srv := setup(t, apnstest.Config{Faults: apnstest.Faults{Requests: []apnstest.RequestFault{{
		Match: apnstest.Match{Every: 100}, Answer: &apnstest.Answer{Status: 500, Reason: "InternalServerError"},
	}}}}, apns.ClientConfig{Connections: 1, MaxConnections: 1})
	for i := range 10 {
		send(t, c, job.Bulk, batch(1000*i, 1000))
	}
	if got := srv.Stats().ConnectionsTotal; got != 1 {
		t.Errorf("connections: got %d, want 1", got)
	}
}

// A server that never opens its window again is left for another connection.
func TestWindowThatNeverOpensIsLeft(t *testing.T) {
	t.Parallel()
	c, srv := setup(t, apnstest.Config{}, apns.ClientConfig{Connections: 1, MaxConnections: 1, RequestTimeout: time.Second})
	wantAccepted(t, batch(0, 1), send(t, c, job.Bulk, batch(0, 1)))
	if err := srv.SetFaults(apnstest.Faults{Flow: apnstest.FlowFaults{Withhold: true}}); err != nil {
		t.Fatal(err)
	}
	send(t, c, job.Bulk, batch(1, 5000))
	if err := srv.SetFaults(apnstest.Faults{}); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	for i := 0; ; i++ {
		accepted := 0
		for _, r := range send(t, c, job.Bulk, batch(10_000+100*i, 100)) {
			if r.Status == 200 {
				accepted++
			}
		}
		if accepted == 100 {
			break
		}
		if time.Since(began) > 20*time.Second {
			t.Fatal("the route is dead: nothing was accepted within 20 s")
		}
	}
	if got := srv.Stats().ConnectionsTotal; got != 2 {
		t.Errorf("connections: got %d, want 2", got)
	}
}

package apns_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/pushfleet/pushfleet/apns"
	"github.com/pushfleet/pushfleet/apns/apnstest"
	"github.com/pushfleet/pushfleet/job"
)

// checkTruth compares what the client was told with what the simulator knows.
func checkTruth(t testing.TB, srv *apnstest.Server, ns []apns.Notification, rs []apns.Response) (accepted, notSent, unknown int) {
	t.Helper()
	taken := map[string]int{}
	for _, r := range srv.Ledger(apnstest.Filter{}) {
		if r.Status == 200 && !r.Withdrawn {
			taken[r.APNsID]++
		}
	}
	for i, r := range rs {
		n := taken[ns[i].APNsID.String()]
		switch {
		case n > 1:
			t.Errorf("notification %d: APNs accepted it %d times, want at most once", i, n)
		case r.Err == nil && r.Status == 200:
			accepted++
			if n != 1 {
				t.Errorf("notification %d: told as accepted, but APNs accepted it %d times", i, n)
			}
		case errors.Is(r.Err, apns.ErrNotSent):
			notSent++
			if n != 0 {
				t.Errorf("notification %d: told as not sent, but APNs accepted it: %v", i, r.Err)
			}
		case r.Err != nil:
			unknown++
		}
	}
	return accepted, notSent, unknown
}

func TestGoAwayMidFlight(t *testing.T) {
	t.Parallel()
	for name, g := range map[string]apnstest.GoAway{
		"graceful":      {},
		"two phases":    {TwoPhase: apnstest.Duration(5 * time.Millisecond)},
		"disowns some":  {Back: 20},
		"disowns all":   {Last: "zero"},
		"late":          {Hold: 50},
		"refused, text": {Code: "REFUSED_STREAM", Debug: "Maximum active streams violated for this endpoint."},
		"calm":          {Code: "ENHANCE_YOUR_CALM", Back: 5},
		"with a reason": {Reason: "Shutdown"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, srv := setup(t, apnstest.Config{Latency: 5 * time.Millisecond, Faults: apnstest.Faults{
				Latency:  apnstest.Latency{Constant: apnstest.Duration(5 * time.Millisecond)},
				Requests: []apnstest.RequestFault{{Match: apnstest.Match{Skip: 200, Times: 1}, Do: &apnstest.Action{GoAway: &g}}},
			}}, apns.ClientConfig{})
			ns := batch(0, 2000)
			rs := send(t, c, job.Bulk, ns)
			checkTruth(t, srv, ns, rs)
			// Everything was answered or unprocessed, and so was sent again.
			wantAccepted(t, ns, rs)
			if st := srv.Stats(); st.GoAways < 1 || st.Duplicates != 0 {
				t.Errorf("simulator: got %d GOAWAYs, %d duplicates, want at least one, none", st.GoAways, st.Duplicates)
			}
		})
	}
}

func TestGoAwayThenCloseIsUnknown(t *testing.T) {
	t.Parallel()
	c, srv := setup(t, apnstest.Config{Faults: apnstest.Faults{
		Latency: apnstest.Latency{Constant: apnstest.Duration(300 * time.Millisecond)},
		Requests: []apnstest.RequestFault{{
			Match: apnstest.Match{Skip: 300, Times: 1},
			Do:    &apnstest.Action{GoAway: &apnstest.GoAway{Back: 10, Then: "close"}},
		}},
	}}, apns.ClientConfig{Connections: 1, MaxConnections: 1})
	ns := batch(0, 1000)
	accepted, notSent, unknown := checkTruth(t, srv, ns, send(t, c, job.Bulk, ns))
	if notSent != 0 || unknown == 0 || accepted+unknown != len(ns) {
		t.Errorf("results: got %d accepted, %d unknown, %d not sent, want some unknown and the rest accepted", accepted, unknown, notSent)
	}
}

func TestConnectionsThatBreak(t *testing.T) {
	t.Parallel()
	for _, how := range []string{"tls", "fin", "rst"} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			c, srv := setup(t, apnstest.Config{Faults: apnstest.Faults{
				Latency:  apnstest.Latency{Constant: apnstest.Duration(5 * time.Millisecond)},
				Requests: []apnstest.RequestFault{{Match: apnstest.Match{Skip: 200, Times: 1}, Do: &apnstest.Action{Close: how}}},
			}}, apns.ClientConfig{})
			ns := batch(0, 2000)
			accepted, notSent, unknown := checkTruth(t, srv, ns, send(t, c, job.Bulk, ns))
			if notSent != 0 || unknown > 1000 || accepted+unknown != len(ns) {
				t.Errorf("results: got %d accepted, %d unknown, %d not sent, want only what was in flight unknown", accepted, unknown, notSent)
			}
		})
	}
}

// A peer that stops reading blocks the writer. Callers still get away.
func TestCancelWhileTheWriterIsStuck(t *testing.T) {
	t.Parallel()
	c, srv := setup(t, apnstest.Config{}, apns.ClientConfig{Connections: 1, MaxConnections: 1, RequestTimeout: time.Second})
	wantAccepted(t, batch(0, 1), send(t, c, job.Bulk, batch(0, 1)))
	if _, err := srv.Do(apnstest.Action{StopReading: true}); err != nil {
		t.Fatal(err)
	}
	ns := batch(1, 3000)
	for i := range ns {
		ns[i].Payload = make([]byte, 4096)
	}
	start := time.Now()
	for i, r := range send(t, c, job.Bulk, ns) {
		if r.Err == nil {
			t.Errorf("result %d: got %+v, want an error", i, r)
		}
	}
	if took := time.Since(start); took > 8*time.Second {
		t.Errorf("took %v, want little more than the timeouts", took)
	}
	if _, err := srv.Do(apnstest.Action{Thaw: true}); err != nil {
		t.Fatal(err)
	}
}

// Whatever goes wrong at random, nobody is told something untrue, nothing is
// told twice, and the client alone never makes a duplicate.
func TestTruthUnderRandomFaults(t *testing.T) {
	t.Parallel()
	often := func(one int) apnstest.Match { return apnstest.Match{Skip: 3, Probability: 1 / float64(one)} }
	requests := []apnstest.RequestFault{
		{Match: often(50), Reset: &apnstest.Reset{Code: "REFUSED_STREAM", Twice: true}},
		{Match: often(100), Reset: &apnstest.Reset{Code: "INTERNAL_ERROR", When: "after"}},
		{Match: often(100), Reset: &apnstest.Reset{Code: "CANCEL", When: "headers"}},
		{Match: often(200), NeverAnswer: true},
		{Match: often(100), Answer: &apnstest.Answer{Status: 503, Reason: "ServiceUnavailable"}},
		{Match: often(2000), Do: &apnstest.Action{GoAway: &apnstest.GoAway{Back: 7}}},
		{Match: often(2000), Do: &apnstest.Action{GoAway: &apnstest.GoAway{Back: 3, Then: "close"}}},
		{Match: often(2000), Do: &apnstest.Action{GoAway: &apnstest.GoAway{TwoPhase: apnstest.Duration(time.Millisecond)}}},
		{Match: often(3000), Do: &apnstest.Action{Close: "rst"}},
		{Match: often(3000), Do: &apnstest.Action{Close: "fin"}},
	}
	for seed := range uint64(4) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			faults := apnstest.Faults{
				Seed:     seed,
				Latency:  apnstest.Latency{Constant: apnstest.Duration(time.Millisecond), Jitter: apnstest.Duration(3 * time.Millisecond)},
				Score:    apnstest.ErrorScore{Mode: "halve"},
				Requests: requests,
			}
			c, srv := setup(t, apnstest.Config{BadShare: 0.01, DeadShare: 0.05, Faults: faults},
				apns.ClientConfig{Connections: 3, RequestTimeout: 3 * time.Second, DialsPerMinute: 1000})
			ns := batch(0, 3000)
			rs := send(t, c, job.Lanes()[seed%2], ns)
			accepted, notSent, unknown := checkTruth(t, srv, ns, rs)
			if accepted == 0 {
				t.Errorf("got %d accepted, %d not sent, %d unknown", accepted, notSent, unknown)
			}
			t.Logf("%d accepted, %d not sent, %d unknown, %d connections", accepted, notSent, unknown, srv.Stats().ConnectionsTotal)
		})
	}
}

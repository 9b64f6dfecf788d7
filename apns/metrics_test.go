package apns_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/pushfleet/pushfleet/apns"
	"github.com/pushfleet/pushfleet/apns/apnstest"
	"github.com/pushfleet/pushfleet/job"
)

// metric returns the value of a metric, or of a histogram how many it observed.
// labels are those that it must have, as name=value.
func metric(t testing.TB, reg *prometheus.Registry, name string, labels ...string) float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatalf("gather metrics: %v", err)
	}
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			have := make([]string, 0, 2)
			for _, l := range m.GetLabel() {
				have = append(have, l.GetName()+"="+l.GetValue())
			}
			if slices.ContainsFunc(labels, func(l string) bool { return !slices.Contains(have, l) }) {
				continue
			}
			switch {
			case m.GetHistogram() != nil:
				return float64(m.GetHistogram().GetSampleCount())
			case m.GetCounter() != nil:
				return m.GetCounter().GetValue()
			default:
				return m.GetGauge().GetValue()
			}
		}
	}
	t.Fatalf("metric %s{%s} is missing", name, strings.Join(labels, ","))
	return 0
}

func TestMetrics(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewRegistry()
	srv := serve(t, apnstest.Config{Faults: apnstest.Faults{Requests: []apnstest.RequestFault{
		{Match: apnstest.Match{Skip: 10, Times: 3}, Reset: &apnstest.Reset{Code: "REFUSED_STREAM"}},
		{Match: apnstest.Match{Skip: 20, Times: 2}, Reset: &apnstest.Reset{Code: "INTERNAL_ERROR"}},
		{Match: apnstest.Match{Skip: 50, Times: 1}, Do: &apnstest.Action{GoAway: &apnstest.GoAway{Code: "ENHANCE_YOUR_CALM"}}},
	}}})
	c, err := apns.New(apns.ClientConfig{
		Credential: keyOf(t, srv), URL: srv.URL(), RootCAs: srv.CAPool(), Connections: 1, MaxConnections: 1,
		Metrics: prometheus.WrapRegistererWith(prometheus.Labels{"app": "shop"}, reg),
	})
	if err != nil {
		t.Fatal(err)
	}
	send(t, c, job.Bulk, batch(0, 200))
	for _, tc := range []struct {
		name   string
		labels []string
		want   float64
	}{
		{"pushfleet_apns_response_seconds", []string{"app=shop"}, 198},
		{"pushfleet_apns_unknown_outcomes_total", nil, 2},
		{"pushfleet_apns_goaways_total", []string{"code=ENHANCE_YOUR_CALM"}, 1},
		{"pushfleet_apns_goaways_total", []string{"code=NO_ERROR"}, 0},
		{"pushfleet_apns_goaways_total", []string{"code=other"}, 0},
		{"pushfleet_apns_dials_total", []string{"result=connected"}, 2},
		{"pushfleet_apns_dials_total", []string{"result=failed"}, 0},
		{"pushfleet_apns_connections", []string{"state=ready"}, 1},
		{"pushfleet_apns_connections", []string{"state=dialing"}, 0},
		{"pushfleet_apns_streams_in_flight", nil, 0},
		{"pushfleet_apns_streams_limit", nil, 1000},
		{"pushfleet_apns_waiting_notifications", []string{"lane=bulk"}, 0},
		{"pushfleet_apns_resends_total", []string{"cause=reason"}, 0},
		{"pushfleet_apns_route_stopped", nil, 0},
	} {
		if got := metric(t, reg, tc.name, tc.labels...); got != tc.want {
			t.Errorf("%s%v: got %v, want %v", tc.name, tc.labels, got, tc.want)
		}
	}
	if got := metric(t, reg, "pushfleet_apns_resends_total", "cause=unprocessed"); got < 3 {
		t.Errorf("resends: got %v, want at least 3", got)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	families, err := reg.Gather()
	if err != nil || len(families) != 0 {
		t.Errorf("after Close: got %d metrics, error %v, want none", len(families), err)
	}
}

func TestTwoClientsOfOneAppNeedLabels(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewRegistry()
	_, srv := setup(t, apnstest.Config{}, apns.ClientConfig{Metrics: reg})
	if c, err := apns.New(apns.ClientConfig{Credential: keyOf(t, srv), URL: srv.URL(), Metrics: reg}); err == nil {
		_ = c.Close()
		t.Error("second client with the same labels: got no error")
	}
}

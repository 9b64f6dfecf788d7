package worker

import (
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/pushfleet/pushfleet/apns"
	"github.com/pushfleet/pushfleet/campaign"
	"github.com/pushfleet/pushfleet/device"
	"github.com/pushfleet/pushfleet/job"
)

// metrics are the worker's own. No label is unbounded: reasons are APNs's, or
// ours from the code.
type metrics struct {
	notifications *prometheus.CounterVec
	enqueueAccept *prometheus.HistogramVec
	retries       *prometheus.CounterVec
	deadLetters   *prometheus.CounterVec

	known map[string]bool // reasons that may be labels; only read once made
}

// tally is what the worker tells the fleet of an app's notifications. It is apart from
// the metrics, which nothing reads but their collector.
type tally struct {
	accepted, rejected, failed atomic.Int64
	waits                      [2]waits // of what was accepted, by lane
}

// fastMetrics are what most notifications need, found once for a lane and an
// environment.
type fastMetrics struct {
	accepted prometheus.Counter
	latency  prometheus.Observer
}

func newMetrics(reg prometheus.Registerer, w *Worker) *metrics {
	m := &metrics{
		notifications: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "pushfleet_notifications_total",
			Help: "Recipients that were settled, by result. Accepted is APNs's word: it never means delivered.",
		}, []string{"app", "environment", "lane", "result", "reason"}),
		enqueueAccept: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "pushfleet_enqueue_to_accept_seconds",
			Help:    "From JetStream having stored the job to APNs having accepted the notification.",
			Buckets: prometheus.ExponentialBuckets(0.002, 2, 16),
		}, []string{"app", "lane"}),
		retries: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "pushfleet_retries_total",
			Help: "Notifications that will be tried again later, by what APNs said.",
		}, []string{"app", "lane", "reason"}),
		deadLetters: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "pushfleet_dead_letters_total",
			Help: "Dead letters stored, by reason.",
		}, []string{"app", "lane", "reason"}),
		known: make(map[string]bool),
	}
	for _, r := range apns.Reasons() {
		m.known[string(r)] = true
	}
	for _, r := range []string{
		"", "no device", "no credential", "replaced", "deleted", "pruned", "invalid", reasonCancelled, labelNoValue,
		campaign.ReasonControl, campaign.ReasonQuiet, campaign.ReasonLocalPassed, campaign.ReasonExpiresFirst, campaign.ReasonCap, campaign.ReasonTooLarge, string(causeNotSent), string(causeStopped), string(causeUnknown), string(cause4xx), string(cause5xx), string(causeOther),
	} {
		m.known[r] = true
	}
	if reg != nil {
		reg.MustRegister(m.notifications, m.enqueueAccept, m.retries, m.deadLetters,
			prometheus.NewGaugeFunc(prometheus.GaugeOpts{
				Name: "pushfleet_worker_notifications_held",
				Help: "Notifications that the worker holds.",
			}, func() float64 { return float64(w.room.inUse()) }))
		if w.cfg.Campaigns != nil {
			reg.MustRegister(newCampaignMetrics(w))
		}
	}
	return m
}

// of returns the metrics of an app's lane by environment.
func (m *metrics) of(app string, l job.Lane) (fast [device.Sandbox + 1]fastMetrics) {
	for _, env := range []device.Environment{device.Production, device.Sandbox} {
		fast[env] = fastMetrics{
			accepted: m.notifications.WithLabelValues(app, env.String(), l.String(), string(job.Accepted), ""),
			latency:  m.enqueueAccept.WithLabelValues(app, l.String()),
		}
	}
	return fast
}

func (m *metrics) accepted(l *lane, env device.Environment, latency time.Duration) {
	f := &l.fast[env]
	f.accepted.Inc()
	l.app.tally.accepted.Add(1)
	l.app.tally.waits[l.lane].observe(latency)
	f.latency.Observe(latency.Seconds())
}

func (m *metrics) settled(l *lane, env device.Environment, result job.Result, reason string, n int) {
	switch result {
	case job.Rejected:
		l.app.tally.rejected.Add(int64(n))
	case job.Failed, job.Unknown:
		l.app.tally.failed.Add(int64(n))
	}
	m.notifications.WithLabelValues(l.app.name, env.String(), l.lane.String(), string(result), m.label(reason)).Add(float64(n))
}

func (m *metrics) retried(l *lane, r apns.Response) {
	m.retries.WithLabelValues(l.app.name, l.lane.String(), m.label(string(causeOf(r)))).Inc()
}

func (m *metrics) deadLetter(l *lane, reason string) {
	m.deadLetters.WithLabelValues(l.app.name, l.lane.String(), m.label(reason)).Inc()
}

// forget drops what is told of an app.
func (m *metrics) forget(app string) {
	of := prometheus.Labels{"app": app}
	m.notifications.DeletePartialMatch(of)
	m.enqueueAccept.DeletePartialMatch(of)
	m.retries.DeletePartialMatch(of)
	m.deadLetters.DeletePartialMatch(of)
}

// label bounds the values of a reason: APNs may say what is not documented.
func (m *metrics) label(reason string) string {
	if m.known[reason] {
		return reason
	}
	return "other"
}

package api

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are those of the API. Labels are the routes of the list and classes of
// statuses: never what is in a URL.
type metrics struct {
	requests *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
	batch    prometheus.Histogram
	jobs     *prometheus.CounterVec
}

func newMetrics(reg prometheus.Registerer, queued func() int, publishing func() int64, following func() int) *metrics {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "pushfleet_http_requests_total",
			Help: "HTTP requests that were answered, by route and class of status.",
		}, []string{"method", "route", "class"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "pushfleet_http_request_seconds",
			Help:    "From a request's headers having been read to its answer having been written.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 2, 15),
		}, []string{"method", "route"}),
		batch: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "pushfleet_api_registration_batch_devices",
			Help:    "Registrations that came one by one and went into one call to the token set.",
			Buckets: prometheus.ExponentialBuckets(1, 2, 10),
		}),
		jobs: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "pushfleet_api_jobs_total",
			Help: "Valid jobs that came over HTTP: stored, duplicate, or the code of the problem that kept them from being stored.",
		}, []string{"app", "lane", "result"}),
	}
	if reg != nil {
		reg.MustRegister(m.requests, m.seconds, m.batch, m.jobs, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "pushfleet_api_registrations_waiting",
			Help: "Registrations that wait for a call to the token set.",
		}, func() float64 { return float64(queued()) }), prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "pushfleet_api_jobs_publishing",
			Help: "Jobs that came over HTTP and wait for JetStream's answer.",
		}, func() float64 { return float64(publishing()) }), prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "pushfleet_api_followers",
			Help: "Callers that follow events.",
		}, func() float64 { return float64(following()) }))
	}
	return m
}

// routeMetrics are those of one route, looked up once.
type routeMetrics struct {
	classes [6]prometheus.Counter // by status / 100
	seconds prometheus.Observer
}

func (m *metrics) of(method, route string) *routeMetrics {
	r := &routeMetrics{seconds: m.seconds.WithLabelValues(method, route)}
	for i, class := range []string{2: "2xx", 3: "3xx", 4: "4xx", 5: "5xx"} {
		if class != "" {
			r.classes[i] = m.requests.WithLabelValues(method, route, class)
		}
	}
	return r
}

func (r *routeMetrics) observe(status int, took time.Duration) {
	r.classes[status/100].Inc()
	r.seconds.Observe(took.Seconds())
}

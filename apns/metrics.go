package apns

import (
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/net/http2"

	"github.com/pushfleet/pushfleet/job"
)

// resendCause is why a client sent a notification again by itself.
type resendCause int

// The causes.
const (
	resendUnprocessed resendCause = iota // given back: REFUSED_STREAM, GOAWAY, or never sent
	resendReason                         // APNs's answer was about the connection
	resendCauses
)

// dialResult is what became of an attempt to open a connection.
type dialResult int

// The results.
const (
	dialWorked dialResult = iota
	dialFailed
	dialResults
)

// counters count events since the client was made. Notifications that are
// answered are not among them: the connections count those in runs.
type counters struct {
	unknown atomic.Uint64
	resends [resendCauses]atomic.Uint64
	dials   [dialResults]atomic.Uint64
	// By error code; the last is for codes that RFC 9113 does not know.
	goAways [http2.ErrCodeHTTP11Required + 2]atomic.Uint64
}

func (c *counters) goAway(code http2.ErrCode) {
	c.goAways[min(int(code), len(c.goAways)-1)].Add(1)
}

// collector shows a pool to Prometheus. It reads what is there when it is asked
// and costs nothing otherwise.
type collector struct {
	pool *pool

	connections, inFlight, limit, waiting      *prometheus.Desc
	response, unknown, resends, dials, goAways *prometheus.Desc
	tokenAge, age, stopped, expires            *prometheus.Desc
}

func newCollector(p *pool) *collector {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("pushfleet_apns_"+name, help, labels, nil)
	}
	return &collector{
		pool:        p,
		connections: desc("connections", "Connections to APNs.", "state"),
		inFlight:    desc("streams_in_flight", "Requests that wait for an answer."),
		limit:       desc("streams_limit", "Streams that APNs allows now, over all connections."),
		waiting:     desc("waiting_notifications", "Notifications that wait for a stream.", "lane"),
		response:    desc("response_seconds", "Time from writing a request to its answer."),
		unknown:     desc("unknown_outcomes_total", "Notifications without an answer that APNs may have taken."),
		resends:     desc("resends_total", "Notifications that the client sent again by itself.", "cause"),
		dials:       desc("dials_total", "Attempts to open a connection.", "result"),
		goAways:     desc("goaways_total", "GOAWAY frames from APNs.", "code"),
		tokenAge:    desc("provider_token_age_seconds", "Age of the oldest provider token in use."),
		age:         desc("connection_age_seconds", "Age of the oldest connection."),
		expires:     desc("certificate_expires_timestamp_seconds", "When the certificate ends, in Unix seconds; absent for signing keys."),
		stopped:     desc("route_stopped", "1 while APNs refuses the credential and nothing is sent."),
	}
}

// Describe implements [prometheus.Collector].
func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		c.connections, c.inFlight, c.limit, c.waiting, c.response, c.unknown,
		c.resends, c.dials, c.goAways, c.tokenAge, c.age, c.stopped, c.expires,
	} {
		ch <- d
	}
}

// Collect implements [prometheus.Collector].
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	counter := func(d *prometheus.Desc, v *atomic.Uint64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v.Load()), labels...)
	}

	s := c.pool.snapshot()
	gauge(c.connections, float64(s.ready), "ready")
	gauge(c.connections, float64(s.draining), "draining")
	gauge(c.connections, float64(s.dialing), "dialing")
	gauge(c.inFlight, float64(s.open))
	gauge(c.limit, float64(s.limit))
	for _, lane := range job.Lanes() {
		gauge(c.waiting, float64(s.waiting[lane]), lane.String())
	}
	gauge(c.tokenAge, s.tokenAge)
	gauge(c.age, s.age)
	gauge(c.stopped, float64(s.stopped))
	if ends := c.pool.cfg.Credential.Expires(); !ends.IsZero() {
		gauge(c.expires, float64(ends.Unix()))
	}

	count, sum, buckets := c.pool.latencies.Snapshot()
	ch <- prometheus.MustNewConstHistogram(c.response, count, sum, buckets)
	n := &c.pool.counters
	counter(c.unknown, &n.unknown)
	counter(c.resends, &n.resends[resendUnprocessed], "unprocessed")
	counter(c.resends, &n.resends[resendReason], "reason")
	counter(c.dials, &n.dials[dialWorked], "connected")
	counter(c.dials, &n.dials[dialFailed], "failed")
	for code := range n.goAways {
		name := http2.ErrCode(code).String()
		if code == len(n.goAways)-1 {
			name = "other"
		}
		counter(c.goAways, &n.goAways[code], name)
	}
}

// snapshot is a pool at one moment.
type snapshot struct {
	ready, draining, dialing, stopped int
	open, limit                       int
	waiting                           [2]int
	tokenAge, age                     float64 // seconds
}

func (p *pool) snapshot() (s snapshot) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.cfg.Now()
	for _, l := range p.links {
		st := l.conn.Stats()
		s.open += st.Open
		s.limit += st.Limit
		s.age = max(s.age, now.Sub(l.born).Seconds())
		if !l.usable() {
			s.draining++
			continue
		}
		s.ready++
		if p.tokens != nil {
			s.tokenAge = max(s.tokenAge, p.tokens.Age(l.token).Seconds())
		}
	}
	if p.dialing {
		s.dialing = 1
	}
	if p.credentials.stopped != nil {
		s.stopped = 1
	}
	for lane := range p.queues {
		s.waiting[lane] = p.queues[lane].waiting
	}
	return s
}

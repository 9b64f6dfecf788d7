package feedback_test

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/pushfleet/pushfleet/feedback"
	"github.com/pushfleet/pushfleet/internal/testenv"
	"github.com/pushfleet/pushfleet/job"
	"github.com/pushfleet/pushfleet/stream"
)

// secretOf is a signing secret in text form.
func secretOf(seed string) string {
	return "whsec_" + base64.StdEncoding.EncodeToString([]byte(strings.Repeat(seed, 32)))
}

// posted is a POST as the receiver got it.
type posted struct {
	id     string
	header http.Header
	body   []byte
	events []job.WebhookEvent
}

// backend is a receiver: it keeps what it got, and answers as it is told.
type backend struct {
	t      *testing.T
	server *httptest.Server
	got    chan posted // every POST, before it is answered

	mu     sync.Mutex
	answer http.HandlerFunc // guarded by mu; nil: 204
	all    []posted         // guarded by mu
	taken  map[string]int   // guarded by mu: id of an event -> how often it was answered with 2xx
	known  map[string]bool  // guarded by mu: ids of POSTs that were answered with 2xx
}

func newBackend(t *testing.T, start func(http.Handler) *httptest.Server) *backend {
	t.Helper()
	b := &backend{t: t, got: make(chan posted, 10000), taken: make(map[string]int), known: make(map[string]bool)}
	b.server = start(b)
	t.Cleanup(b.server.Close)
	return b
}

func (b *backend) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // the sender went away
	}
	parsed, err := job.ParseWebhook(body)
	if err != nil {
		b.t.Errorf("body: %v", err)
		return
	}
	p := posted{id: r.Header.Get("webhook-id"), header: r.Header.Clone(), body: body, events: parsed.Events}
	b.mu.Lock()
	answer := b.answer
	b.all = append(b.all, p)
	b.mu.Unlock()
	b.got <- p
	status := &recorded{ResponseWriter: w, code: http.StatusNoContent}
	if answer != nil {
		status.code = http.StatusOK
		answer(status, r)
	} else {
		w.WriteHeader(http.StatusNoContent)
	}
	if status.code/100 == 2 {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.known[p.id] = true
		for _, e := range p.events {
			b.taken[e.ID]++
		}
	}
}

// recorded remembers the status.
type recorded struct {
	http.ResponseWriter
	code int
}

func (r *recorded) WriteHeader(code int) {
	r.code = code
	r.ResponseWriter.WriteHeader(code)
}

func (r *recorded) Flush() {
	if f, ok := r.ResponseWriter.(http.Flusher); ok {
		f.Flush()
	}
}

func (b *backend) answers(f http.HandlerFunc) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.answer = f
}

func status(code int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
}

func (b *backend) posts() []posted {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.all)
}

// next waits for the next POST.
func (b *backend) next() posted {
	b.t.Helper()
	select {
	case p := <-b.got:
		return p
	case <-time.After(time.Minute):
		b.t.Fatal("no POST came")
		return posted{}
	}
}

// until waits until so many different events were taken.
func (b *backend) until(n int) {
	b.t.Helper()
	late := time.After(2 * time.Minute)
	for {
		b.mu.Lock()
		have := len(b.taken)
		b.mu.Unlock()
		if have >= n {
			return
		}
		select {
		case <-b.got:
		case <-time.After(10 * time.Millisecond): // an answer makes no event
		case <-late:
			b.t.Fatalf("events taken: got %d, want %d", have, n)
		}
	}
}

// once checks that every event was taken once.
func (b *backend) once(want int) {
	b.t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	for id, n := range b.taken {
		if n != 1 {
			b.t.Errorf("event %s: got it %d times, want once", id, n)
		}
	}
	if len(b.taken) != want {
		b.t.Errorf("events: got %d, want %d", len(b.taken), want)
	}
}

// teller is outcomes on one side and receivers on the other.
type teller struct {
	t   *testing.T
	js  *testenv.JetStream
	reg *prometheus.Registry
	n   int
}

func newTeller(t *testing.T, apps ...string) *teller {
	t.Helper()
	t.Parallel()
	return newLoneTeller(t, apps...)
}

// newLoneTeller is newTeller for a test that runs alone.
func newLoneTeller(t *testing.T, apps ...string) *teller {
	t.Helper()
	js := testenv.NewJetStream(t)
	// What is told before an app has a webhook is not for it.
	for _, app := range append(apps, "shop") {
		if _, err := js.Webhook(t.Context(), app, nil); err != nil {
			t.Fatal(err)
		}
	}
	return &teller{t: t, js: js, reg: prometheus.NewRegistry()}
}

// receiver is b as a receiver.
func receiver(b *backend) feedback.Receiver {
	secrets, err := feedback.ParseSecrets(secretOf("a"))
	if err != nil {
		b.t.Fatal(err)
	}
	return feedback.Receiver{URL: b.server.URL + "/hook?key=s3cret", Secrets: secrets, AllowPrivate: true, Timeout: 10 * time.Second}
}

// start runs webhooks as a process of its own would: on its own connection, which is
// returned.
func (tl *teller) start(cfg feedback.WebhooksConfig) (stop func(), nc *nats.Conn) {
	tl.t.Helper()
	nc = testenv.Connect(tl.t, tl.js.Server.URL())
	streams, err := stream.Open(tl.t.Context(), nc, stream.Config{OutcomesBytes: 1 << 30})
	if err != nil {
		tl.t.Fatal(err)
	}
	if cfg.DrainTimeout == 0 {
		cfg.DrainTimeout = 10 * time.Second
	}
	hooks, err := feedback.NewWebhooks(cfg)
	if err != nil {
		tl.t.Fatal(err)
	}
	return run(tl.t, func(ctx context.Context) error { return hooks.Run(ctx, streams) }), nc
}

func (tl *teller) one(r feedback.Receiver) (stop func()) {
	tl.t.Helper()
	stop, _ = tl.start(feedback.WebhooksConfig{Receivers: map[string]feedback.Receiver{"shop": r}, Metrics: tl.reg})
	return stop
}

// tell stores outcomes as a worker does: a message of one job to so many recipients.
func (tl *teller) tell(app string, lane job.Lane, recipients int, more ...job.Recipient) {
	tl.t.Helper()
	tl.n++
	o := job.Outcomes{App: app, Lane: lane, Worker: "w1", At: time.UnixMilli(1_800_000_000_000), Jobs: []job.JobOutcome{outcome(fmt.Sprintf("j-%d", tl.n), 0, recipients)}}
	o.Jobs[0].Others = more
	tl.publish(stream.OutcomesOf{App: app, Lane: lane}, o.AppendJSON(nil))
}

func (tl *teller) publish(of stream.OutcomesOf, body []byte) {
	tl.t.Helper()
	storing, err := tl.js.PublishOutcomes(of, fmt.Sprintf("test/%d", tl.n), body)
	if err == nil {
		err = storing.Wait(tl.t.Context())
	}
	if err != nil {
		tl.t.Fatal(err)
	}
}

// metric returns the value of a counter or gauge.
func (tl *teller) metric(name, app, result string) float64 {
	tl.t.Helper()
	families, err := tl.reg.Gather()
	if err != nil {
		tl.t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			labels := make(map[string]string)
			for _, l := range m.GetLabel() {
				labels[l.GetName()] = l.GetValue()
			}
			if labels["app"] == app && labels["result"] == result {
				return m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	return 0
}

// untilMetric polls a metric: it makes no event.
func (tl *teller) untilMetric(name, result string, least float64) {
	tl.t.Helper()
	tl.eventually(fmt.Sprintf("%s %s of %g", name, result, least), func() bool { return tl.metric(name, "shop", result) >= least })
}

func (tl *teller) eventually(what string, is func() bool) {
	tl.t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	late := time.After(time.Minute)
	for !is() {
		select {
		case <-tick.C:
		case <-late:
			tl.t.Fatalf("did not come: %s", what)
		}
	}
}

// waiting is how many POSTs are not settled.
func (tl *teller) waiting() uint64 { return messages(tl.t, tl.js, stream.Webhooks) }

func (tl *teller) settled() {
	tl.t.Helper()
	tl.eventually("no POST is left", func() bool { return tl.waiting() == 0 })
}

// A POST is signed as the Standard Webhooks specification says, with every secret.
func TestWebhookIsSigned(t *testing.T) {
	tl := newTeller(t)
	b := newBackend(t, httptest.NewTLSServer)
	r := receiver(b)
	secrets, err := feedback.ParseSecrets(secretOf("a") + "\n" + secretOf("b"))
	if err != nil {
		t.Fatal(err)
	}
	r.Secrets, r.RootCAs = secrets, x509.NewCertPool()
	r.RootCAs.AddCert(b.server.Certificate())
	tl.start(feedback.WebhooksConfig{Receivers: map[string]feedback.Receiver{"shop": r}, Version: "1.2"})
	tl.tell("shop", job.Transactional, 2, job.Recipient{DeviceToken: token(9), Result: job.Rejected, Reason: "Unregistered", Status: 410})
	got := b.next()
	for seed, signed := range map[string]bool{"a": true, "b": true, "c": false} {
		verifier, err := standardwebhooks.NewWebhook(secretOf(seed))
		if err != nil {
			t.Fatal(err)
		}
		if err := verifier.Verify(got.body, got.header); (err == nil) != signed {
			t.Errorf("secret %s: got %v, want it signed: %t", seed, err, signed)
		}
		if err := verifier.Verify(append(got.body, ' '), got.header); err == nil {
			t.Errorf("secret %s: a changed body is taken for signed", seed)
		}
	}
	if got.header.Get("Content-Type") != "application/json" || got.header.Get("User-Agent") != "pushfleet/1.2" {
		t.Errorf("headers: got %v", got.header)
	}
	if len(got.events) != 3 || got.events[0].Job != "j-1" || got.events[0].DeviceToken != token(0) || got.events[2].Reason != "Unregistered" {
		t.Errorf("got events %+v", got.events)
	}
	tl.settled()
}

// Many messages go in one POST, and one that holds more than a POST may goes in several.
func TestWebhookBatches(t *testing.T) {
	tl := newTeller(t)
	const small, large = 1500, 450
	for range small {
		tl.tell("shop", job.Transactional, 1)
	}
	tl.tell("shop", job.Bulk, large)
	b := newBackend(t, httptest.NewServer)
	tl.one(receiver(b))
	b.until(small + large)
	tl.settled()
	b.once(small + large)
	posts := b.posts()
	if most := small/64 + 64; len(posts) > most {
		t.Errorf("got %d POSTs, want at most %d", len(posts), most)
	}
	for _, p := range posts {
		if len(p.events) > feedback.DefaultWebhookBatch {
			t.Errorf("got a POST of %d events, want at most %d", len(p.events), feedback.DefaultWebhookBatch)
		}
		if !slices.IsSortedFunc(p.events, func(a, b job.WebhookEvent) int { return strings.Compare(sortable(a.ID), sortable(b.ID)) }) {
			t.Error("events of one POST are out of order")
		}
	}
	tl.untilMetric("pushfleet_webhook_outcomes_total", "taken", small+large)
}

// sortable pads the numbers of an event's id.
func sortable(id string) string {
	parts := strings.Split(id, "-")
	return fmt.Sprintf("%010s-%010s", parts[0], parts[2])
}

func TestWebhookFilters(t *testing.T) {
	tl := newTeller(t)
	b := newBackend(t, httptest.NewServer)
	r := receiver(b)
	r.Lanes, r.Results = []job.Lane{job.Bulk}, []job.Result{job.Rejected}
	// From here on the durable has the lane.
	if _, err := tl.js.Webhook(t.Context(), "shop", r.Lanes); err != nil {
		t.Fatal(err)
	}
	dead := job.Recipient{DeviceToken: token(7), Result: job.Rejected, Reason: "Unregistered", Status: 410}
	tl.tell("shop", job.Transactional, 1, dead)
	tl.tell("shop", job.Bulk, 3)
	tl.tell("shop", job.Bulk, 3, dead, dead)
	// Of a campaign.
	o := job.Outcomes{App: "shop", Lane: job.Bulk, Jobs: []job.JobOutcome{{ID: "spring/3", Campaign: "spring", Range: 3, Others: []job.Recipient{dead}}}}
	tl.n++
	tl.publish(stream.OutcomesOf{App: "shop", Lane: job.Bulk, Campaign: "spring", Range: 3}, o.AppendJSON(nil))
	// Not ours.
	tl.n++
	tl.publish(stream.OutcomesOf{App: "shop", Lane: job.Bulk}, []byte("not outcomes"))
	tl.one(r)
	b.until(3)
	tl.settled()
	b.once(3)
	for _, p := range b.posts() {
		for _, e := range p.events {
			if e.Result != job.Rejected || e.Lane != job.Bulk {
				t.Errorf("got %+v, want what was rejected in bulk", e)
			}
		}
	}
}

// What is not taken is told again: the same bytes, the same id, a new time.
func TestWebhookTriesAgain(t *testing.T) {
	tl := newTeller(t)
	b := newBackend(t, httptest.NewServer)
	b.answers(status(http.StatusInternalServerError))
	tl.one(receiver(b))
	tl.tell("shop", job.Transactional, 2)
	first, second := b.next(), b.next()
	b.answers(nil)
	third := b.next()
	tl.settled()
	for _, p := range []posted{second, third} {
		if p.id == "" || p.id != first.id || !bytes.Equal(p.body, first.body) {
			t.Errorf("got id %s and %s, want %s and %s", p.id, p.body, first.id, first.body)
		}
	}
	verifier, err := standardwebhooks.NewWebhook(secretOf("a"))
	if err != nil {
		t.Fatal(err)
	}
	if err := verifier.Verify(third.body, third.header); err != nil {
		t.Errorf("third try: %v", err)
	}
	tl.untilMetric("pushfleet_webhook_posts_total", "5xx", 2)
	tl.tell("shop", job.Transactional, 2)
	if another := b.next(); another.id == first.id {
		t.Error("another POST has the same id")
	}
}

// After a day a POST that is not taken is a dead letter, which can be redriven.
func TestWebhookGivesUpAfterADay(t *testing.T) {
	tl := newTeller(t)
	b := newBackend(t, httptest.NewServer)
	b.answers(status(http.StatusBadRequest))
	var ahead atomic.Int64
	tl.start(feedback.WebhooksConfig{
		Receivers: map[string]feedback.Receiver{"shop": receiver(b)}, Metrics: tl.reg,
		Now: func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) },
	})
	tl.tell("shop", job.Bulk, 3)
	first := b.next()
	if n := messages(t, tl.js, stream.Dead); n != 0 {
		t.Fatalf("dead letters after the first try: got %d, want none", n)
	}
	ahead.Store(int64(24*time.Hour + time.Second))
	tl.settled()
	dead, err := tl.js.DeadLetters(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	l, err := dead.Letter(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	if l.App != "shop" || l.Reason != "webhook: not taken for 24h0m0s, last: answered 400" || l.Recipients != 3 || !bytes.Equal(l.Body, first.body) || l.Refusal(time.Now()) != "" {
		t.Errorf("got letter %+v", l)
	}
	if n := tl.metric("pushfleet_webhook_outcomes_total", "shop", "dead"); n != 3 {
		t.Errorf("metric of what was given up: got %g, want 3", n)
	}
	b.answers(nil)
	if _, err := dead.Redrive(t.Context(), l); err != nil {
		t.Fatal(err)
	}
	b.until(3)
	tl.settled()
	posts := b.posts()
	if last := posts[len(posts)-1]; last.id != first.id || !bytes.Equal(last.body, first.body) {
		t.Errorf("redriven: got id %s, want %s again", last.id, first.id)
	}
}

// A receiver that takes nothing is probed from time to time, one POST at a time, and
// nothing is fetched for it meanwhile; then everything is told.
func TestWebhookBreaker(t *testing.T) {
	tl := newTeller(t)
	b := newBackend(t, httptest.NewServer)
	var flying, most atomic.Int32
	b.answers(func(w http.ResponseWriter, _ *http.Request) {
		if n := flying.Add(1); n > most.Load() {
			most.Store(n)
		}
		defer flying.Add(-1)
		w.WriteHeader(http.StatusBadGateway)
	})
	tl.one(receiver(b))
	const jobs = 300
	for range jobs {
		tl.tell("shop", job.Bulk, 100)
	}
	tl.untilMetric("pushfleet_webhook_open", "", 1)
	tl.eventually("what was flying has landed", func() bool { return flying.Load() == 0 })
	most.Store(0)
	stored := tl.waiting()
	for len(b.got) > 0 {
		<-b.got
	}
	b.next() // the first probe
	asked := time.Now()
	b.next() // the second one: after about 4 s
	if after := time.Since(asked); after < 3*time.Second {
		t.Errorf("while it is open: got probed again after %s, want longer and longer pauses", after)
	}
	if n := most.Load(); n != 1 {
		t.Errorf("while it is open: got %d POSTs at once, want one", n)
	}
	if n := tl.waiting(); n > stored+8 || n > 64 {
		t.Errorf("while it is open: got %d POSTs made up after %d, want what probes need", n, stored)
	}
	b.answers(nil)
	b.until(jobs * 100)
	tl.settled()
	b.once(jobs * 100)
	tl.eventually("the breaker is closed", func() bool { return tl.metric("pushfleet_webhook_open", "shop", "") == 0 })
}

// 410 and Retry-After are heeded at once.
func TestWebhookIsAskedToWait(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		answer http.HandlerFunc
		class  string
		least  time.Duration
	}{
		{"410", status(http.StatusGone), "gone", 4 * time.Second},
		{"503", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", "4")
			w.WriteHeader(http.StatusServiceUnavailable)
		}, "5xx", 3500 * time.Millisecond},
		{"429", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", time.Now().Add(5*time.Second).UTC().Format(http.TimeFormat))
			w.WriteHeader(http.StatusTooManyRequests)
		}, "4xx", 3 * time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tl := newTeller(t)
			b := newBackend(t, httptest.NewServer)
			b.answers(tt.answer)
			tl.one(receiver(b))
			tl.tell("shop", job.Bulk, 1)
			b.next()
			asked := time.Now()
			tl.untilMetric("pushfleet_webhook_open", "", 1)
			if n := tl.metric("pushfleet_webhook_posts_total", "shop", tt.class); n != 1 {
				t.Errorf("metric of %s: got %g, want 1", tt.class, n)
			}
			select {
			case <-b.got:
				if after := time.Since(asked); after < tt.least {
					t.Errorf("asked again after %s, want %s at least", after, tt.least)
				}
			case <-time.After(5 * time.Second):
			}
		})
	}
}

// A receiver that hangs is waited for no longer than it may take.
func TestWebhookReceiverHangs(t *testing.T) {
	tl := newTeller(t)
	b := newBackend(t, httptest.NewServer)
	b.answers(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	r := receiver(b)
	r.Timeout = 300 * time.Millisecond
	tl.one(r)
	tl.tell("shop", job.Bulk, 1)
	first := b.next()
	second := b.next()
	if second.id != first.id {
		t.Errorf("got id %s, want %s again", second.id, first.id)
	}
	tl.untilMetric("pushfleet_webhook_posts_total", "timeout", 1)
	// An answer without end is not read until the time is over.
	var bytes atomic.Int64
	b.answers(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusOK)
		for r.Context().Err() == nil {
			n, err := w.Write(make([]byte, 32<<10))
			if bytes.Add(int64(n)); err != nil {
				return
			}
		}
	})
	tl.settled()
	if n := bytes.Load(); n == 0 || n > 32<<20 { // buffers on the way take some
		t.Errorf("got %d bytes of the answer taken, want few", n)
	}
}

// A redirect is not followed.
func TestWebhookRedirects(t *testing.T) {
	tl := newTeller(t)
	elsewhere := newBackend(t, httptest.NewServer)
	b := newBackend(t, httptest.NewServer)
	b.answers(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, elsewhere.server.URL, http.StatusTemporaryRedirect)
	})
	tl.one(receiver(b))
	tl.tell("shop", job.Bulk, 1)
	b.next()
	tl.untilMetric("pushfleet_webhook_posts_total", "redirect", 1)
	if n := len(elsewhere.posts()); n != 0 {
		t.Errorf("got %d POSTs elsewhere, want none", n)
	}
}

// Addresses inside are not connected to unless that is allowed, whatever name leads there.
func TestWebhookStaysOutside(t *testing.T) {
	tl := newTeller(t)
	b := newBackend(t, httptest.NewTLSServer)
	r := receiver(b)
	r.AllowPrivate, r.RootCAs = false, x509.NewCertPool()
	r.RootCAs.AddCert(b.server.Certificate())
	r.URL = strings.Replace(b.server.URL, "127.0.0.1", "localhost", 1)
	var connections atomic.Int32
	b.server.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			connections.Add(1)
		}
	}
	tl.one(r)
	tl.tell("shop", job.Bulk, 1)
	tl.untilMetric("pushfleet_webhook_posts_total", "address", 1)
	if n := connections.Load(); n != 0 {
		t.Errorf("got %d connections, want none", n)
	}
}

// A proxy of the environment would connect to whatever it is asked for.
func TestWebhookUsesNoProxy(t *testing.T) {
	tl := newLoneTeller(t)
	proxy := newBackend(t, httptest.NewServer)
	t.Setenv("HTTP_PROXY", proxy.server.URL)
	r := receiver(proxy)
	r.URL = "http://receiver.invalid/"
	tl.one(r)
	tl.tell("shop", job.Bulk, 1)
	tl.untilMetric("pushfleet_webhook_posts_total", "connection", 1)
	if n := len(proxy.posts()); n != 0 {
		t.Errorf("got %d POSTs by way of the proxy, want none", n)
	}
}

// A process that dies between 2xx and the acknowledgement: another one tells the same
// again, under the same id.
func TestWebhookProcessDies(t *testing.T) {
	tl := newTeller(t)
	b := newBackend(t, httptest.NewServer)
	for range 20 {
		tl.tell("shop", job.Bulk, 5)
	}
	cfg := feedback.WebhooksConfig{Receivers: map[string]feedback.Receiver{"shop": receiver(b)}}
	var nc *nats.Conn
	ready := make(chan struct{})
	var dead atomic.Int32
	b.answers(func(w http.ResponseWriter, _ *http.Request) {
		<-ready
		nc.Close() // nothing that follows is heard
		dead.Add(1)
		w.WriteHeader(http.StatusOK)
	})
	_, nc = tl.start(cfg)
	first := b.next()
	// Not while POSTs are made up: then they may be made up anew, and cut differently.
	hook, err := tl.js.Webhook(t.Context(), "shop", nil)
	if err != nil {
		t.Fatal(err)
	}
	tl.eventually("all is made up", func() bool {
		lag, err := hook.Lag(t.Context())
		return err == nil && lag.Messages == 0
	})
	close(ready)
	tl.eventually("the process is dead", func() bool { return dead.Load() > 0 })
	b.answers(nil)
	tl.start(cfg)
	tl.settled()
	b.until(100)
	again := 0
	for _, p := range b.posts() {
		if p.id == first.id {
			again++
			if !bytes.Equal(p.body, first.body) {
				t.Error("the same id, and another body")
			}
		}
	}
	if again != 2 {
		t.Errorf("got the POST %d times under its id, want it repeated once", again)
	}
	// Who drops what has a known id has everything once.
	b.mu.Lock()
	defer b.mu.Unlock()
	unique := make(map[string]map[string]bool)
	for _, p := range b.all {
		for _, e := range p.events {
			if unique[e.ID] == nil {
				unique[e.ID] = make(map[string]bool)
			}
			unique[e.ID][p.id] = true
		}
	}
	for id, posts := range unique {
		if len(posts) != 1 {
			t.Errorf("event %s: got it under %d ids, want one", id, len(posts))
		}
	}
}

// Processes share the work, and one that stops leaves nothing behind.
func TestWebhookProcessesShare(t *testing.T) {
	tl := newTeller(t)
	b := newBackend(t, httptest.NewServer)
	// Nobody is answered before both have come.
	var first sync.Map
	var seen atomic.Int32
	both := make(chan struct{})
	b.answers(func(w http.ResponseWriter, r *http.Request) {
		if _, known := first.LoadOrStore(r.Header.Get("User-Agent"), true); !known && seen.Add(1) == 2 {
			close(both)
		}
		select {
		case <-both:
			w.WriteHeader(http.StatusOK)
		case <-r.Context().Done():
			w.WriteHeader(http.StatusTeapot)
		}
	})
	r := receiver(b)
	r.Batch = 20
	for range 400 {
		tl.tell("shop", job.Bulk, 10)
	}
	for _, version := range []string{"a", "b"} {
		tl.start(feedback.WebhooksConfig{Receivers: map[string]feedback.Receiver{"shop": r}, Version: version})
	}
	b.until(4000)
	tl.settled()
	b.once(4000)
	if n := seen.Load(); n != 2 {
		t.Errorf("got POSTs by %d processes, want both", n)
	}
}

// What is on its way when a process is told to stop is waited for, but not for ever.
func TestWebhookStops(t *testing.T) {
	tl := newTeller(t)
	b := newBackend(t, httptest.NewServer)
	hang := make(chan struct{})
	b.answers(func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-hang:
		case <-r.Context().Done():
		}
		w.WriteHeader(http.StatusOK)
	})
	cfg := feedback.WebhooksConfig{Receivers: map[string]feedback.Receiver{"shop": receiver(b)}, DrainTimeout: 50 * time.Millisecond}
	stop, _ := tl.start(cfg)
	tl.tell("shop", job.Bulk, 1)
	first := b.next()
	stop()
	began := time.Now()
	close(hang)
	tl.start(cfg)
	if second := b.next(); second.id != first.id {
		t.Errorf("got id %s, want %s again", second.id, first.id)
	}
	if took := time.Since(began); took > stream.WebhookAckWait*2/3 {
		t.Errorf("handed back after %s, want at once", took)
	}
	tl.settled()
}

// With patience it is answered, and told once.
func TestWebhookStopsWithPatience(t *testing.T) {
	tl := newTeller(t)
	b := newBackend(t, httptest.NewServer)
	b.answers(func(w http.ResponseWriter, r *http.Request) {
		select { // longer than it takes to notice that it is to stop
		case <-time.After(2 * time.Second):
			w.WriteHeader(http.StatusOK)
		case <-r.Context().Done():
			w.WriteHeader(http.StatusTeapot)
		}
	})
	stop := tl.one(receiver(b))
	tl.tell("shop", job.Bulk, 1)
	b.next()
	stop()
	b.once(1)
	tl.settled()
	if n := len(b.posts()); n != 1 {
		t.Errorf("got %d POSTs, want one", n)
	}
}

// A receiver that hangs holds up nobody else's outcomes.
func TestWebhookOfAnotherApp(t *testing.T) {
	tl := newTeller(t, "bank")
	hung, b := newBackend(t, httptest.NewServer), newBackend(t, httptest.NewServer)
	hung.answers(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	tl.start(feedback.WebhooksConfig{Receivers: map[string]feedback.Receiver{"shop": receiver(hung), "bank": receiver(b)}, DrainTimeout: time.Millisecond})
	for range 200 {
		tl.tell("shop", job.Bulk, 100)
	}
	hung.next()
	for range 200 {
		tl.tell("bank", job.Bulk, 100)
	}
	b.until(20000)
	b.once(20000)
	// However much waits, only what may fly is made up for the one that hangs.
	if n := tl.waiting(); n > 64 {
		t.Errorf("POSTs of the one that hangs: got %d, want a few", n)
	}
	for _, p := range b.posts() {
		if len(p.events) == 0 || p.events[0].ID == "" {
			t.Errorf("got %+v", p)
		}
	}
}

func TestNewWebhooksRefuses(t *testing.T) {
	t.Parallel()
	good := feedback.Receiver{URL: "https://example.com/x", Secrets: [][]byte{make([]byte, 32)}}
	for _, tt := range []struct {
		name   string
		change func(*feedback.Receiver)
		want   string
	}{
		{"no URL", func(r *feedback.Receiver) { r.URL = "" }, "webhook of shop: url: must be an https URL such as https://example.com/pushfleet"},
		{"another scheme", func(r *feedback.Receiver) { r.URL = "ftp://example.com" }, "webhook of shop: url: must be an https URL such as https://example.com/pushfleet"},
		{"http", func(r *feedback.Receiver) { r.URL = "http://example.com" }, "webhook of shop: url: must be https: plain http is for private addresses"},
		{"a password", func(r *feedback.Receiver) { r.URL = "https://u:hunter2@example.com" }, "webhook of shop: url: must not hold a user or password: requests are signed"},
		{"a fragment", func(r *feedback.Receiver) { r.URL = "https://example.com/#hunter2" }, "webhook of shop: url: must not have a fragment: it would not be sent"},
		{"no secret", func(r *feedback.Receiver) { r.Secrets = nil }, "webhook of shop: secrets: there must be one, and none that is empty"},
		{"an empty secret", func(r *feedback.Receiver) { r.Secrets = [][]byte{nil} }, "webhook of shop: secrets: there must be one, and none that is empty"},
		{"a negative batch", func(r *feedback.Receiver) { r.Batch = -1 }, "webhook of shop: timeout and batch must not be negative"},
	} {
		r := good
		tt.change(&r)
		_, err := feedback.NewWebhooks(feedback.WebhooksConfig{Receivers: map[string]feedback.Receiver{"shop": r}})
		if err == nil || err.Error() != tt.want {
			t.Errorf("%s: got %v, want %s", tt.name, err, tt.want)
		}
	}
	if _, err := feedback.NewWebhooks(feedback.WebhooksConfig{Receivers: map[string]feedback.Receiver{"shop": good}}); err != nil {
		t.Errorf("a good one: got %v, want nil", err)
	}
}

func TestParseSecrets(t *testing.T) {
	t.Parallel()
	if got, err := feedback.ParseSecrets(" " + secretOf("a") + "\n\t" + secretOf("b") + "\n"); err != nil || len(got) != 2 || string(got[1]) != strings.Repeat("b", 32) {
		t.Errorf("got %d secrets, %v, want two", len(got), err)
	}
	for _, bad := range []string{
		"", " ", "whsec_", "whsec_####", strings.TrimPrefix(secretOf("a"), "whsec_"), secretOf("a") + " x",
		"whsec_" + base64.StdEncoding.EncodeToString(make([]byte, 23)), "whsec_" + base64.StdEncoding.EncodeToString(make([]byte, 65)),
	} {
		if _, err := feedback.ParseSecrets(bad); err == nil {
			t.Errorf("%q: got nil, want an error", bad)
		}
	}
}

// jetstreamOf returns what a test may look at beside what Streams has.
func jetstreamOf(t *testing.T, js *testenv.JetStream) jetstream.JetStream {
	t.Helper()
	api, err := jetstream.New(js.NC)
	if err != nil {
		t.Fatal(err)
	}
	return api
}

// A durable that somebody has deleted is made anew.
func TestWebhookDurableIsDeleted(t *testing.T) {
	tl := newTeller(t)
	b := newBackend(t, httptest.NewServer)
	tl.one(receiver(b))
	tl.tell("shop", job.Bulk, 1)
	b.until(1)
	tl.settled()
	api := jetstreamOf(t, tl.js)
	if err := api.DeleteConsumer(t.Context(), stream.Outcomes, "webhook-shop"); err != nil {
		t.Fatal(err)
	}
	tl.eventually("the durable is there again", func() bool {
		_, err := api.Consumer(t.Context(), stream.Outcomes, "webhook-shop")
		return err == nil
	})
	tl.tell("shop", job.Bulk, 1)
	b.until(2)
}

// A POST that takes longer than the ack wait stays with the process that makes it.
func TestWebhookSlowReceiver(t *testing.T) {
	tl := newTeller(t)
	b := newBackend(t, httptest.NewServer)
	b.answers(func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-time.After(stream.WebhookAckWait * 4 / 3): // a receiver that is that slow
			w.WriteHeader(http.StatusOK)
		case <-r.Context().Done():
			w.WriteHeader(http.StatusTeapot)
		}
	})
	r := receiver(b)
	r.Timeout = time.Minute
	for range 2 {
		tl.start(feedback.WebhooksConfig{Receivers: map[string]feedback.Receiver{"shop": r}})
	}
	tl.tell("shop", job.Bulk, 1)
	b.until(1)
	tl.settled()
	if n := len(b.posts()); n != 1 {
		t.Errorf("got %d POSTs, want one", n)
	}
}

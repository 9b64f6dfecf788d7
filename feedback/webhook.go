package feedback

import (
	"bytes"
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/pushfleet/pushfleet/job"
	"github.com/pushfleet/pushfleet/stream"
)

const (
	// webhookPosts is how many POSTs one process has on their way to one receiver.
	webhookPosts = 8
	// webhookFor is for how long a POST is tried again, and the pause before that doubles
	// from webhookRetry to webhookRetryMost.
	webhookFor       = 24 * time.Hour
	webhookRetry     = time.Second
	webhookRetryMost = time.Hour
	// lookEvery is how often it is measured how far webhooks are behind.
	lookEvery = 10 * time.Second
)

// Receiver is where the outcomes of one app go.
type Receiver struct {
	URL string // https; http only with AllowPrivate
	// Secrets sign each POST: the new one and, while secrets are changed, the old one.
	// At least one.
	Secrets [][]byte

	Lanes   []job.Lane   // whose outcomes; empty: all
	Results []job.Result // which outcomes; empty: all

	Timeout time.Duration // patience with the answer to one POST; 0: 15 s
	Batch   int           // the most outcomes in one POST; 0: 200

	// AllowPrivate allows addresses that are not on the public Internet, and plain HTTP
	// to those.
	AllowPrivate bool
	RootCAs      *x509.CertPool // nil: the system's
}

// Defaults of a [Receiver].
const (
	DefaultWebhookTimeout = 15 * time.Second
	DefaultWebhookBatch   = 200
)

// CheckWebhookURL returns what is wrong with a receiver's URL, without repeating it:
// there may be a secret in it.
func CheckWebhookURL(text string) error {
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Hostname() == "":
		return errors.New("must be an https URL such as https://example.com/pushfleet")
	case u.User != nil:
		return errors.New("must not hold a user or password: requests are signed")
	case u.Fragment != "":
		return errors.New("must not have a fragment: it would not be sent")
	}
	return nil
}

func (r *Receiver) tls() bool {
	u, err := url.Parse(r.URL)
	return err != nil || u.Scheme != "http"
}

// host is what may be logged of the URL.
func (r *Receiver) host() string {
	u, err := url.Parse(r.URL)
	if err != nil {
		return ""
	}
	return u.Host
}

func (r *Receiver) check() error {
	if err := CheckWebhookURL(r.URL); err != nil {
		return fmt.Errorf("url: %w", err)
	}
	switch {
	case !r.tls() && !r.AllowPrivate:
		return errors.New("url: must be https: plain http is for private addresses")
	case len(r.Secrets) == 0 || slices.ContainsFunc(r.Secrets, func(s []byte) bool { return len(s) == 0 }):
		return errors.New("secrets: there must be one, and none that is empty")
	case r.Timeout < 0 || r.Batch < 0:
		return errors.New("timeout and batch must not be negative")
	}
	return nil
}

// equal reports whether both say the same.
func (r *Receiver) equal(o *Receiver) bool {
	return r.URL == o.URL && r.Timeout == o.Timeout && r.Batch == o.Batch && r.AllowPrivate == o.AllowPrivate &&
		slices.EqualFunc(r.Secrets, o.Secrets, bytes.Equal) && slices.Equal(r.Lanes, o.Lanes) && slices.Equal(r.Results, o.Results) &&
		r.RootCAs.Equal(o.RootCAs)
}

// WebhooksConfig describes [Webhooks].
type WebhooksConfig struct {
	Receivers    map[string]Receiver // by app
	DrainTimeout time.Duration       // patience with POSTs that are on their way when Run is told to stop; 0: none
	Version      string              // of pushfleet, told in User-Agent
	Logger       *zap.Logger         // nil: none
	Metrics      prometheus.Registerer
	Now          func() time.Time // nil: time.Now
}

// Webhooks tells outcomes to the apps' receivers over HTTP. Any number of processes may
// do so; they share the work. A receiver that takes nothing holds up no other one.
type Webhooks struct {
	cfg     WebhooksConfig
	log     *zap.Logger
	metrics webhookMetrics

	mu     sync.Mutex
	hooks  map[string]*hook // guarded by mu: that are wanted, by app
	change chan struct{}    // they have changed
}

type webhookMetrics struct {
	posts, events *prometheus.CounterVec
	open, lag     *prometheus.GaugeVec
	waiting       *prometheus.GaugeVec
}

// NewWebhooks returns webhooks; nothing is told until they run.
func NewWebhooks(cfg WebhooksConfig) (*Webhooks, error) {
	if cfg.Logger == nil {
		cfg.Logger = zap.NewNop()
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	w := &Webhooks{cfg: cfg, log: cfg.Logger.Named("webhooks"), metrics: newWebhookMetrics(), change: make(chan struct{}, 1)}
	if err := w.Apply(cfg.Receivers); err != nil {
		return nil, err
	}
	if m := &w.metrics; cfg.Metrics != nil {
		cfg.Metrics.MustRegister(m.posts, m.events, m.open, m.lag, m.waiting)
	}
	return w, nil
}

// forget drops what is told of an app.
func (m *webhookMetrics) forget(app string) {
	of := prometheus.Labels{"app": app}
	m.posts.DeletePartialMatch(of)
	m.events.DeletePartialMatch(of)
	m.open.DeletePartialMatch(of)
	m.lag.DeletePartialMatch(of)
	m.waiting.DeletePartialMatch(of)
}

func newWebhookMetrics() webhookMetrics {
	return webhookMetrics{
		posts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "pushfleet_webhook_posts_total",
			Help: "POSTs to webhooks, by what became of them: taken, or why not (timeout, connection, tls, address, redirect, gone, 4xx, 5xx, other).",
		}, []string{"app", "result"}),
		events: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "pushfleet_webhook_outcomes_total",
			Help: "Outcomes that webhooks have taken, and that were given up as dead letters.",
		}, []string{"app", "result"}),
		open: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "pushfleet_webhook_open",
			Help: "1 while a webhook takes nothing and is only probed from time to time.",
		}, []string{"app"}),
		lag: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "pushfleet_webhook_lag_seconds",
			Help: "Age of the oldest outcome that a webhook has not taken; the same from every process.",
		}, []string{"app"}),
		waiting: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "pushfleet_webhook_waiting_messages",
			Help: "Messages of OUTCOMES that a webhook has not been told of; the same from every process.",
		}, []string{"app"}),
	}
}

// Apply changes [WebhooksConfig].Receivers from now on. What is on its way to a receiver
// that is changed or gone is waited for, for the drain timeout, and only then its
// successor begins; the others are not touched. An error means that nothing has changed.
// It is safe for concurrent use.
func (w *Webhooks) Apply(receivers map[string]Receiver) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	hooks := make(map[string]*hook, len(receivers))
	for _, app := range slices.Sorted(maps.Keys(receivers)) {
		r := receivers[app]
		if err := r.check(); err != nil {
			return fmt.Errorf("webhook of %s: %w", app, err)
		}
		r.Timeout, r.Batch = cmp.Or(r.Timeout, DefaultWebhookTimeout), cmp.Or(r.Batch, DefaultWebhookBatch)
		if h := w.hooks[app]; h != nil && h.receiver.equal(&r) {
			hooks[app] = h
			continue
		}
		hooks[app] = newHook(app, &r, w)
	}
	w.hooks = hooks
	select {
	case w.change <- struct{}{}:
	default:
	}
	return nil
}

// wanted returns the hooks that are wanted now.
func (w *Webhooks) wanted() map[string]*hook {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.hooks // which is not changed once made
}

// hookRun is a hook that runs.
type hookRun struct {
	*hook
	stop  context.CancelFunc
	ended chan struct{}
}

// Run tells outcomes until ctx ends and what is on its way is answered. It returns nil.
func (w *Webhooks) Run(ctx context.Context, streams *stream.Streams) error {
	var g sync.WaitGroup
	defer g.Wait()
	runs := make(map[string]*hookRun)
	for {
		wanted := w.wanted()
		for app, run := range runs {
			if wanted[app] == nil {
				run.stop()
				delete(runs, app)
				g.Go(func() { w.forget(app, run) })
			}
		}
		for app, h := range wanted {
			if run := runs[app]; run == nil || run.hook != h {
				runs[app] = w.start(ctx, &g, streams, h, run)
			}
		}
		select {
		case <-w.change:
		case <-ctx.Done():
			return nil
		}
	}
}

// start runs a hook in g once the one before it has ended, if there is one.
func (w *Webhooks) start(ctx context.Context, g *sync.WaitGroup, streams *stream.Streams, h *hook, before *hookRun) *hookRun {
	ctx, stop := context.WithCancel(ctx)
	run := &hookRun{hook: h, stop: stop, ended: make(chan struct{})}
	g.Go(func() {
		defer close(run.ended)
		defer stop()
		if before != nil {
			before.stop()
			<-before.ended
		}
		h.begin(ctx, streams)
	})
	return run
}

// forget drops what is told of an app's webhook once that has ended, if there is no
// other one by then.
func (w *Webhooks) forget(app string, run *hookRun) {
	<-run.ended
	if w.wanted()[app] == nil {
		w.metrics.forget(app)
	}
}

// Notes returns a line for each webhook that takes nothing.
func (w *Webhooks) Notes() []string {
	var notes []string
	hooks := w.wanted()
	for _, app := range slices.Sorted(maps.Keys(hooks)) {
		h := hooks[app]
		if note := h.note.Load(); note != nil {
			notes = append(notes, *note)
		}
	}
	return notes
}

// retryDelay is the pause before a POST that was handed out so often is tried again.
func retryDelay(deliveries uint64) time.Duration {
	d := webhookRetryMost
	if n := max(deliveries, 1) - 1; n < 12 {
		d = min(webhookRetry<<n, webhookRetryMost)
	}
	return jitter(d)
}

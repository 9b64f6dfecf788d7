package apns

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/pushfleet/pushfleet/device"
	"github.com/pushfleet/pushfleet/job"
)

// ClientConfig describes one route. Its zero values mean the defaults named.
type ClientConfig struct {
	Credential  Credential
	Environment device.Environment // Production unless it says Sandbox
	URL         string             // https; empty: Apple's host of the environment
	RootCAs     *x509.CertPool     // nil: the system's

	Connections    int // kept open once something was sent; 0: 2
	MaxConnections int // opened while streams are the limit; 0: 8, or Connections if that is more
	// DialsPerMinute bounds the attempts to open a connection, whatever happens.
	// 0: 20.
	DialsPerMinute int
	// MaxStreams is how many requests a connection has open at once, if APNs allows
	// as many. 0: 1500, the largest limit observed.
	MaxStreams int
	// RequestTimeout is how long a notification waits for a stream, and then, from
	// its writing, for its answer. 0: 30 s.
	RequestTimeout time.Duration

	// Hold is asked before notifications are handed to a connection: while it is
	// true they wait. It must not block. nil: never.
	Hold func() bool

	Proxy   func(*url.URL) (*url.URL, error) // nil: none; http and https proxies, by CONNECT
	Logger  *zap.Logger                      // nil: none
	Metrics prometheus.Registerer            // nil: none
	Now     func() time.Time                 // the machine's clock, of ages and rotation; nil: time.Now
	Wall    func() time.Time                 // the time of day in provider tokens; nil: Now

	dialGap time.Duration // between two attempts; 0: dialGap. Shorter in tests
}

func (c ClientConfig) withDefaults() ClientConfig {
	for _, d := range []struct {
		value *int
		def   int
	}{
		{&c.Connections, 2},
		{&c.MaxConnections, 8},
		{&c.DialsPerMinute, dialsPerMinute},
	} {
		if *d.value <= 0 {
			*d.value = d.def
		}
	}
	c.MaxConnections = max(c.MaxConnections, c.Connections)
	if c.RequestTimeout <= 0 {
		c.RequestTimeout = 30 * time.Second
	}
	if c.URL == "" {
		c.URL = "https://api.push.apple.com"
		if c.Environment == device.Sandbox {
			c.URL = "https://api.sandbox.push.apple.com"
		}
	}
	if c.Logger == nil {
		c.Logger = zap.NewNop()
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.dialGap == 0 {
		c.dialGap = dialGap
	}
	return c
}

// Client sends to one route. It is safe for concurrent use; the caller closes it.
type Client struct {
	pool  *pool
	calls sync.Pool // of *call, those that are over

	mu    sync.Mutex
	shown func() // guarded by mu: takes the metrics back; nil: there are none
}

// New returns the client of a route. It connects when the first batch comes, and
// keeps its connections. Errors say what is wrong with cfg.
func New(cfg ClientConfig) (*Client, error) {
	cfg = cfg.withDefaults()
	target, err := url.Parse(cfg.URL)
	switch {
	case err != nil:
		return nil, fmt.Errorf("apns: url: %w", err)
	case target.Scheme != "https" || target.Host == "":
		return nil, fmt.Errorf("apns: url %s: must be https with a host", target.Redacted())
	case target.Path != "" && target.Path != "/":
		return nil, fmt.Errorf("apns: url %s: must have no path", target.Redacted())
	}
	tlsConfig := &tls.Config{
		MinVersion: tls.VersionTLS12, RootCAs: cfg.RootCAs, ServerName: target.Hostname(), NextProtos: []string{"h2"},
		DynamicRecordSizingDisabled: true, // small records cost more than the latency they save
	}
	var tokens *ProviderTokens
	switch {
	case cfg.Credential.key != nil:
		tokens = NewProviderTokens(cfg.Credential, cfg.Now, cfg.Wall)
	case cfg.Credential.certificate != nil:
		tlsConfig.Certificates = []tls.Certificate{*cfg.Credential.certificate}
	default:
		return nil, errors.New("apns: no credential")
	}
	d := dialer{target: target, tls: tlsConfig, proxy: cfg.Proxy, lookup: net.DefaultResolver.LookupNetIP}
	c := &Client{pool: newPool(cfg, d, tokens, cfg.Logger)}
	if cfg.Metrics != nil {
		if err := c.Show(cfg.Metrics); err != nil {
			c.pool.close()
			return nil, err
		}
	}
	return c, nil
}

// Close ends all connections. What is still being sent fails: let Send return
// before. It always returns nil.
func (c *Client) Close() error {
	c.pool.close()
	c.Hide()
	return nil
}

// Show registers the client's metrics, in place of those that are registered.
func (c *Client) Show(metrics prometheus.Registerer) error {
	c.Hide()
	c.mu.Lock()
	defer c.mu.Unlock()
	col := newCollector(c.pool)
	if err := metrics.Register(col); err != nil {
		return fmt.Errorf("apns: register metrics: %w", err)
	}
	c.shown = func() { metrics.Unregister(col) }
	return nil
}

// Hide takes the client's metrics back, so that another client can have their labels.
func (c *Client) Hide() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.shown != nil {
		c.shown()
		c.shown = nil
	}
}

// Connect opens the connections that are kept, which else begins with the first Send,
// and returns once all are open. The error says why they are not when ctx ends, or why
// they will not be; they are tried on.
func (c *Client) Connect(ctx context.Context) error { return c.pool.connect(ctx) }

// Send sends every notification of the batch and calls done exactly once for
// each, with its index, before it returns. done is called from several
// goroutines at once and must not block. The batch must not change until Send
// returns.
//
// Transactional notifications go before bulk. What APNs gave back unprocessed is
// sent again on another connection by itself, a few times; so is, once, what was
// refused because of the connection's provider token. When ctx ends, what was
// not answered completes with an error that wraps the cause; with an [UnsentError]
// as the cause, only what was not sent does. While APNs refuses
// the credential all fail at once with a [RouteError].
func (c *Client) Send(ctx context.Context, lane job.Lane, batch []Notification, done func(i int, r Response)) {
	if len(batch) == 0 {
		return
	}
	cl, _ := c.calls.Get().(*call)
	if cl == nil {
		cl = &call{finished: make(chan struct{}, 1)}
	}
	cl.pool, cl.lane, cl.batch, cl.done = c.pool, lane, batch, done
	cl.left.Store(int64(len(batch)))
	err := context.Cause(ctx)
	if err == nil {
		err = c.pool.submit(cl)
	}
	if err != nil {
		for i := range batch {
			cl.fail(int32(i), err)
		}
	}
	select {
	case <-cl.finished:
	case <-ctx.Done():
		cause := context.Cause(ctx)
		var unsent *UnsentError
		if errors.As(cause, &unsent) {
			c.pool.cancel(cl, cause, false)
			select {
			case <-cl.finished:
			case <-unsent.Rest:
				c.pool.cancel(cl, cause, true)
				<-cl.finished
			}
			break
		}
		c.pool.cancel(cl, cause, true)
		<-cl.finished
	}
	cl.batch, cl.done, cl.next, cl.cancelled = nil, nil, 0, nil
	c.calls.Put(cl)
}

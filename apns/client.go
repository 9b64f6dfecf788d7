package apns

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/pushfleet/pushfleet/device"
	"github.com/pushfleet/pushfleet/job"
)

// ClientConfig describes one route.
type ClientConfig struct {
	Credential  Credential
	Environment device.Environment // Production unless it says Sandbox
	URL         string             // empty: Apple's host of the environment
	RootCAs     *x509.CertPool     // nil: the system's

	Connections    int           // 0: 2
	MaxConnections int           // 0: 8
	RequestTimeout time.Duration // from hand-over to answer; 0: 30 s

	Proxy   func(*url.URL) (*url.URL, error) // nil: none
	Logger  *zap.Logger                      // nil: none
	Metrics prometheus.Registerer            // nil: none
	Now     func() time.Time                 // nil: time.Now
}

// Client sends to one route. It is safe for concurrent use; the caller closes it.
type Client struct {
	url     string
	timeout time.Duration
	tokens  *ProviderTokens // nil with a certificate
	conns   []*http.Client
	next    atomic.Uint64
	slots   chan struct{}
}

const inFlightPerConnection = 500

// New returns the client of a route. It connects when the first batch comes.
func New(cfg ClientConfig) (*Client, error) {
	base := cfg.URL
	if base == "" {
		base = "https://api.push.apple.com"
		if cfg.Environment == device.Sandbox {
			base = "https://api.sandbox.push.apple.com"
		}
	}
	n := cfg.Connections
	if n == 0 {
		n = 2
	}
	c := &Client{url: base + "/3/device/", timeout: cfg.RequestTimeout, slots: make(chan struct{}, n*inFlightPerConnection)}
	if c.timeout == 0 {
		c.timeout = 30 * time.Second
	}
	tlsConfig := &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: cfg.RootCAs}
	switch {
	case cfg.Credential.key != nil:
		c.tokens = NewProviderTokens(cfg.Credential, cfg.Now)
	case cfg.Credential.certificate != nil:
		tlsConfig.Certificates = []tls.Certificate{*cfg.Credential.certificate}
	default:
		return nil, errors.New("apns: no credential")
	}
	var protocols http.Protocols
	protocols.SetHTTP2(true)
	for range n {
		c.conns = append(c.conns, &http.Client{Transport: &http.Transport{
			TLSClientConfig: tlsConfig.Clone(), Protocols: &protocols, ForceAttemptHTTP2: true,
			HTTP2: &http.HTTP2Config{
				// Without it a lowered stream limit makes it dial: a connect storm.
				StrictMaxConcurrentRequests: true,
				SendPingTimeout:             15 * time.Second, PingTimeout: 15 * time.Second, WriteByteTimeout: 15 * time.Second,
			},
		}})
	}
	return c, nil
}

// Close closes the connections. No Send may be running.
func (c *Client) Close() error {
	for _, conn := range c.conns {
		conn.CloseIdleConnections()
	}
	return nil
}

// Send sends every notification of the batch and calls done exactly once for
// each, with its index, before it returns. done is called from several
// goroutines at once and must not block. When ctx ends, what was not answered
// completes with an error that wraps the cause.
func (c *Client) Send(ctx context.Context, _ job.Lane, batch []Notification, done func(i int, r Response)) {
	var wg sync.WaitGroup
	defer wg.Wait()
	for i := range batch {
		select {
		case c.slots <- struct{}{}:
		case <-ctx.Done():
			done(i, Response{APNsID: batch[i].APNsID, Err: fmt.Errorf("%w: %w", ErrNotSent, context.Cause(ctx))})
			continue
		}
		wg.Go(func() {
			defer func() { <-c.slots }()
			done(i, c.send(ctx, &batch[i]))
		})
	}
}

func (c *Client) send(ctx context.Context, n *Notification) Response {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	failed := func(err error) Response { return Response{APNsID: n.APNsID, Err: err} }

	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url+n.DeviceToken.Hex(), bytes.NewReader(n.Payload))
	if err != nil {
		return failed(fmt.Errorf("%w: build request", ErrNotSent))
	}
	h := req.Header
	h.Set("content-type", "application/json")
	h.Set("apns-id", n.APNsID.String())
	h.Set("apns-topic", n.Topic)
	h.Set("apns-push-type", string(n.PushType))
	if n.Priority > 0 {
		h.Set("apns-priority", strconv.Itoa(int(n.Priority)))
	}
	if n.Expiration >= 0 {
		h.Set("apns-expiration", strconv.FormatInt(n.Expiration, 10))
	}
	if n.CollapseID != "" {
		h.Set("apns-collapse-id", n.CollapseID)
	}
	if c.tokens != nil {
		t, err := c.tokens.ForNewConnection()
		if err != nil {
			return failed(fmt.Errorf("%w: %w", ErrNotSent, err))
		}
		h.Set("authorization", "bearer "+t.Bearer)
	}
	resp, err := c.conns[c.next.Add(1)%uint64(len(c.conns))].Do(req)
	if err != nil {
		var u *url.Error // its text holds the path, and so the device token
		if errors.As(err, &u) {
			err = u.Err
		}
		return failed(err)
	}
	defer resp.Body.Close()
	r := Response{Status: resp.StatusCode, APNsID: n.APNsID, UniqueID: resp.Header.Get("apns-unique-id")}
	if id, err := uuid.Parse(resp.Header.Get("apns-id")); err == nil {
		r.APNsID = id
	}
	if r.Status != http.StatusOK {
		var body struct {
			Reason    Reason `json:"reason"`
			Timestamp int64  `json:"timestamp"`
		}
		// What cannot be read is an unknown reason: the status tells the class.
		_ = json.NewDecoder(io.LimitReader(resp.Body, 4096)).Decode(&body)
		r.Reason, r.Timestamp = body.Reason, body.Timestamp
	}
	return r
}

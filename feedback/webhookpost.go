package feedback

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"syscall"
	"time"
)

const (
	// maxAnswerBytes is what is read of an answer, so that its connection can be used
	// again; what it says beside its status does not matter.
	maxAnswerBytes = 64 << 10
	// maxAnswerHeader bounds its headers.
	maxAnswerHeader = 16 << 10
	dialTimeout     = 10 * time.Second
	idleTimeout     = 90 * time.Second
	// A connection that has gone dead is found by a ping, and closed: HTTP/2 would send
	// on it for a quarter of an hour.
	pingAfter   = 15 * time.Second
	pingTimeout = 5 * time.Second
)

// errPlainPublic is why a public address is not connected to without TLS.
var errPlainPublic = errors.New("feedback: plain http is for private addresses: device tokens would be readable on the way")

// The classes of failures, which are labels of metrics.
const (
	classTimeout    = "timeout"
	classAddress    = "address" // not public
	classTLS        = "tls"
	classConnection = "connection"
	classRedirect   = "redirect"
	classGone       = "gone" // 410
	classRefused    = "4xx"
	classBroken     = "5xx"
	classOther      = "other"
)

// postFailure is why a POST was not taken. Its text holds neither the URL, in which
// there may be a secret, nor anything of the answer's body.
type postFailure struct {
	class string
	err   error
	ask   time.Duration // for how long the receiver asks to be left alone; 0: it does not
}

func (f *postFailure) Error() string { return f.err.Error() }
func (f *postFailure) Unwrap() error { return f.err }

// postClient makes POSTs to one receiver.
type postClient struct {
	receiver *Receiver
	agent    string
	http     *http.Client
	now      func() time.Time
}

func newPostClient(r *Receiver, agent string, now func() time.Time) *postClient {
	plain := !r.tls()
	dialer := net.Dialer{
		Timeout: dialTimeout,
		// Here the name has been resolved: what is checked is what is connected to.
		Control: func(_, address string, _ syscall.RawConn) error { return checkDial(address, plain, r.AllowPrivate) },
	}
	transport := &http.Transport{
		// No proxy of the environment: it would connect to whatever it is asked for.
		DialContext:            dialer.DialContext,
		TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: r.RootCAs},
		TLSHandshakeTimeout:    dialTimeout,
		ForceAttemptHTTP2:      true,
		HTTP2:                  &http.HTTP2Config{SendPingTimeout: pingAfter, PingTimeout: pingTimeout},
		MaxIdleConnsPerHost:    webhookPosts,
		MaxConnsPerHost:        webhookPosts,
		IdleConnTimeout:        idleTimeout,
		MaxResponseHeaderBytes: maxAnswerHeader,
		DisableCompression:     true,
	}
	return &postClient{
		receiver: r, agent: agent, now: now,
		http: &http.Client{
			Transport:     transport,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}
}

func (c *postClient) close() { c.http.CloseIdleConnections() }

// checkDial decides about an address that is about to be connected to.
func checkDial(address string, plain, allowPrivate bool) error {
	at, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrPrivateAddress, err)
	}
	switch private := CheckPublic(at.Addr()); {
	case private != nil && !allowPrivate:
		return private
	case private == nil && plain:
		return errPlainPublic
	default:
		return nil
	}
}

// post makes one POST and returns nil if the receiver has taken it.
func (c *postClient) post(ctx context.Context, body []byte) *postFailure {
	ctx, cancel := context.WithTimeoutCause(ctx, c.receiver.Timeout, fmt.Errorf("no answer within %s", c.receiver.Timeout))
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.receiver.URL, bytes.NewReader(body))
	if err != nil {
		return &postFailure{class: classOther, err: errors.New("the URL cannot be used")}
	}
	id, at := postID(body), c.now()
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", c.agent)
	// As the specification spells them; HTTP takes any case.
	req.Header[headerWebhookID] = []string{id}
	req.Header[headerWebhookTimestamp] = []string{unixSeconds(at)}
	req.Header[headerWebhookSignature] = []string{sign(c.receiver.Secrets, id, at, body)}
	resp, err := c.http.Do(req)
	if err != nil {
		return connectFailure(ctx, err)
	}
	defer resp.Body.Close()
	// The status is there; whether the rest comes does not matter.
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, maxAnswerBytes))
	return statusFailure(resp, c.now())
}

// connectFailure is a failure without an answer.
func connectFailure(ctx context.Context, err error) *postFailure {
	var withURL *url.Error
	if errors.As(err, &withURL) {
		err = withURL.Err
	}
	f := &postFailure{class: classConnection, err: err}
	var (
		certificate *tls.CertificateVerificationError
		alert       tls.AlertError
		record      tls.RecordHeaderError
		slow        net.Error
	)
	switch {
	case errors.Is(err, ErrPrivateAddress), errors.Is(err, errPlainPublic):
		f.class = classAddress
	case errors.As(err, &certificate), errors.As(err, &alert), errors.As(err, &record):
		f.class = classTLS
	case ctx.Err() != nil:
		f.class, f.err = classTimeout, context.Cause(ctx)
	case errors.As(err, &slow) && slow.Timeout():
		f.class = classTimeout
	}
	return f
}

// statusFailure is what an answer means; nil: the POST is taken.
func statusFailure(resp *http.Response, now time.Time) *postFailure {
	f := &postFailure{class: classOther, err: fmt.Errorf("answered %d", resp.StatusCode)}
	switch code := resp.StatusCode; {
	case code >= 200 && code < 300:
		return nil
	case code >= 300 && code < 400:
		f.class, f.err = classRedirect, fmt.Errorf("answered %d: redirects are not followed", code)
	case code == http.StatusGone:
		f.class, f.err = classGone, errors.New("answered 410: it wants nothing more")
	case code >= 400 && code < 500:
		f.class = classRefused
	case code >= 500 && code < 600:
		f.class = classBroken
	}
	if resp.StatusCode == http.StatusTooManyRequests || resp.StatusCode == http.StatusServiceUnavailable {
		f.ask = retryAfter(resp.Header.Get("Retry-After"), now)
	}
	return f
}

// retryAfter reads the header Retry-After (RFC 9110, section 10.2.3); 0: there is none
// that can be read. It is not more than mostPause: a mistake there must not stop a
// webhook for days.
func retryAfter(value string, now time.Time) time.Duration {
	if value == "" {
		return 0
	}
	if seconds, err := strconv.ParseUint(value, 10, 31); err == nil {
		return min(time.Duration(seconds)*time.Second, mostPause)
	}
	if at, err := http.ParseTime(value); err == nil {
		return min(max(at.Sub(now), 0), mostPause)
	}
	return 0
}

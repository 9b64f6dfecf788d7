package remote

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// Config says where the API is.
type Config struct {
	URL string // http or https, perhaps with a path in front of /v1
	Key string // API key
	// RootCAs is whom to trust. nil: as the system does.
	RootCAs *x509.CertPool
	// AllowHTTP sends the key over plain HTTP to other machines as well.
	AllowHTTP bool
	UserAgent string
	// Transport carries requests. nil: one that goes by the other settings and by
	// HTTPS_PROXY.
	Transport http.RoundTripper
}

// Client calls the API. It is safe for concurrent use.
type Client struct {
	base      *url.URL
	key       string
	userAgent string
	http      *http.Client
}

const (
	// tryTimeout is how long one try may take. The server gives up its work after 10 s.
	tryTimeout = 30 * time.Second
	// maxAnswer bounds an answer, in bytes. choice: several times the largest, a job of
	// ten thousand recipients.
	maxAnswer = 64 << 20
)

// New returns a client; it connects to nothing. What is wrong with the URL is an error.
func New(cfg Config) (*Client, error) {
	base, err := parseURL(cfg.URL, cfg.AllowHTTP)
	if err != nil {
		return nil, err
	}
	transport := cfg.Transport
	if transport == nil {
		own := &http.Transport{Proxy: http.ProxyFromEnvironment, ForceAttemptHTTP2: true, IdleConnTimeout: time.Minute, TLSHandshakeTimeout: 10 * time.Second}
		own.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: cfg.RootCAs}
		own.MaxIdleConnsPerHost = 16
		transport = own
	}
	return &Client{
		base: base, key: cfg.Key, userAgent: cfg.UserAgent,
		http: &http.Client{
			Transport: transport,
			// A redirect would take the key somewhere else: it is an answer like others.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}, nil
}

// parseURL reads the URL of an API.
func parseURL(text string, allowHTTP bool) (*url.URL, error) {
	u, err := url.Parse(text)
	switch {
	case err != nil, u.Host == "", u.Scheme != "http" && u.Scheme != "https":
		return nil, errors.New("must be an http or https URL such as https://push.example.com")
	case u.User != nil:
		return nil, errors.New("must not hold a name or a password: the API key goes in a file")
	case u.RawQuery != "" || u.Fragment != "":
		return nil, errors.New("must end with the path: parameters have no place in it")
	case u.Scheme == "http" && !allowHTTP && !loopback(u.Hostname()):
		return nil, fmt.Errorf("must be https: over plain HTTP everybody on the way to %s could read the API key", u.Hostname())
	}
	u.Path = strings.TrimRight(u.Path, "/")
	u.RawPath = ""
	return u, nil
}

// loopback reports whether a host is this machine.
func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// Call is one request.
type Call struct {
	Method string
	Path   []string // segments after the URL, as they are: they are escaped here
	Query  url.Values
	In     any // body, as JSON; nil: none
	Out    any // what the answer is read into; nil: it is not read
	// Repeatable: it does no harm to carry it out twice.
	Repeatable bool
}

// Do makes a call, again where that helps. The error is a *[Error] where the server
// answered.
func (c *Client) Do(ctx context.Context, call *Call) error {
	var body []byte
	if call.In != nil {
		var err error
		if body, err = json.Marshal(call.In); err != nil {
			return fmt.Errorf("encode request: %w", err)
		}
	}
	r := newRetries()
	for {
		err := c.try(ctx, call, body)
		if err == nil || ctx.Err() != nil {
			return err
		}
		if !r.again(ctx, err, call.Repeatable) {
			return err
		}
	}
}

// try makes a call once.
func (c *Client) try(ctx context.Context, call *Call, body []byte) error {
	ctx, cancel := context.WithTimeoutCause(ctx, tryTimeout, fmt.Errorf("no answer within %s", tryTimeout))
	defer cancel()
	resp, err := c.send(ctx, call, body, "application/json")
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	switch {
	case err != nil:
		return &unanswered{host: c.base.Host, cause: cause(ctx, err)}
	case len(text) > maxAnswer:
		return fmt.Errorf("ask %s: the answer has more than %d bytes", c.base.Host, maxAnswer)
	case resp.StatusCode/100 != 2:
		return c.refused(resp, text)
	case call.Out == nil:
		return nil
	}
	if err := json.Unmarshal(text, call.Out); err != nil {
		return fmt.Errorf("ask %s: the answer is none of the API's: %w", c.base.Host, err)
	}
	return nil
}

// send sends a request and returns the answer's head.
func (c *Client) send(ctx context.Context, call *Call, body []byte, accept string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, call.Method, c.url(call).String(), bytes.NewReader(body))
	if err != nil {
		return nil, errors.New("make request: " + call.Method + " is no method, or the URL none")
	}
	req.Header.Set("Authorization", "Bearer "+c.key)
	req.Header.Set("Accept", accept)
	req.Header.Set("User-Agent", c.userAgent)
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, &unanswered{host: c.base.Host, cause: cause(ctx, err)}
	}
	return resp, nil
}

// url puts together where a call goes. A segment of dots is escaped, so that nobody on
// the way takes it for a step in the path.
func (c *Client) url(call *Call) *url.URL {
	u := *c.base
	raw := u.EscapedPath()
	for _, segment := range call.Path {
		escaped := url.PathEscape(segment)
		if strings.Trim(segment, ".") == "" {
			escaped = strings.Repeat("%2E", len(segment))
		}
		u.Path, raw = u.Path+"/"+segment, raw+"/"+escaped
	}
	u.RawPath, u.RawQuery = raw, call.Query.Encode()
	return &u
}

// cause is why there is no answer. Go's own text begins with the URL.
func cause(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	var of *url.Error
	if errors.As(err, &of) {
		return of.Err
	}
	return err
}

package apns

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"time"

	"github.com/pushfleet/pushfleet/apns/internal/h2"
)

const (
	dialTimeout  = 15 * time.Second // look-up, TCP, proxy and TLS together
	writeTimeout = 10 * time.Second // for each write
)

// dialer opens connections to one host.
type dialer struct {
	target *url.URL // https, host, and maybe a port
	tls    *tls.Config
	proxy  func(*url.URL) (*url.URL, error) // nil: none
	lookup func(ctx context.Context, network, host string) ([]netip.Addr, error)
}

// dialed is an open connection.
type dialed struct {
	nc   *tls.Conn
	wire *h2.Wire
	addr netip.Addr // invalid behind a proxy
}

// dial opens a connection. It looks the host up each time (Apple engineers: a
// static list of addresses goes stale, developer forums, thread 778909), and
// goes to the address for which rank is smallest.
func (d *dialer) dial(ctx context.Context, rank func(netip.Addr) int) (dialed, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, dialTimeout, errors.New("no connection in time"))
	defer cancel()
	nc, addr, err := d.connect(ctx, rank)
	if err != nil {
		return dialed{addr: addr}, err
	}
	wire := h2.NewWire(nc, writeTimeout)
	tc := tls.Client(wire, d.tls)
	if err := tc.HandshakeContext(ctx); err != nil {
		_ = nc.Close()
		return dialed{addr: addr}, fmt.Errorf("TLS handshake with %s: %w", d.target.Host, err)
	}
	if got := tc.ConnectionState().NegotiatedProtocol; got != "h2" {
		_ = nc.Close()
		return dialed{addr: addr}, fmt.Errorf("TLS handshake with %s: negotiated protocol %q instead of h2", d.target.Host, got)
	}
	return dialed{tc, wire, addr}, nil
}

// connect opens the TCP connection, directly or through a proxy.
func (d *dialer) connect(ctx context.Context, rank func(netip.Addr) int) (net.Conn, netip.Addr, error) {
	host, port := d.target.Hostname(), portOf(d.target)
	var proxy *url.URL
	if d.proxy != nil {
		var err error
		if proxy, err = d.proxy(d.target); err != nil {
			return nil, netip.Addr{}, fmt.Errorf("choose proxy for %s: %w", d.target.Host, err)
		}
	}
	if proxy != nil {
		nc, err := connectThrough(ctx, proxy, net.JoinHostPort(host, port))
		if err != nil {
			return nil, netip.Addr{}, fmt.Errorf("connect through proxy %s: %w", proxy.Host, err)
		}
		return nc, netip.Addr{}, nil
	}
	addr, err := d.choose(ctx, host, rank)
	if err != nil {
		return nil, addr, err
	}
	var dialer net.Dialer
	nc, err := dialer.DialContext(ctx, "tcp", net.JoinHostPort(addr.String(), port))
	if err != nil {
		return nil, addr, fmt.Errorf("connect to %s: %w", host, err)
	}
	return nc, addr, nil
}

// choose looks host up and returns the address with the smallest rank.
func (d *dialer) choose(ctx context.Context, host string, rank func(netip.Addr) int) (netip.Addr, error) {
	if addr, err := netip.ParseAddr(host); err == nil {
		return addr, nil
	}
	addrs, err := d.lookup(ctx, "ip", host)
	if err != nil {
		return netip.Addr{}, fmt.Errorf("look up %s: %w", host, err)
	}
	if len(addrs) == 0 {
		return netip.Addr{}, fmt.Errorf("look up %s: no address", host)
	}
	best := addrs[0].Unmap()
	for _, a := range addrs[1:] {
		if a = a.Unmap(); rank(a) < rank(best) {
			best = a
		}
	}
	return best, nil
}

// connectThrough opens a tunnel to addr with HTTP CONNECT (RFC 9110 section
// 9.3.6).
func connectThrough(ctx context.Context, proxy *url.URL, addr string) (net.Conn, error) {
	var dialer net.Dialer
	nc, err := dialer.DialContext(ctx, "tcp", net.JoinHostPort(proxy.Hostname(), portOf(proxy)))
	if err != nil {
		return nil, err
	}
	// The exchange ends with ctx; afterwards the connection is free of it.
	stop := context.AfterFunc(ctx, func() { _ = nc.Close() })
	fail := func(err error) (net.Conn, error) {
		stop()
		_ = nc.Close()
		return nil, err
	}
	switch proxy.Scheme {
	case "http":
	case "https":
		nc = tls.Client(nc, &tls.Config{ServerName: proxy.Hostname(), MinVersion: tls.VersionTLS12})
	default:
		return fail(fmt.Errorf("proxy scheme %q is neither http nor https", proxy.Scheme))
	}
	req := &http.Request{Method: http.MethodConnect, URL: &url.URL{Opaque: addr}, Host: addr, Header: make(http.Header)}
	if u := proxy.User; u != nil {
		password, _ := u.Password()
		req.Header.Set("Proxy-Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(u.Username()+":"+password)))
	}
	if err := req.Write(nc); err != nil {
		return fail(err)
	}
	// The proxy says nothing behind its answer until we speak, so the reader
	// holds no byte of the tunnel.
	resp, err := http.ReadResponse(bufio.NewReader(nc), req) //nolint:bodyclose // what follows is the tunnel
	if err != nil {
		return fail(err)
	}
	if resp.StatusCode != http.StatusOK {
		return fail(fmt.Errorf("proxy answered %s", resp.Status))
	}
	if !stop() {
		return fail(context.Cause(ctx))
	}
	return nc, nil
}

// portOf returns the port of a URL, or its scheme's.
func portOf(u *url.URL) string {
	switch {
	case u.Port() != "":
		return u.Port()
	case u.Scheme == "http":
		return "80"
	default:
		return "443"
	}
}

package apns_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pushfleet/pushfleet/apns"
	"github.com/pushfleet/pushfleet/apns/apnstest"
	"github.com/pushfleet/pushfleet/job"
)

// The bound per minute is hard: whatever happens, and in any minute.
func TestDialGateBound(t *testing.T) {
	t.Parallel()
	for name, each := range map[string]func(g *apns.DialGate, now time.Time){
		"all fail":         func(g *apns.DialGate, now time.Time) { g.Failed(now) },
		"all work":         func(g *apns.DialGate, _ time.Time) { g.Worked() },
		"neither":          func(*apns.DialGate, time.Time) {},
		"work, then break": func(g *apns.DialGate, now time.Time) { g.Worked(); g.Failed(now) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const perMinute = 7
			g := apns.NewDialGate(perMinute)
			now := time.Unix(0, 0)
			var attempts []time.Time
			for end := now.Add(2 * time.Hour); now.Before(end); {
				if wait := g.Wait(now); wait > 0 {
					now = now.Add(wait)
					continue
				}
				g.Attempt(now)
				attempts = append(attempts, now)
				each(g, now)
			}
			for i := perMinute; i < len(attempts); i++ {
				if d := attempts[i].Sub(attempts[i-perMinute]); d < time.Minute {
					t.Fatalf("attempts %d to %d: got %d within %v, want at most %d in a minute", i-perMinute, i, perMinute+1, d, perMinute)
				}
			}
			for i := 1; i < len(attempts); i++ {
				if d := attempts[i].Sub(attempts[i-1]); d < time.Second {
					t.Fatalf("attempts %d and %d: got %v apart, want at least 1s", i-1, i, d)
				}
			}
			if len(attempts) < 2*60 {
				t.Errorf("attempts in two hours: got %d, want at least one per minute", len(attempts))
			}
		})
	}
}

// An attempt takes a while, and the peer sees it somewhere in between: it must
// not see more in a minute than are allowed.
func TestDialGateBoundAsThePeerSeesIt(t *testing.T) {
	t.Parallel()
	const perMinute = 7
	g := apns.NewDialGate(perMinute)
	random := rand.New(rand.NewPCG(1, 2))
	now := time.Unix(0, 0)
	var seen []time.Time
	for end := now.Add(2 * time.Hour); now.Before(end); {
		if wait := g.Wait(now); wait > 0 {
			now = now.Add(wait)
			continue
		}
		g.Attempt(now)
		took := time.Duration(random.IntN(3000)) * time.Millisecond
		seen = append(seen, now.Add(time.Duration(random.Int64N(int64(took)+1))))
		now = now.Add(took)
		g.Ended(now)
		g.Worked()
	}
	for i := perMinute; i < len(seen); i++ {
		if d := seen[i].Sub(seen[i-perMinute]); d < time.Minute {
			t.Fatalf("connects %d to %d: the peer saw %d within %v, want at most %d in a minute", i-perMinute, i, perMinute+1, d, perMinute)
		}
	}
}

func TestDialGateBacksOff(t *testing.T) {
	t.Parallel()
	g := apns.NewDialGate(1000)
	now := time.Unix(0, 0)
	for i, seconds := range []int{1, 2, 4, 8, 16, 32, 60, 60} {
		now = now.Add(g.Wait(now))
		g.Attempt(now)
		g.Failed(now)
		most := time.Duration(seconds) * time.Second
		if got := g.Wait(now); got > most || got < min(most/2, time.Second) {
			t.Errorf("after failure %d: got a pause of %v, want %v to %v", i, got, most/2, most)
		}
	}
	g.Worked()
	now = now.Add(g.Wait(now))
	g.Attempt(now)
	g.Failed(now)
	if got := g.Wait(now); got > time.Second {
		t.Errorf("after one that worked: got a pause of %v, want 1s", got)
	}
}

func TestChooseAddress(t *testing.T) {
	t.Parallel()
	a, b, c := netip.MustParseAddr("17.188.1.1"), netip.MustParseAddr("::ffff:17.188.1.2"), netip.MustParseAddr("17.188.1.3")
	rank := map[netip.Addr]int{a: 1, b.Unmap(): 0, c: 1000}
	got, err := apns.ChooseAddress(t.Context(), "api.push.apple.com", []netip.Addr{a, b, c}, func(a netip.Addr) int { return rank[a] })
	if err != nil || got != b.Unmap() {
		t.Errorf("address: got %v, %v, want the one not in use, %v", got, err, b.Unmap())
	}
	if got, err := apns.ChooseAddress(t.Context(), "127.0.0.1", nil, nil); err != nil || got != netip.MustParseAddr("127.0.0.1") {
		t.Errorf("host that is an address: got %v, %v", got, err)
	}
	if got, err := apns.ChooseAddress(t.Context(), "nowhere", nil, nil); err == nil {
		t.Errorf("host without addresses: got %v, want an error", got)
	}
}

func TestPortOf(t *testing.T) {
	t.Parallel()
	for raw, want := range map[string]string{"https://a": "443", "http://a": "80", "https://a:2197": "2197"} {
		u, err := url.Parse(raw)
		if err != nil {
			t.Fatal(err)
		}
		if got := apns.PortOf(u); got != want {
			t.Errorf("port of %s: got %s, want %s", raw, got, want)
		}
	}
}

// proxyServer is an HTTP proxy that knows CONNECT.
func proxyServer(t *testing.T, status int, saw chan<- *http.Request) *url.URL {
	t.Helper()
	var tunnels sync.WaitGroup
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		saw <- r
		if status != http.StatusOK {
			w.WriteHeader(status)
			return
		}
		far, err := net.Dial("tcp", r.Host)
		if err != nil {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		near, buf, err := w.(http.Hijacker).Hijack()
		if err != nil {
			return
		}
		_, _ = io.WriteString(near, "HTTP/1.1 200 Connection established\r\n\r\n")
		tunnel(&tunnels, near, far, buf.Reader)
	}))
	t.Cleanup(func() {
		srv.Close()
		tunnels.Wait()
	})
	u, err := url.Parse(srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func throughProxy(proxy *url.URL) func(*url.URL) (*url.URL, error) {
	return func(*url.URL) (*url.URL, error) { return proxy, nil }
}

func tunnel(wg *sync.WaitGroup, near, far net.Conn, from *bufio.Reader) {
	wg.Go(func() {
		_, _ = io.Copy(far, from)
		_ = far.Close()
	})
	wg.Go(func() {
		_, _ = io.Copy(near, far)
		_ = near.Close()
	})
}

func TestProxy(t *testing.T) {
	t.Parallel()
	saw := make(chan *http.Request, 10)
	proxy := proxyServer(t, http.StatusOK, saw)
	proxy.User = url.UserPassword("user", "pass word")
	srv := serve(t, apnstest.Config{})
	c := connect(t, srv, apns.ClientConfig{Proxy: throughProxy(proxy)})
	ns := batch(0, 1000)
	wantAccepted(t, ns, send(t, c, job.Bulk, ns))
	r := <-saw
	if r.Method != http.MethodConnect || r.Host != strings.TrimPrefix(srv.URL(), "https://") {
		t.Errorf("proxy: got %s %s, want CONNECT %s", r.Method, r.Host, srv.URL())
	}
	if got := r.Header.Get("Proxy-Authorization"); got != "Basic dXNlcjpwYXNzIHdvcmQ=" {
		t.Errorf("proxy credentials: got %q", got)
	}
}

func TestProxyThatRefuses(t *testing.T) {
	t.Parallel()
	proxy := proxyServer(t, http.StatusForbidden, make(chan *http.Request, 10))
	c, _ := setup(t, apnstest.Config{}, apns.ClientConfig{Proxy: throughProxy(proxy), RequestTimeout: 300 * time.Millisecond})
	r := send(t, c, job.Bulk, batch(0, 1))[0]
	if !errors.Is(r.Err, apns.ErrNotSent) || !strings.Contains(r.Err.Error(), "403") {
		t.Errorf("error: got %v, want not sent, with the proxy's answer", r.Err)
	}
}

func TestProxyIsAskedForThisHost(t *testing.T) {
	t.Parallel()
	asked := make(chan string, 10)
	c, srv := setup(t, apnstest.Config{}, apns.ClientConfig{Proxy: func(u *url.URL) (*url.URL, error) {
		asked <- u.String()
		return nil, nil //nolint:nilnil // no proxy for this one
	}})
	wantAccepted(t, batch(0, 1), send(t, c, job.Bulk, batch(0, 1)))
	if got := <-asked; got != srv.URL() {
		t.Errorf("proxy asked for: got %s, want %s", got, srv.URL())
	}
}

// What does not speak h2, or is not trusted, is refused.
func TestServersThatAreNotAPNs(t *testing.T) {
	t.Parallel()
	srv := serve(t, apnstest.Config{})
	for name, cfg := range map[string]*tls.Config{
		"http/1.1 only": {NextProtos: []string{"http/1.1"}},
		"no ALPN":       {},
		"TLS 1.1":       {NextProtos: []string{"h2"}, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			other := httptest.NewUnstartedServer(http.NotFoundHandler())
			// httptest adds protocols to its own configuration, not to this one.
			other.TLS = &tls.Config{GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
				cfg := cfg.Clone()
				cfg.Certificates = other.TLS.Certificates
				return cfg, nil
			}}
			other.Config.ErrorLog = log.New(io.Discard, "", 0)
			other.StartTLS()
			defer other.Close()
			c, err := apns.New(apns.ClientConfig{
				Credential: keyOf(t, srv), URL: other.URL, RequestTimeout: 300 * time.Millisecond,
				RootCAs: other.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs,
			})
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			r := send(t, c, job.Bulk, batch(0, 1))[0]
			if !errors.Is(r.Err, apns.ErrNotSent) || !strings.Contains(r.Err.Error(), "TLS handshake") {
				t.Errorf("error: got %v, want not sent, because of the TLS handshake", r.Err)
			}
		})
	}
	t.Run("unknown authority", func(t *testing.T) {
		t.Parallel()
		c, err := apns.New(apns.ClientConfig{Credential: keyOf(t, srv), URL: srv.URL(), RequestTimeout: 300 * time.Millisecond})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if r := send(t, c, job.Bulk, batch(0, 1))[0]; !errors.Is(r.Err, apns.ErrNotSent) {
			t.Errorf("error: got %v, want not sent", r.Err)
		}
	})
}

func TestHandshakeThatStallsEndsWithClose(t *testing.T) {
	t.Parallel()
	srv := serve(t, apnstest.Config{Faults: apnstest.Faults{Connections: []apnstest.ConnectionFault{{StallHandshake: true}}}})
	c := connect(t, srv, apns.ClientConfig{})
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if r := sendCtx(ctx, t, c, job.Bulk, batch(0, 1))[0]; !errors.Is(r.Err, apns.ErrNotSent) {
		t.Errorf("error: got %v, want not sent", r.Err)
	}
	start := time.Now()
	if err := c.Close(); err != nil || time.Since(start) > 2*time.Second {
		t.Errorf("Close: got %v after %v, want nil at once", err, time.Since(start))
	}
}

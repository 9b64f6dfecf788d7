package apns

import (
	"context"
	"crypto/tls"
	"net/netip"
	"net/url"
	"time"
)

// CertificateCredential returns the credential of a certificate in memory.
func CertificateCredential(cert tls.Certificate) Credential { return Credential{certificate: &cert} }

// ReadAnswer reads the body of a rejection.
func ReadAnswer(body []byte) (Reason, int64) { return newAnswerReader().read(body) }

// DialGate is the gate that every attempt to connect goes through.
type DialGate struct{ g dialGate }

func NewDialGate(perMinute int) *DialGate {
	return &DialGate{dialGate{perMinute: perMinute, gap: dialGap}}
}

func (g *DialGate) Wait(now time.Time) time.Duration { return g.g.wait(now) }
func (g *DialGate) Attempt(now time.Time)            { g.g.attempt(now) }
func (g *DialGate) Ended(now time.Time)              { g.g.ended(now) }
func (g *DialGate) Failed(now time.Time)             { g.g.failed(now) }
func (g *DialGate) Worked()                          { g.g.worked() }

// ChooseAddress is what a dialer does with the addresses of host.
func ChooseAddress(ctx context.Context, host string, addrs []netip.Addr, rank func(netip.Addr) int) (netip.Addr, error) {
	d := dialer{lookup: func(context.Context, string, string) ([]netip.Addr, error) { return addrs, nil }}
	return d.choose(ctx, host, rank)
}

// PortOf returns the port of a URL, or its scheme's.
func PortOf(u *url.URL) string { return portOf(u) }

// WithDialGap makes attempts to connect follow each other sooner.
func WithDialGap(cfg ClientConfig, gap time.Duration) ClientConfig {
	cfg.dialGap = gap
	return cfg
}

// Tick does at once what the client does every so often.
func Tick(c *Client) { c.pool.tick() }

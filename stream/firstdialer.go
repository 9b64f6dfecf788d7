package stream

import (
	"context"
	"net"
	"sync"
	"time"
)

// firstDialer dials for nats.go, which knows no context: until it is released, the end
// of ctx ends what is being dialed, and closes what was dialed and may not have been
// answered yet. After that it is an ordinary dialer, for reconnecting.
type firstDialer struct {
	dialer net.Dialer

	mu    sync.Mutex
	ctx   context.Context //nolint:containedctx // of the first connection only: nats.go calls Dial without one
	stops []func() bool   // guarded by mu
}

func newFirstDialer(ctx context.Context, timeout time.Duration) *firstDialer {
	return &firstDialer{dialer: net.Dialer{Timeout: timeout}, ctx: ctx}
}

// Dial dials a server.
func (d *firstDialer) Dial(network, address string) (net.Conn, error) {
	d.mu.Lock()
	ctx := d.ctx
	d.mu.Unlock()
	conn, err := d.dialer.DialContext(ctx, network, address)
	if err != nil {
		return nil, err //nolint:wrapcheck // nats.go compares it, and Dial wraps it
	}
	if ctx.Done() == nil {
		return conn, nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.stops = append(d.stops, context.AfterFunc(ctx, func() { _ = conn.Close() }))
	return conn, nil
}

// release lets go of ctx: the first connection is made, or was given up.
func (d *firstDialer) release() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, stop := range d.stops {
		stop()
	}
	d.ctx, d.stops = context.Background(), nil
}

package testenv

import (
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"time"
)

// Proxy passes TCP connections on to a server, and cuts, delays or stalls them
// where a test wants.
type Proxy struct {
	Addr string // host:port

	to       string
	listener net.Listener
	running  sync.WaitGroup

	mu       sync.Mutex
	conns    map[net.Conn]bool // guarded by mu: both ends of all connections
	dialed   []string          // guarded by mu: addresses that the server saw, of all time
	refusing bool              // guarded by mu
	requests int               // guarded by mu: bytes to pass before the cut, below 0 all
	replies  int               // guarded by mu: the same
	cuts     int               // guarded by mu: how many were made
	delay    time.Duration     // guarded by mu
	stalled  chan struct{}     // guarded by mu: closed when nothing is held up any more; nil: nothing is
}

// StartProxy starts a proxy to the address of a server. It ends with the test.
func StartProxy(t testing.TB, to string) *Proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("start proxy: %v", err)
	}
	p := &Proxy{Addr: l.Addr().String(), to: to, listener: l, conns: make(map[net.Conn]bool), requests: -1, replies: -1}
	p.running.Go(p.accept)
	t.Cleanup(func() {
		_ = l.Close()
		p.Refuse(true)
		p.Stall(false)
		p.running.Wait()
	})
	return p
}

// CutReplies cuts all connections when n more bytes of replies, of all of them,
// have passed. Connections that are made afterwards are passed on.
func (p *Proxy) CutReplies(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.replies = n
}

// CutRequests does so when n more bytes of requests have passed.
func (p *Proxy) CutRequests(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.requests = n
}

// Cuts is how many times connections were cut at a number of bytes.
func (p *Proxy) Cuts() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.cuts
}

// Dialed returns the addresses from which the proxy has dialed the server, of
// all connections that there ever were.
func (p *Proxy) Dialed() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]string(nil), p.dialed...)
}

// Refuse cuts all connections, and new ones as they are made, until it is called
// with false.
func (p *Proxy) Refuse(refuse bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.refusing = refuse; refuse {
		p.cutAll()
	}
}

// Delay holds every piece of up to 32 KiB up for d, one after the other: a link
// that is slow as well as long. 0 ends that.
func (p *Proxy) Delay(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.delay = d
}

// Stall passes nothing on and closes nothing, until it is called with false.
func (p *Proxy) Stall(stall bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case stall && p.stalled == nil:
		p.stalled = make(chan struct{})
	case !stall && p.stalled != nil:
		close(p.stalled)
		p.stalled = nil
	}
}

// cutAll closes all connections; mu is held.
func (p *Proxy) cutAll() {
	for c := range p.conns {
		_ = c.Close()
	}
	clear(p.conns)
}

func (p *Proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", p.to)
		if err != nil {
			_ = client.Close()
			continue
		}
		p.mu.Lock()
		p.conns[client], p.conns[server] = true, true
		p.dialed = append(p.dialed, server.LocalAddr().String())
		if p.refusing {
			p.cutAll()
		}
		p.mu.Unlock()
		p.running.Go(func() { p.pass(server, client, &p.requests) })
		p.running.Go(func() { p.pass(client, server, &p.replies) })
	}
}

// pass copies what comes from one end to the other, counting down left.
func (p *Proxy) pass(to, from net.Conn, left *int) {
	defer func() {
		_, _ = to.Close(), from.Close()
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.conns, to)
		delete(p.conns, from)
	}()
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		p.holdUp()
		part, cut := p.count(left, n)
		if _, writeErr := to.Write(buf[:part]); writeErr != nil {
			return
		}
		if cut {
			p.mu.Lock()
			p.cutAll()
			p.mu.Unlock()
			return
		}
		if err != nil {
			if tcp, ok := to.(*net.TCPConn); ok && errors.Is(err, io.EOF) {
				_ = tcp.CloseWrite()
			}
			return
		}
	}
}

// holdUp waits for as long as a piece is to be held up.
func (p *Proxy) holdUp() {
	p.mu.Lock()
	delay, stalled := p.delay, p.stalled
	p.mu.Unlock()
	if stalled != nil {
		<-stalled
	}
	if delay > 0 {
		<-time.After(delay)
	}
}

// count takes n bytes off what may pass, and returns how many of them do, and
// whether the connections are to be cut then.
func (p *Proxy) count(left *int, n int) (pass int, cut bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if *left < 0 || *left > n {
		*left = max(-1, *left-n)
		return n, false
	}
	pass, *left = *left, -1
	p.cuts++
	return pass, true
}

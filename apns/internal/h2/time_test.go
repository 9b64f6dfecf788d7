package h2_test

import (
	"errors"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"

	"github.com/pushfleet/pushfleet/apns/internal/h2"
	"github.com/pushfleet/pushfleet/job"
)

// pass lets d pass, with a tick every 100 ms.
func pass(c *h2.Conn, d time.Duration) {
	for end := time.Now().Add(d); time.Now().Before(end); {
		<-time.After(100 * time.Millisecond)
		c.Tick()
	}
}

func TestTimeoutHoldsTheSlot(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, o, p := connect(t, h2.Config{Timeout: 5 * time.Second}, maxStreams(2))
		o.submit(job.Transactional, requests(4, 2)...)
		c.Wake()
		a, b := p.request(), p.request()
		p.accept(b)
		wantStatus(t, <-o.done, 1, 200)
		third := p.request()
		pass(c, 4900*time.Millisecond)
		if len(o.done) > 0 {
			t.Fatalf("before the timeout: got %+v, want nothing", <-o.done)
		}
		var ticks sync.WaitGroup
		defer ticks.Wait()
		ticks.Go(func() { pass(c, 200*time.Millisecond) })
		rsts := []uint32{skipTo[*http2.RSTStreamFrame](p).StreamID, skipTo[*http2.RSTStreamFrame](p).StreamID}
		if rsts[0] != a.id || rsts[1] != third.id {
			t.Errorf("resets: got streams %v, want %d and %d", rsts, a.id, third.id)
		}
		for range 2 {
			got := <-o.done
			wantFailed(t, got, false)
			if !errors.Is(got.Err, h2.ErrTimeout) {
				t.Errorf("error: got %v, want %v", got.Err, h2.ErrTimeout)
			}
		}
		// Both slots stay taken until the peer has seen the resets, which the answer
		// to the PING behind them says.
		ping := skipTo[*http2.PingFrame](p)
		p.sync()
		if got := c.Stats(); got.Open != 2 || got.Timeouts != 2 {
			t.Errorf("before the PING is answered: got %+v, want 2 open, 2 timeouts", got)
		}
		// A late answer to one of them frees its slot, and is told to nobody.
		p.accept(a)
		fourth := p.request()
		p.must(p.fr.WritePing(true, ping.Data))
		p.sync()
		if got := c.Stats().Open; got != 1 {
			t.Errorf("after the PING is answered: got %d open, want 1", got)
		}
		p.accept(fourth)
		wantStatus(t, <-o.done, 3, 200)
	})
}

func TestResetsAfterAPingNeedAnother(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, o, p := connect(t, h2.Config{})
		o.submit(job.Transactional, request(0, 2))
		c.Wake()
		p.request()
		c.Cancel(o, h2.ErrTimeout)
		wantFailed(t, <-o.done, false)
		first := skipTo[*http2.PingFrame](p)
		o.submit(job.Transactional, request(1, 2))
		c.Wake()
		p.request()
		c.Cancel(o, h2.ErrTimeout)
		wantFailed(t, <-o.done, false)
		skipTo[*http2.RSTStreamFrame](p)
		p.must(p.fr.WritePing(true, first.Data))
		second := skipTo[*http2.PingFrame](p)
		if got := c.Stats().Open; got != 1 {
			t.Errorf("after the first PING: got %d open, want 1", got)
		}
		p.must(p.fr.WritePing(true, second.Data))
		p.sync()
		if got := c.Stats().Open; got != 0 {
			t.Errorf("after the second PING: got %d open, want 0", got)
		}
	})
}

func TestPeerThatDoesNotAnswerPings(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, o, p := connect(t, h2.Config{PingTimeout: 2 * time.Second}, maxStreams(2))
		o.submit(job.Transactional, requests(2, 2)...)
		c.Wake()
		p.request()
		b := p.request()
		go c.Cancel(o, h2.ErrTimeout)
		skipTo[*http2.PingFrame](p)
		wantFailed(t, <-o.done, false)
		wantFailed(t, <-o.done, false)
		pass(c, time.Second)
		p.must(p.fr.WriteRSTStream(b.id, http2.ErrCodeCancel)) // it lives
		pass(c, 2*time.Second)
		if got := c.Stats(); got.Open != 0 || got.Limit != 2 {
			t.Errorf("after the PING timeout: got %+v, want nothing held, limit 2", got)
		}
	})
}

func TestSilentPeer(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		busy bool
		want time.Duration
	}{
		"busy": {true, 15 * time.Second},
		"idle": {false, time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				c, o, p := connect(t, h2.Config{Timeout: time.Hour})
				if tc.busy {
					o.submit(job.Transactional, request(0, 2))
					c.Wake()
					p.request()
				}
				start := time.Now()
				pings := make(chan time.Duration, 1)
				go func() {
					ping := skipTo[*http2.PingFrame](p)
					pings <- time.Since(start)
					p.must(p.fr.WritePing(true, ping.Data))
					skipTo[*http2.PingFrame](p) // this one stays without an answer
				}()
				pass(c, 2*tc.want+9*time.Second)
				if got := <-pings; got < tc.want || got > tc.want+time.Second {
					t.Errorf("first PING: got after %v, want %v", got, tc.want)
				}
				if len(o.closed) > 0 {
					t.Fatalf("within the PING timeout: closed with %v", (<-o.closed).err)
				}
				pass(c, 2*time.Second)
				if err := (<-o.closed).err; !errors.Is(err, h2.ErrPingTimeout) {
					t.Errorf("closed: got %v, want %v", err, h2.ErrPingTimeout)
				}
				if tc.busy {
					wantFailed(t, <-o.done, false)
				}
			})
		})
	}
}

func TestSettingsNeverSent(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, o, _ := dial(t, h2.Config{})
		pass(c, 11*time.Second)
		if err := (<-o.closed).err; !errors.Is(err, h2.ErrSettingsTimeout) {
			t.Errorf("closed: got %v, want %v", err, h2.ErrSettingsTimeout)
		}
	})
}

func TestDrainDeadline(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, o, p := connect(t, h2.Config{})
		o.submit(job.Bulk, request(0, 2))
		c.Wake()
		p.request()
		c.Retire(time.Now().Add(3 * time.Second))
		pass(c, 2900*time.Millisecond)
		if len(o.closed) > 0 {
			t.Fatalf("before the deadline: closed with %v", (<-o.closed).err)
		}
		pass(c, 200*time.Millisecond)
		wantFailed(t, <-o.done, false)
		if err := (<-o.closed).err; !errors.Is(err, h2.ErrDrainTimeout) {
			t.Errorf("closed: got %v, want %v", err, h2.ErrDrainTimeout)
		}
	})
}

// connectWire is connect with a Wire, so that writes have a deadline.
func connectWire(t *testing.T, timeout time.Duration) (*h2.Conn, *owner, *peer) {
	t.Helper()
	near, far := net.Pipe()
	wire := h2.NewWire(near, timeout)
	o := newOwner()
	c := h2.NewConn(wire, wire, h2.Config{Owner: o, Authority: "api.push.apple.com"})
	p := newPeer(t, far)
	t.Cleanup(func() {
		_ = far.Close()
		c.Close()
	})
	p.settings(maxStreams(100))
	return c, o, p
}

// A peer that does not read blocks the writer; its deadline ends the connection.
func TestWriteDeadline(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, o, _ := connectWire(t, 3*time.Second)
		start := time.Now()
		o.submit(job.Bulk, requests(3, 2)...)
		c.Wake()
		// Nobody took a byte of them: they are safe to send again.
		for range 3 {
			wantFailed(t, <-o.done, true)
		}
		if got := time.Since(start); got != 3*time.Second {
			t.Errorf("write deadline: got after %v, want 3s", got)
		}
		<-o.closed
	})
}

func TestWriteThatWasCutIsUnknown(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, o, p := connectWire(t, 3*time.Second)
		o.submit(job.Bulk, requests(3, 2)...)
		c.Wake()
		if _, err := readFull(p.nc, make([]byte, 10)); err != nil {
			t.Fatalf("read: %v", err)
		}
		_ = p.nc.Close()
		for range 3 {
			wantFailed(t, <-o.done, false)
		}
	})
}

// After a second a connection still writes in large buffers; idle for long it
// holds none, and goes on as before.
func TestIdleConnectionGoesOn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, o, p := connect(t, h2.Config{})
		for i := range 3 {
			o.submit(job.Bulk, request(i, 2))
			c.Wake()
			p.accept(p.request())
			wantStatus(t, <-o.done, int32(i), 200)
			pass(c, 20*time.Second)
		}
	})
}

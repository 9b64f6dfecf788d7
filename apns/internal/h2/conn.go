package h2

import (
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pushfleet/pushfleet/job"
)

// Config says how a connection behaves. Zero values mean the defaults named.
type Config struct {
	Owner     Owner
	Authority string // host of APNs, for :authority

	// Authorization is the whole value of the authorization field, or empty for a
	// client certificate. With it the connection sends one request and waits for
	// its answer before it makes use of the peer's stream limit.
	Authorization string

	MaxStreams  int    // own cap on open streams; 0: 1500, the largest limit observed
	MaxStreamID uint32 // the connection retires at this id; 0: 1<<30, half of what there is

	Timeout         time.Duration // for an answer, from when the request was encoded; 0: 20 s
	SettingsTimeout time.Duration // for the peer's first SETTINGS; 0: 10 s
	PingBusy        time.Duration // silence before a PING while requests wait; 0: 15 s
	PingIdle        time.Duration // silence before a PING otherwise; 0: 60 s
	PingTimeout     time.Duration // for the answer to a PING; 0: 10 s

	Latencies *Latencies // where to count how long answers took; nil: nowhere
}

func (c Config) withDefaults() Config {
	if c.MaxStreams <= 0 {
		c.MaxStreams = 1500
	}
	if c.MaxStreamID == 0 {
		c.MaxStreamID = 1 << 30
	}
	for _, d := range []struct {
		value *time.Duration
		def   time.Duration
	}{
		{&c.Timeout, 20 * time.Second},
		{&c.SettingsTimeout, 10 * time.Second},
		{&c.PingBusy, 15 * time.Second},
		{&c.PingIdle, time.Minute},
		{&c.PingTimeout, 10 * time.Second},
	} {
		if *d.value <= 0 {
			*d.value = d.def
		}
	}
	return c
}

// Conn is one HTTP/2 connection to APNs. Its methods are safe for concurrent
// use. It has no timer: somebody calls [Conn.Tick].
type Conn struct {
	cfg   Config
	nc    net.Conn // what frames go through: TLS, or anything in tests
	wire  *Wire    // what TLS goes through; nil without
	start time.Time

	wake  chan struct{} // holds one: there is something for the writer
	dead  chan struct{} // closed when the connection has failed
	ended chan struct{} // closed when both goroutines have ended
	loops atomic.Int32  // goroutines that run

	// For those who choose among connections: written by publish.
	free     [2]atomic.Int32 // by lane
	open     atomic.Int32
	limit    atomic.Int32
	most     atomic.Int32
	answers  atomic.Uint64
	timeouts atomic.Uint64
	keepOf   atomic.Int32 // bulk leaves one in so many streams free

	lastRead atomic.Int64 // on the connection's clock, in nanoseconds

	mu      sync.Mutex // guards what follows
	err     error      // why the connection has failed
	words   []byte     // what the writer still says to the peer after a failure
	streams streamTable
	nextID  uint32
	limits  limits
	flow    sendFlow
	waiting [2][]uint32 // by lane: streams whose body waits for a window
	hungry  [2]bool     // by lane: the writer would have taken more
	enc     *encoder
	control control
	pings   pings
	goAway  *GoAwayError // the peer's last
	retired bool
	drainBy time.Duration // 0: no deadline
	leaving bool          // retired, and nothing is open: the writer says goodbye

	reader readerState // only touched by the read loop
	writer writerState // only touched by the write loop, but where it says otherwise
}

// NewConn starts a connection over nc, whose handshake is done. wire is what nc
// writes to, or nil. The connection owns nc: it ends by [Conn.Close], by
// [Conn.Retire], or with the peer, and tells the Owner.
func NewConn(nc net.Conn, wire *Wire, cfg Config) *Conn {
	cfg = cfg.withDefaults()
	c := &Conn{
		cfg:     cfg,
		nc:      nc,
		wire:    wire,
		start:   time.Now(),
		wake:    make(chan struct{}, 1),
		dead:    make(chan struct{}),
		ended:   make(chan struct{}),
		streams: newStreamTable(minRing),
		nextID:  1,
		limits:  limits{own: cfg.MaxStreams, peer: cfg.MaxStreams, warming: cfg.Authorization != ""},
		flow:    newSendFlow(),
		enc:     newEncoder(cfg.Authority, cfg.Authorization),
		reader:  newReaderState(),
		writer:  newWriterState(),
	}
	c.keepOf.Store(defaultKeepOf)
	c.publish()
	c.loops.Store(2)
	go c.writeLoop()
	go c.readLoop()
	return c
}

const (
	minRing = 64
	// defaultKeepOf: bulk never takes the last tenth of the streams.
	defaultKeepOf = 10
)

// Owner returns the Owner of the connection's Config.
func (c *Conn) Owner() Owner { return c.cfg.Owner }

// Wake tells the connection that its Owner has work. It does not block.
func (c *Conn) Wake() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// Free returns how many requests of a lane the connection could take now. It
// takes no lock, so the answer may be old already.
func (c *Conn) Free(lane job.Lane) int { return int(c.free[lane].Load()) }

// Stats is a look at a connection.
type Stats struct {
	Open     int    // streams that are open
	Limit    int    // streams that may be open now; 0: the connection takes nothing more
	Most     int    // the largest Limit so far
	Answers  uint64 // answers so far
	Timeouts uint64 // requests that had none in time
	Silent   time.Duration
}

// Stats returns how the connection is doing. It takes no lock.
func (c *Conn) Stats() Stats {
	return Stats{
		Open:     int(c.open.Load()),
		Limit:    int(c.limit.Load()),
		Most:     int(c.most.Load()),
		Answers:  c.answers.Load(),
		Timeouts: c.timeouts.Load(),
		Silent:   c.clock() - time.Duration(c.lastRead.Load()),
	}
}

// KeepFree makes bulk leave one in n streams to the other lane. n is at least 1;
// until the first call it is 10.
func (c *Conn) KeepFree(n int) { c.keepOf.Store(int32(max(1, n))) }

// SetAuthorization changes the authorization of requests that are not yet
// encoded.
func (c *Conn) SetAuthorization(s string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.enc.setAuthorization(s)
}

// Cancel gives up all requests of a batch that the connection has: each is Done
// with err, before Cancel returns. Afterwards the connection does not touch the
// batch again.
func (c *Conn) Cancel(b Batch, err error) {
	var out []completion
	c.mu.Lock()
	c.streams.each(func(s *stream) bool {
		if !s.held && s.item.Batch == b {
			out = append(out, c.giveUp(s, err))
		}
		return true
	})
	c.publish()
	c.mu.Unlock()
	c.tell(out)
}

// Retire makes the connection take no new requests, and end when those that it
// has are done or by the deadline; zero is no deadline but the requests' own.
func (c *Conn) Retire(deadline time.Time) {
	c.mu.Lock()
	c.retire()
	if !deadline.IsZero() {
		c.drainBy = max(1, deadline.Sub(c.start))
	}
	c.publish()
	c.mu.Unlock()
}

// Close ends the connection at once. What has no answer is Done with an error.
// It returns when the connection's goroutines have ended; so it must not be
// called from Done or by the Owner's methods.
func (c *Conn) Close() {
	c.fail(ErrClosed)
	c.closeNow() // the writer may be busy saying why it ended earlier
	<-c.ended
}

// Tick does what time asks for: it gives up requests that are overdue, sends
// PINGs, and ends the connection if the peer is silent or draining takes too
// long. It wants to be called a few times per second while requests are open,
// and at least every few seconds otherwise.
func (c *Conn) Tick() {
	c.mu.Lock()
	if c.err != nil {
		c.mu.Unlock()
		return
	}
	now := c.clock()
	out := c.expire(now)
	err := c.checkAlive(now)
	if c.streams.count == 0 && now-c.writer.filledAt > idleAfter && c.writer.buffers {
		c.writer.idle = true
		c.Wake()
	}
	c.publish()
	c.mu.Unlock()
	c.tell(out)
	if err != nil {
		c.fail(err)
	}
}

// expire gives up the requests that were sent too long ago. In the ring they are
// in the order of their sending, so it stops at the first that is in time.
func (c *Conn) expire(now time.Duration) (out []completion) {
	c.streams.each(func(s *stream) bool {
		if s.held {
			return true
		}
		if now-s.at < c.cfg.Timeout {
			return false
		}
		out = append(out, c.giveUp(s, ErrTimeout))
		return true
	})
	c.timeouts.Add(uint64(len(out)))
	return out
}

// checkAlive sends a PING when the peer has been silent, and returns why the
// connection has to end, if it has.
func (c *Conn) checkAlive(now time.Duration) error {
	lastRead := time.Duration(c.lastRead.Load())
	silence := c.cfg.PingIdle
	if c.streams.count > 0 {
		silence = c.cfg.PingBusy
	}
	switch {
	case c.drainBy != 0 && now >= c.drainBy:
		return ErrDrainTimeout
	case !c.limits.known && now > c.cfg.SettingsTimeout:
		return ErrSettingsTimeout
	case c.pings.waiting == 0:
		if now-lastRead >= silence {
			c.pings.start(&c.control, now)
		}
	case now-c.pings.at >= c.cfg.PingTimeout:
		if lastRead < c.pings.at {
			return ErrPingTimeout
		}
		// It talks but does not answer PINGs (observed: golang/go#23559): live on,
		// and do not hold the slots of cancelled streams for ever.
		c.pinged(c.pings.waiting)
	}
	return nil
}

// pinged takes the answer to a PING: the peer has seen all resets before it.
func (c *Conn) pinged(n uint64) {
	if !c.pings.settle(n, &c.control, c.clock()) {
		return
	}
	c.streams.each(func(s *stream) bool {
		if s.held && s.probe <= n {
			c.streams.remove(s)
		}
		return true
	})
}

// giveUp resets a stream. Its slot stays taken until the peer must have seen
// that: APNs counts the stream as long, and refuses what exceeds its limit
// (observed: jchambers/pushy#732).
func (c *Conn) giveUp(s *stream, err error) completion {
	done := c.conclude(s, err, s.unfinished())
	c.control.resets = append(c.control.resets, reset{s.id, codeCancel})
	s.item, s.answer, s.held = Item{}, nil, true
	s.probe = c.pings.probe(&c.control, c.clock())
	return done
}

// retire stops new streams.
func (c *Conn) retire() { c.limits.stopped, c.retired = true, true }

// room returns how many streams a lane may open now.
func (c *Conn) room(lane job.Lane) int {
	limit := c.limits.now()
	n := limit - c.streams.count
	if lane == job.Bulk {
		n -= limit / int(c.keepOf.Load())
	}
	return max(0, n)
}

// publish makes the state visible and wakes the writer if there is something
// for it. It is called, under mu, at the end of whatever changed anything.
func (c *Conn) publish() {
	if c.show() {
		c.Wake()
	}
}

// show makes the state visible and reports whether there is something for the
// writer.
func (c *Conn) show() (work bool) {
	work = c.control.pending() || c.flow.grown && len(c.waiting[0])+len(c.waiting[1]) > 0
	for _, lane := range lanes {
		n := c.room(lane)
		if !c.flow.open() {
			n = 0
		}
		c.free[lane].Store(int32(n))
		work = work || n > 0 && c.hungry[lane]
	}
	c.open.Store(int32(c.streams.count))
	limit := int32(c.limits.now())
	c.limit.Store(limit)
	if limit > c.most.Load() {
		c.most.Store(limit)
	}
	if c.retired && c.streams.count == 0 && !c.leaving {
		c.leaving, work = true, true
	}
	return work
}

// lanes in the order in which they are served.
var lanes = [2]job.Lane{job.Transactional, job.Bulk}

// fail ends the connection. Every request without an answer is Done: those that
// the peer cannot have as a whole as unprocessed, the others with err alone.
func (c *Conn) fail(err error) {
	var out []completion
	c.mu.Lock()
	if c.err != nil {
		c.mu.Unlock()
		return
	}
	if c.leaving {
		err = ErrRetired // whatever closing it looks like from the other loop
	}
	c.err = err
	c.retire()
	c.words = lastWords(err)
	cause := err
	if c.goAway != nil {
		cause = &closedError{c.goAway, err}
	}
	c.streams.each(func(s *stream) bool {
		if !s.held {
			out = append(out, c.conclude(s, cause, s.unfinished() || s.id >= c.writer.unsentFrom))
		}
		c.streams.remove(s)
		return true
	})
	c.publish()
	quiet := c.words == nil
	c.mu.Unlock()
	close(c.dead)
	if quiet {
		c.closeNow()
	}
	c.tell(out)
}

// closeNow closes the connection without a word: a TLS alert could block on a
// peer that does not read.
func (c *Conn) closeNow() {
	if c.wire != nil {
		_ = c.wire.Close()
		return
	}
	_ = c.nc.Close()
}

// loopEnded is the last that each of the two goroutines does.
func (c *Conn) loopEnded() {
	if c.loops.Add(-1) > 0 {
		return
	}
	c.mu.Lock()
	err := c.err
	c.mu.Unlock()
	c.cfg.Owner.Closed(c, err)
	close(c.ended)
}

// clock is the time since the connection began.
func (c *Conn) clock() time.Duration { return time.Since(c.start) }

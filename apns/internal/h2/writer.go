package h2

import (
	"runtime"
	"slices"
	"time"

	"golang.org/x/net/http2"

	"github.com/pushfleet/pushfleet/job"
)

const codeCancel = http2.ErrCodeCancel

// How much the writer encodes at once.
const (
	// sliceBytes is encoded under one hold of the lock, and written at once while
	// urgent work is about: what an urgent request waits for at most.
	sliceBytes = 16 << 10
	// writeBytes is written at once otherwise.
	writeBytes = 64 << 10
	// urgentFor is how long after an urgent request the slices stay small.
	urgentFor = time.Second
	// takeMax bounds the requests that are taken from the owner in one call.
	takeMax = 64
)

// idleAfter is how long an idle connection keeps its buffers.
const idleAfter = 10 * time.Second

// writerState belongs to the write loop.
type writerState struct {
	buf      []byte // encoded frames, in the order of their writing
	out      []byte // the Wire's buffer
	items    [takeMax]Item
	urgentAt time.Duration // when an urgent request was last encoded; 0: never

	// Guarded by mu:
	unsentFrom uint32        // streams from here on have not reached the network
	filledAt   time.Duration // when something was last encoded
	buffers    bool          // buf and out may have memory
	idle       bool          // and shall not
}

func newWriterState() writerState {
	return writerState{buf: preface(), unsentFrom: maxWindow, buffers: true}
}

// preface is what a client says first (RFC 9113 section 3.4), with our SETTINGS:
// no pushed streams; everything else is the default.
func preface() []byte {
	b := []byte(http2.ClientPreface)
	b = appendFrameHeader(b, 6, http2.FrameSettings, 0, 0)
	return appendSetting(b, http2.SettingEnablePush, 0)
}

func (c *Conn) writeLoop() {
	defer c.loopEnded()
	w := &c.writer
	for {
		last := c.gather()
		if len(w.buf) == 0 {
			select {
			case <-c.wake:
				continue
			case <-c.dead:
				c.sayLast()
				return
			}
		}
		err := c.flush()
		w.buf = w.buf[:0]
		switch {
		case err != nil:
			c.fail(err)
			c.sayLast()
			return
		case last:
			_ = c.nc.Close() // with a TLS alert: the peer reads, it has answered everything
			c.fail(ErrRetired)
			return
		}
	}
}

// gather fills the buffer with all that may be sent now, up to its size. It
// reports whether that is the last there will be.
func (c *Conn) gather() (last bool) {
	w := &c.writer
	yielded := false
	for {
		before := len(w.buf)
		last, size := c.fill()
		switch {
		case last || len(w.buf) >= size:
			return last
		case len(w.buf) > before:
			continue
		case yielded || before == 0 || before >= sliceBytes:
			return false
		}
		// Little to send: let those run who are about to submit, once, so that many
		// small batches share a system call.
		yielded = true
		runtime.Gosched()
	}
}

// fill encodes one slice under the lock: first what keeps the connection alive,
// then lane by lane the bodies that had to wait and new requests. It returns at
// which size the buffer is to be written.
func (c *Conn) fill() (last bool, size int) {
	w := &c.writer
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		w.buf = w.buf[:0]
		return false, writeBytes
	}
	if w.idle && len(w.buf) == 0 {
		w.buf, w.out, w.buffers = nil, nil, false
	}
	w.idle = false
	before, now := len(w.buf), c.clock()
	w.buf = c.control.appendTo(w.buf)
	if c.leaving {
		w.buf = appendGoAway(w.buf, http2.ErrCodeNo)
		return true, 0
	}
	grown := c.flow.grown
	c.flow.grown = false
	for _, lane := range lanes {
		if grown {
			c.appendWaiting(lane)
		}
		c.appendNew(lane, before+sliceBytes, now)
	}
	if len(w.buf) > before {
		w.filledAt, w.buffers = now, true
	}
	c.show()
	if w.urgentAt != 0 && now-w.urgentAt < urgentFor {
		return false, sliceBytes
	}
	return false, writeBytes
}

// appendWaiting goes on with the bodies of streams that were out of window.
func (c *Conn) appendWaiting(lane job.Lane) {
	ids := c.waiting[lane]
	keep := ids[:0]
	for _, id := range ids {
		s := c.streams.get(id)
		if s == nil || s.held {
			continue
		}
		if !c.appendBody(s, s.item.Batch.Request(s.item.Index).Payload) {
			keep = append(keep, id)
		}
	}
	c.waiting[lane] = keep
}

// appendNew takes requests of a lane and encodes them until the slice is full or
// there is no room.
func (c *Conn) appendNew(lane job.Lane, end int, now time.Duration) {
	w := &c.writer
	c.hungry[lane] = false
	for len(w.buf) < end {
		n := min(c.room(lane), takeMax)
		if !c.flow.open() {
			n = 0
		}
		if c.nextID > c.cfg.MaxStreamID-2*takeMax {
			n = min(n, 1) // the last ids: to stop at the right one
		}
		if n == 0 {
			c.hungry[lane] = true
			return
		}
		n = c.cfg.Owner.Take(lane, w.items[:n], min(end-len(w.buf), int(c.flow.conn)))
		if n == 0 {
			return
		}
		for i := range w.items[:n] {
			c.appendRequest(lane, &w.items[i], now)
			w.items[i] = Item{}
		}
		if lane == job.Transactional {
			w.urgentAt = max(now, 1)
		}
	}
	c.hungry[lane] = true
}

// appendRequest opens a stream and encodes its request, or as much of the body
// as the windows allow.
func (c *Conn) appendRequest(lane job.Lane, it *Item, now time.Duration) {
	w := &c.writer
	r := it.Batch.Request(it.Index)
	s := c.streams.add(c.nextID)
	s.item, s.at, s.size = *it, now, int32(len(r.Payload))
	w.unsentFrom = min(w.unsentFrom, s.id)
	if c.nextID += 2; c.nextID > c.cfg.MaxStreamID {
		c.retire()
	}

	at := len(w.buf)
	flags := http2.FlagHeadersEndHeaders
	if len(r.Payload) == 0 {
		flags |= http2.FlagHeadersEndStream
	}
	w.buf = appendFrameHeader(w.buf, 0, http2.FrameHeaders, flags, s.id)
	w.buf = c.enc.appendBlock(w.buf, r)
	w.buf = splitHeaders(w.buf, at)
	if !c.appendBody(s, r.Payload) {
		c.waiting[lane] = append(c.waiting[lane], s.id)
	}
}

// splitHeaders sets the length of the HEADERS frame that begins at b[at:] and goes
// to the end of b. One that is too long, because a caller's topic or collapse id
// is, is split into CONTINUATION frames: APNs will refuse that request, and not
// the connection with everybody on it.
func splitHeaders(b []byte, at int) []byte {
	block := b[at+frameHeaderBytes:]
	if len(block) <= maxFrameBytes {
		putFrameLength(b[at:], len(block))
		return b
	}
	h := parseFrameHeader(b[at:])
	flags := h.flags &^ http2.FlagHeadersEndHeaders
	b = b[:at]
	kind := http2.FrameHeaders
	for rest := slices.Clone(block); len(rest) > 0; {
		part := rest[:min(len(rest), maxFrameBytes)]
		if rest = rest[len(part):]; len(rest) == 0 {
			flags |= http2.FlagContinuationEndHeaders
		}
		b = appendFrameHeader(b, len(part), kind, flags, h.streamID)
		b = append(b, part...)
		kind, flags = http2.FrameContinuation, 0
	}
	return b
}

// appendBody encodes what the windows allow of the rest of a stream's body. It
// reports whether that was all.
func (c *Conn) appendBody(s *stream, body []byte) bool {
	for s.unfinished() {
		n := c.flow.allow(s)
		if n == 0 {
			return false
		}
		var flags http2.Flags
		if s.sent+int32(n) == s.size {
			flags = http2.FlagDataEndStream
		}
		c.writer.buf = appendFrameHeader(c.writer.buf, n, http2.FrameData, flags, s.id)
		c.writer.buf = append(c.writer.buf, body[s.sent:int(s.sent)+n]...)
		c.flow.spend(s, n)
	}
	return true
}

// flush writes the buffer. If the network takes nothing of it, its streams are
// known to be unprocessed.
func (c *Conn) flush() error {
	w := &c.writer
	c.mu.Lock()
	if c.err != nil {
		defer c.mu.Unlock()
		return c.err
	}
	from := w.unsentFrom
	w.unsentFrom = maxWindow // from here on nobody can tell, until the write returns
	c.mu.Unlock()

	taken, err := c.write(w.buf)
	if err != nil && taken == 0 {
		c.mu.Lock()
		w.unsentFrom = from
		c.mu.Unlock()
	}
	return err
}

// write writes b and returns how many bytes, of b or of its encryption, the
// network took.
func (c *Conn) write(b []byte) (taken int, err error) {
	if c.wire == nil {
		return c.nc.Write(b)
	}
	c.wire.cork(c.writer.out)
	_, err = c.nc.Write(b)
	var flushErr error
	c.writer.out, taken, flushErr = c.wire.uncork()
	if err == nil {
		err = flushErr
	}
	return taken, err
}

// sayLast sends the peer our reason for ending the connection, if there is one.
func (c *Conn) sayLast() {
	c.mu.Lock()
	words := c.words
	c.mu.Unlock()
	if words == nil {
		return
	}
	_, _ = c.nc.Write(words)
	c.closeNow()
}

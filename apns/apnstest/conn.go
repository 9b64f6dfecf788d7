package apnstest

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/http2"
)

// Sizes and limits of a connection.
const (
	frameHeader = 9

	// The SETTINGS that APNs was seen to send (observed: jchambers/pushy#356,
	// sideshow/apns2#117). Its connection window is the protocol's default.
	defaultWindow    = 65535
	defaultFrameSize = 16384
	defaultStreams   = 1000

	// maxBodyKept is more than any payload may have: the rest is only counted.
	maxBodyKept = 8 << 10
	// maxBodyTaken ends a request that does not end by itself.
	maxBodyTaken = 1 << 20

	// readBytes holds a full connection window and a frame.
	readBytes = 96 << 10

	handshakeTime = 10 * time.Second
	// lingerTime is how long a closed connection is read on, so that a reset by the
	// kernel does not take the last answers from the client.
	lingerTime = 2 * time.Second
	// drainTime bounds how long a GOAWAY waits for answers that never come.
	drainTime = 5 * time.Second
)

// connError ends a connection with GOAWAY.
type connError struct {
	code http2.ErrCode
	text string
}

func (e connError) Error() string { return fmt.Sprintf("%v: %s", e.code, e.text) }

var errEnded = errors.New("connection ended by the server")

// conn is one client connection. Two goroutines serve it: a reader that takes
// frames apart, judges requests and decides answers, and a writer that holds
// the answers back until they are due and writes many at once.
//
//	socket -> wire -> TLS -> reader -(fresh, publish)-> queue -> writer -> TLS -> wire -> socket
type conn struct {
	srv        *Server
	id         uint64
	wire       *wire
	tls        *tls.Conn
	management bool
	openedAt   time.Time

	done      chan struct{} // closed when the connection has ended
	endOnce   sync.Once
	cause     string // written before done is closed
	readGate  gate
	writeGate gate
	closed    atomic.Int64  // requests that are over
	begun     atomic.Int64  // opened, as of the last batch
	wake      chan struct{} // tells the writer that there is something

	// work guards everything down to mu. The reader holds it while it goes through
	// a batch of frames; actions from elsewhere hold it while they act.
	work   sync.Mutex
	buf    []byte // frames are at buf[r:w]
	r, w   int
	halted bool // an action of this batch stops the reader
	plan   *plan
	now    int64     // monotonic, of the batch
	wall   time.Time // the server's clock, of the batch
	dec    decoder
	req    request
	judge  judge

	open        uint32 // the stream whose headers are in req and whose body comes next
	parts       map[uint32]*part
	free        []*part
	blockStream uint32 // a header block that goes on in CONTINUATION
	blockFlags  http2.Flags
	block       []byte
	dropped     map[uint32]bool // refused or answered, but the client's part goes on
	maxID       uint32
	judgedID    uint32 // highest that was processed
	opened      int64  // requests begun
	requests    int64  // requests whose end came
	counted     int64  // of opened, what the server's in-flight gauge knows
	maxFlight   int64
	ignoreAbove uint32 // streams above are not processed, after GOAWAY
	hold        *holding
	recvUsed    int // bytes of the connection window since the last WINDOW_UPDATE
	settings    serverSettings
	wedged      bool
	score       int
	lowered     bool  // by errors
	scored      bool  // and closed for them
	judgeDue    int64 // the latest answer, for answers in order
	idleSince   int64
	fresh       []answer
	pairs       []uint64 // of fresh, and which of them were known
	known       []bool
	journal     []byte // lines that publish will write
	control     []byte // frames to be written before answers
	local       counters

	// mu guards what reader and writer share.
	mu       sync.Mutex
	out      []byte // control frames
	queue    answerQueue
	enc      encoder
	shared   counters
	timed    []timedAction
	draining bool   // close once all is answered,
	drainBy  int64  // or at this time
	noNotify bool   // close TCP without TLS's close_notify
	why      string // what began the end
	mute     bool
	recent   recentAnswers
}

// part is a request whose end has not come yet.
type part struct {
	req      request
	arena    []byte
	body     []byte
	length   int // of the body
	received int // of flow control: padding counts
	granted  int
	answered bool
}

// timedAction is done by the writer when its time comes.
type timedAction struct {
	at int64
	do func()
}

// gate holds up who waits at it while it is shut. The zero value is open.
type gate struct {
	mu   sync.Mutex
	wait atomic.Pointer[chan struct{}]
}

func (g *gate) shut() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.wait.Load() == nil {
		ch := make(chan struct{})
		g.wait.Store(&ch)
	}
}

func (g *gate) open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if ch := g.wait.Swap(nil); ch != nil {
		close(*ch)
	}
}

// pass waits until the gate is open. It reports false if done was first.
func (g *gate) pass(done <-chan struct{}) bool {
	for ch := g.wait.Load(); ch != nil; ch = g.wait.Load() {
		select {
		case <-*ch:
		case <-done:
			return false
		}
	}
	return true
}

func newConn(s *Server, tcp net.Conn, id uint64, management bool) *conn {
	c := &conn{
		srv: s, id: id, management: management, openedAt: s.cfg.Now(),
		wire: newWire(tcp),
		done: make(chan struct{}), wake: make(chan struct{}, 1),
		buf: make([]byte, readBytes), dec: newDecoder(),
		parts: make(map[uint32]*part), dropped: make(map[uint32]bool),
		ignoreAbove: math.MaxUint32,
	}
	c.tls = tls.Server(c.wire, s.tlsConfig)
	c.enc = newEncoder(s.cfg.Environment == Sandbox)
	c.judge.init(c)
	return c
}

// begin sends the server's SETTINGS. With a certificate the stream limit is the
// full one at once.
func (c *conn) begin(authenticated bool) {
	c.work.Lock()
	defer c.work.Unlock()
	c.tick()
	c.enc.setShape(c.plan.faults.Responses)
	c.idleSince = c.now
	c.settings = serverSettings{
		streams: 1, ackedStreams: 1,
		window: defaultWindow, ackedWindow: defaultWindow,
		table: defaultTable, frame: defaultFrameSize,
	}
	if authenticated {
		c.settings.streams = uint32(c.srv.cfg.Streams)
		c.settings.ackedStreams = c.settings.streams
	}
	flow := c.plan.faults.Flow
	if flow.InitialWindow != nil {
		c.settings.window = *flow.InitialWindow
	}
	if flow.TableSize != nil {
		c.settings.table = *flow.TableSize
		c.dec.allowed = max(defaultTable, int(*flow.TableSize))
	}
	c.settings.unacked = append(c.settings.unacked, sentSettings{
		streams: c.settings.streams, window: c.settings.window, table: c.settings.table,
	})
	c.control = appendSettings(c.control,
		setting{http2.SettingHeaderTableSize, c.settings.table},
		setting{http2.SettingMaxConcurrentStreams, c.settings.streams},
		setting{http2.SettingInitialWindowSize, c.settings.window},
		setting{http2.SettingMaxFrameSize, c.settings.frame},
		setting{http2.SettingMaxHeaderListSize, maxHeaderList},
	)
	c.publish()
}

// tick takes the time and the faults for a batch. work is held.
func (c *conn) tick() {
	c.now, c.wall = c.srv.mono(), c.srv.cfg.Now()
	if p := c.srv.plan.Load(); p != c.plan {
		c.plan = p
		c.judge.replan()
	}
}

// read is the reader: it returns why the connection is over.
func (c *conn) read() error {
	if err := c.readPreface(); err != nil {
		return err
	}
	for {
		if !c.readGate.pass(c.done) {
			return errEnded
		}
		c.work.Lock()
		c.halted = false
		c.tick()
		err := c.frames()
		c.publish()
		c.work.Unlock()
		if err != nil {
			return err
		}
		if c.readGate.wait.Load() != nil {
			continue
		}
		if err := c.fill(); err != nil {
			return err
		}
	}
}

func (c *conn) readPreface() error {
	for c.w < len(http2.ClientPreface) {
		if err := c.fill(); err != nil {
			return err
		}
		n := min(c.w, len(http2.ClientPreface))
		if !bytes.Equal(c.buf[:n], []byte(http2.ClientPreface)[:n]) {
			return connError{http2.ErrCodeProtocol, "client preface is wrong"}
		}
	}
	c.r = len(http2.ClientPreface)
	return nil
}

// fill reads what there is, blocking until there is something.
func (c *conn) fill() error {
	if c.r > 0 {
		c.w = copy(c.buf, c.buf[c.r:c.w])
		c.r = 0
	}
	for first := true; first || c.wire.recordReady() && len(c.buf)-c.w > defaultFrameSize; first = false {
		n, err := c.tls.Read(c.buf[c.w:])
		c.w += n
		if err != nil {
			if n > 0 {
				return nil // the error comes again
			}
			return err
		}
	}
	return nil
}

// frames handles the whole frames that were read.
func (c *conn) frames() error {
	from := c.r
	for !c.halted && c.w-c.r >= frameHeader {
		b := c.buf[c.r:c.w]
		n := int(b[0])<<16 | int(b[1])<<8 | int(b[2])
		if n > int(c.settings.frame) {
			return connError{http2.ErrCodeFrameSize, "frame is larger than MAX_FRAME_SIZE"}
		}
		if len(b) < frameHeader+n {
			break
		}
		stream := binary.BigEndian.Uint32(b[5:]) &^ (1 << 31)
		c.r += frameHeader + n
		if err := c.frame(http2.FrameType(b[3]), http2.Flags(b[4]), stream, b[frameHeader:frameHeader+n:frameHeader+n]); err != nil {
			return err
		}
	}
	c.park()
	c.local.bytesIn += int64(c.r - from)
	if need := 2 * (frameHeader + int(c.settings.frame)); need > len(c.buf) {
		c.buf = append(c.buf, make([]byte, need-len(c.buf))...)
	}
	return nil
}

func (c *conn) frame(kind http2.FrameType, flags http2.Flags, stream uint32, p []byte) error {
	if c.blockStream != 0 && (kind != http2.FrameContinuation || stream != c.blockStream) {
		return connError{http2.ErrCodeProtocol, "header block is interrupted"}
	}
	if c.maxID == 0 && !c.settings.fromClient && kind != http2.FrameSettings {
		return connError{http2.ErrCodeProtocol, "client preface lacks SETTINGS"}
	}
	if kind == http2.FrameData {
		return c.data(flags, stream, p)
	}
	c.park()
	switch kind {
	case http2.FrameHeaders:
		var err error
		if p, err = unpad(flags.Has(http2.FlagHeadersPadded), p); err != nil {
			return err
		}
		if flags.Has(http2.FlagHeadersPriority) {
			if len(p) < 5 {
				return connError{http2.ErrCodeFrameSize, "HEADERS is too short"}
			}
			p = p[5:]
		}
		if !flags.Has(http2.FlagHeadersEndHeaders) {
			c.blockStream, c.blockFlags = stream, flags
			c.block = append(c.block[:0], p...)
			return nil
		}
		return c.headers(stream, flags.Has(http2.FlagHeadersEndStream), p)
	case http2.FrameContinuation:
		if c.blockStream == 0 {
			return connError{http2.ErrCodeProtocol, "CONTINUATION without HEADERS"}
		}
		if len(c.block)+len(p) > maxHeaderBlock {
			return connError{http2.ErrCodeEnhanceYourCalm, "header block is too large"}
		}
		c.block = append(c.block, p...)
		if !flags.Has(http2.FlagContinuationEndHeaders) {
			return nil
		}
		c.blockStream = 0
		return c.headers(stream, c.blockFlags.Has(http2.FlagHeadersEndStream), c.block)
	case http2.FrameSettings:
		return c.clientSettings(flags, stream, p)
	case http2.FramePing:
		if stream != 0 || len(p) != 8 {
			return connError{http2.ErrCodeFrameSize, "PING is malformed"}
		}
		if !flags.Has(http2.FlagPingAck) {
			c.local.pings++
			c.control = appendFrame(c.control, http2.FramePing, http2.FlagPingAck, 0, p)
		}
		return nil
	case http2.FrameRSTStream:
		return c.cancel(stream, p)
	case http2.FrameWindowUpdate:
		return c.windowUpdate(stream, p)
	case http2.FrameGoAway:
		return nil // it goes on until it closes
	case http2.FramePushPromise:
		return connError{http2.ErrCodeProtocol, "PUSH_PROMISE from a client"}
	default:
		return nil // PRIORITY, and what nobody knows (RFC 9113, 5.5)
	}
}

func unpad(padded bool, p []byte) ([]byte, error) {
	if !padded {
		return p, nil
	}
	if len(p) == 0 || int(p[0]) > len(p)-1 {
		return nil, connError{http2.ErrCodeProtocol, "padding is longer than the frame"}
	}
	return p[1 : len(p)-int(p[0])], nil
}

// headers handles a whole header block.
func (c *conn) headers(stream uint32, end bool, block []byte) error {
	c.req.reset()
	f, i, in, ev := c.dec.fields, c.dec.indexed, c.dec.inserted, c.dec.evicted
	if err := c.dec.decode(block, &c.req); err != nil {
		return connError{http2.ErrCodeCompression, err.Error()}
	}
	c.local.blockBytes += int64(len(block))
	c.local.listBytes += int64(c.req.size) - fieldOverhead*(c.dec.fields-f)
	c.local.fields += c.dec.fields - f
	c.local.indexed += c.dec.indexed - i
	c.local.ins += c.dec.inserted - in
	c.local.evicted += c.dec.evicted - ev
	if stream%2 == 0 {
		return connError{http2.ErrCodeProtocol, "HEADERS on a stream that is not the client's"}
	}
	if stream <= c.maxID {
		return c.trailers(stream, end)
	}
	c.maxID = stream
	if stream > c.ignoreAbove {
		c.ignored()
		return nil
	}
	c.idleSince = c.now
	if c.opened-c.closed.Load() >= int64(c.settings.limit(c.plan)) {
		return c.refuse(stream, end)
	}
	if c.req.size > maxHeaderList || !c.req.ok() {
		c.reset(stream, http2.ErrCodeProtocol)
		c.drop(stream, end)
		return nil
	}
	c.opened++
	if end {
		c.finish(stream, &c.req, nil, 0)
		return nil
	}
	c.open = stream
	if c.enc.shape.Early {
		c.park()
		p := c.parts[stream]
		p.answered = true
		c.finish(stream, &p.req, nil, -1)
	}
	return nil
}

// trailers handles HEADERS on a stream that was seen before.
func (c *conn) trailers(stream uint32, end bool) error {
	if p := c.parts[stream]; p != nil && end {
		c.complete(stream, p)
		return nil
	}
	if c.dropped[stream] || stream > c.ignoreAbove {
		if end {
			delete(c.dropped, stream)
		}
		return nil
	}
	return connError{http2.ErrCodeStreamClosed, "HEADERS on a closed stream"}
}

// data handles DATA. What counts first is the usual case: it follows its
// HEADERS and is the whole body.
func (c *conn) data(flags http2.Flags, stream uint32, p []byte) error {
	size := len(p)
	c.recvUsed += size
	if c.recvUsed > defaultWindow {
		return connError{http2.ErrCodeFlowControl, "connection window is overrun"}
	}
	if c.recvUsed > defaultWindow/2 && !c.plan.faults.Flow.Withhold {
		c.grant(0, c.recvUsed)
		c.recvUsed = 0
	}
	if flags.Has(http2.FlagDataPadded) {
		var err error
		if p, err = unpad(true, p); err != nil {
			return err
		}
	}
	end := flags.Has(http2.FlagDataEndStream)
	if stream == c.open && stream != 0 {
		if end && size <= c.settings.recvWindow() {
			c.open = 0
			c.finish(stream, &c.req, p, len(p))
			return nil
		}
	}
	c.park()
	pt := c.parts[stream]
	if pt == nil {
		switch {
		case stream == 0 || stream > c.maxID:
			return connError{http2.ErrCodeProtocol, "DATA on an idle stream"}
		case stream > c.ignoreAbove:
		default:
			// So a stream that was refused gets a second reset for its body (observed:
			// jchambers/pushy#476).
			c.reset(stream, http2.ErrCodeStreamClosed)
			if end {
				delete(c.dropped, stream)
			}
		}
		return nil
	}
	if keep := maxBodyKept - len(pt.body); keep > 0 {
		pt.body = append(pt.body, p[:min(len(p), keep)]...)
	}
	pt.length += len(p)
	pt.received += size
	switch {
	case pt.received-pt.granted > c.settings.recvWindow():
		c.abort(stream, pt, http2.ErrCodeFlowControl, end)
	case pt.length > maxBodyTaken:
		c.abort(stream, pt, http2.ErrCodeEnhanceYourCalm, end)
	case end:
		c.complete(stream, pt)
	default:
		c.topUp(stream, pt)
	}
	return nil
}

// park moves the request whose body has not begun out of the way: what it
// points to will not last.
func (c *conn) park() {
	if c.open == 0 {
		return
	}
	var p *part
	if n := len(c.free); n > 0 {
		p, c.free = c.free[n-1], c.free[:n-1]
	} else {
		p = new(part)
	}
	p.arena = c.req.copyTo(&p.req, p.arena)
	p.body, p.length, p.received, p.granted, p.answered = p.body[:0], 0, 0, 0, false
	c.parts[c.open] = p
	c.topUp(c.open, p)
	c.open = 0
}

func (c *conn) unpart(stream uint32, p *part) {
	delete(c.parts, stream)
	c.free = append(c.free, p)
}

// abort ends a request that never will be one.
func (c *conn) abort(stream uint32, p *part, code http2.ErrCode, end bool) {
	c.unpart(stream, p)
	if !p.answered {
		c.opened--
	}
	c.reset(stream, code)
	c.drop(stream, end)
}

// complete handles the end of a request that came in parts.
func (c *conn) complete(stream uint32, p *part) {
	delete(c.parts, stream)
	if !p.answered {
		c.finish(stream, &p.req, p.body, p.length)
	}
	c.free = append(c.free, p)
}

// topUp lets a stream go on before its window is used up. It also lifts a window
// that SETTINGS have made zero or negative.
func (c *conn) topUp(stream uint32, p *part) {
	if c.plan.faults.Flow.Withhold {
		return
	}
	target := max(int(c.settings.window), 16) // choice: enough to go on with
	left := int(c.settings.window) + p.granted - p.received
	if left <= target/2 {
		p.granted += target - left
		c.grant(stream, target-left)
	}
}

// grant sends WINDOW_UPDATE.
func (c *conn) grant(stream uint32, n int) {
	piece := c.plan.faults.Flow.UpdateBytes
	if piece == 0 {
		piece = n
	}
	for ; n > 0; n -= piece {
		c.control = appendUint32Frame(c.control, http2.FrameWindowUpdate, stream, uint32(min(n, piece)))
	}
}

func (c *conn) reset(stream uint32, code http2.ErrCode) {
	c.control = appendUint32Frame(c.control, http2.FrameRSTStream, stream, uint32(code))
}

// drop remembers that a stream which is over goes on at the client.
func (c *conn) drop(stream uint32, end bool) {
	if end {
		return
	}
	if len(c.dropped) >= 1<<16 {
		clear(c.dropped) // a client that never ends its requests
	}
	c.dropped[stream] = true
}

// refuse turns a stream above the limit away.
func (c *conn) refuse(stream uint32, end bool) error {
	c.local.refused++
	c.srv.event(c.id, stream, "", "refused: above the stream limit")
	if c.plan.faults.Streams.GoAwayAbove {
		c.maxID = c.judgedID // what was refused was not processed
		return connError{http2.ErrCodeRefusedStream, "Maximum active streams violated for this endpoint."}
	}
	c.reset(stream, http2.ErrCodeRefusedStream)
	c.drop(stream, end)
	return nil
}

// clientSettings handles SETTINGS of the client and its acknowledgement of ours.
func (c *conn) clientSettings(flags http2.Flags, stream uint32, p []byte) error {
	switch {
	case stream != 0:
		return connError{http2.ErrCodeProtocol, "SETTINGS on a stream"}
	case flags.Has(http2.FlagSettingsAck):
		if len(p) != 0 {
			return connError{http2.ErrCodeFrameSize, "SETTINGS acknowledgement with a payload"}
		}
		c.acknowledged()
		return nil
	case len(p)%6 != 0:
		return connError{http2.ErrCodeFrameSize, "SETTINGS is malformed"}
	}
	c.settings.fromClient = true
	c.mu.Lock()
	defer c.mu.Unlock()
	for ; len(p) > 0; p = p[6:] {
		v := binary.BigEndian.Uint32(p[2:])
		switch http2.SettingID(binary.BigEndian.Uint16(p)) {
		case http2.SettingHeaderTableSize:
			c.enc.resize(v)
		case http2.SettingInitialWindowSize:
			if v > math.MaxInt32 {
				return connError{http2.ErrCodeFlowControl, "INITIAL_WINDOW_SIZE is too large"}
			}
			c.enc.setInitialWindow(int64(v))
		case http2.SettingMaxFrameSize:
			if v < 1<<14 || v >= 1<<24 {
				return connError{http2.ErrCodeProtocol, "MAX_FRAME_SIZE is out of range"}
			}
			c.enc.maxFrame = int(v)
		case http2.SettingEnablePush:
			if v > 1 {
				return connError{http2.ErrCodeProtocol, "ENABLE_PUSH is neither 0 nor 1"}
			}
		}
	}
	c.out = appendFrame(c.out, http2.FrameSettings, http2.FlagSettingsAck, 0, nil)
	c.signal()
	return nil
}

// acknowledged lives by the oldest SETTINGS that were sent.
func (c *conn) acknowledged() {
	before := c.settings.ackedWindow
	table, ok := c.settings.ack()
	if !ok {
		return // one too many: nothing to live by
	}
	if table != 0 {
		c.dec.allowed = int(table - 1)
	}
	if c.settings.ackedWindow < before {
		for stream, p := range c.parts {
			c.topUp(stream, p)
		}
	}
}

// cancel handles RST_STREAM.
func (c *conn) cancel(stream uint32, p []byte) error {
	if len(p) != 4 {
		return connError{http2.ErrCodeFrameSize, "RST_STREAM is malformed"}
	}
	if stream == 0 || stream > c.maxID {
		return connError{http2.ErrCodeProtocol, "RST_STREAM on an idle stream"}
	}
	delete(c.dropped, stream)
	if pt := c.parts[stream]; pt != nil {
		c.unpart(stream, pt)
		if !pt.answered {
			c.opened--
			c.local.cancelled++
			return nil
		}
	}
	// Its answer may still be among those of this batch.
	for i := range c.fresh {
		if c.fresh[i].stream == stream {
			c.findDuplicate(&c.fresh[i])
			c.fresh = append(c.fresh[:i], c.fresh[i+1:]...)
			c.closed.Add(1)
			c.srv.inFlight.Add(-1)
			c.local.cancelled++
			c.local.given++
			return nil
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	var a answer
	if c.queue.take(stream, &a) || c.enc.unblock(stream) {
		c.closed.Add(1)
		c.srv.inFlight.Add(-1)
		c.local.cancelled++
		c.local.given++
	}
	return nil
}

// windowUpdate handles WINDOW_UPDATE.
func (c *conn) windowUpdate(stream uint32, p []byte) error {
	if len(p) != 4 {
		return connError{http2.ErrCodeFrameSize, "WINDOW_UPDATE is malformed"}
	}
	n := int64(binary.BigEndian.Uint32(p) &^ (1 << 31))
	if stream > c.maxID {
		return connError{http2.ErrCodeProtocol, "WINDOW_UPDATE on an idle stream"}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if stream == 0 {
		if n == 0 || c.enc.window+n > math.MaxInt32 {
			return connError{http2.ErrCodeFlowControl, "connection window is too large"}
		}
		c.enc.window += n
	} else if c.enc.isBlocked(stream) || c.parts[stream] != nil || c.isFresh(stream) || c.queue.has(stream) {
		c.enc.streamUpdate(stream, n)
	}
	if len(c.enc.blocked) > 0 {
		c.signal()
	}
	return nil
}

func (c *conn) isFresh(stream uint32) bool {
	for i := range c.fresh {
		if c.fresh[i].stream == stream {
			return true
		}
	}
	return false
}

// publish hands what the batch made to the writer and to the statistics.
func (c *conn) publish() {
	c.findDuplicates()
	if n := c.opened - c.counted; n != 0 {
		c.counted = c.opened
		c.srv.flight(n)
	}
	// Before an answer can be written.
	c.srv.cfg.Journal.write(c.journal)
	c.journal = c.journal[:0]
	c.begun.Store(c.opened)
	c.maxFlight = max(c.maxFlight, c.opened-c.closed.Load())
	c.mu.Lock()
	c.shared.add(&c.local)
	some := len(c.control) > 0 || len(c.fresh) > 0
	c.out = append(c.out, c.control...)
	for i := range c.fresh {
		c.queue.push(&c.fresh[i])
	}
	c.mu.Unlock()
	c.local.clear()
	c.control = c.control[:0]
	clear(c.fresh)
	c.fresh = c.fresh[:0]
	if some {
		c.signal()
	}
	c.srv.changed()
}

// signal wakes the writer.
func (c *conn) signal() {
	select {
	case c.wake <- struct{}{}:
	default: // it is awake, or about to be
	}
}

// end closes the connection at once; only the first call counts.
func (c *conn) end(cause string, rst bool) {
	c.endOnce.Do(func() {
		c.cause = cause
		if rst {
			if t, ok := c.wire.Conn.(*net.TCPConn); ok {
				_ = t.SetLinger(0)
			}
		}
		close(c.done)
		_ = c.wire.Conn.Close() // nothing to be done about it
	})
}

// info describes the connection.
func (c *conn) info() Connection {
	c.work.Lock()
	key, limit, last, flight := c.judge.keyID(), int(c.settings.streams), c.maxID, c.maxFlight
	c.work.Unlock()
	c.mu.Lock()
	defer c.mu.Unlock()
	in := Connection{
		ID: c.id, Remote: c.wire.RemoteAddr().String(), OpenedAt: c.openedAt,
		Received: c.shared.received, Accepted: c.shared.accepted, Answered: c.shared.answered,
		MaxInFlight: flight, StreamLimit: limit, LastStream: last, KeyID: key,
	}
	in.Unanswered = max(0, in.Received-in.Answered) // a Reset came in between
	return in
}

// describe says in a few words why a read ended.
func describe(err error) string {
	var ce connError
	var ne net.Error
	switch {
	case errors.Is(err, io.EOF):
		return "closed by the client"
	case errors.As(err, &ce):
		return ce.Error()
	case errors.Is(err, net.ErrClosed):
		return "closed"
	case errors.As(err, &ne) && ne.Timeout():
		return "timed out"
	default:
		return err.Error()
	}
}

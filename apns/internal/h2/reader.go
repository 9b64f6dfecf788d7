package h2

import (
	"encoding/binary"
	"errors"
	"io"
	"time"

	"golang.org/x/net/http2"
)

// Bounds of what the reader keeps.
const (
	readMin        = 4 << 10
	readMax        = 32 << 10 // at least a frame of the largest size
	tellMax        = 256      // results that are told in one go
	maxBlockBytes  = 64 << 10 // of a header block, over all its frames
	maxAnswerBytes = 1 << 10  // of a response body; an APNs reason is about 50 bytes
	maxDebugBytes  = 1 << 10  // of a GOAWAY's debug data
)

// readerState belongs to the read loop.
type readerState struct {
	buf   []byte
	dec   *decoder
	done  []completion // results to tell
	tally latencyTally
	away  *GoAwayError // GOAWAY to tell
	now   time.Duration
	spare []*answer

	unclaimed int // received DATA that no WINDOW_UPDATE gave back yet

	// A header block that goes on in CONTINUATION frames.
	block    []byte
	blockID  uint32 // 0: none
	blockEnd bool   // its HEADERS frame ended the stream
}

func newReaderState() readerState {
	return readerState{buf: make([]byte, readMin), dec: newDecoder()}
}

// completion is a result on its way to its batch.
type completion struct {
	item   Item
	result Result
	answer *answer // where result.Body is; nil for nearly all
}

func (c *Conn) readLoop() {
	defer c.loopEnded()
	rd := &c.reader
	from, to := 0, 0
	for {
		n, err := c.nc.Read(rd.buf[to:])
		if n > 0 {
			rd.now = c.clock()
			c.lastRead.Store(int64(rd.now))
			to += n
			used, frameErr := c.consume(rd.buf[from:to])
			from += used
			if frameErr != nil {
				c.fail(frameErr)
				return
			}
			from, to = rd.makeRoom(from, to)
		}
		if err != nil {
			if errors.Is(err, io.EOF) {
				err = ErrPeerClosed
			}
			c.fail(err)
			return
		}
	}
}

// makeRoom moves the beginning of a frame to the front of the buffer, and gets a
// larger buffer if the peer keeps filling this one.
func (rd *readerState) makeRoom(from, to int) (int, int) {
	switch {
	case from == to:
		if to == len(rd.buf) && len(rd.buf) < readMax {
			rd.buf = make([]byte, 2*len(rd.buf))
		}
		return 0, 0
	case to < len(rd.buf):
		return from, to
	case from == 0:
		rd.buf = append(rd.buf, make([]byte, len(rd.buf))...)
		return from, to
	}
	n := copy(rd.buf, rd.buf[from:to])
	return 0, n
}

// consume handles the whole frames in b and returns how many bytes that were.
func (c *Conn) consume(b []byte) (used int, err error) {
	for {
		n, more, err := c.handle(b[used:])
		used += n
		c.tellRead()
		if err != nil || !more {
			return used, err
		}
	}
}

// handle handles frames under one hold of the lock, until there is no whole one
// or many results wait to be told.
func (c *Conn) handle(b []byte) (used int, more bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return 0, false, c.err
	}
	defer c.publish()
	for len(b)-used >= frameHeaderBytes {
		f := parseFrameHeader(b[used:])
		if f.length > maxFrameBytes {
			return used, false, &ProtocolError{http2.ErrCodeFrameSize, "frame of more than 16 KB"}
		}
		end := used + frameHeaderBytes + f.length
		if end > len(b) {
			return used, false, nil
		}
		if err := c.onFrame(f, b[used+frameHeaderBytes:end]); err != nil {
			return used, false, err
		}
		used = end
		if len(c.reader.done) >= tellMax || c.reader.away != nil {
			return used, true, nil
		}
	}
	return used, false, nil
}

// tellRead tells what handle found, without the lock.
func (c *Conn) tellRead() {
	rd := &c.reader
	// Counted first: who is told finds the counts as they should be.
	if n := rd.tally.addTo(c.cfg.Latencies); n > 0 {
		c.answers.Add(n)
	}
	c.tell(rd.done)
	for i := range rd.done {
		if a := rd.done[i].answer; a != nil && len(rd.spare) < tellMax {
			*a = answer{body: a.body[:0]}
			rd.spare = append(rd.spare, a)
		}
		rd.done[i] = completion{}
	}
	rd.done = rd.done[:0]
	if away := rd.away; away != nil {
		rd.away = nil
		c.cfg.Owner.GoAway(c, away)
	}
}

// tell tells results to their batches.
func (c *Conn) tell(out []completion) {
	for i := range out {
		d := &out[i]
		d.item.Batch.Done(c, d.item, &d.result)
	}
}

// onFrame handles one frame. An error ends the connection.
func (c *Conn) onFrame(f frameHeader, payload []byte) error {
	if c.reader.blockID != 0 && (f.kind != http2.FrameContinuation || f.streamID != c.reader.blockID) {
		return protocolError("frame within a header block")
	}
	if !c.limits.known && f.kind != http2.FrameSettings && f.kind != http2.FrameGoAway {
		return protocolError("first frame is not SETTINGS")
	}
	switch f.kind {
	case http2.FrameHeaders:
		return c.onHeaders(f, payload)
	case http2.FrameContinuation:
		return c.onContinuation(f, payload)
	case http2.FrameData:
		return c.onData(f, payload)
	case http2.FrameRSTStream:
		return c.onReset(f, payload)
	case http2.FrameWindowUpdate:
		return c.onWindowUpdate(f, payload)
	case http2.FrameSettings:
		return c.onSettings(f, payload)
	case http2.FramePing:
		return c.onPing(f, payload)
	case http2.FrameGoAway:
		return c.onGoAway(f, payload)
	case http2.FramePushPromise:
		return protocolError("PUSH_PROMISE, which our SETTINGS forbid")
	default:
		return nil // PRIORITY and what we do not know (RFC 9113 section 5.5)
	}
}

func (c *Conn) onSettings(f frameHeader, payload []byte) error {
	switch {
	case f.streamID != 0:
		return protocolError("SETTINGS on a stream")
	case f.flags&http2.FlagSettingsAck != 0:
		if f.length != 0 {
			return &ProtocolError{http2.ErrCodeFrameSize, "SETTINGS acknowledgement with settings"}
		}
		return nil
	case f.length%6 != 0:
		return &ProtocolError{http2.ErrCodeFrameSize, "SETTINGS of a wrong length"}
	}
	for ; len(payload) > 0; payload = payload[6:] {
		id := http2.SettingID(binary.BigEndian.Uint16(payload))
		if err := c.onSetting(id, binary.BigEndian.Uint32(payload[2:])); err != nil {
			return err
		}
	}
	c.limits.known = true
	c.streams.grow(min(c.limits.own, c.limits.peer))
	if c.control.settingsAcks++; c.control.settingsAcks > maxPongs {
		return &ProtocolError{http2.ErrCodeEnhanceYourCalm, "too many SETTINGS"}
	}
	return nil
}

func (c *Conn) onSetting(id http2.SettingID, v uint32) error {
	switch id {
	case http2.SettingHeaderTableSize:
		c.enc.setTableSize(v)
	case http2.SettingMaxConcurrentStreams:
		c.limits.onSettings(int(min(v, maxWindow)))
	case http2.SettingInitialWindowSize:
		if v > maxWindow {
			return &ProtocolError{http2.ErrCodeFlowControl, "SETTINGS_INITIAL_WINDOW_SIZE over 2^31-1"}
		}
		c.flow.initial, c.flow.grown = int64(v), true
		tooLarge := false
		c.streams.each(func(s *stream) bool {
			tooLarge = tooLarge || c.flow.initial+s.credit > maxWindow
			return true
		})
		if tooLarge {
			return &ProtocolError{http2.ErrCodeFlowControl, "window of a stream over 2^31-1"}
		}
	case http2.SettingMaxFrameSize:
		if v < maxFrameBytes || v > 1<<24-1 {
			return protocolError("SETTINGS_MAX_FRAME_SIZE out of range")
		}
		c.flow.maxFrame = int(v)
	}
	return nil
}

func (c *Conn) onPing(f frameHeader, payload []byte) error {
	switch {
	case f.streamID != 0:
		return protocolError("PING on a stream")
	case f.length != 8:
		return &ProtocolError{http2.ErrCodeFrameSize, "PING of a wrong length"}
	case f.flags&http2.FlagPingAck != 0:
		c.pinged(binary.BigEndian.Uint64(payload))
		return nil
	case len(c.control.pongs) >= maxPongs:
		return &ProtocolError{http2.ErrCodeEnhanceYourCalm, "too many PINGs"}
	}
	c.control.pongs = append(c.control.pongs, [8]byte(payload))
	return nil
}

func (c *Conn) onWindowUpdate(f frameHeader, payload []byte) error {
	if f.length != 4 {
		return &ProtocolError{http2.ErrCodeFrameSize, "WINDOW_UPDATE of a wrong length"}
	}
	increment := int64(binary.BigEndian.Uint32(payload) & maxWindow)
	if f.streamID == 0 {
		c.flow.conn += increment
		c.flow.grown = true
		switch {
		case increment == 0:
			return protocolError("WINDOW_UPDATE by 0")
		case c.flow.conn > maxWindow:
			return &ProtocolError{http2.ErrCodeFlowControl, "window of the connection over 2^31-1"}
		}
		return nil
	}
	s, err := c.streamOf(f.streamID)
	if s == nil || s.held {
		return err
	}
	s.credit += increment
	c.flow.grown = true
	switch {
	case increment == 0:
		c.reject(s, protocolError("WINDOW_UPDATE by 0"))
	case c.flow.initial+s.credit > maxWindow:
		c.reject(s, &ProtocolError{http2.ErrCodeFlowControl, "window of a stream over 2^31-1"})
	}
	return nil
}

func (c *Conn) onReset(f frameHeader, payload []byte) error {
	if f.length != 4 {
		return &ProtocolError{http2.ErrCodeFrameSize, "RST_STREAM of a wrong length"}
	}
	s, err := c.streamOf(f.streamID)
	if s == nil {
		return err // a second reset of one stream, for instance (observed: jchambers/pushy#476)
	}
	code := http2.ErrCode(binary.BigEndian.Uint32(payload))
	if !s.held {
		unprocessed := s.unfinished() || code == http2.ErrCodeRefusedStream
		c.reader.done = append(c.reader.done, c.conclude(s, ResetError{code}, unprocessed))
	}
	c.streams.remove(s)
	if code == http2.ErrCodeRefusedStream {
		c.limits.onRefused(c.streams.count)
	}
	return nil
}

func (c *Conn) onGoAway(f frameHeader, payload []byte) error {
	switch {
	case f.streamID != 0:
		return protocolError("GOAWAY on a stream")
	case f.length < 8:
		return &ProtocolError{http2.ErrCodeFrameSize, "GOAWAY of a wrong length"}
	}
	g := &GoAwayError{
		LastStreamID: binary.BigEndian.Uint32(payload) & maxWindow,
		Code:         http2.ErrCode(binary.BigEndian.Uint32(payload[4:])),
		Debug:        string(payload[8:min(len(payload), 8+maxDebugBytes)]),
	}
	if c.goAway != nil {
		// The second of two may name a smaller id, never a larger one.
		g.LastStreamID = min(g.LastStreamID, c.goAway.LastStreamID)
	}
	c.goAway, c.reader.away = g, g
	c.retire()
	c.streams.each(func(s *stream) bool {
		if s.id <= g.LastStreamID {
			return true
		}
		if !s.held {
			c.reader.done = append(c.reader.done, c.conclude(s, g, true))
		}
		c.streams.remove(s)
		return true
	})
	return nil
}

// streamOf finds the stream that a frame is about. nil without an error is one
// that is over; a frame for one that never was is the peer's fault.
func (c *Conn) streamOf(id uint32) (*stream, error) {
	switch {
	case id == 0:
		return nil, protocolError("frame of a stream without a stream")
	case id >= c.nextID || id%2 == 0:
		return nil, protocolError("frame of a stream that is idle")
	}
	return c.streams.get(id), nil
}

// reject gives up a stream because of what the peer sent on it.
func (c *Conn) reject(s *stream, err error) {
	c.reader.done = append(c.reader.done, c.giveUp(s, err))
}

package apnstest

import (
	"encoding/binary"

	"golang.org/x/net/http2"
)

// serverSettings are the SETTINGS that a server sent, and which of them bind.
// Guarded by its connection's work.
type serverSettings struct {
	streams, window, table, frame uint32 // as last sent

	ackedStreams, ackedWindow uint32
	unacked                   []sentSettings
	fromClient                bool // the client's first SETTINGS came
}

// sentSettings are those of one frame, in full.
type sentSettings struct{ streams, window, table uint32 }

// limit is the stream limit that binds the client: until it acknowledges a lower
// one, the highest that it may still believe in.
func (s *serverSettings) limit(p *plan) uint32 {
	if len(s.unacked) == 0 || p.faults.Streams.Strict {
		return s.streams
	}
	n := max(s.streams, s.ackedStreams)
	for _, u := range s.unacked {
		n = max(n, u.streams)
	}
	return n
}

// recvWindow is the initial stream window that binds the client.
func (s *serverSettings) recvWindow() int {
	if len(s.unacked) == 0 {
		return int(s.window)
	}
	n := max(s.window, s.ackedWindow)
	for _, u := range s.unacked {
		n = max(n, u.window)
	}
	return int(n)
}

// ack takes the oldest SETTINGS as acknowledged. table is the header table's
// size plus one.
func (s *serverSettings) ack() (table uint32, ok bool) {
	if len(s.unacked) == 0 {
		return 0, false
	}
	u := s.unacked[0]
	s.unacked = s.unacked[1:]
	s.ackedStreams, s.ackedWindow = u.streams, u.window
	return u.table + 1, true
}

type setting struct {
	id    http2.SettingID
	value uint32
}

func appendSettings(dst []byte, settings ...setting) []byte {
	dst = appendHeader(dst, 6*len(settings), http2.FrameSettings, 0, 0)
	for _, s := range settings {
		dst = binary.BigEndian.AppendUint16(dst, uint16(s.id))
		dst = binary.BigEndian.AppendUint32(dst, s.value)
	}
	return dst
}

// send sends SETTINGS and lives by them. work is held.
func (c *conn) sendSettings(s Settings) {
	var list []setting
	if s.MaxConcurrentStreams != nil {
		c.settings.streams = *s.MaxConcurrentStreams
		list = append(list, setting{http2.SettingMaxConcurrentStreams, c.settings.streams})
	}
	if s.InitialWindowSize != nil {
		c.settings.window = *s.InitialWindowSize
		list = append(list, setting{http2.SettingInitialWindowSize, c.settings.window})
	}
	if s.HeaderTableSize != nil {
		c.settings.table = *s.HeaderTableSize
		c.dec.allowed = max(c.dec.allowed, int(c.settings.table))
		list = append(list, setting{http2.SettingHeaderTableSize, c.settings.table})
	}
	if s.MaxFrameSize != nil {
		c.settings.frame = max(c.settings.frame, *s.MaxFrameSize)
		list = append(list, setting{http2.SettingMaxFrameSize, *s.MaxFrameSize})
	}
	c.settings.unacked = append(c.settings.unacked, sentSettings{
		streams: c.settings.streams, window: c.settings.window, table: c.settings.table,
	})
	c.control = appendSettings(c.control, list...)
}

// setStreams sends a new stream limit if it differs from the last one sent.
func (c *conn) setStreams(n uint32) {
	if n != c.settings.streams {
		c.sendSettings(Settings{MaxConcurrentStreams: &n})
	}
}

func appendHeader(dst []byte, n int, kind http2.FrameType, flags http2.Flags, stream uint32) []byte {
	return append(dst, byte(n>>16), byte(n>>8), byte(n), byte(kind), byte(flags),
		byte(stream>>24), byte(stream>>16), byte(stream>>8), byte(stream))
}

func appendFrame(dst []byte, kind http2.FrameType, flags http2.Flags, stream uint32, p []byte) []byte {
	return append(appendHeader(dst, len(p), kind, flags, stream), p...)
}

// appendUint32Frame appends a WINDOW_UPDATE or RST_STREAM.
func appendUint32Frame(dst []byte, kind http2.FrameType, stream, v uint32) []byte {
	return binary.BigEndian.AppendUint32(appendHeader(dst, 4, kind, 0, stream), v)
}

func appendGoAway(dst []byte, last uint32, code http2.ErrCode, debug []byte) []byte {
	dst = appendHeader(dst, 8+len(debug), http2.FrameGoAway, 0, 0)
	dst = binary.BigEndian.AppendUint32(dst, last)
	dst = binary.BigEndian.AppendUint32(dst, uint32(code))
	return append(dst, debug...)
}

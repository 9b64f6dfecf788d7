package h2

import (
	"encoding/binary"
	"slices"

	"golang.org/x/net/http2"
)

// maxPongs bounds the answers that we owe. A peer that makes us owe more sends
// PINGs or SETTINGS faster than it reads.
const maxPongs = 1000

// control is what the writer has to send besides requests. The reader queues
// here and never writes itself, so it cannot block on a peer that does not read.
// It is guarded by the connection's mu.
type control struct {
	settingsAcks int
	pongs        [][8]byte
	resets       []reset
	windows      []windowUpdate
	ping         uint64 // its number; 0: none
}

type reset struct {
	streamID uint32
	code     http2.ErrCode
}

type windowUpdate struct {
	streamID  uint32 // 0: the connection
	increment uint32
}

func (q *control) pending() bool {
	return q.settingsAcks > 0 || len(q.pongs) > 0 || len(q.resets) > 0 || len(q.windows) > 0 || q.ping != 0
}

// appendTo appends all frames and empties the queue. Resets go before the PING,
// whose answer then says that the peer has seen them.
func (q *control) appendTo(b []byte) []byte {
	for range q.settingsAcks {
		b = appendFrameHeader(b, 0, http2.FrameSettings, http2.FlagSettingsAck, 0)
	}
	for _, data := range q.pongs {
		b = appendFrameHeader(b, len(data), http2.FramePing, http2.FlagPingAck, 0)
		b = append(b, data[:]...)
	}
	for _, w := range q.windows {
		b = appendFrameHeader(b, 4, http2.FrameWindowUpdate, 0, w.streamID)
		b = binary.BigEndian.AppendUint32(b, w.increment)
	}
	for _, r := range q.resets {
		b = appendFrameHeader(b, 4, http2.FrameRSTStream, 0, r.streamID)
		b = binary.BigEndian.AppendUint32(b, uint32(r.code))
	}
	if q.ping != 0 {
		b = appendFrameHeader(b, 8, http2.FramePing, 0, 0)
		b = binary.BigEndian.AppendUint64(b, q.ping)
	}
	*q = control{pongs: emptied(q.pongs), resets: emptied(q.resets), windows: emptied(q.windows)}
	return b
}

// emptied returns s without elements, and without its memory if that is much.
func emptied[E any](s []E) []E {
	if cap(s) > maxPongs {
		return nil
	}
	return slices.Delete(s, 0, len(s))
}

// appendGoAway appends our GOAWAY; we accept no pushed streams, so the last
// stream id is 0.
func appendGoAway(b []byte, code http2.ErrCode) []byte {
	b = appendFrameHeader(b, 8, http2.FrameGoAway, 0, 0)
	b = binary.BigEndian.AppendUint32(b, 0)
	return binary.BigEndian.AppendUint32(b, uint32(code))
}

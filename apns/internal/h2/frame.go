package h2

import (
	"encoding/binary"

	"golang.org/x/net/http2"
)

// Sizes of RFC 9113.
const (
	frameHeaderBytes  = 9
	maxFrameBytes     = 16384 // SETTINGS_MAX_FRAME_SIZE that we announce, by saying nothing
	defaultWindow     = 65535
	maxWindow         = 1<<31 - 1
	defaultTableBytes = 4096
)

// frameHeader is the fixed part of every frame (RFC 9113 section 4.1).
type frameHeader struct {
	length   int
	kind     http2.FrameType
	flags    http2.Flags
	streamID uint32
}

// parseFrameHeader reads the first nine bytes of b, which must be there.
func parseFrameHeader(b []byte) frameHeader {
	_ = b[8]
	return frameHeader{
		length:   int(b[0])<<16 | int(b[1])<<8 | int(b[2]),
		kind:     http2.FrameType(b[3]),
		flags:    http2.Flags(b[4]),
		streamID: binary.BigEndian.Uint32(b[5:]) & maxWindow, // the top bit is reserved
	}
}

// appendFrameHeader appends a frame header to b.
func appendFrameHeader(b []byte, length int, kind http2.FrameType, flags http2.Flags, streamID uint32) []byte {
	return append(b,
		byte(length>>16), byte(length>>8), byte(length),
		byte(kind), byte(flags),
		byte(streamID>>24), byte(streamID>>16), byte(streamID>>8), byte(streamID))
}

// putFrameLength sets the length of the frame whose header begins at b[0].
func putFrameLength(b []byte, length int) {
	_ = b[2]
	b[0], b[1], b[2] = byte(length>>16), byte(length>>8), byte(length)
}

// appendSetting appends one setting of a SETTINGS frame.
func appendSetting(b []byte, id http2.SettingID, value uint32) []byte {
	b = binary.BigEndian.AppendUint16(b, uint16(id))
	return binary.BigEndian.AppendUint32(b, value)
}

// unpad takes the padding off the payload of a DATA or HEADERS frame.
func unpad(flags, padded http2.Flags, payload []byte) ([]byte, bool) {
	if flags&padded == 0 {
		return payload, true
	}
	if len(payload) == 0 || int(payload[0]) > len(payload)-1 {
		return nil, false
	}
	return payload[1 : len(payload)-int(payload[0])], true
}

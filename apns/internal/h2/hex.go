package h2

import (
	"encoding/binary"
	"slices"

	"github.com/google/uuid"
)

const hexDigits = "0123456789abcdef"

// appendHex appends the bytes of s in lower-case hexadecimal.
func appendHex(b []byte, s string) []byte {
	at := len(b)
	b = slices.Grow(b, 2*len(s))[:at+2*len(s)]
	out := b[at:]
	for len(s) >= 4 {
		v := uint32(s[0]) | uint32(s[1])<<8 | uint32(s[2])<<16 | uint32(s[3])<<24
		binary.LittleEndian.PutUint64(out, hex8(v))
		s, out = s[4:], out[8:]
	}
	for i := range len(s) {
		out[2*i], out[2*i+1] = hexDigits[s[i]>>4], hexDigits[s[i]&0xf]
	}
	return b
}

// hex8 returns the eight hexadecimal digits of four bytes, both in little-endian
// order. It works on all digits at once: a device token is 64 of them, and one
// at a time they were a tenth of the cost of a notification.
func hex8(v uint32) uint64 {
	x := uint64(v)
	x = (x | x<<16) & 0x0000ffff0000ffff
	x = (x | x<<8) & 0x00ff00ff00ff00ff
	x = (x>>4 | x<<8) & 0x0f0f0f0f0f0f0f0f // one digit's value per byte
	letters := (x + 0x0606060606060606) >> 4 & 0x0101010101010101
	return x + 0x3030303030303030 + letters*('a'-'0'-10)
}

// uuidBytes is the length of a UUID in its canonical form, 8-4-4-4-12.
const uuidBytes = 36

// appendUUID appends id in its canonical lower-case form.
func appendUUID(b []byte, id uuid.UUID) []byte {
	at := len(b)
	b = slices.Grow(b, uuidBytes)[:at+uuidBytes]
	out := b[at:]
	_ = out[uuidBytes-1]
	var h [32]byte
	for i := range 4 {
		binary.LittleEndian.PutUint64(h[8*i:], hex8(binary.LittleEndian.Uint32(id[4*i:])))
	}
	copy(out[0:8], h[0:8])
	out[8] = '-'
	copy(out[9:13], h[8:12])
	out[13] = '-'
	copy(out[14:18], h[12:16])
	out[18] = '-'
	copy(out[19:23], h[16:20])
	out[23] = '-'
	copy(out[24:36], h[20:32])
	return b
}

// parseUUID reads a UUID in canonical form, in either case: APNs makes
// upper-case ones (observed: jchambers/pushy#184).
func parseUUID(b []byte) (id uuid.UUID, ok bool) {
	if len(b) != uuidBytes || b[8] != '-' || b[13] != '-' || b[18] != '-' || b[23] != '-' {
		return uuid.UUID{}, false
	}
	bad := byte(0)
	at := 0
	for i := range id {
		if at == 8 || at == 13 || at == 18 || at == 23 {
			at++
		}
		hi, lo := hexValues[b[at]], hexValues[b[at+1]]
		bad |= hi | lo
		id[i] = hi<<4 | lo
		at += 2
	}
	return id, bad&0xf0 == 0
}

// hexValues has the value of each hexadecimal digit, and 0xff for the rest.
const hexValues = "" +
	"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff" +
	"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff" +
	"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff" +
	"\x00\x01\x02\x03\x04\x05\x06\x07\x08\x09\xff\xff\xff\xff\xff\xff" +
	"\xff\x0a\x0b\x0c\x0d\x0e\x0f\xff\xff\xff\xff\xff\xff\xff\xff\xff" +
	"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff" +
	"\xff\x0a\x0b\x0c\x0d\x0e\x0f\xff\xff\xff\xff\xff\xff\xff\xff\xff" +
	"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff" +
	"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff" +
	"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff" +
	"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff" +
	"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff" +
	"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff" +
	"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff" +
	"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff" +
	"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"

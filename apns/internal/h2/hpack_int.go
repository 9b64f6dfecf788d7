package h2

// maxHpackInt bounds every integer and so every string of a header block. What
// is longer cannot fit the blocks that we take (maxBlockBytes).
const maxHpackInt = 1 << 24

// appendHpackInt appends v with a prefix of n bits whose upper bits are flags
// (RFC 7541 section 5.1).
func appendHpackInt(b []byte, flags byte, n uint, v uint64) []byte {
	limit := uint64(1)<<n - 1
	if v < limit {
		return append(b, flags|byte(v))
	}
	b = append(b, flags|byte(limit))
	for v -= limit; v >= 0x80; v >>= 7 {
		b = append(b, byte(v)|0x80)
	}
	return append(b, byte(v))
}

// readHpackInt reads an integer with a prefix of n bits and returns what follows.
func readHpackInt(b []byte, n uint) (v int, rest []byte, err error) {
	if len(b) == 0 {
		return 0, nil, errBlockCut
	}
	limit := 1<<n - 1
	v = int(b[0]) & limit
	b = b[1:]
	if v < limit {
		return v, b, nil
	}
	for shift := 0; ; shift += 7 {
		if len(b) == 0 {
			return 0, nil, errBlockCut
		}
		if shift > 21 {
			return 0, nil, errHpackInt
		}
		v += int(b[0]&0x7f) << shift
		more := b[0]&0x80 != 0
		b = b[1:]
		if v > maxHpackInt {
			return 0, nil, errHpackInt
		}
		if !more {
			return v, b, nil
		}
	}
}

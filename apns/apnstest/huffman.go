package apnstest

import (
	"encoding/binary"
	"errors"
	"slices"
	"sync"

	"golang.org/x/net/http2/hpack"
)

// huffBits is how many bits the fast table looks at: two of the usual symbols.
const huffBits = 12

// huffEntry is what huffBits bits of input begin with.
type huffEntry struct {
	sym   [2]uint8
	first uint8 // bits of the first symbol; 0: its code is longer than huffBits
	all   uint8 // bits of both; first, if the second does not fit
}

// huffTable is the Huffman code of RFC 7541 Appendix B: a table for short codes
// and a tree for all.
type huffTable struct {
	fast [1 << huffBits]huffEntry
	// tree has a node's children: another node, huffLeaf + symbol, or huffNone.
	tree [][2]int16
}

const (
	huffLeaf = 1 << 10
	huffNone = -1
)

var errHuffman = errors.New("hpack: invalid huffman code")

// huffmanTable is built once: it is a constant, derived instead of typed in.
var huffmanTable = sync.OnceValue(buildHuffman)

// buildHuffman reads the code from package hpack's encoder: a byte repeated
// eight times takes as many bytes as its code has bits.
func buildHuffman() *huffTable {
	t := &huffTable{tree: [][2]int16{{huffNone, huffNone}}}
	for b := range 256 {
		eight := string(slices.Repeat([]byte{byte(b)}, 8))
		bits := int(hpack.HuffmanEncodeLength(eight))
		code := hpack.AppendHuffmanString(nil, eight[:1])
		at := int16(0)
		for i := range bits {
			bit := code[i/8] >> (7 - i%8) & 1
			if i == bits-1 {
				t.tree[at][bit] = huffLeaf + int16(b)
				break
			}
			if t.tree[at][bit] == huffNone {
				t.tree = append(t.tree, [2]int16{huffNone, huffNone})
				t.tree[at][bit] = int16(len(t.tree) - 1)
			}
			at = t.tree[at][bit]
		}
	}
	for i := range t.fast {
		e := &t.fast[i]
		at := int16(0)
		for shift := huffBits - 1; shift >= 0; shift-- {
			at = t.tree[at][i>>shift&1]
			if at == huffNone {
				break
			}
			if at < huffLeaf {
				continue
			}
			used := uint8(huffBits - shift)
			if e.first == 0 {
				e.sym[0], e.first, e.all = uint8(at-huffLeaf), used, used
			} else {
				e.sym[1], e.all = uint8(at-huffLeaf), used
				break
			}
			at = 0
		}
	}
	return t
}

// appendDecoded appends what src stands for to dst.
func (t *huffTable) appendDecoded(dst, src []byte) ([]byte, error) {
	from := len(dst)
	dst = slices.Grow(dst, len(src)*8/5+2) // the shortest code has five bits
	out := dst[from:cap(dst)]
	var (
		acc  uint64 // the lowest n bits are still to be decoded
		n, w int
	)
	for {
		if n <= 32 {
			if len(src) >= 4 {
				acc = acc<<32 | uint64(binary.BigEndian.Uint32(src))
				src, n = src[4:], n+32
			} else {
				for ; len(src) > 0; src = src[1:] {
					acc, n = acc<<8|uint64(src[0]), n+8
				}
				if n < huffBits {
					break
				}
			}
		}
		e := t.fast[acc>>(n-huffBits)&(1<<huffBits-1)]
		if e.first == 0 {
			sym, used := t.long(acc, n)
			if used == 0 {
				break // the end, or an invalid code
			}
			out[w] = sym
			w, n = w+1, n-used
			continue
		}
		out[w], out[w+1] = e.sym[0], e.sym[1]
		w++
		if e.all != e.first {
			w++
		}
		n -= int(e.all)
	}
	// The rest is shorter than the table looks at: fill it up with ones, which
	// complete no code of their own.
	for n > 0 {
		e := t.fast[(acc<<huffBits|(1<<huffBits-1))>>n&(1<<huffBits-1)]
		if e.first == 0 || int(e.first) > n {
			break
		}
		out[w] = e.sym[0]
		w, n = w+1, n-int(e.first)
	}
	// RFC 7541, 5.2: at most seven bits, all ones.
	if n > 7 || acc&(1<<n-1) != 1<<n-1 {
		return dst, errHuffman
	}
	return dst[:from+w], nil
}

// long decodes one symbol of any length; used is 0 if none is complete.
func (t *huffTable) long(acc uint64, n int) (sym uint8, used int) {
	at := int16(0)
	for i := n - 1; i >= 0; i-- {
		at = t.tree[at][acc>>i&1]
		switch {
		case at == huffNone:
			return 0, 0
		case at >= huffLeaf:
			return uint8(at - huffLeaf), n - i
		}
	}
	return 0, 0
}

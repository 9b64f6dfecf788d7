package h2

import (
	"github.com/google/uuid"
)

// Bounds that tests reach for.
const (
	SliceBytes   = sliceBytes
	MinRing      = minRing
	MaxPongs     = maxPongs
	ColdBlocks   = coldBlocks
	MaxTemplates = maxTemplates
)

// SetNextStreamID makes the next stream have this id.
func (c *Conn) SetNextStreamID(id uint32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.nextID = id
}

// SlowStreams returns how many streams were overtaken by a turn of the ring.
func (c *Conn) SlowStreams() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.streams.slow)
}

// Decoder is the decoder of responses' header blocks.
type Decoder struct{ d *decoder }

func NewDecoder() *Decoder { return &Decoder{newDecoder()} }

// Head is what a Decoder reads.
type Head struct {
	Status   int
	APNsID   uuid.UUID
	HasID    bool
	UniqueID string
}

func (d *Decoder) Decode(block []byte) (Head, error) {
	var h head
	err := d.d.decode(block, &h)
	return Head{h.status, h.apnsID, h.hasID, h.uniqueID}, err
}

// TableSize returns how large the dynamic table is.
func (d *Decoder) TableSize() int { return d.d.size }

// ErrSizeUpdate is what a size update in a wrong place is.
var ErrSizeUpdate = errSizeUpdate

// Encoder is the encoder of requests' header blocks.
type Encoder struct{ e *encoder }

func NewEncoder(authority, authorization string) *Encoder {
	return &Encoder{newEncoder(authority, authorization)}
}

func (e *Encoder) AppendBlock(b []byte, r *Request) []byte { return e.e.appendBlock(b, r) }
func (e *Encoder) SetTableSize(n uint32)                   { e.e.setTableSize(n) }
func (e *Encoder) SetAuthorization(s string)               { e.e.setAuthorization(s) }

// AppendHuffmanDecoded decodes a Huffman-coded string.
func AppendHuffmanDecoded(b, v []byte) ([]byte, error) { return appendHuffmanDecoded(b, v) }

// HuffmanTable returns what the next eight bits say: a character and how many
// bits it has, or 0.
func HuffmanTable(bits byte) (c byte, n int) {
	return byte(huffmanTable[bits]), int(huffmanTable[bits] >> 8)
}

func AppendHex(b []byte, s string) []byte        { return appendHex(b, s) }
func AppendUUID(b []byte, id uuid.UUID) []byte   { return appendUUID(b, id) }
func ParseUUID(b []byte) (id uuid.UUID, ok bool) { return parseUUID(b) }
func StaticNameLen(i int) int                    { return int(staticNameLens[i]) }

package h2

import (
	"errors"

	"github.com/google/uuid"
)

// What is wrong with a header block. Each of them ends the connection, because
// the tables of both sides may differ from here on (RFC 9113 section 4.3).
var (
	errBlockCut   = errors.New("header block ends within a field")
	errHpackInt   = errors.New("header block has an integer that is too large")
	errHpackIndex = errors.New("header block refers to a field that does not exist")
	errHuffman    = errors.New("header block has an invalid Huffman code")
	errSizeUpdate = errors.New("header block changes the table size where it must not")
)

// fieldKind is what we know a header field as.
type fieldKind uint8

// Everything but these is only counted, to keep the dynamic table's size right.
const (
	fieldOther fieldKind = iota
	fieldStatus
	fieldAPNsID
	fieldUniqueID
)

// head is what we want from a response's header block.
type head struct {
	status   int // 0: none was sent, or it was no number
	apnsID   uuid.UUID
	hasID    bool
	uniqueID string
}

// tableField is an entry of the decoder's dynamic table: the value as we
// understand it, not as it was sent.
type tableField struct {
	kind    fieldKind
	nameLen int // for entries that take their name from this one
	size    int // name and value and 32 (RFC 7541 section 4.1)
	head
}

// decoder reads the header blocks of responses. It keeps the whole dynamic
// table but of each field no more than what we use, and allocates only for
// apns-unique-id. It is only touched by the reader.
//
// choice: x/net's decoder makes two strings of every field, which was a quarter
// of the cost of a notification.
type decoder struct {
	fields  [defaultTableBytes / 32]tableField // a ring: no entry is smaller than 32 bytes
	newest  int
	count   int
	size    int
	maxSize int
	scratch []byte // the Huffman-decoded string at hand
}

func newDecoder() *decoder { return &decoder{maxSize: defaultTableBytes} }

// decode reads a whole header block. It must be called for every block that
// arrives, in order, whether anybody waits for it or not.
func (d *decoder) decode(block []byte, h *head) error {
	first := true
	for len(block) > 0 {
		var err error
		switch c := block[0]; {
		case c&0x80 != 0:
			block, err = d.indexed(block, h)
		case c&0x40 != 0:
			block, err = d.literal(block, 6, true, h)
		case c&0x20 != 0:
			if !first {
				return errSizeUpdate
			}
			if block, err = d.sizeUpdate(block); err != nil {
				return err
			}
			continue // another one may follow
		default:
			block, err = d.literal(block, 4, false, h)
		}
		if err != nil {
			return err
		}
		first = false
	}
	return nil
}

func (d *decoder) indexed(block []byte, h *head) ([]byte, error) {
	i, rest, err := readHpackInt(block, 7)
	if err != nil {
		return nil, err
	}
	switch {
	case i == 0:
		return nil, errHpackIndex
	case i < len(staticNameLens):
		if i >= staticStatusFirst && i <= staticStatusLast {
			h.status = staticStatus(i)
		}
	default:
		f := d.at(i)
		if f == nil {
			return nil, errHpackIndex
		}
		h.take(f.kind, &f.head)
	}
	return rest, nil
}

// literal reads a field whose value, and maybe name, is spelled out.
func (d *decoder) literal(block []byte, prefix uint, keep bool, h *head) ([]byte, error) {
	i, rest, err := readHpackInt(block, prefix)
	if err != nil {
		return nil, err
	}
	var f tableField
	switch {
	case i == 0:
		var name []byte
		if name, rest, err = d.readString(rest); err != nil {
			return nil, err
		}
		f.kind, f.nameLen = kindOf(name), len(name)
	case i < len(staticNameLens):
		f.nameLen = int(staticNameLens[i])
		if i >= staticStatusFirst && i <= staticStatusLast {
			f.kind = fieldStatus
		}
	default:
		known := d.at(i)
		if known == nil {
			return nil, errHpackIndex
		}
		f.kind, f.nameLen = known.kind, known.nameLen
	}
	value, rest, err := d.readString(rest)
	if err != nil {
		return nil, err
	}
	switch f.kind {
	case fieldStatus:
		f.status = parseStatus(value)
	case fieldAPNsID:
		f.apnsID, f.hasID = parseUUID(value)
	case fieldUniqueID:
		f.uniqueID = string(value)
	}
	h.take(f.kind, &f.head)
	if keep {
		f.size = f.nameLen + len(value) + 32
		d.insert(&f)
	}
	return rest, nil
}

// take copies what a field of this kind says.
func (h *head) take(kind fieldKind, from *head) {
	switch kind {
	case fieldStatus:
		h.status = from.status
	case fieldAPNsID:
		h.apnsID, h.hasID = from.apnsID, from.hasID
	case fieldUniqueID:
		h.uniqueID = from.uniqueID
	}
}

func (d *decoder) sizeUpdate(block []byte) ([]byte, error) {
	n, rest, err := readHpackInt(block, 5)
	if err != nil {
		return nil, err
	}
	if n > defaultTableBytes {
		return nil, errSizeUpdate
	}
	d.maxSize = n
	d.evict(0)
	return rest, nil
}

// readString returns a string, valid until the next call, and what follows it.
func (d *decoder) readString(b []byte) (s, rest []byte, err error) {
	if len(b) == 0 {
		return nil, nil, errBlockCut
	}
	huffman := b[0]&0x80 != 0
	n, rest, err := readHpackInt(b, 7)
	if err != nil {
		return nil, nil, err
	}
	if n > len(rest) {
		return nil, nil, errBlockCut
	}
	s, rest = rest[:n], rest[n:]
	if huffman {
		if d.scratch, err = appendHuffmanDecoded(d.scratch[:0], s); err != nil {
			return nil, nil, err
		}
		s = d.scratch
	}
	return s, rest, nil
}

// at returns the dynamic entry with index i, or nil.
func (d *decoder) at(i int) *tableField {
	age := i - len(staticNameLens)
	if age >= d.count {
		return nil
	}
	return &d.fields[(d.newest-age+len(d.fields))%len(d.fields)]
}

func (d *decoder) insert(f *tableField) {
	d.evict(f.size)
	if f.size > d.maxSize {
		return // such an entry only empties the table (RFC 7541 section 4.4)
	}
	d.newest = (d.newest + 1) % len(d.fields)
	d.fields[d.newest] = *f
	d.count++
	d.size += f.size
}

// evict drops the oldest entries until room bytes are free.
func (d *decoder) evict(room int) {
	for d.count > 0 && d.size+room > d.maxSize {
		oldest := &d.fields[(d.newest-d.count+1+len(d.fields))%len(d.fields)]
		d.size -= oldest.size
		oldest.uniqueID = ""
		d.count--
	}
}

func kindOf(name []byte) fieldKind {
	switch string(name) {
	case ":status":
		return fieldStatus
	case "apns-id":
		return fieldAPNsID
	case "apns-unique-id":
		return fieldUniqueID
	default:
		return fieldOther
	}
}

// parseStatus reads three digits; anything else is 0.
func parseStatus(b []byte) int {
	if len(b) != 3 {
		return 0
	}
	n := 0
	for _, c := range b {
		if c < '0' || c > '9' {
			return 0
		}
		n = n*10 + int(c-'0')
	}
	return n
}

// The entries of the static table that hold a :status (RFC 7541 appendix A).
const (
	staticStatusFirst = 8
	staticStatusLast  = 14
)

func staticStatus(i int) int {
	return [...]int{200, 204, 206, 304, 400, 404, 500}[i-staticStatusFirst]
}

// staticNameLens has the length of each name of the static table (RFC 7541
// appendix A), whose first index is 1.
var staticNameLens = [62]uint8{
	0,
	10, 7, 7, 5, 5, 7, 7, 7, 7, 7, // :authority … :status
	7, 7, 7, 7, 14, 15, 15, 13, 6, 27, // :status … access-control-allow-origin
	3, 5, 13, 13, 19, 16, 16, 14, 16, 13, // age … content-range
	12, 6, 4, 4, 6, 7, 4, 4, 8, 17, // content-type … if-modified-since
	13, 8, 19, 13, 4, 8, 12, 18, 19, 5, // if-none-match … range
	7, 7, 11, 6, 10, 25, 17, 10, 4, 3, // referer … via
	16, // www-authenticate
}

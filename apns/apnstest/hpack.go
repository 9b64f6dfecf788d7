package apnstest

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"sync"

	"golang.org/x/net/http2/hpack"
)

// fieldID numbers the header fields that a request is judged by.
type fieldID uint8

const (
	fieldOther fieldID = iota
	fieldMethod
	fieldPath
	fieldScheme
	fieldAuthority
	fieldAuthorization
	fieldTopic
	fieldPushType
	fieldAPNsID
	fieldExpiration
	fieldPriority
	fieldCollapseID
	fieldChannelID
	fieldRequestID
	fieldContentEncoding
	fieldOtherAPNs // apns-* that nobody knows: only its repetition matters
	fieldMalformed // upper case, connection-specific or an unknown pseudo field
	fieldIDs
)

// fieldOf returns the number of a field name as it is on the wire.
func fieldOf(name string) fieldID {
	switch name {
	case ":method":
		return fieldMethod
	case ":path":
		return fieldPath
	case ":scheme":
		return fieldScheme
	case ":authority":
		return fieldAuthority
	case "authorization":
		return fieldAuthorization
	case "apns-topic":
		return fieldTopic
	case "apns-push-type":
		return fieldPushType
	case "apns-id":
		return fieldAPNsID
	case "apns-expiration":
		return fieldExpiration
	case "apns-priority":
		return fieldPriority
	case "apns-collapse-id":
		return fieldCollapseID
	case "apns-channel-id":
		return fieldChannelID
	case "apns-request-id":
		return fieldRequestID
	case "content-encoding":
		return fieldContentEncoding
	case "", "connection", "proxy-connection", "keep-alive", "transfer-encoding", "upgrade":
		return fieldMalformed // RFC 9113, 8.2.2
	}
	for i := range len(name) {
		if ch := name[i]; ch <= ' ' || ch >= 0x7f || ch >= 'A' && ch <= 'Z' || ch == ':' {
			return fieldMalformed // RFC 9113, 8.2.1
		}
	}
	if strings.HasPrefix(name, "apns-") {
		return fieldOtherAPNs
	}
	return fieldOther
}

// Bounds of a request's header section.
const (
	// maxHeaderList is MAX_HEADER_LIST_SIZE (observed: jchambers/pushy#356).
	maxHeaderList = 8000
	// maxHeaderBlock bounds what is kept of HEADERS and CONTINUATION, encoded.
	maxHeaderBlock = 64 << 10
	// fieldOverhead is what a field counts beyond its bytes (RFC 7541, 4.1).
	fieldOverhead = 32
	// defaultTable is the dynamic table's size (RFC 7541, and seen at APNs).
	defaultTable = 4096
)

// tableEntry is one field of the static or dynamic table. Its value is never
// nil: that would be a field that is not there.
type tableEntry struct {
	id    fieldID
	name  string
	value []byte
}

func (e *tableEntry) size() int { return len(e.name) + len(e.value) + fieldOverhead }

const staticEntries = 61

// staticTable is built once: it is a constant, derived instead of typed in.
var staticTable = sync.OnceValue(func() *[staticEntries + 1]tableEntry {
	var t [staticEntries + 1]tableEntry
	dec := hpack.NewDecoder(0, nil)
	for i := 1; i <= staticEntries; i++ {
		fields, err := dec.DecodeFull([]byte{0x80 | byte(i)})
		if err != nil {
			panic(fmt.Sprintf("apnstest: static table entry %d: %v", i, err))
		}
		t[i] = tableEntry{id: fieldOf(fields[0].Name), name: fields[0].Name, value: []byte(fields[0].Value)}
	}
	return &t
})

// Errors of header decoding: each ends the connection with COMPRESSION_ERROR.
var (
	errHpackIndex   = errors.New("hpack: index out of range")
	errHpackShort   = errors.New("hpack: block ends inside a field")
	errHpackInteger = errors.New("hpack: integer too large")
	errHpackResize  = errors.New("hpack: invalid table size update")
)

// decoder reads header blocks. One connection's reader owns it.
type decoder struct {
	static *[staticEntries + 1]tableEntry
	huff   *huffTable

	// entries holds the dynamic table, the oldest at head, the newest last.
	entries []tableEntry
	head    int
	size    int
	max     int // as the encoder has it
	allowed int // as our SETTINGS allow it

	scratch []byte // what Huffman coding gave in the current block

	// Clients send the same provider token again and again, and some never index
	// it: the last one, as it came and decoded.
	authCoded, auth []byte

	fields, indexed, inserted, evicted int64 // for the statistics
}

func newDecoder() decoder {
	return decoder{static: staticTable(), huff: huffmanTable(), max: defaultTable, allowed: defaultTable}
}

// decode reads one whole header block into r. The values in r point into block,
// into the decoder's scratch memory or into its table: they are good until the
// next call and for as long as block is.
func (d *decoder) decode(block []byte, r *request) error {
	d.scratch = d.scratch[:0]
	first := true
	for len(block) > 0 {
		b := block[0]
		var err error
		switch {
		case b&0x80 != 0: // indexed field
			var i int
			if i, block, err = readInt(block, 7); err != nil {
				return err
			}
			e := d.at(i)
			if e == nil {
				return errHpackIndex
			}
			d.indexed++
			d.fields++
			r.add(e.id, e.name, e.value)
		case b&0xc0 == 0x40: // literal, to be indexed
			var id fieldID
			var name string
			var value []byte
			if id, name, value, block, err = d.literal(block, 6); err != nil {
				return err
			}
			value = append(make([]byte, 0, len(value)), value...) // the table outlives the block
			d.insert(tableEntry{id: id, name: name, value: value})
			r.add(id, name, value)
		case b&0xe0 == 0x20: // table size update
			var n int
			if n, block, err = readInt(block, 5); err != nil {
				return err
			}
			if n > d.allowed || !first {
				return errHpackResize
			}
			d.max = n
			d.evict()
			continue // more than one may open a block
		default: // literal, not indexed or never indexed
			var id fieldID
			var name string
			var value []byte
			if id, name, value, block, err = d.literal(block, 4); err != nil {
				return err
			}
			r.add(id, name, value)
		}
		first = false
	}
	return nil
}

// literal reads a field whose name may be in the table.
func (d *decoder) literal(b []byte, prefix int) (id fieldID, name string, value, rest []byte, err error) {
	i, b, err := readInt(b, prefix)
	if err != nil {
		return 0, "", nil, nil, err
	}
	if i > 0 {
		e := d.at(i)
		if e == nil {
			return 0, "", nil, nil, errHpackIndex
		}
		id, name = e.id, e.name
	} else {
		var raw []byte
		if raw, b, err = d.str(b); err != nil {
			return 0, "", nil, nil, err
		}
		name = string(raw)
		id = fieldOf(name)
	}
	if id == fieldAuthorization && len(b) > 1 && len(d.authCoded) > 0 && bytes.HasPrefix(b, d.authCoded) {
		d.fields++
		return id, name, d.auth, b[len(d.authCoded):], nil
	}
	coded := b
	if value, b, err = d.str(b); err != nil {
		return 0, "", nil, nil, err
	}
	if id == fieldAuthorization {
		d.authCoded = append(d.authCoded[:0], coded[:len(coded)-len(b)]...)
		d.auth = append(make([]byte, 0, len(value)), value...)
	}
	d.fields++
	return id, name, value, b, nil
}

// str reads a string.
func (d *decoder) str(b []byte) (s, rest []byte, err error) {
	if len(b) == 0 {
		return nil, nil, errHpackShort
	}
	coded := b[0]&0x80 != 0
	n, b, err := readInt(b, 7)
	if err != nil {
		return nil, nil, err
	}
	if n > len(b) {
		return nil, nil, errHpackShort
	}
	s, b = b[:n], b[n:]
	if coded {
		from := len(d.scratch)
		if d.scratch, err = d.huff.appendDecoded(d.scratch, s); err != nil {
			return nil, nil, err
		}
		s = d.scratch[from:len(d.scratch):len(d.scratch)]
	}
	return s, b, nil
}

// at returns the entry with index i, nil if there is none.
func (d *decoder) at(i int) *tableEntry {
	switch {
	case i <= 0:
		return nil
	case i <= staticEntries:
		return &d.static[i]
	}
	j := len(d.entries) - (i - staticEntries)
	if j < d.head {
		return nil
	}
	return &d.entries[j]
}

func (d *decoder) insert(e tableEntry) {
	d.inserted++
	d.size += e.size()
	if d.head > 128 && d.head > len(d.entries)/2 {
		n := copy(d.entries, d.entries[d.head:])
		clear(d.entries[n:])
		d.entries, d.head = d.entries[:n], 0
	}
	d.entries = append(d.entries, e)
	d.evict()
}

func (d *decoder) evict() {
	for d.size > d.max && d.head < len(d.entries) {
		d.size -= d.entries[d.head].size()
		d.entries[d.head] = tableEntry{}
		d.head++
		d.evicted++
	}
}

// readInt reads an integer with a prefix of n bits (RFC 7541, 5.1).
func readInt(b []byte, n int) (v int, rest []byte, err error) {
	if len(b) == 0 {
		return 0, nil, errHpackShort
	}
	limit := 1<<n - 1
	v = int(b[0]) & limit
	b = b[1:]
	if v < limit {
		return v, b, nil
	}
	for shift := 0; ; shift += 7 {
		if len(b) == 0 {
			return 0, nil, errHpackShort
		}
		if shift > 21 { // nothing of ours is near 2^28
			return 0, nil, errHpackInteger
		}
		v += int(b[0]&0x7f) << shift
		if b[0]&0x80 == 0 {
			return v, b[1:], nil
		}
		b = b[1:]
	}
}

// request is one request's header section, as far as it is judged.
type request struct {
	seen       uint32 // bit i: val[i] is there
	duplicate  bool   // apns-* or authorization twice
	malformed  bool
	regular    bool // a field that is no pseudo field has come
	size       int  // as MAX_HEADER_LIST_SIZE counts
	val        [fieldIDs][]byte
	otherNames []string // apns-* that nobody knows
}

func (r *request) reset() {
	r.seen, r.duplicate, r.malformed, r.regular, r.size = 0, false, false, false, 0
	r.otherNames = r.otherNames[:0]
}

// get returns the field's value, nil if it is not there.
func (r *request) get(id fieldID) []byte {
	if r.seen&(1<<id) == 0 {
		return nil
	}
	return r.val[id]
}

func (r *request) add(id fieldID, name string, value []byte) {
	r.size += len(name) + len(value) + fieldOverhead
	bit := uint32(1) << id
	switch {
	case id == fieldOther:
		r.regular = true
		return
	case id == fieldMalformed:
		r.malformed = true
		return
	case id <= fieldAuthority:
		if r.regular || r.seen&bit != 0 {
			r.malformed = true
		}
	case id == fieldOtherAPNs:
		for _, n := range r.otherNames {
			if n == name {
				r.duplicate = true
			}
		}
		r.otherNames = append(r.otherNames, name)
		r.regular = true
	default:
		if r.seen&bit != 0 && id != fieldContentEncoding {
			r.duplicate = true
		}
		r.regular = true
	}
	r.seen |= bit
	r.val[id] = value
}

// ok reports whether this is a request at all (RFC 9113, 8.3.1).
func (r *request) ok() bool {
	const need = 1<<fieldMethod | 1<<fieldPath | 1<<fieldScheme
	return !r.malformed && r.seen&need == need
}

// copyTo makes dst a copy of r that shares no memory with it, using *arena.
func (r *request) copyTo(dst *request, arena []byte) []byte {
	arena = arena[:0]
	n := 0
	for id := fieldMethod; id < fieldOtherAPNs; id++ {
		if r.seen&(1<<id) != 0 {
			n += len(r.val[id])
		}
	}
	if cap(arena) < n {
		arena = make([]byte, 0, n+256)
	}
	dst.reset()
	dst.seen, dst.duplicate, dst.malformed, dst.regular, dst.size = r.seen, r.duplicate, r.malformed, r.regular, r.size
	for id := fieldMethod; id < fieldOtherAPNs; id++ {
		if r.seen&(1<<id) == 0 {
			continue
		}
		from := len(arena)
		arena = append(arena, r.val[id]...)
		dst.val[id] = arena[from:len(arena):len(arena)]
	}
	return arena
}

package h2

import (
	"strconv"

	"github.com/google/uuid"
	"golang.org/x/net/http2/hpack"

	"github.com/pushfleet/pushfleet/job"
)

// Bounds of the encoder.
const (
	// coldBlocks is after how many header blocks without use a topic gives its
	// place in the table away, and how often one without a place asks again.
	// choice: a table is refilled at most once per some thousand notifications.
	coldBlocks = 4096
	// maxTemplates bounds what is remembered of topics; beyond it all are
	// forgotten, which costs one longer encoding each.
	maxTemplates = 256
)

// Field names, beside those that occur once.
const (
	nameAuthority     = ":authority"
	nameAuthorization = "authorization"
	nameContentType   = "content-type"
	nameTopic         = "apns-topic"
	namePushType      = "apns-push-type"
	namePriority      = "apns-priority"
	nameAPNsID        = "apns-id"
	nameExpiration    = "apns-expiration"
	nameCollapseID    = "apns-collapse-id"
)

// How a field's encoding begins (RFC 7541 section 6).
const (
	bitsIndexed    = 0x80
	bitsIndexing   = 0x40
	bitsSizeUpdate = 0x20
	bitsNoIndexing = 0x00
)

// blockStart begins every block: ":method: POST" and ":scheme: https" from the
// static table, and the name :path, whose value must not enter the dynamic one.
const blockStart = "\x83\x87\x04"

const pathStart = "/3/device/"

// encoder writes the header blocks of requests.
//
// What many requests share (topic, push type, priority, provider token) is
// encoded once per combination, as indices into the dynamic table, and copied
// while no index moves. What is particular to one request is a literal that is
// not indexed, with its name indexed, so the table changes only when a topic or
// a provider token is new. The table's size is the peer's to decide, also 0;
// fields that do not fit are literals.
//
// It is guarded by the connection's mu.
type encoder struct {
	table     encodeTable
	authority string
	auth      string
	blocks    uint64 // header blocks so far

	templates map[templateKey]*template
	last      *template

	apnsID, expiration, collapseID varyingField
	expires                        int64 // the last expiration,
	expiresText                    string

	// A table of another size must be announced before the next field, and so must
	// the smallest that it had in between (RFC 7541 section 4.2).
	resized     bool
	smallestNew int
}

// templateKey is what tells one template from another on a connection.
type templateKey struct {
	topic    string
	pushType job.PushType
	priority uint8
}

// template is the encoded middle part of a header block.
type template struct {
	key     templateKey
	block   []byte
	refs    []uint64 // serials of the table entries that block refers to
	changes uint64   // encodeTable.changes for which block holds
	lastUse uint64
	whole   bool   // every field is in the table
	tried   uint64 // number of the block that last tried that
}

// varyingField is a field whose value is another one in each request.
type varyingField struct {
	name    string
	start   []byte // everything before the value's length
	changes uint64 // encodeTable.changes for which start holds
}

func newEncoder(authority, authorization string) *encoder {
	return &encoder{
		table:      encodeTable{maxSize: defaultTableBytes, changes: 1},
		authority:  authority,
		auth:       authorization,
		templates:  make(map[templateKey]*template),
		apnsID:     varyingField{name: nameAPNsID},
		expiration: varyingField{name: nameExpiration},
		collapseID: varyingField{name: nameCollapseID},
	}
}

// setAuthorization changes the authorization of the requests that follow.
func (e *encoder) setAuthorization(s string) {
	if s != e.auth {
		e.auth = s
		e.table.changes++
	}
}

// setTableSize takes the peer's SETTINGS_HEADER_TABLE_SIZE. More than the
// default is not made use of: what we index is less than that.
func (e *encoder) setTableSize(n uint32) {
	size := int(min(n, defaultTableBytes))
	if size == e.table.maxSize && !e.resized {
		return
	}
	if !e.resized {
		e.resized, e.smallestNew = true, size
	}
	e.smallestNew = min(e.smallestNew, size)
	e.table.resize(size)
}

// appendBlock appends the header block of r.
func (e *encoder) appendBlock(b []byte, r *Request) []byte {
	e.blocks++
	if e.resized {
		b = e.appendSizeUpdate(b)
	}
	b = append(b, blockStart...)
	b = appendHpackInt(b, 0, 7, uint64(len(pathStart)+2*r.DeviceToken.Len()))
	b = append(b, pathStart...)
	b = appendHex(b, r.DeviceToken.Raw())

	t := e.templateOf(r)
	if t.changes == e.table.changes && (t.whole || e.blocks-t.tried < coldBlocks) {
		b = append(b, t.block...)
		t.lastUse = e.blocks
	} else {
		b = e.appendTemplate(b, t)
	}

	if r.APNsID != (uuid.UUID{}) {
		if e.apnsID.changes == e.table.changes {
			b = append(b, e.apnsID.start...)
			b = append(b, uuidBytes)
			b = appendUUID(b, r.APNsID)
		} else {
			b = e.appendVarying(b, &e.apnsID, r.APNsID.String())
		}
	}
	if r.Expiration >= 0 {
		// Most of a batch expires at one time; only another one costs an allocation.
		if r.Expiration != e.expires || e.expiresText == "" {
			e.expires, e.expiresText = r.Expiration, strconv.FormatInt(r.Expiration, 10)
		}
		b = e.appendVarying(b, &e.expiration, e.expiresText)
	}
	if r.CollapseID != "" {
		b = e.appendVarying(b, &e.collapseID, r.CollapseID)
	}
	return b
}

// appendSizeUpdate announces a changed table size. If it was smaller in between,
// that has to be announced too; we say 0 then and begin anew, because Go's
// decoder refuses a second update unless its table is empty.
func (e *encoder) appendSizeUpdate(b []byte) []byte {
	e.resized = false
	size := e.table.maxSize
	if e.smallestNew < size {
		e.table.resize(0)
		e.table.resize(size)
		b = appendHpackInt(b, bitsSizeUpdate, 5, 0)
	}
	return appendHpackInt(b, bitsSizeUpdate, 5, uint64(size))
}

func (e *encoder) templateOf(r *Request) *template {
	key := templateKey{r.Topic, r.PushType, r.Priority}
	if e.last != nil && e.last.key == key {
		return e.last
	}
	t := e.templates[key]
	if t == nil {
		if len(e.templates) >= maxTemplates {
			clear(e.templates)
		}
		t = &template{key: key}
		e.templates[key] = t
	}
	e.last = t
	return t
}

// appendTemplate encodes t anew and remembers the result if the table did not
// change by it; if it did, the next request will find everything in place.
func (e *encoder) appendTemplate(b []byte, t *template) []byte {
	at, changes := len(b), e.table.changes
	t.whole, t.refs, t.tried, t.lastUse = true, t.refs[:0], e.blocks, e.blocks
	b = e.appendShared(b, t, nameAuthority, e.authority)
	b = e.appendShared(b, t, nameContentType, "application/json")
	b = e.appendShared(b, t, nameAuthorization, e.auth)
	b = e.appendShared(b, t, nameTopic, t.key.topic)
	b = e.appendShared(b, t, namePushType, string(t.key.pushType))
	if t.key.priority != 0 {
		b = e.appendShared(b, t, namePriority, strconv.Itoa(int(t.key.priority)))
	}
	if e.table.changes == changes {
		t.block = append(t.block[:0], b[at:]...)
		t.changes = changes
	}
	return b
}

// appendShared appends a field that many requests share, unless it is empty.
func (e *encoder) appendShared(b []byte, t *template, name, value string) []byte {
	if value == "" {
		return b
	}
	if i, serial := e.table.find(name, value); i != 0 {
		t.refs = append(t.refs, serial)
		e.table.touch(serial, e.blocks)
		return appendHpackInt(b, bitsIndexed, 7, uint64(i))
	}
	bits, prefix := byte(bitsNoIndexing), uint(4)
	insert := e.mayInsert(name, value)
	if insert {
		bits, prefix = bitsIndexing, 6
	}
	b = appendString(e.appendName(b, bits, prefix, name), value)
	if insert {
		e.table.insert(name, value, e.blocks)
	} else {
		t.whole = false
	}
	return b
}

// appendVarying appends a field that is not indexed. Only the first one with
// its name is: that puts the name in the table.
func (e *encoder) appendVarying(b []byte, f *varyingField, value string) []byte {
	if f.changes != e.table.changes {
		if e.table.findName(f.name) == 0 && e.mayInsert(f.name, value) {
			b = appendString(e.appendName(b, bitsIndexing, 6, f.name), value)
			e.table.insert(f.name, value, e.blocks)
			return b
		}
		f.start = e.appendName(f.start[:0], bitsNoIndexing, 4, f.name)
		f.changes = e.table.changes
	}
	b = append(b, f.start...)
	b = appendHpackInt(b, 0, 7, uint64(len(value)))
	return append(b, value...)
}

// appendName begins a literal field: flags and the name's index if it has one,
// else the name.
func (e *encoder) appendName(b []byte, flags byte, prefix uint, name string) []byte {
	i := staticName(name)
	if i == 0 {
		i = e.table.findName(name)
	}
	b = appendHpackInt(b, flags, prefix, uint64(i))
	if i == 0 {
		b = appendString(b, name)
	}
	return b
}

// staticName returns the static index of the names that we use and it has.
func staticName(name string) int {
	switch name {
	case nameAuthority:
		return 1
	case nameAuthorization:
		return 23
	case nameContentType:
		return 31
	default:
		return 0
	}
}

// mayInsert says whether a field deserves a place in the table: there must be
// room beside everything that is in use. The oldest go first, used or not, but
// what is used comes back with its next block; since all of it fits, that ends.
// The provider token always gets its place: it is the longest field by far.
func (e *encoder) mayInsert(name, value string) bool {
	size := fieldSize(name, value)
	if size > e.table.maxSize {
		return false
	}
	if e.table.size+size <= e.table.maxSize || name == nameAuthorization {
		return true
	}
	for _, t := range e.templates {
		for _, serial := range t.refs {
			e.table.touch(serial, t.lastUse)
		}
	}
	used := 0
	for i := range e.table.entries {
		if f := &e.table.entries[i]; e.inUse(f) {
			used += f.size()
		}
	}
	return used+size <= e.table.maxSize
}

func (e *encoder) inUse(f *tableEntry) bool {
	switch f.name {
	case nameAuthority, nameContentType, nameAPNsID, nameExpiration, nameCollapseID:
		return true
	case nameAuthorization:
		return f.value == e.auth
	default:
		return e.blocks-f.lastUse < coldBlocks
	}
}

// appendString appends a string, Huffman-coded if that is shorter.
func appendString(b []byte, s string) []byte {
	if n := hpack.HuffmanEncodeLength(s); n < uint64(len(s)) {
		b = appendHpackInt(b, 0x80, 7, n)
		return hpack.AppendHuffmanString(b, s)
	}
	b = appendHpackInt(b, 0, 7, uint64(len(s)))
	return append(b, s...)
}

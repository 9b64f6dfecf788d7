package h2

// encodeTable is our copy of the peer's dynamic table: what we may refer to by
// index. Nothing in here is per notification.
type encodeTable struct {
	entries []tableEntry // the oldest first
	first   uint64       // serial number of entries[0]; serials count insertions
	size    int
	maxSize int
	// changes counts everything that moves an index: what was encoded at another
	// count has to be encoded again. It starts at 1.
	changes uint64
}

// tableEntry is one field that the peer has stored for us.
type tableEntry struct {
	name, value string
	lastUse     uint64 // number of the last block known to refer to it
}

func (e *tableEntry) size() int { return fieldSize(e.name, e.value) }

// fieldSize is what a field costs in a table (RFC 7541 section 4.1).
func fieldSize(name, value string) int { return len(name) + len(value) + 32 }

// find returns the HPACK index of a field and its serial, or 0.
func (t *encodeTable) find(name, value string) (index int, serial uint64) {
	for i := len(t.entries) - 1; i >= 0; i-- {
		if e := &t.entries[i]; e.name == name && e.value == value {
			return t.index(i), t.first + uint64(i)
		}
	}
	return 0, 0
}

// findName returns the HPACK index of the newest field with a name, or 0.
func (t *encodeTable) findName(name string) int {
	for i := len(t.entries) - 1; i >= 0; i-- {
		if t.entries[i].name == name {
			return t.index(i)
		}
	}
	return 0
}

func (t *encodeTable) index(i int) int { return len(staticNameLens) + len(t.entries) - 1 - i }

// touch notes that block refers to the entry with a serial, if it still exists.
func (t *encodeTable) touch(serial, block uint64) {
	if i := serial - t.first; i < uint64(len(t.entries)) {
		e := &t.entries[i]
		e.lastUse = max(e.lastUse, block)
	}
}

// insert adds a field that fits, evicting the oldest for it.
func (t *encodeTable) insert(name, value string, block uint64) {
	e := tableEntry{name: name, value: value, lastUse: block}
	t.evict(e.size())
	t.entries = append(t.entries, e)
	t.size += e.size()
	t.changes++
}

// resize sets what the table may hold.
func (t *encodeTable) resize(n int) {
	t.maxSize = n
	t.changes++
	t.evict(0)
}

func (t *encodeTable) evict(room int) {
	n := 0
	for n < len(t.entries) && t.size+room > t.maxSize {
		t.size -= t.entries[n].size()
		n++
	}
	t.entries = append(t.entries[:0], t.entries[n:]...)
	t.first += uint64(n)
}

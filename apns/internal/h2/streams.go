package h2

import "time"

// stream is one request on its way.
type stream struct {
	item   Item // its Batch is nil once the result was told
	id     uint32
	sent   int32         // bytes of the body that are encoded
	size   int32         // bytes of the body
	credit int64         // what WINDOW_UPDATE granted beyond the initial window
	at     time.Duration // when the request was encoded, on the connection's clock
	probe  uint64        // held: number of the PING whose answer frees the slot
	answer *answer       // an answer that has begun; nil for those that are one frame
	held   bool          // told, but the peer may still be at it
}

// unfinished reports whether the peer lacks the end of the request.
func (s *stream) unfinished() bool { return s.sent < s.size }

// answer collects a response that is more than one HEADERS frame.
type answer struct {
	head
	body      []byte
	unclaimed int // received DATA that no WINDOW_UPDATE gave back yet
}

// streamTable finds streams by id. Ids only grow, and nearly all answers are for
// recent ones, so a ring is enough; a stream that is still open when the ring
// has gone round once moves to a map and holds up nobody.
//
// It is guarded by the connection's mu. Pointers it returns hold until the next
// call of add or grow.
type streamTable struct {
	ring   []stream // a power of two; a free slot has id 0
	slow   map[uint32]*stream
	count  int
	oldest uint32 // no stream in the ring has a smaller id
	next   uint32 // the id after the largest one
}

func newStreamTable(size int) streamTable {
	return streamTable{ring: make([]stream, size), slow: make(map[uint32]*stream), oldest: 1, next: 1}
}

func (t *streamTable) slot(id uint32) *stream { return &t.ring[id>>1&uint32(len(t.ring)-1)] }

// add makes a stream with an id that is larger than all before.
func (t *streamTable) add(id uint32) *stream {
	s := t.slot(id)
	if s.id != 0 {
		moved := *s
		t.slow[s.id] = &moved
	}
	*s = stream{id: id}
	t.count++
	t.next = id + 2
	return s
}

// get returns the stream with an id, or nil.
func (t *streamTable) get(id uint32) *stream {
	if s := t.slot(id); s.id == id && id != 0 {
		return s
	}
	if len(t.slow) == 0 {
		return nil
	}
	return t.slow[id]
}

func (t *streamTable) remove(s *stream) {
	id := s.id
	t.count--
	if slot := t.slot(id); slot == s {
		*slot = stream{}
		return
	}
	delete(t.slow, id)
}

// grow makes room for n streams that are answered in any order.
func (t *streamTable) grow(n int) {
	size := len(t.ring)
	for size < 2*n {
		size *= 2
	}
	if size == len(t.ring) {
		return
	}
	old := t.ring
	t.ring = make([]stream, size)
	for i := range old {
		if old[i].id != 0 {
			*t.slot(old[i].id) = old[i]
		}
	}
}

// each calls f for every stream, the slow ones first, then by age, until f
// returns false for one in the ring. f may remove the stream it is given.
func (t *streamTable) each(f func(s *stream) bool) {
	for _, s := range t.slow {
		f(s)
	}
	if span := uint32(2 * len(t.ring)); t.next-t.oldest > span {
		t.oldest = t.next - span
	}
	for id := t.oldest; id < t.next; id += 2 {
		s := t.slot(id)
		if s.id == id && !f(s) {
			return
		}
		if id == t.oldest && s.id != id {
			t.oldest += 2
		}
	}
}

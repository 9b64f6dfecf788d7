package apnstest

import (
	"net"
)

// HuffmanDecode decodes a string as the header decoder does.
func HuffmanDecode(src []byte) ([]byte, error) { return huffmanTable().appendDecoded(nil, src) }

// HeaderDecoder is the decoder of header blocks.
type HeaderDecoder struct {
	dec decoder
	req request
}

// NewHeaderDecoder returns one with a table of 4096 bytes.
func NewHeaderDecoder() *HeaderDecoder { return &HeaderDecoder{dec: newDecoder()} }

// Decode decodes a block; get returns the value of a field that is judged.
func (d *HeaderDecoder) Decode(block []byte) (get func(name string) (string, bool), size int, err error) {
	d.req.reset()
	if err := d.dec.decode(block, &d.req); err != nil {
		return nil, 0, err
	}
	return func(name string) (string, bool) {
		v := d.req.get(fieldOf(name))
		return string(v), v != nil
	}, d.req.size, nil
}

// TableSize returns the size of the dynamic table and how much it holds.
func (d *HeaderDecoder) TableSize() (size, entries int) {
	return d.dec.size, len(d.dec.entries) - d.dec.head
}

// ParseProviderToken takes a provider token apart.
func ParseProviderToken(text string) (kid, iss string, iat int64, err error) {
	kid, iss, iat, _, _, err = parseProviderToken(text)
	return kid, iss, iat, err
}

// Feed gives frames to a new connection's reader and returns the requests that
// are open in the end, and how many were judged.
func (s *Server) Feed(frames []byte) (open, judged int64) {
	one, two := net.Pipe()
	defer one.Close()
	defer two.Close()
	c := newConn(s, one, 0, false)
	c.begin(false)
	for len(frames) > 0 {
		n := copy(c.buf[c.w:min(len(c.buf), c.w+1000)], frames)
		frames = frames[n:]
		c.w += n
		c.work.Lock()
		c.tick()
		err := c.frames()
		c.publish()
		c.work.Unlock()
		if err != nil {
			break
		}
		c.w = copy(c.buf, c.buf[c.r:c.w])
		c.r = 0
		if c.w > len(c.buf)-1000 {
			break
		}
	}
	s.inFlight.Add(c.closed.Load() - c.counted)
	return c.opened - c.closed.Load(), c.shared.received
}

// PairSet is the set that finds duplicates.
type PairSet struct{ set pairSet }

// Add reports whether h was in the set.
func (p *PairSet) Add(h uint64) bool { return p.set.add(h) }

// Remove takes h out.
func (p *PairSet) Remove(h uint64) { p.set.remove(h) }

// RecentAnswers counts the answers of the last 100 ms.
type RecentAnswers struct{ r recentAnswers }

// Add counts n answers; now is in nanoseconds.
func (r *RecentAnswers) Add(now, n int64) { r.r.add(now, n) }

// Sum returns how many are recent.
func (r *RecentAnswers) Sum(now int64) int64 { return r.r.sum(now) }

// AnswerQueue holds answers, which are streams here, until they are due.
type AnswerQueue struct{ q answerQueue }

// Never is the due time of what is not answered.
const Never = never

// Push adds a stream.
func (q *AnswerQueue) Push(stream uint32, due int64) { q.q.push(&answer{stream: stream, due: due}) }

// Pop returns a stream that is due, 0 if none is.
func (q *AnswerQueue) Pop(now int64) uint32 {
	var a answer
	if !q.q.pop(now, &a) {
		return 0
	}
	return a.stream
}

// Take removes a stream.
func (q *AnswerQueue) Take(stream uint32) bool {
	var a answer
	return q.q.take(stream, &a)
}

// TakeAbove removes and counts the streams above last.
func (q *AnswerQueue) TakeAbove(last uint32) int { return len(q.q.takeAbove(last)) }

// Len returns how many there are and how many are ever due.
func (q *AnswerQueue) Len() (all, waiting int) { return q.q.len(), q.q.waiting() }

// Next returns when the first is due.
func (q *AnswerQueue) Next() int64 { return q.q.next() }

// Unhex decodes hex digits.
func Unhex(s []byte) ([]byte, bool) { return appendUnhex(nil, s) }

// ParseUUID reads a UUID and tells whether it had upper-case digits.
func ParseUUID(s []byte) (id [16]byte, upper, ok bool) { return parseUUID(s) }

// FormatUUID writes a UUID.
func FormatUUID(id [16]byte, upper bool) string { return string(appendUUID(nil, &id, upper)) }

package h2

import (
	"time"

	"golang.org/x/net/http2"
)

func (c *Conn) onHeaders(f frameHeader, payload []byte) error {
	payload, ok := unpad(f.flags, http2.FlagHeadersPadded, payload)
	if !ok {
		return protocolError("HEADERS with more padding than frame")
	}
	if f.flags&http2.FlagHeadersPriority != 0 {
		if len(payload) < 5 {
			return protocolError("HEADERS cut within its priority")
		}
		payload = payload[5:]
	}
	end := f.flags&http2.FlagHeadersEndStream != 0
	if f.flags&http2.FlagHeadersEndHeaders == 0 {
		rd := &c.reader
		rd.block, rd.blockID, rd.blockEnd = append(rd.block[:0], payload...), f.streamID, end
		return nil
	}
	return c.onBlock(f.streamID, payload, end)
}

func (c *Conn) onContinuation(f frameHeader, payload []byte) error {
	rd := &c.reader
	switch {
	case rd.blockID == 0:
		return protocolError("CONTINUATION without HEADERS")
	case len(rd.block)+len(payload) > maxBlockBytes:
		return &ProtocolError{http2.ErrCodeEnhanceYourCalm, "header block of more than 64 KB"}
	}
	rd.block = append(rd.block, payload...)
	if f.flags&http2.FlagContinuationEndHeaders == 0 {
		return nil
	}
	rd.blockID = 0
	return c.onBlock(f.streamID, rd.block, rd.blockEnd)
}

// onBlock handles a whole header block: a response, an interim one, or trailers.
func (c *Conn) onBlock(id uint32, block []byte, end bool) error {
	// Also for a stream that is over: the block may change the table.
	var h head
	if err := c.reader.dec.decode(block, &h); err != nil {
		return &ProtocolError{http2.ErrCodeCompression, err.Error()}
	}
	s, err := c.streamOf(id)
	if s == nil {
		return err
	}
	switch {
	case s.held:
		if end {
			c.streams.remove(s)
		}
	case s.answer != nil:
		if !end {
			c.reject(s, protocolError("trailers that do not end the stream"))
			return nil
		}
		c.finish(s, &s.answer.head)
	case h.status >= 100 && h.status < 200 && !end:
		// An interim response: the real one follows.
	case h.status < 200:
		c.reject(s, protocolError("response without a final status"))
	case end:
		c.finish(s, &h)
	default:
		s.answer = c.newAnswer()
		s.answer.head = h
	}
	return nil
}

func (c *Conn) newAnswer() *answer {
	rd := &c.reader
	if n := len(rd.spare); n > 0 {
		a := rd.spare[n-1]
		rd.spare = rd.spare[:n-1]
		return a
	}
	return &answer{}
}

func (c *Conn) onData(f frameHeader, payload []byte) error {
	if n := c.reader.received(f.length); n > 0 {
		c.control.windows = append(c.control.windows, windowUpdate{0, n})
	}
	s, err := c.streamOf(f.streamID)
	if s == nil {
		return err
	}
	body, ok := unpad(f.flags, http2.FlagDataPadded, payload)
	if !ok {
		return protocolError("DATA with more padding than frame")
	}
	end := f.flags&http2.FlagDataEndStream != 0
	switch {
	case s.held:
		if end {
			c.streams.remove(s)
		}
		return nil
	case s.answer == nil:
		c.reject(s, protocolError("DATA before HEADERS"))
		return nil
	}
	a := s.answer
	a.body = append(a.body, body[:min(len(body), maxAnswerBytes-len(a.body))]...)
	if end {
		c.finish(s, &a.head)
		return nil
	}
	if a.unclaimed += f.length; a.unclaimed >= defaultWindow/2 {
		c.control.windows = append(c.control.windows, windowUpdate{s.id, uint32(a.unclaimed)})
		a.unclaimed = 0
	}
	return nil
}

// received counts DATA and returns by how much to open the connection's window
// again, padding and what nobody waits for included.
func (rd *readerState) received(n int) uint32 {
	if rd.unclaimed += n; rd.unclaimed < defaultWindow/2 {
		return 0
	}
	n, rd.unclaimed = rd.unclaimed, 0
	return uint32(n)
}

// finish concludes a stream that the peer has answered. If that was before the
// end of the request, the rest is not sent any more.
func (c *Conn) finish(s *stream, h *head) {
	if s.unfinished() {
		c.control.resets = append(c.control.resets, reset{s.id, codeCancel})
	}
	rd := &c.reader
	rd.done = append(rd.done, completion{item: s.item, answer: s.answer})
	r := &rd.done[len(rd.done)-1].result
	c.fillAnswer(r, s, h, rd.now)
	rd.tally.observe(r.Elapsed)
	c.streams.remove(s)
}

func (c *Conn) fillAnswer(r *Result, s *stream, h *head, now time.Duration) {
	r.Status, r.APNsID, r.UniqueID, r.Elapsed = h.status, h.apnsID, h.uniqueID, now-s.at
	if s.answer != nil {
		r.Body = s.answer.body
	}
	c.limits.onAnswer(h.status)
}

// conclude makes the result of a stream that ends without the end of an answer.
// Once the peer has told a status that is the answer, whatever became of the
// rest; else err.
func (c *Conn) conclude(s *stream, err error, unprocessed bool) completion {
	done := completion{item: s.item, answer: s.answer}
	now := c.clock()
	if s.answer != nil {
		c.fillAnswer(&done.result, s, &s.answer.head, now)
		c.answers.Add(1)
		return done
	}
	done.result = Result{Err: err, Unprocessed: unprocessed, Elapsed: now - s.at}
	return done
}

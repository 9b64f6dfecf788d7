package apnstest

import (
	"bytes"
	"strconv"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// encoder turns answers into frames and keeps the client's flow-control windows.
// Guarded by its connection's mu.
type encoder struct {
	sandbox bool
	shape   ResponseFaults // fixed when the connection opens
	unusual bool           // shape is not zero

	named   bool // apns-id, and apns-unique-id on a sandbox, are in the client's table
	noTable bool // the client wants a smaller table than we would use: use none
	shrink  bool // and is still to be told so

	hp    *hpack.Encoder // with shape.Index
	hpBuf bytes.Buffer
	block []byte // scratch

	window   int64 // the connection's
	initial  int64 // a new stream's
	maxFrame int
	extra    map[uint32]int64 // WINDOW_UPDATEs for streams not answered yet
	blocked  []blockedBody    // bodies that wait for a window
}

// blockedBody is what is left to send of a body.
type blockedBody struct {
	stream uint32
	rest   []byte
	window int64
}

func newEncoder(sandbox bool) encoder {
	return encoder{
		sandbox: sandbox, window: defaultWindow, initial: defaultWindow,
		maxFrame: defaultFrameSize, extra: make(map[uint32]int64),
	}
}

// setShape is called once, before anything is encoded.
func (e *encoder) setShape(f ResponseFaults) {
	e.shape, e.unusual = f, f != ResponseFaults{}
	if f.Index {
		e.hp = hpack.NewEncoder(&e.hpBuf)
	}
}

// resize is told the size of the client's header table.
func (e *encoder) resize(n uint32) {
	if e.hp != nil {
		e.hp.SetMaxDynamicTableSizeLimit(n)
		return
	}
	if n < defaultTable && !e.noTable {
		e.noTable, e.shrink = true, true
	}
}

func (e *encoder) setInitialWindow(n int64) {
	for i := range e.blocked {
		e.blocked[i].window += n - e.initial
	}
	e.initial = n
}

func (e *encoder) isBlocked(stream uint32) bool {
	for i := range e.blocked {
		if e.blocked[i].stream == stream {
			return true
		}
	}
	return false
}

// firstBlockedAbove returns the index of a waiting body of a stream above last,
// -1 if there is none.
func (e *encoder) firstBlockedAbove(last uint32) int {
	for i := range e.blocked {
		if e.blocked[i].stream > last {
			return i
		}
	}
	return -1
}

func (e *encoder) streamUpdate(stream uint32, n int64) {
	for i := range e.blocked {
		if e.blocked[i].stream == stream {
			e.blocked[i].window += n
			return
		}
	}
	e.extra[stream] += n
}

// unblock forgets a body; it reports whether there was one.
func (e *encoder) unblock(stream uint32) bool {
	for i := range e.blocked {
		if e.blocked[i].stream == stream {
			e.blocked = append(e.blocked[:i], e.blocked[i+1:]...)
			return true
		}
	}
	return false
}

// answer appends an answer. over reports whether the stream has ended with it.
func (e *encoder) answer(dst []byte, a *answer) (_ []byte, over bool) {
	if e.unusual || a.more != nil {
		return e.special(dst, a)
	}
	o := a.out
	at := len(dst)
	flags := http2.FlagHeadersEndHeaders
	if o.body == nil {
		flags |= http2.FlagHeadersEndStream
	}
	dst = appendHeader(dst, 0, http2.FrameHeaders, flags, a.stream)
	if e.shrink {
		e.shrink = false
		dst = append(dst, 0x20) // table size update to 0
	}
	dst = append(dst, o.head...)
	dst = e.appendID(dst, a)
	n := len(dst) - at - frameHeader
	dst[at+1], dst[at+2] = byte(n>>8), byte(n)
	if o.body == nil {
		if len(e.extra) > 0 {
			delete(e.extra, a.stream)
		}
		return dst, true
	}
	return e.body(dst, a.stream, e.appendReason(nil, a))
}

func (e *encoder) appendReason(dst []byte, a *answer) []byte {
	dst = append(dst, a.out.body...)
	if a.out.status == 410 {
		dst = append(dst, `,"timestamp":`...)
		dst = strconv.AppendInt(dst, a.timestamp, 10)
	}
	return append(dst, '}')
}

// appendID appends apns-id and, on a sandbox, apns-unique-id. The names enter
// the client's table with the first answer and stay there, as nothing else does.
func (e *encoder) appendID(dst []byte, a *answer) []byte {
	const (
		withName    = 0x40 // literal with indexing, new name
		withoutName = 0x00 // literal without indexing, new name
	)
	unique := e.sandbox && a.out.status == 200
	insert := !e.noTable && !e.named && (unique || !e.sandbox)
	switch {
	case insert:
		dst = appendLiteral(append(dst, withName), "apns-id")
	case !e.named || e.noTable:
		dst = appendLiteral(append(dst, withoutName), "apns-id")
	case e.sandbox:
		dst = append(dst, 0x0f, 63-15) // the older of the two
	default:
		dst = append(dst, 0x0f, 62-15)
	}
	dst = appendUUID(append(dst, uuidChars), &a.id, a.upper)
	if unique {
		switch {
		case insert:
			dst = appendLiteral(append(dst, withName), "apns-unique-id")
		case e.noTable:
			dst = appendLiteral(append(dst, withoutName), "apns-unique-id")
		default:
			dst = append(dst, 0x0f, 62-15)
		}
		id := uniqueID(a.id)
		dst = appendUUID(append(dst, uuidChars), &id, false)
	}
	e.named = e.named || insert
	return dst
}

// body appends a body as far as the windows allow; the rest waits.
func (e *encoder) body(dst []byte, stream uint32, body []byte) (_ []byte, over bool) {
	b := blockedBody{stream: stream, rest: body, window: e.initial + e.extra[stream]}
	delete(e.extra, stream)
	dst, over = e.push(dst, &b)
	if !over {
		e.blocked = append(e.blocked, b)
	}
	return dst, over
}

func (e *encoder) push(dst []byte, b *blockedBody) (_ []byte, over bool) {
	for {
		n := min(int64(len(b.rest)), e.window, b.window, int64(e.maxFrame-1-e.shape.Padding))
		if e.shape.SplitBody {
			n = min(n, 1)
		}
		// Padding counts too, and its length.
		pad := 0
		if e.shape.Padding > 0 {
			pad = 1 + e.shape.Padding
			room := min(e.window, b.window) - int64(pad)
			if room < 0 {
				return dst, false
			}
			n = min(n, room)
		}
		// A frame without a body needs no window, however negative that is.
		if n = max(0, n); n == 0 && len(b.rest) > 0 {
			return dst, false
		}
		last := int(n) == len(b.rest)
		if e.shape.SplitBody && len(b.rest) > 0 {
			last = false // an empty frame ends it
		}
		var flags http2.Flags
		if last && !e.shape.Trailers {
			flags = http2.FlagDataEndStream
		}
		if pad > 0 {
			dst = appendHeader(dst, int(n)+pad, http2.FrameData, flags|http2.FlagDataPadded, b.stream)
			dst = append(append(dst, byte(e.shape.Padding)), b.rest[:n]...)
			dst = append(dst, make([]byte, e.shape.Padding)...)
		} else {
			dst = appendFrame(dst, http2.FrameData, flags, b.stream, b.rest[:n])
		}
		b.rest = b.rest[n:]
		e.window -= n + int64(pad)
		b.window -= n + int64(pad)
		if !last {
			continue
		}
		if e.shape.Trailers {
			dst = e.headers(dst, b.stream, true, []headerField{{"apns-trailer", "1"}})
		}
		return dst, true
	}
}

// flushBlocked sends what the windows allow of all that waits.
func (e *encoder) flushBlocked(dst []byte) (_ []byte, over int) {
	keep := e.blocked[:0]
	for _, b := range e.blocked {
		var done bool
		if dst, done = e.push(dst, &b); done {
			over++
		} else {
			keep = append(keep, b)
		}
	}
	clear(e.blocked[len(keep):])
	e.blocked = keep
	return dst, over
}

// special encodes what the short way does not.
func (e *encoder) special(dst []byte, a *answer) (_ []byte, over bool) {
	if e.shape.Unknown {
		const unknownFrame = 0xfa
		dst = appendFrame(dst, unknownFrame, 0xff, a.stream, []byte("unknown"))
	}
	more := a.more
	if more == nil {
		more = &special{}
	}
	if more.reset && !more.headers {
		return e.resets(dst, a.stream, more), true
	}
	if e.shape.Informational {
		dst = e.headers(dst, a.stream, false, []headerField{{":status", "103"}, {"link", "</>"}})
	}
	fields := []headerField{{":status", strconv.Itoa(a.out.status)}}
	if more.fields != nil {
		fields = append(fields, more.fields...)
	} else {
		fields = append(fields, headerField{"apns-id", string(appendUUID(nil, &a.id, a.upper))})
		if e.sandbox && a.out.status == 200 {
			id := uniqueID(a.id)
			fields = append(fields, headerField{"apns-unique-id", string(appendUUID(nil, &id, false))})
		}
	}
	body := more.body
	if a.out.body != nil {
		body = e.appendReason(nil, a)
	}
	if body != nil {
		fields = append(fields, headerField{"content-type", "application/json"})
	}
	if more.noBody {
		body = nil
	}
	if more.reset {
		dst = e.headers(dst, a.stream, false, fields)
		return e.resets(dst, a.stream, more), true
	}
	if body != nil {
		return e.body(e.headers(dst, a.stream, false, fields), a.stream, body)
	}
	delete(e.extra, a.stream)
	if e.shape.Trailers {
		dst = e.headers(dst, a.stream, false, fields)
		return e.headers(dst, a.stream, true, []headerField{{"apns-trailer", "1"}}), true
	}
	return e.headers(dst, a.stream, true, fields), true
}

func (e *encoder) resets(dst []byte, stream uint32, more *special) []byte {
	dst = appendUint32Frame(dst, http2.FrameRSTStream, stream, more.resetCode)
	if more.twice {
		dst = appendUint32Frame(dst, http2.FrameRSTStream, stream, uint32(http2.ErrCodeStreamClosed))
	}
	delete(e.extra, stream)
	return dst
}

// headers appends a header block in the shape that is wanted.
func (e *encoder) headers(dst []byte, stream uint32, end bool, fields []headerField) []byte {
	b := e.block[:0]
	if e.hp != nil {
		e.hpBuf.Reset()
		for _, f := range fields {
			_ = e.hp.WriteField(hpack.HeaderField{Name: f.name, Value: f.value}) // a Buffer takes all
		}
		b = append(b, e.hpBuf.Bytes()...)
	} else {
		if e.shrink {
			e.shrink = false
			b = append(b, 0x20)
		}
		for _, f := range fields {
			b = appendLiteral(append(b, 0x00), f.name)
			b = appendLiteral(b, f.value)
		}
	}
	e.block = b
	var flags http2.Flags
	if end {
		flags |= http2.FlagHeadersEndStream
	}
	first, rest := b, []byte(nil)
	if e.shape.Continuation {
		first, rest = b[:1], b[1:]
	} else {
		flags |= http2.FlagHeadersEndHeaders
	}
	if pad := e.shape.Padding; pad > 0 {
		dst = appendHeader(dst, 1+len(first)+pad, http2.FrameHeaders, flags|http2.FlagHeadersPadded, stream)
		dst = append(append(dst, byte(pad)), first...)
		dst = append(dst, make([]byte, pad)...)
	} else {
		dst = appendFrame(dst, http2.FrameHeaders, flags, stream, first)
	}
	// Pieces cut fields and Huffman codes in the middle. There are few of them:
	// clients take more than eight for an attack (CVE-2024-28182).
	piece := len(rest)/5 + 1
	for e.shape.Continuation {
		n := min(len(rest), piece)
		flags = 0
		if n == len(rest) {
			flags = http2.FlagContinuationEndHeaders
		}
		dst = appendFrame(dst, http2.FrameContinuation, flags, stream, rest[:n])
		if rest = rest[n:]; flags != 0 {
			break
		}
	}
	return dst
}

package h2_test

import (
	"bytes"
	"fmt"
	"net"
	"slices"
	"strconv"
	"sync"
	"testing"

	"github.com/google/uuid"
	"go.uber.org/goleak"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/pushfleet/pushfleet/apns/internal/h2"
	"github.com/pushfleet/pushfleet/device"
	"github.com/pushfleet/pushfleet/job"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const bearer = "bearer eyJhbGciOiJFUzI1NiIsImtpZCI6IkFCQ0RFRkdISUoifQ.eyJpc3MiOiJBQkNERUZHSElKIn0.c2lnbmF0dXJl"

// outcome is a result as a test keeps it.
type outcome struct {
	index int32
	h2.Result
}

// ending is why a connection ended.
type ending struct{ err error }

// owner has a queue per lane and is the batch of everything in it.
type owner struct {
	mu       sync.Mutex
	requests []h2.Request
	queue    [2][]h2.Item

	done   chan outcome
	closed chan ending
	away   chan *h2.GoAwayError
}

func newOwner() *owner {
	return &owner{done: make(chan outcome, 100_000), closed: make(chan ending, 1), away: make(chan *h2.GoAwayError, 10)}
}

func (o *owner) Take(lane job.Lane, dst []h2.Item, budget int) int {
	o.mu.Lock()
	defer o.mu.Unlock()
	n := 0
	for n < min(len(dst), len(o.queue[lane])) {
		dst[n] = o.queue[lane][n]
		if budget -= h2.Cost(&o.requests[dst[n].Index]); budget < 0 && n > 0 {
			break
		}
		n++
	}
	o.queue[lane] = o.queue[lane][n:]
	return n
}

func (o *owner) GoAway(_ *h2.Conn, g *h2.GoAwayError) { o.away <- g }
func (o *owner) Closed(_ *h2.Conn, err error)         { o.closed <- ending{err} }

func (o *owner) Request(i int32) *h2.Request {
	o.mu.Lock()
	defer o.mu.Unlock()
	return &o.requests[i]
}

func (o *owner) Done(_ *h2.Conn, it h2.Item, r *h2.Result) {
	kept := *r
	kept.Body = bytes.Clone(r.Body)
	o.done <- outcome{it.Index, kept}
}

// submit queues requests of a lane; their indexes go on from those before.
func (o *owner) submit(lane job.Lane, rs ...h2.Request) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, r := range rs {
		o.queue[lane] = append(o.queue[lane], h2.Item{Batch: o, Index: int32(len(o.requests))})
		// A copy, so that growing the slice moves no request that is being read.
		o.requests = append(slices.Clip(o.requests), r)
	}
}

func (o *owner) queued(lane job.Lane) int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.queue[lane])
}

// request makes the n-th request of a test, with a body of some bytes.
func request(n, bodyBytes int) h2.Request {
	raw := make([]byte, 32)
	for i := range raw {
		raw[i] = byte(n >> (8 * (i % 4)))
	}
	return h2.Request{
		DeviceToken: device.TokenFromRaw(string(raw)),
		APNsID:      uuid.NewSHA1(uuid.Nil, []byte(strconv.Itoa(n))),
		Topic:       "com.example.app",
		PushType:    job.PushAlert,
		Priority:    10,
		Expiration:  1_800_000_000,
		Payload:     bytes.Repeat([]byte{'x'}, bodyBytes),
	}
}

func requests(n, bodyBytes int) []h2.Request {
	rs := make([]h2.Request, n)
	for i := range rs {
		rs[i] = request(i, bodyBytes)
	}
	return rs
}

// peer is the other end of a connection, played by the test frame by frame.
type peer struct {
	t    testing.TB
	nc   net.Conn
	fr   *http2.Framer
	dec  *hpack.Decoder
	enc  *hpack.Encoder
	out  bytes.Buffer // the header block at hand
	seen map[uint32]*received
}

// received is a request as the peer sees it.
type received struct {
	id     uint32
	block  []byte
	fields []hpack.HeaderField
	body   []byte
	ended  bool
}

func (r *received) get(name string) string {
	for _, f := range r.fields {
		if f.Name == name {
			return f.Value
		}
	}
	return ""
}

// dial returns a connection and its peer, over a pipe: what is written waits
// until it is read. The peer has read the preface and said nothing.
func dial(t testing.TB, cfg h2.Config) (*h2.Conn, *owner, *peer) {
	t.Helper()
	near, far := net.Pipe()
	o := newOwner()
	cfg.Owner = o
	if cfg.Authority == "" {
		cfg.Authority = "api.push.apple.com"
	}
	c := h2.NewConn(near, nil, cfg)
	p := newPeer(t, far)
	t.Cleanup(func() {
		_ = far.Close()
		c.Close()
	})
	return c, o, p
}

func newPeer(t testing.TB, nc net.Conn) *peer {
	t.Helper()
	p := &peer{t: t, nc: nc, fr: http2.NewFramer(nc, nc), seen: make(map[uint32]*received)}
	p.dec = hpack.NewDecoder(4096, nil)
	p.enc = hpack.NewEncoder(&p.out)
	preface := make([]byte, len(http2.ClientPreface))
	if _, err := readFull(nc, preface); err != nil || string(preface) != http2.ClientPreface {
		t.Fatalf("preface: got %q, %v, want %q", preface, err, http2.ClientPreface)
	}
	f, ok := p.read().(*http2.SettingsFrame)
	if !ok {
		t.Fatal("first frame is not SETTINGS")
	}
	if v, ok := f.Value(http2.SettingEnablePush); !ok || v != 0 {
		t.Errorf("ENABLE_PUSH: got %d, %v, want 0", v, ok)
	}
	return p
}

// connect is dial with SETTINGS exchanged.
func connect(t testing.TB, cfg h2.Config, settings ...http2.Setting) (*h2.Conn, *owner, *peer) {
	t.Helper()
	c, o, p := dial(t, cfg)
	if len(settings) == 0 {
		settings = []http2.Setting{{ID: http2.SettingMaxConcurrentStreams, Val: 1000}}
	}
	p.settings(settings...)
	return c, o, p
}

func (p *peer) must(err error) {
	p.t.Helper()
	if err != nil {
		p.t.Fatalf("peer: %v", err)
	}
}

// read returns the next frame; header blocks come decoded and complete.
func (p *peer) read() http2.Frame {
	p.t.Helper()
	f, err := p.fr.ReadFrame()
	p.must(err)
	return f
}

// settings sends SETTINGS and waits for the acknowledgement.
func (p *peer) settings(s ...http2.Setting) {
	p.t.Helper()
	p.must(p.fr.WriteSettings(s...))
	for {
		f := p.read()
		if sf, ok := f.(*http2.SettingsFrame); ok && sf.IsAck() {
			return
		}
		p.note(f)
	}
}

// note takes a frame that belongs to a request; it reports whether f was one.
func (p *peer) note(f http2.Frame) *received {
	p.t.Helper()
	switch f := f.(type) {
	case *http2.HeadersFrame:
		if !f.HeadersEnded() {
			p.t.Fatal("header block does not end with its HEADERS frame")
		}
		r := &received{id: f.StreamID, ended: f.StreamEnded(), block: bytes.Clone(f.HeaderBlockFragment())}
		fields, err := p.dec.DecodeFull(r.block)
		p.must(err)
		r.fields = fields
		p.seen[r.id] = r
		return r
	case *http2.DataFrame:
		r := p.seen[f.StreamID]
		if r == nil {
			p.t.Fatalf("DATA of stream %d without HEADERS", f.StreamID)
		}
		r.body = append(r.body, f.Data()...)
		r.ended = f.StreamEnded()
		return r
	}
	return nil
}

// request reads frames until a request has ended, and returns it.
func (p *peer) request() *received {
	p.t.Helper()
	for {
		f := p.read()
		r := p.note(f)
		if r == nil {
			p.t.Fatalf("got %v, want a request", f)
		}
		if r.ended {
			return r
		}
	}
}

// skipTo reads until a frame of a type, noting requests that pass by.
func skipTo[F http2.Frame](p *peer) F {
	p.t.Helper()
	for {
		f := p.read()
		if want, ok := f.(F); ok {
			return want
		}
		p.note(f)
	}
}

// block encodes a header block.
func (p *peer) block(kv ...string) []byte {
	p.out.Reset()
	for i := 0; i < len(kv); i += 2 {
		p.must(p.enc.WriteField(hpack.HeaderField{Name: kv[i], Value: kv[i+1]}))
	}
	return bytes.Clone(p.out.Bytes())
}

// accept answers 200.
func (p *peer) accept(r *received) {
	p.t.Helper()
	p.must(p.fr.WriteHeaders(http2.HeadersFrameParam{
		StreamID: r.id, EndStream: true, EndHeaders: true,
		BlockFragment: p.block(":status", "200", "apns-id", r.get("apns-id")),
	}))
}

// refuse answers with a reason.
func (p *peer) refuse(r *received, status int, reason string) {
	p.t.Helper()
	p.must(p.fr.WriteHeaders(http2.HeadersFrameParam{
		StreamID: r.id, EndHeaders: true,
		BlockFragment: p.block(":status", strconv.Itoa(status), "apns-id", r.get("apns-id"), "content-type", "application/json"),
	}))
	p.must(p.fr.WriteData(r.id, true, fmt.Appendf(nil, `{"reason":%q}`, reason)))
}

// sync makes sure that the connection has handled all that was sent: it waits
// for the answer to a PING. Requests that pass by are noted.
func (p *peer) sync() {
	p.t.Helper()
	data := [8]byte{'s', 'y', 'n', 'c'}
	p.must(p.fr.WritePing(false, data))
	for {
		f := p.read()
		if ping, ok := f.(*http2.PingFrame); ok && ping.IsAck() && ping.Data == data {
			return
		}
		p.note(f)
	}
}

func readFull(nc net.Conn, b []byte) (int, error) {
	n := 0
	for n < len(b) {
		m, err := nc.Read(b[n:])
		if n += m; err != nil {
			return n, err
		}
	}
	return n, nil
}

func wantStatus(t testing.TB, o outcome, index int32, status int) {
	t.Helper()
	if o.Err != nil || o.index != index || o.Status != status {
		t.Errorf("result: got %d status %d, error %v, want %d status %d", o.index, o.Status, o.Err, index, status)
	}
}

// wantFailed checks that a request has no answer, and whether it may be resent.
func wantFailed(t testing.TB, o outcome, unprocessed bool) {
	t.Helper()
	if o.Err == nil || o.Unprocessed != unprocessed {
		t.Errorf("result of %d: got status %d, error %v, unprocessed %v, want an error, unprocessed %v",
			o.index, o.Status, o.Err, o.Unprocessed, unprocessed)
	}
}

package h2_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"

	"github.com/pushfleet/pushfleet/apns/internal/h2"
	"github.com/pushfleet/pushfleet/job"
)

func TestContinuationAndPadding(t *testing.T) {
	t.Parallel()
	c, o, p := connect(t, h2.Config{})
	o.submit(job.Bulk, request(0, 2))
	c.Wake()
	r := p.request()
	block := p.block(":status", "400", "apns-id", r.get("apns-id"), "x-long", strings.Repeat("long ", 100))
	p.must(p.fr.WriteHeaders(http2.HeadersFrameParam{
		StreamID: r.id, BlockFragment: block[:1], PadLength: 200,
		Priority: http2.PriorityParam{StreamDep: 7, Weight: 3},
	}))
	p.must(p.fr.WriteContinuation(r.id, false, block[1:30]))
	p.must(p.fr.WriteContinuation(r.id, false, nil))
	p.must(p.fr.WriteContinuation(r.id, true, block[30:]))
	p.must(p.fr.WriteDataPadded(r.id, false, []byte(`{"reason":`), make([]byte, 255)))
	p.must(p.fr.WriteDataPadded(r.id, true, []byte(`"BadTopic"}`), nil))
	got := <-o.done
	wantStatus(t, got, 0, 400)
	if string(got.Body) != `{"reason":"BadTopic"}` || got.APNsID.String() != r.get("apns-id") {
		t.Errorf("answer: got %q, id %v, want the reason and id %s", got.Body, got.APNsID, r.get("apns-id"))
	}
}

// A request with fields that no frame holds does not break the connection.
func TestRequestLargerThanAFrame(t *testing.T) {
	t.Parallel()
	c, o, p := connect(t, h2.Config{})
	r := request(0, 2)
	r.CollapseID = strings.Repeat("c", 40_000)
	o.submit(job.Bulk, r)
	c.Wake()
	first, ok := p.read().(*http2.HeadersFrame)
	if !ok || first.HeadersEnded() || first.StreamEnded() {
		t.Fatalf("first frame: got %v, want HEADERS that go on", first)
	}
	block := bytes.Clone(first.HeaderBlockFragment())
	for frames := 1; ; frames++ {
		next, ok := p.read().(*http2.ContinuationFrame)
		if !ok {
			t.Fatalf("frame %d: got %v, want CONTINUATION", frames, next)
		}
		block = append(block, next.HeaderBlockFragment()...)
		if next.HeadersEnded() {
			break
		}
	}
	fields, err := p.dec.DecodeFull(block)
	if err != nil || fields[len(fields)-1].Value != r.CollapseID {
		t.Errorf("block: got %d fields, error %v, want the collapse id last", len(fields), err)
	}
	p.seen[1] = &received{id: 1}
	p.refuse(p.request(), 400, "BadCollapseId")
	wantStatus(t, <-o.done, 0, 400)
}

func TestContinuationKeepsEndStream(t *testing.T) {
	t.Parallel()
	c, o, p := connect(t, h2.Config{})
	o.submit(job.Bulk, request(0, 2))
	c.Wake()
	r := p.request()
	block := p.block(":status", "200", "x", "y")
	p.must(p.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: r.id, EndStream: true, BlockFragment: block[:2]}))
	p.must(p.fr.WriteContinuation(r.id, true, block[2:]))
	wantStatus(t, <-o.done, 0, 200)
}

func TestInterimResponseAndTrailers(t *testing.T) {
	t.Parallel()
	c, o, p := connect(t, h2.Config{})
	o.submit(job.Bulk, request(0, 2))
	c.Wake()
	r := p.request()
	for _, kv := range [][]string{{":status", "103", "link", "</x>"}, {":status", "100"}, {":status", "200", "apns-id", r.get("apns-id")}} {
		p.must(p.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: r.id, EndHeaders: true, BlockFragment: p.block(kv...)}))
	}
	p.must(p.fr.WriteData(r.id, false, nil))
	p.must(p.fr.WriteHeaders(http2.HeadersFrameParam{
		StreamID: r.id, EndStream: true, EndHeaders: true, BlockFragment: p.block("grpc-status", "0"),
	}))
	got := <-o.done
	wantStatus(t, got, 0, 200)
	if got.APNsID.String() != r.get("apns-id") {
		t.Errorf("apns-id: got %v, want %s", got.APNsID, r.get("apns-id"))
	}
}

func TestHeaderBlocksOfUnknownStreamsAreDecoded(t *testing.T) {
	t.Parallel()
	c, o, p := connect(t, h2.Config{})
	o.submit(job.Transactional, requests(2, 2)...)
	c.Wake()
	a, b := p.request(), p.request()
	p.must(p.fr.WriteRSTStream(a.id, http2.ErrCodeInternal))
	wantFailed(t, <-o.done, false)
	// The block for the stream that is over enters the table; the next one is
	// nothing but references to it.
	headers := []string{":status", "429", "apns-id", b.get("apns-id")}
	p.must(p.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: a.id, EndStream: true, EndHeaders: true, BlockFragment: p.block(headers...)}))
	block := p.block(headers...)
	if len(block) != 2 {
		t.Fatalf("second block: got %d bytes, want 2 references", len(block))
	}
	p.must(p.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: b.id, EndStream: true, EndHeaders: true, BlockFragment: block}))
	got := <-o.done
	wantStatus(t, got, 1, 429)
	if got.APNsID.String() != b.get("apns-id") {
		t.Errorf("apns-id: got %v, want %s", got.APNsID, b.get("apns-id"))
	}
}

func TestUnknownFramesAreIgnored(t *testing.T) {
	t.Parallel()
	_, _, p := connect(t, h2.Config{})
	p.must(p.fr.WriteRawFrame(0xfa, 0xff, 12345, []byte("whatever")))
	p.must(p.fr.WritePriority(5, http2.PriorityParam{Weight: 1}))
	p.must(p.fr.WriteSettings(http2.Setting{ID: 0x4242, Val: 1}))
	skipTo[*http2.SettingsFrame](p)
	p.sync()
}

func TestMalformedAnswers(t *testing.T) {
	t.Parallel()
	for name, write := range map[string]func(p *peer, r *received) error{
		"no status": func(p *peer, r *received) error {
			return p.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: r.id, EndStream: true, EndHeaders: true, BlockFragment: p.block("x", "y")})
		},
		"status that is no number": func(p *peer, r *received) error {
			return p.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: r.id, EndStream: true, EndHeaders: true, BlockFragment: p.block(":status", "2x0")})
		},
		"interim response that ends": func(p *peer, r *received) error {
			return p.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: r.id, EndStream: true, EndHeaders: true, BlockFragment: p.block(":status", "100")})
		},
		"data before headers": func(p *peer, r *received) error { return p.fr.WriteData(r.id, true, []byte("x")) },
		"window update by 0": func(p *peer, r *received) error {
			return p.fr.WriteRawFrame(http2.FrameWindowUpdate, 0, r.id, make([]byte, 4))
		},
		"window too large": func(p *peer, r *received) error { return p.fr.WriteWindowUpdate(r.id, 1<<31-1) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, o, p := connect(t, h2.Config{})
			o.submit(job.Transactional, requests(2, 2)...)
			c.Wake()
			a, b := p.request(), p.request()
			p.must(write(p, a))
			wantFailed(t, <-o.done, false)
			if rst := skipTo[*http2.RSTStreamFrame](p); rst.StreamID != a.id {
				t.Errorf("reset: got stream %d, want %d", rst.StreamID, a.id)
			}
			p.accept(b) // the connection lives on
			wantStatus(t, <-o.done, 1, 200)
		})
	}
}

func TestFaultsEndTheConnection(t *testing.T) {
	t.Parallel()
	setting := func(id http2.SettingID, v uint32) []byte {
		return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint16(nil, uint16(id)), v)
	}
	headers := http2.FlagHeadersEndHeaders
	for _, tc := range []struct {
		name     string
		kind     http2.FrameType
		flags    http2.Flags
		streamID uint32
		payload  []byte
		want     http2.ErrCode
	}{
		{"block with an unknown index", http2.FrameHeaders, headers, 1, []byte{0xff, 0x10}, http2.ErrCodeCompression},
		{"block for an idle stream", http2.FrameHeaders, headers, 99, []byte{0x88}, http2.ErrCodeProtocol},
		{"block for an even stream", http2.FrameHeaders, headers, 2, []byte{0x88}, http2.ErrCodeProtocol},
		{"headers without a stream", http2.FrameHeaders, headers, 0, []byte{0x88}, http2.ErrCodeProtocol},
		{"padding larger than headers", http2.FrameHeaders, headers | http2.FlagHeadersPadded, 1, []byte{9, 0x88}, http2.ErrCodeProtocol},
		{"headers cut in their priority", http2.FrameHeaders, headers | http2.FlagHeadersPriority, 1, []byte{1, 2}, http2.ErrCodeProtocol},
		{"continuation without headers", http2.FrameContinuation, 4, 1, []byte{0x88}, http2.ErrCodeProtocol},
		{"data without a stream", http2.FrameData, 0, 0, []byte{1}, http2.ErrCodeProtocol},
		{"data for an idle stream", http2.FrameData, 0, 99, []byte{1}, http2.ErrCodeProtocol},
		{"padding larger than data", http2.FrameData, http2.FlagDataPadded, 1, []byte{9, 1}, http2.ErrCodeProtocol},
		{"push promise", http2.FramePushPromise, 4, 1, []byte{0, 0, 0, 2, 0x82}, http2.ErrCodeProtocol},
		{"reset of an idle stream", http2.FrameRSTStream, 0, 99, make([]byte, 4), http2.ErrCodeProtocol},
		{"reset of a wrong length", http2.FrameRSTStream, 0, 1, make([]byte, 5), http2.ErrCodeFrameSize},
		{"window of the connection by 0", http2.FrameWindowUpdate, 0, 0, make([]byte, 4), http2.ErrCodeProtocol},
		{"window of the connection too large", http2.FrameWindowUpdate, 0, 0, []byte{0x7f, 0xff, 0xff, 0xff}, http2.ErrCodeFlowControl},
		{"window of an idle stream", http2.FrameWindowUpdate, 0, 99, []byte{0, 0, 0, 1}, http2.ErrCodeProtocol},
		{"window update of a wrong length", http2.FrameWindowUpdate, 0, 0, make([]byte, 3), http2.ErrCodeFrameSize},
		{"settings on a stream", http2.FrameSettings, 0, 1, nil, http2.ErrCodeProtocol},
		{"settings of a wrong length", http2.FrameSettings, 0, 0, make([]byte, 7), http2.ErrCodeFrameSize},
		{"settings acknowledgement with settings", http2.FrameSettings, 1, 0, make([]byte, 6), http2.ErrCodeFrameSize},
		{"initial window too large", http2.FrameSettings, 0, 0, setting(http2.SettingInitialWindowSize, 1<<31), http2.ErrCodeFlowControl},
		{"frame size too small", http2.FrameSettings, 0, 0, setting(http2.SettingMaxFrameSize, 16383), http2.ErrCodeProtocol},
		{"frame size too large", http2.FrameSettings, 0, 0, setting(http2.SettingMaxFrameSize, 1<<24), http2.ErrCodeProtocol},
		{"ping on a stream", http2.FramePing, 0, 1, make([]byte, 8), http2.ErrCodeProtocol},
		{"ping of a wrong length", http2.FramePing, 0, 0, make([]byte, 7), http2.ErrCodeFrameSize},
		{"goaway on a stream", http2.FrameGoAway, 0, 1, make([]byte, 8), http2.ErrCodeProtocol},
		{"goaway of a wrong length", http2.FrameGoAway, 0, 0, make([]byte, 7), http2.ErrCodeFrameSize},
		{"frame of more than 16 KB", 0xfa, 0, 0, make([]byte, 16385), http2.ErrCodeFrameSize},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			c, o, p := connect(t, h2.Config{})
			o.submit(job.Transactional, request(0, 2))
			c.Wake()
			p.request()
			// The peer may not get rid of all of it: the connection stops reading.
			var writes sync.WaitGroup
			defer writes.Wait()
			writes.Go(func() { _ = p.fr.WriteRawFrame(tc.kind, tc.flags, tc.streamID, tc.payload) })
			got := <-o.done
			wantFailed(t, got, false)
			var fault *h2.ProtocolError
			if !errors.As(got.Err, &fault) || fault.Code != tc.want {
				t.Errorf("error: got %v, want a fault with %v", got.Err, tc.want)
			}
			if g := skipTo[*http2.GoAwayFrame](p); g.ErrCode != tc.want {
				t.Errorf("GOAWAY: got %v, want %v", g.ErrCode, tc.want)
			}
			<-o.closed
		})
	}
}

func TestFrameWithinHeaderBlock(t *testing.T) {
	t.Parallel()
	c, o, p := connect(t, h2.Config{})
	o.submit(job.Transactional, request(0, 2))
	c.Wake()
	r := p.request()
	p.must(p.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: r.id, BlockFragment: []byte{0x88}}))
	p.must(p.fr.WritePing(false, [8]byte{}))
	wantFailed(t, <-o.done, false)
	if g := skipTo[*http2.GoAwayFrame](p); g.ErrCode != http2.ErrCodeProtocol {
		t.Errorf("GOAWAY: got %v, want %v", g.ErrCode, http2.ErrCodeProtocol)
	}
}

func TestHeaderBlockWithoutEnd(t *testing.T) {
	t.Parallel()
	c, o, p := connect(t, h2.Config{})
	o.submit(job.Transactional, request(0, 2))
	c.Wake()
	r := p.request()
	p.must(p.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: r.id, BlockFragment: []byte{0x88}}))
	var writes sync.WaitGroup
	defer writes.Wait()
	writes.Go(func() {
		for p.fr.WriteContinuation(r.id, false, make([]byte, 16000)) == nil {
		}
	})
	wantFailed(t, <-o.done, false)
	if g := skipTo[*http2.GoAwayFrame](p); g.ErrCode != http2.ErrCodeEnhanceYourCalm {
		t.Errorf("GOAWAY: got %v, want %v", g.ErrCode, http2.ErrCodeEnhanceYourCalm)
	}
	<-o.closed
}

func TestFirstFrameMustBeSettings(t *testing.T) {
	t.Parallel()
	_, o, p := dial(t, h2.Config{})
	p.must(p.fr.WritePing(false, [8]byte{}))
	skipTo[*http2.GoAwayFrame](p)
	var fault *h2.ProtocolError
	if err := (<-o.closed).err; !errors.As(err, &fault) {
		t.Errorf("closed: got %v, want a fault of the peer", err)
	}
}

func TestFloodsAreBounded(t *testing.T) {
	t.Parallel()
	for name, flood := range map[string]func(p *peer) error{
		"ping":     func(p *peer) error { return p.fr.WritePing(false, [8]byte{}) },
		"settings": func(p *peer) error { return p.fr.WriteSettings() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				_, o, p := connectWire(t, 3*time.Second)
				// The peer never reads, so the writer is stuck with the first answers; the
				// reader goes on all the same, and gives up when too much is owed.
				for range 20 * h2.MaxPongs {
					if flood(p) != nil {
						break
					}
				}
				var fault *h2.ProtocolError
				if err := (<-o.closed).err; !errors.As(err, &fault) || fault.Code != http2.ErrCodeEnhanceYourCalm {
					t.Errorf("closed: got %v, want a fault with ENHANCE_YOUR_CALM", err)
				}
			})
		})
	}
}

func TestReaderDoesNotWaitForTheWriter(t *testing.T) {
	t.Parallel()
	c, o, p := connect(t, h2.Config{})
	o.submit(job.Transactional, requests(2, 2)...)
	c.Wake()
	a, b := p.request(), p.request()
	o.submit(job.Transactional, requests(100, 1000)...)
	c.Wake() // from here on the writer is stuck: the peer does not read
	p.must(p.fr.WritePing(false, [8]byte{1}))
	p.must(p.fr.WriteSettings())
	p.accept(a)
	wantStatus(t, <-o.done, 0, 200)
	p.accept(b)
	wantStatus(t, <-o.done, 1, 200)
}

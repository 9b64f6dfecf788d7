package apnstest_test

import (
	"crypto/tls"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/pushfleet/pushfleet/apns/apnstest"
)

func TestTLS(t *testing.T) {
	t.Parallel()
	srv := newServer(t, apnstest.Config{})
	for _, tt := range []struct {
		name   string
		protos []string
		min    uint16
		max    uint16
		ok     bool
	}{
		{"h2", []string{"h2"}, 0, 0, true},
		{"h2 among others", []string{"http/1.1", "h2"}, 0, 0, true},
		{"TLS 1.2", []string{"h2"}, tls.VersionTLS12, tls.VersionTLS12, true},
		{"TLS 1.1", []string{"h2"}, tls.VersionTLS10, tls.VersionTLS11, false},
		{"HTTP/1.1", []string{"http/1.1"}, 0, 0, false},
		{"no ALPN", nil, 0, 0, false},
	} {
		conn, err := tls.Dial("tcp", srv.Addr(), &tls.Config{
			RootCAs: srv.CAPool(), NextProtos: tt.protos, MinVersion: tt.min, MaxVersion: tt.max,
		})
		if err == nil {
			_ = conn.SetDeadline(time.Now().Add(patience))
			var b [1]byte
			_, err = conn.Read(b[:]) // SETTINGS, or the end
			_ = conn.Close()
		}
		if (err == nil) != tt.ok {
			t.Errorf("%s: got %v, want it to work: %v", tt.name, err, tt.ok)
		}
	}
	waitFor(t, srv, "three handshakes have failed", func(st apnstest.Stats) bool {
		return st.HandshakesFailed == 3 && st.ConnectionsTotal == 3
	})
}

func TestServerSettings(t *testing.T) {
	t.Parallel()
	c := dial(t, newServer(t, apnstest.Config{}), dialOptions{bare: true})
	if err := c.step(); err != nil { // it speaks first
		t.Fatal(err)
	}
	want := map[http2.SettingID]uint32{
		http2.SettingHeaderTableSize: 4096, http2.SettingMaxConcurrentStreams: 1, http2.SettingInitialWindowSize: 65535,
		http2.SettingMaxFrameSize: 16384, http2.SettingMaxHeaderListSize: 8000,
	}
	for id, v := range want {
		if c.settings[id] != v {
			t.Errorf("%v: got %d, want %d", id, c.settings[id], v)
		}
	}
}

// TestProtocolErrors breaks the rules of a connection, one each.
func TestProtocolErrors(t *testing.T) {
	t.Parallel()
	srv := newServer(t, apnstest.Config{})
	for _, tt := range []struct {
		name string
		bare bool
		do   func(c *client)
		want http2.ErrCode
	}{
		{"wrong preface", true, func(c *client) { c.write([]byte("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")) }, http2.ErrCodeProtocol},
		{"no SETTINGS", true, func(c *client) {
			c.write([]byte(http2.ClientPreface))
			c.must(c.fr.WritePing(false, [8]byte{}))
		}, http2.ErrCodeProtocol},
		{"even stream", false, func(c *client) { c.next = 2; c.push(tokenN(1)) }, http2.ErrCodeProtocol},
		{"frame too large", false, func(c *client) { c.must(c.fr.WriteData(1, true, make([]byte, 16385))) }, http2.ErrCodeFrameSize},
		{"DATA on an idle stream", false, func(c *client) { c.must(c.fr.WriteData(99, true, nil)) }, http2.ErrCodeProtocol},
		{"RST_STREAM on an idle stream", false, func(c *client) { c.must(c.fr.WriteRSTStream(99, 0)) }, http2.ErrCodeProtocol},
		{"WINDOW_UPDATE of 0", false, func(c *client) { c.must(c.fr.WriteWindowUpdate(0, 0)) }, http2.ErrCodeFlowControl},
		{"window too large", false, func(c *client) { c.must(c.fr.WriteWindowUpdate(0, 1<<31-1)) }, http2.ErrCodeFlowControl},
		{"CONTINUATION alone", false, func(c *client) { c.must(c.fr.WriteContinuation(1, true, nil)) }, http2.ErrCodeProtocol},
		{"block interrupted", false, func(c *client) {
			c.must(c.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte{0x82}}))
			c.must(c.fr.WritePing(false, [8]byte{}))
		}, http2.ErrCodeProtocol},
		{"endless header block", false, func(c *client) {
			c.must(c.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte{0x82}}))
			for range 5 {
				c.must(c.fr.WriteContinuation(1, false, make([]byte, 16384)))
			}
		}, http2.ErrCodeEnhanceYourCalm},
		{"index out of range", false, func(c *client) {
			c.must(c.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte{0xff, 0x7f}, EndHeaders: true}))
		}, http2.ErrCodeCompression},
		{"table too large", false, func(c *client) {
			c.must(c.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte{0x3f, 0xe2, 0x1f}, EndHeaders: true}))
		}, http2.ErrCodeCompression},
		{"padding too long", false, func(c *client) {
			c.write([]byte{0, 0, 1, byte(http2.FrameHeaders), byte(http2.FlagHeadersPadded | http2.FlagHeadersEndHeaders), 0, 0, 0, 1, 9})
		}, http2.ErrCodeProtocol},
		{"PUSH_PROMISE", false, func(c *client) {
			c.must(c.fr.WritePushPromise(http2.PushPromiseParam{StreamID: 1, PromiseID: 2, EndHeaders: true}))
		}, http2.ErrCodeProtocol},
		{"ping of 7 bytes", false, func(c *client) { c.write([]byte{0, 0, 7, byte(http2.FramePing), 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7}) }, http2.ErrCodeFrameSize},
		{"SETTINGS of 5 bytes", false, func(c *client) { c.write([]byte{0, 0, 5, byte(http2.FrameSettings), 0, 0, 0, 0, 0, 1, 2, 3, 4, 5}) }, http2.ErrCodeFrameSize},
		{"HEADERS on a stream that is over", false, func(c *client) {
			c.answer(c.push(tokenN(1)))
			c.next = 1
			c.push(tokenN(1))
		}, http2.ErrCodeStreamClosed},
		{"connection window overrun", false, func(c *client) {
			if err := srv.SetFaults(apnstest.Faults{Flow: apnstest.FlowFaults{Withhold: true}}); err != nil {
				t.Fatal(err)
			}
			c.must(c.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: c.encode(c.fields(tokenN(1))), EndHeaders: true}))
			for range 4 {
				c.must(c.fr.WriteData(1, false, make([]byte, 16384)))
			}
		}, http2.ErrCodeFlowControl},
	} {
		if err := srv.SetFaults(apnstest.Faults{}); err != nil {
			t.Fatal(err)
		}
		c := dial(t, srv, dialOptions{bare: tt.bare})
		tt.do(c)
		if err := c.drain(); !isEOF(err) {
			t.Errorf("%s: got %v, want the connection closed", tt.name, err)
		}
		if len(c.goAways) != 1 || c.goAways[0].code != tt.want {
			t.Errorf("%s: got GOAWAY %+v, want one with %v", tt.name, c.goAways, tt.want)
		}
	}
}

// TestStreamErrors breaks the rules of one request: the connection goes on.
func TestStreamErrors(t *testing.T) {
	t.Parallel()
	c := ready(t, newServer(t, apnstest.Config{}))
	for _, tt := range []struct {
		name   string
		fields []hpack.HeaderField
	}{
		{"no method", c.fields(tokenN(1), ":method", "-")},
		{"no path", c.fields(tokenN(1), ":path", "-")},
		{"no scheme", c.fields(tokenN(1), ":scheme", "-")},
		{"upper case", c.fields(tokenN(1), "X-Foo", "1")},
		{"connection-specific", c.fields(tokenN(1), "connection", "close")},
		{"method twice", append([]hpack.HeaderField{{Name: ":method", Value: "POST"}}, c.fields(tokenN(1))...)},
		{"pseudo field late", append(c.fields(tokenN(1), ":scheme", "-"), hpack.HeaderField{Name: ":scheme", Value: "https"})},
		{"unknown pseudo field", append([]hpack.HeaderField{{Name: ":foo", Value: "1"}}, c.fields(tokenN(1))...)},
		{"more than 8000 bytes", c.fields(tokenN(1), "x-foo", strings.Repeat("x", 7900))},
	} {
		id := c.send(tt.fields, []byte(payload))
		c.wait("reset", func() bool { return len(c.resets[id]) == 2 })
		if want := []http2.ErrCode{http2.ErrCodeProtocol, http2.ErrCodeStreamClosed}; !slices.Equal(c.resets[id], want) {
			t.Errorf("%s: got resets %v, want %v", tt.name, c.resets[id], want)
		}
		if got := c.answer(c.push(tokenN(1))); got.status != 200 {
			t.Errorf("%s: got %d afterwards, want 200", tt.name, got.status)
		}
	}
}

// TestFrames sends requests in all the shapes that HTTP/2 allows.
func TestFrames(t *testing.T) {
	t.Parallel()
	srv := newServer(t, apnstest.Config{})
	c := ready(t, srv)
	body := []byte(payload)
	begin := func(over ...string) (uint32, []byte) {
		id := c.next
		c.next += 2
		return id, slices.Clone(c.encode(c.fields(tokenN(7), over...)))
	}
	for _, tt := range []struct {
		name string
		send func() uint32
	}{
		{"CONTINUATION", func() uint32 {
			id, block := begin()
			c.must(c.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: block[:1]}))
			c.must(c.fr.WriteContinuation(id, false, block[1:9]))
			c.must(c.fr.WriteContinuation(id, false, nil))
			c.must(c.fr.WriteContinuation(id, true, block[9:]))
			c.must(c.fr.WriteData(id, true, body))
			return id
		}},
		{"padding and priority", func() uint32 {
			id, block := begin()
			c.must(c.fr.WriteHeaders(http2.HeadersFrameParam{
				StreamID: id, BlockFragment: block, EndHeaders: true, PadLength: 200, Priority: http2.PriorityParam{StreamDep: 1, Weight: 3},
			}))
			c.must(c.fr.WriteDataPadded(id, true, body, make([]byte, 100)))
			return id
		}},
		{"body in pieces, with others in between", func() uint32 {
			id, block := begin()
			c.must(c.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: block, EndHeaders: true}))
			for _, b := range body {
				c.must(c.fr.WriteData(id, false, []byte{b}))
				c.must(c.fr.WritePriority(id, http2.PriorityParam{Weight: 1}))
				c.must(c.fr.WriteRawFrame(0xbe, 0xff, id, []byte("unknown")))
			}
			c.answer(c.push(tokenN(8)))
			c.must(c.fr.WriteData(id, true, nil))
			return id
		}},
		{"trailers", func() uint32 {
			id, block := begin()
			c.must(c.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: block, EndHeaders: true}))
			c.must(c.fr.WriteData(id, false, body))
			trailer := c.encode([]hpack.HeaderField{{Name: "x-trailer", Value: "1"}})
			c.must(c.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: trailer, EndHeaders: true, EndStream: true}))
			return id
		}},
		{"byte by byte", func() uint32 {
			id, block := begin()
			var b []byte
			b = append(b, byte(len(block)>>16), byte(len(block)>>8), byte(len(block)), 1, 4, byte(id>>24), byte(id>>16), byte(id>>8), byte(id))
			b = append(b, block...)
			b = append(b, 0, 0, byte(len(body)), 0, 1, byte(id>>24), byte(id>>16), byte(id>>8), byte(id))
			b = append(b, body...)
			for i := range b {
				c.write(b[i : i+1])
			}
			return id
		}},
	} {
		id := tt.send()
		if got := c.answer(id); got.status != 200 {
			t.Errorf("%s: got %d %s, want 200", tt.name, got.status, got.body)
		}
		records := srv.Ledger(apnstest.Filter{DeviceToken: tokenN(7), Limit: 1})
		if len(records) != 1 || records[0].Stream != id || records[0].Body != payload || records[0].Topic != bundle {
			t.Errorf("%s: got ledger %+v, want stream %d with the whole request", tt.name, records, id)
		}
	}
}

// TestHeaderTable has entries come, be used and be thrown out.
func TestHeaderTable(t *testing.T) {
	t.Parallel()
	srv := newServer(t, apnstest.Config{})
	c := ready(t, srv)
	for i := range 300 {
		if i == 100 {
			c.enc.SetMaxDynamicTableSize(500) // the JWT alone fills it
		}
		if i == 200 {
			c.enc.SetMaxDynamicTableSize(4096)
		}
		over := []string{"apns-collapse-id", tokenN(i)[32:], "x-other", tokenN(i % 7)}
		if got := c.answer(c.push(tokenN(i), over...)); got.status != 200 {
			t.Fatalf("request %d: got %d %s, want 200", i, got.status, got.body)
		}
		got := srv.Ledger(apnstest.Filter{Limit: 1})[0]
		if got.DeviceToken != tokenN(i) || got.CollapseID != over[1] || got.Topic != bundle {
			t.Fatalf("request %d: got %+v, want its own token, collapse id and topic", i, got)
		}
	}
	st := srv.Stats().HPACK
	if st.Indexed == 0 || st.Inserted == 0 || st.Evicted == 0 || st.BlockBytes >= st.ListBytes {
		t.Errorf("header compression: got %+v, want some of everything", st)
	}
}

func TestPing(t *testing.T) {
	t.Parallel()
	srv := newServer(t, apnstest.Config{})
	c := dial(t, srv, dialOptions{})
	c.ping()
	c.ping()
	if got := srv.Stats().PingsReceived; got != 4 {
		t.Errorf("pings: got %d, want 4", got)
	}
}

func TestOneStreamUntilAuthenticated(t *testing.T) {
	t.Parallel()
	srv := newServer(t, apnstest.Config{Streams: 3, Latency: 50 * time.Millisecond})
	c := dial(t, srv, dialOptions{})
	first, second := c.push(tokenN(1)), c.push(tokenN(2))
	// The first is being judged while the second comes: a race that the client
	// loses only if both came in one read. Either way the limit was 1.
	c.wait("both ended", func() bool { return c.ended(first, second) })
	if got := c.answers[first].status; got != 200 {
		t.Errorf("first: got %d, want 200", got)
	}
	c.ping()
	if got := c.settings[http2.SettingMaxConcurrentStreams]; got != 3 {
		t.Errorf("stream limit: got %d, want 3", got)
	}
	var ids []uint32
	for i := range 5 {
		ids = append(ids, c.push(tokenN(i)))
	}
	c.wait("all ended", func() bool { return c.ended(ids...) })
	for i, id := range ids {
		refused := len(c.resets[id]) > 0
		if want := i >= 3; refused != want {
			t.Errorf("request %d of 5 with a limit of 3: got refused %v, want %v", i, refused, want)
		}
	}
	// The refused ones are reset a second time for their bodies.
	c.wait("second resets", func() bool { return len(c.resets[ids[3]]) == 2 && len(c.resets[ids[4]]) == 2 })
	if want := []http2.ErrCode{http2.ErrCodeRefusedStream, http2.ErrCodeStreamClosed}; !slices.Equal(c.resets[ids[4]], want) {
		t.Errorf("resets of a refused request: got %v, want %v", c.resets[ids[4]], want)
	}
	if got := c.answer(c.push(tokenN(9))).status; got != 200 {
		t.Errorf("afterwards: got %d, want 200", got)
	}
	st := srv.Stats()
	if st.RefusedStreams < 2 || st.MaxInFlight > 3 {
		t.Errorf("stats: got %d refused, %d in flight, want at least 2 and at most 3", st.RefusedStreams, st.MaxInFlight)
	}
}

func TestStreamsAboveLimitGoAway(t *testing.T) {
	t.Parallel()
	srv := newServer(t, apnstest.Config{Streams: 1, Latency: time.Hour, Faults: apnstest.Faults{Streams: apnstest.StreamFaults{GoAwayAbove: true}}})
	c := dial(t, srv, dialOptions{})
	first := c.push(tokenN(1))
	c.ping()
	c.push(tokenN(2))
	if err := c.drain(); !isEOF(err) {
		t.Errorf("got %v, want the connection closed", err)
	}
	want := goAway{first, http2.ErrCodeRefusedStream, "Maximum active streams violated for this endpoint."}
	if len(c.goAways) != 1 || c.goAways[0] != want {
		t.Errorf("got %+v, want %+v", c.goAways, want)
	}
}

func TestStreamsDelay(t *testing.T) {
	t.Parallel()
	srv := newServer(t, apnstest.Config{StreamsDelay: 100 * time.Millisecond})
	c := dial(t, srv, dialOptions{})
	start := time.Now()
	c.answer(c.push(tokenN(1)))
	c.ping()
	if got := c.settings[http2.SettingMaxConcurrentStreams]; got != 1 && time.Since(start) < 100*time.Millisecond {
		t.Errorf("stream limit: got %d at once, want 1", got)
	}
	c.wait("raised limit", func() bool { return c.settings[http2.SettingMaxConcurrentStreams] == 1000 })
	if got := time.Since(start); got < 100*time.Millisecond {
		t.Errorf("raised after %v, want at least 100ms", got)
	}
}

func TestConnectionWindow(t *testing.T) {
	t.Parallel()
	srv := newServer(t, apnstest.Config{})
	c := ready(t, srv)
	body := []byte(`{"a":"` + strings.Repeat("x", 4000) + `"}`)
	var sent, granted int
	for i := range 40 {
		c.answer(c.send(c.fields(tokenN(i)), body))
		sent += len(body)
	}
	c.ping()
	for _, n := range c.updates[0] {
		granted += int(n)
		if n < 32768 || n > 65535 {
			t.Errorf("WINDOW_UPDATE: got %d, want about half the window", n)
		}
	}
	if granted < sent-32768 {
		t.Errorf("granted %d of %d bytes sent, want all but half a window", granted, sent)
	}
	for id := range c.updates {
		if id != 0 {
			t.Errorf("WINDOW_UPDATE for stream %d: want none for bodies that fit", id)
		}
	}
}

// TestLongBody sends more than the stream's window.
func TestLongBody(t *testing.T) {
	t.Parallel()
	c := ready(t, newServer(t, apnstest.Config{}))
	id := c.next
	c.next += 2
	c.must(c.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: c.encode(c.fields(tokenN(1))), EndHeaders: true}))
	window, conn := 65535, 65535
	for _, n := range c.updates[0] {
		conn += int(n)
	}
	conn -= len(payload)
	for left := 200_000; left > 0; {
		n := min(left, window, conn, 16384)
		if n == 0 {
			before := len(c.updates[0]) + len(c.updates[id])
			c.wait("window", func() bool { return len(c.updates[0])+len(c.updates[id]) > before })
		} else {
			c.must(c.fr.WriteData(id, n == left, make([]byte, n)))
			left, window, conn = left-n, window-n, conn-n
		}
		for _, n := range c.updates[0] {
			conn += int(n)
		}
		for _, n := range c.updates[id] {
			window += int(n)
		}
		delete(c.updates, 0)
		delete(c.updates, id)
	}
	if got := c.answer(id); got.status != 413 {
		t.Errorf("body of 200000 bytes: got %d, want 413", got.status)
	}
}

// TestClientWindow gives the server too little room for its answers.
func TestClientWindow(t *testing.T) {
	t.Parallel()
	srv := newServer(t, apnstest.Config{})
	c := dial(t, srv, dialOptions{settings: []http2.Setting{{ID: http2.SettingInitialWindowSize, Val: 10}}})
	c.warm()
	id := c.push("zz")
	c.ping()
	a := c.answers[id]
	if a == nil || a.ended || len(a.body) != 10 {
		t.Fatalf("answer with a window of 10: got %+v, want 10 bytes of its body", a)
	}
	// A good answer has no body and is not held up.
	if got := c.answer(c.push(tokenN(2))).status; got != 200 {
		t.Errorf("answer without body: got %d, want 200", got)
	}
	c.must(c.fr.WriteWindowUpdate(id, 5))
	c.ping()
	if len(a.body) != 15 {
		t.Errorf("after WINDOW_UPDATE of 5: got %d bytes, want 15", len(a.body))
	}
	c.must(c.fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 100}))
	if got := c.answer(id).reason(); got != "BadDeviceToken" {
		t.Errorf("after SETTINGS: got %q, want BadDeviceToken", got)
	}
	// Now a stream's window comes before its answer is due.
	c = dial(t, srv, dialOptions{settings: []http2.Setting{{ID: http2.SettingInitialWindowSize, Val: 0}}})
	c.warm()
	if err := srv.SetFaults(apnstest.Faults{Latency: apnstest.Latency{Constant: apnstest.Duration(50 * time.Millisecond)}}); err != nil {
		t.Fatal(err)
	}
	id = c.push("zz")
	c.must(c.fr.WriteWindowUpdate(id, 1000))
	if got := c.answer(id).reason(); got != "BadDeviceToken" {
		t.Errorf("WINDOW_UPDATE before the answer: got %q, want BadDeviceToken", got)
	}
}

// TestClientConnectionWindow uses up the connection's window with bodies.
func TestClientConnectionWindow(t *testing.T) {
	t.Parallel()
	c := ready(t, newServer(t, apnstest.Config{}))
	size := len(c.answer(c.push("zz")).body)
	n := 65535/size + 10
	var ids []uint32
	for range n {
		ids = append(ids, c.push("zz"))
		if len(ids)%100 == 0 {
			c.ping()
		}
	}
	c.ping()
	if c.ended(ids...) {
		t.Fatalf("all of %d answers of %d bytes came through a window of 65535", n, size)
	}
	c.must(c.fr.WriteWindowUpdate(0, 65535))
	c.wait("all answers", func() bool { return c.ended(ids...) })
	for _, id := range ids {
		if got := len(c.answers[id].body); got != size {
			t.Fatalf("body on stream %d: got %d bytes, want %d", id, got, size)
		}
	}
}

// TestClientTable makes the server do without a header table.
func TestClientTable(t *testing.T) {
	t.Parallel()
	for _, env := range []apnstest.Environment{apnstest.Production, apnstest.Sandbox} {
		srv := newServer(t, apnstest.Config{Environment: env})
		c := dial(t, srv, dialOptions{settings: []http2.Setting{{ID: http2.SettingHeaderTableSize, Val: 0}}})
		c.ping()
		c.dec.SetAllowedMaxDynamicTableSize(0)
		for i := range 5 {
			if got := c.answer(c.push(tokenN(i), "apns-id", someID)); got.header["apns-id"] != someID {
				t.Errorf("%s: got headers %v, want the apns-id", env, got.header)
			}
		}
		// In the middle of a connection.
		c = ready(t, srv)
		c.must(c.fr.WriteSettings(http2.Setting{ID: http2.SettingHeaderTableSize, Val: 100}))
		c.ping()
		c.dec.SetAllowedMaxDynamicTableSize(100)
		for i := range 5 {
			c.answer(c.push(tokenN(i)))
			const toZero = 0x20 // table size update
			if got := c.block[0] == toZero; got != (i == 0) {
				t.Errorf("%s: answer %d begins with a table size update: got %v", env, i, got)
			}
			if got := c.answer(c.push(tokenN(i), "apns-id", someID)); got.header["apns-id"] != someID {
				t.Errorf("%s, table shrunk later: got headers %v, want the apns-id", env, got.header)
			}
		}
	}
}

func TestCancel(t *testing.T) {
	t.Parallel()
	srv := newServer(t, apnstest.Config{Streams: 2})
	c := ready(t, srv)
	if err := srv.SetFaults(apnstest.Faults{Latency: apnstest.Latency{Constant: apnstest.Duration(time.Hour)}}); err != nil {
		t.Fatal(err)
	}
	for i := range 10 { // more than the limit: each cancelled request makes room
		id := c.push(tokenN(i))
		c.must(c.fr.WriteRSTStream(id, http2.ErrCodeCancel))
	}
	// One whose body has not ended.
	c.must(c.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: c.next, BlockFragment: c.encode(c.fields(tokenN(1))), EndHeaders: true}))
	c.must(c.fr.WriteRSTStream(c.next, http2.ErrCodeCancel))
	c.next += 2
	c.ping()
	st := srv.Stats()
	if len(c.resets) > 0 || st.Cancelled != 11 || st.Received != 11 || st.Pending != 0 {
		t.Errorf("got resets %v, stats %+v, want 11 received (one to warm up), 11 cancelled, none pending", c.resets, st)
	}
}

func TestLatency(t *testing.T) {
	t.Parallel()
	const latency = 60 * time.Millisecond
	srv := newServer(t, apnstest.Config{Latency: latency})
	c := ready(t, srv)
	start := time.Now()
	var ids []uint32
	for i := range 100 {
		ids = append(ids, c.push(tokenN(i)))
	}
	c.wait("answers", func() bool { return c.ended(ids...) })
	took := time.Since(start)
	if took < latency {
		t.Errorf("100 answers after %v, want at least %v", took, latency)
	}
	waitFor(t, srv, "hold times are counted", func(st apnstest.Stats) bool { return st.HoldCount == 101 })
	st := srv.Stats()
	if mean := st.HoldMeanSeconds; mean < latency.Seconds() || mean > took.Seconds()+latency.Seconds() {
		t.Errorf("mean hold: got %vs, want about %v", mean, latency)
	}
	if !slices.IsSorted(c.order) {
		t.Errorf("order of answers: got %v, want that of the requests", c.order)
	}
	if st.MaxInFlight < 50 {
		t.Errorf("most in flight: got %d, want nearly 100", st.MaxInFlight)
	}
}

func TestClose(t *testing.T) {
	t.Parallel()
	srv, err := apnstest.New(apnstest.Config{Aliases: []string{"127.0.0.1:0"}, ManagementAddr: "127.0.0.1:0", Latency: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	c := dial(t, srv, dialOptions{addr: strings.TrimPrefix(srv.AliasURLs()[0], "https://")})
	c.push(tokenN(1))
	c.ping()
	stalled, err := net.Dial("tcp", srv.Addr()) // never says hello
	if err != nil {
		t.Fatal(err)
	}
	defer stalled.Close()
	if err := srv.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
	if err := srv.Close(); err != nil {
		t.Errorf("close again: %v", err)
	}
	if err := c.drain(); err == nil {
		t.Error("connection goes on after Close")
	}
	if _, err := net.Dial("tcp", srv.Addr()); err == nil {
		t.Error("server still listens after Close")
	}
	st := srv.Stats()
	if st.AnswersLost != 1 || st.ConnectionsOpen != 0 || st.Pending != 0 {
		t.Errorf("stats: got %+v, want one answer lost, nothing open", st)
	}
	if got := srv.Connections(); len(got) != 1 || got[0].Unanswered != 1 || got[0].Cause != "server closed" {
		t.Errorf("connections: got %+v, want one with an unanswered request", got)
	}
}

package apnstest_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/pushfleet/pushfleet/apns/apnstest"
)

const (
	bundle  = "com.example.app"
	payload = `{"aps":{"alert":"hello"}}`
	someID  = "123e4567-e89b-12d3-a456-426614174000"
)

// patience bounds every wait of a test for something that must happen.
const patience = time.Minute

func newServer(t testing.TB, cfg apnstest.Config) *apnstest.Server {
	t.Helper()
	srv, err := apnstest.New(cfg)
	if err != nil {
		t.Fatalf("start server: %v", err)
	}
	t.Cleanup(func() {
		if err := srv.Close(); err != nil {
			t.Errorf("close server: %v", err)
		}
	})
	return srv
}

func waitFor(t testing.TB, srv *apnstest.Server, what string, ok func(apnstest.Stats) bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := srv.Wait(ctx, ok); err != nil {
		t.Fatalf("wait until %s: %v; got %+v", what, err, srv.Stats())
	}
}

// tokenN is a device token that differs for each n.
func tokenN(n int) string { return fmt.Sprintf("%064x", n) }

// client speaks HTTP/2 frame by frame, and does nothing by itself but
// acknowledging SETTINGS.
type client struct {
	t    testing.TB
	srv  *apnstest.Server
	conn *tls.Conn
	fr   *http2.Framer
	out  bytes.Buffer // frames that are written together
	hbuf bytes.Buffer
	enc  *hpack.Encoder
	dec  *hpack.Decoder

	next     uint32
	jwt      string
	noAck    bool // leaves SETTINGS unacknowledged
	settings map[http2.SettingID]uint32
	updates  map[uint32][]uint32 // WINDOW_UPDATEs by stream
	goAways  []goAway
	pings    int // acknowledgements
	resets   map[uint32][]http2.ErrCode
	answers  map[uint32]*answer
	order    []uint32 // streams in order of their answers' end
	inBlock  uint32   // header block that goes on in CONTINUATION
	block    []byte
	blockEnd bool
	conts    int // CONTINUATION frames seen
	padded   int // padded frames seen
	unknown  int // frames of unknown types
}

type goAway struct {
	last  uint32
	code  http2.ErrCode
	debug string
}

type answer struct {
	info    []int // 1xx
	status  int
	header  map[string]string
	body    []byte
	trailer map[string]string
	ended   bool
	hasHead bool
}

func (a *answer) reason() string {
	var v struct {
		Reason string `json:"reason"`
	}
	_ = json.Unmarshal(a.body, &v)
	return v.Reason
}

type dialOptions struct {
	addr     string
	cert     *tls.Certificate
	settings []http2.Setting
	bare     bool // TLS only: no preface
	maxTLS   uint16
	record   *bytes.Buffer // gets what comes over TCP
}

// recorder keeps what is read from a connection.
type recorder struct {
	net.Conn
	into *bytes.Buffer
}

func (r recorder) Read(p []byte) (int, error) {
	n, err := r.Conn.Read(p)
	if r.into != nil {
		r.into.Write(p[:n])
	}
	return n, err
}

func dial(t testing.TB, srv *apnstest.Server, opt dialOptions) *client {
	t.Helper()
	c, err := tryDial(t, srv, opt)
	if err != nil {
		t.Fatalf("dial: %v", err)
	}
	return c
}

func tryDial(t testing.TB, srv *apnstest.Server, opt dialOptions) (*client, error) {
	if opt.addr == "" {
		opt.addr = srv.Addr()
	}
	cfg := &tls.Config{RootCAs: srv.CAPool(), NextProtos: []string{"h2"}, MinVersion: tls.VersionTLS12, MaxVersion: opt.maxTLS}
	if opt.cert != nil {
		cfg.Certificates = []tls.Certificate{*opt.cert}
	}
	tcp, err := net.DialTimeout("tcp", opt.addr, patience)
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() { _ = tcp.Close() })
	cfg.ServerName = "127.0.0.1"
	_ = tcp.SetDeadline(time.Now().Add(patience))
	conn := tls.Client(recorder{tcp, opt.record}, cfg)
	if err := conn.Handshake(); err != nil {
		return nil, err
	}
	c := &client{
		t: t, srv: srv, conn: conn, next: 1,
		settings: make(map[http2.SettingID]uint32), updates: make(map[uint32][]uint32),
		resets: make(map[uint32][]http2.ErrCode), answers: make(map[uint32]*answer),
	}
	_ = conn.SetDeadline(time.Now().Add(patience))
	c.fr = http2.NewFramer(&c.out, conn)
	c.fr.SetMaxReadFrameSize(1 << 20)
	c.fr.AllowIllegalReads = true
	c.fr.AllowIllegalWrites = true
	c.enc = hpack.NewEncoder(&c.hbuf)
	c.dec = hpack.NewDecoder(4096, nil)
	c.jwt = srv.ProviderToken(time.Now())
	if opt.bare {
		return c, nil
	}
	c.write([]byte(http2.ClientPreface))
	return c, errors.Join(c.fr.WriteSettings(opt.settings...), c.flush())
}

// ready dials, authenticates with one good request and waits until its answer
// and the raised stream limit have come.
func ready(t testing.TB, srv *apnstest.Server) *client {
	t.Helper()
	c := dial(t, srv, dialOptions{})
	c.warm()
	return c
}

func (c *client) warm() {
	c.t.Helper()
	id := c.push(tokenN(1 << 20))
	c.wait("warm-up answer and raised limit", func() bool {
		return c.ended(id) && c.settings[http2.SettingMaxConcurrentStreams] > 1
	})
	if a := c.answers[id]; a.status != 200 {
		c.t.Fatalf("warm-up: got status %d %s, want 200", a.status, a.body)
	}
}

func (c *client) write(b []byte) {
	c.t.Helper()
	if _, err := c.conn.Write(b); err != nil {
		c.t.Fatalf("write: %v", err)
	}
}

// fields are the header fields of a good request to a device token, in order;
// over has pairs of names and values that replace or add some, or with a value
// of "-" remove them.
func (c *client) fields(token string, over ...string) []hpack.HeaderField {
	list := []hpack.HeaderField{
		{Name: ":method", Value: "POST"},
		{Name: ":scheme", Value: "https"},
		{Name: ":path", Value: "/3/device/" + token},
		{Name: ":authority", Value: c.srv.Addr()},
		{Name: "authorization", Value: "bearer " + c.jwt},
		{Name: "apns-topic", Value: bundle},
		{Name: "apns-push-type", Value: "alert"},
	}
next:
	for i := 0; i+1 < len(over); i += 2 {
		name, value := over[i], over[i+1]
		for k := range list {
			if list[k].Name == name {
				if value == "-" {
					list = append(list[:k], list[k+1:]...)
				} else {
					list[k].Value = value
				}
				continue next
			}
		}
		if value != "-" {
			list = append(list, hpack.HeaderField{Name: name, Value: value})
		}
	}
	return list
}

func (c *client) encode(fields []hpack.HeaderField) []byte {
	c.t.Helper()
	c.hbuf.Reset()
	for _, f := range fields {
		if err := c.enc.WriteField(f); err != nil {
			c.t.Fatalf("encode header: %v", err)
		}
	}
	return c.hbuf.Bytes()
}

// send sends a request and returns its stream.
func (c *client) send(fields []hpack.HeaderField, body []byte) uint32 {
	c.t.Helper()
	id := c.next
	c.next += 2
	block := c.encode(fields)
	err := c.fr.WriteHeaders(http2.HeadersFrameParam{
		StreamID: id, BlockFragment: block, EndHeaders: true, EndStream: body == nil,
	})
	if body != nil {
		err = errors.Join(err, c.fr.WriteData(id, true, body))
	}
	c.must(err)
	return id
}

func (c *client) push(token string, over ...string) uint32 {
	c.t.Helper()
	return c.send(c.fields(token, over...), []byte(payload))
}

// must sends what was written.
func (c *client) must(err error) {
	c.t.Helper()
	if err = errors.Join(err, c.flush()); err != nil {
		c.t.Fatalf("write frame: %v", err)
	}
}

func (c *client) flush() error {
	_, err := c.conn.Write(c.out.Bytes())
	c.out.Reset()
	return err
}

func (c *client) ended(ids ...uint32) bool {
	for _, id := range ids {
		if a := c.answers[id]; (a == nil || !a.ended) && len(c.resets[id]) == 0 {
			return false
		}
	}
	return true
}

// wait reads frames until ok; a connection that ends before fails the test.
func (c *client) wait(what string, ok func() bool) {
	c.t.Helper()
	for !ok() {
		if err := c.step(); err != nil {
			c.t.Fatalf("wait for %s: %v; goaways %+v, resets %v", what, err, c.goAways, c.resets)
		}
	}
}

// drain reads frames until the connection ends, and returns why.
func (c *client) drain() error {
	for {
		if err := c.step(); err != nil {
			return err
		}
	}
}

// answer waits for a stream's answer.
func (c *client) answer(id uint32) *answer {
	c.t.Helper()
	c.wait(fmt.Sprintf("answer to stream %d", id), func() bool { return c.answers[id] != nil && c.answers[id].ended })
	return c.answers[id]
}

// ping makes sure that everything sent before was read by the server, and
// everything that it had to write then by us. Twice: a PING overtakes answers
// that are written together with it.
func (c *client) ping() {
	c.t.Helper()
	for range 2 {
		n := c.pings
		c.must(c.fr.WritePing(false, [8]byte{1}))
		c.wait("ping", func() bool { return c.pings > n })
	}
}

// step reads one frame.
func (c *client) step() error {
	f, err := c.fr.ReadFrame()
	if err != nil {
		return err
	}
	if c.inBlock != 0 && f.Header().Type != http2.FrameContinuation {
		return fmt.Errorf("header block interrupted by %v", f.Header())
	}
	switch f := f.(type) {
	case *http2.SettingsFrame:
		if f.IsAck() {
			return nil
		}
		_ = f.ForeachSetting(func(s http2.Setting) error {
			c.settings[s.ID] = s.Val
			if s.ID == http2.SettingHeaderTableSize {
				c.enc.SetMaxDynamicTableSizeLimit(s.Val)
			}
			return nil
		})
		if !c.noAck {
			return errors.Join(c.fr.WriteSettingsAck(), c.flush())
		}
	case *http2.PingFrame:
		if f.IsAck() {
			c.pings++
		} else {
			return errors.Join(c.fr.WritePing(true, f.Data), c.flush())
		}
	case *http2.WindowUpdateFrame:
		c.updates[f.StreamID] = append(c.updates[f.StreamID], f.Increment)
	case *http2.GoAwayFrame:
		c.goAways = append(c.goAways, goAway{f.LastStreamID, f.ErrCode, string(f.DebugData())})
	case *http2.RSTStreamFrame:
		c.resets[f.StreamID] = append(c.resets[f.StreamID], f.ErrCode)
	case *http2.HeadersFrame:
		if f.Flags.Has(http2.FlagHeadersPadded) {
			c.padded++
		}
		return c.head(f.StreamID, f.HeaderBlockFragment(), f.HeadersEnded(), f.StreamEnded())
	case *http2.ContinuationFrame:
		c.conts++
		if f.StreamID != c.inBlock {
			return errors.New("CONTINUATION of another stream")
		}
		return c.head(f.StreamID, f.HeaderBlockFragment(), f.HeadersEnded(), c.blockEnd)
	case *http2.DataFrame:
		a := c.answers[f.StreamID]
		if a == nil || a.ended {
			return fmt.Errorf("DATA on stream %d that is not open", f.StreamID)
		}
		if f.Flags.Has(http2.FlagDataPadded) {
			c.padded++
		}
		a.body = append(a.body, f.Data()...)
		if f.StreamEnded() {
			c.end(f.StreamID, a)
		}
	default:
		c.unknown++
	}
	return nil
}

func (c *client) head(id uint32, fragment []byte, whole, end bool) error {
	if c.inBlock == 0 {
		c.block = c.block[:0]
	}
	c.inBlock, c.blockEnd = id, end
	c.block = append(c.block, fragment...)
	if !whole {
		return nil
	}
	c.inBlock = 0
	fields, err := c.dec.DecodeFull(c.block)
	if err != nil {
		return fmt.Errorf("decode answer's headers: %w", err)
	}
	a := c.answers[id]
	if a == nil {
		a = &answer{header: make(map[string]string)}
		c.answers[id] = a
	}
	into := a.header
	if a.hasHead {
		a.trailer = make(map[string]string)
		into = a.trailer
	}
	status := 0
	for _, f := range fields {
		if f.Name == ":status" {
			status, _ = strconv.Atoi(f.Value)
			continue
		}
		if _, twice := into[f.Name]; twice {
			return fmt.Errorf("answer has %s twice", f.Name)
		}
		into[f.Name] = f.Value
	}
	if status >= 100 && status < 200 {
		a.info = append(a.info, status)
		clear(a.header)
		return nil
	}
	if !a.hasHead {
		a.hasHead, a.status = true, status
	}
	if end {
		c.end(id, a)
	}
	return nil
}

func (c *client) end(id uint32, a *answer) {
	a.ended = true
	c.order = append(c.order, id)
}

// isEOF reports whether a connection ended in good order.
func isEOF(err error) bool { return errors.Is(err, io.EOF) }

func isReset(err error) bool {
	return err != nil && (strings.Contains(err.Error(), "connection reset") || strings.Contains(err.Error(), "broken pipe"))
}

package h2_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"io"
	"math/big"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/pushfleet/pushfleet/apns/internal/h2"
	"github.com/pushfleet/pushfleet/job"
)

// BenchmarkEncode is the header block of one request.
func BenchmarkEncode(b *testing.B) {
	e := h2.NewEncoder("api.push.apple.com", bearer)
	rs := requests(256, 0)
	buf := make([]byte, 0, 1<<10)
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		buf = e.AppendBlock(buf[:0], &rs[i%len(rs)])
		i++
	}
}

// BenchmarkDecode is the header block of one answer, with an apns-id that is
// indexed and Huffman-coded: the worst that a server usually sends.
func BenchmarkDecode(b *testing.B) {
	var out bytes.Buffer
	enc, d := hpack.NewEncoder(&out), h2.NewDecoder()
	var blocks [][]byte
	for i := range 300 {
		out.Reset()
		for _, f := range []hpack.HeaderField{{Name: ":status", Value: "200"}, {Name: "apns-id", Value: request(i, 0).APNsID.String()}} {
			if err := enc.WriteField(f); err != nil {
				b.Fatal(err)
			}
		}
		blocks = append(blocks, bytes.Clone(out.Bytes()))
	}
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		if i == len(blocks) {
			i = 200 // from here on the table is full, and refers to nothing older
		}
		if _, err := d.Decode(blocks[i]); err != nil {
			b.Fatal(err)
		}
		i++
	}
}

// counter is an endless queue of one request.
type counter struct {
	request h2.Request
	left    atomic.Int64 // requests still to be taken
	done    atomic.Int64 // results still to come
	over    chan struct{}
}

func (q *counter) Take(lane job.Lane, dst []h2.Item, budget int) int {
	if lane != job.Bulk {
		return 0
	}
	n := min(len(dst), max(1, budget/h2.Cost(&q.request)), int(q.left.Load()))
	q.left.Add(int64(-n))
	for i := range n {
		dst[i] = h2.Item{Batch: q}
	}
	return n
}

func (q *counter) GoAway(*h2.Conn, *h2.GoAwayError) {}
func (q *counter) Closed(*h2.Conn, error)           {}
func (q *counter) Request(int32) *h2.Request        { return &q.request }

func (q *counter) Done(_ *h2.Conn, _ h2.Item, r *h2.Result) {
	if r.Status != 200 {
		panic(r.Err)
	}
	if q.done.Add(-1) == 0 {
		close(q.over)
	}
}

// BenchmarkConn is the whole way, both sides of it: encode, TLS, loopback, a
// peer that answers as cheaply as it can, decode.
func BenchmarkConn(b *testing.B) {
	ln, roots := listen(b)
	go serveCheaply(ln)
	nc, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		b.Fatal(err)
	}
	wire := h2.NewWire(nc, 10*time.Second)
	tc := tls.Client(wire, &tls.Config{RootCAs: roots, ServerName: "localhost", NextProtos: []string{"h2"}, DynamicRecordSizingDisabled: true})
	if err := tc.Handshake(); err != nil {
		b.Fatal(err)
	}
	q := &counter{request: request(1, 212), over: make(chan struct{})}
	q.left.Store(int64(b.N))
	q.done.Store(int64(b.N))
	c := h2.NewConn(tc, wire, h2.Config{Owner: q, Authority: "localhost", Authorization: bearer})
	b.ReportAllocs()
	b.ResetTimer()
	c.Wake()
	<-q.over
	b.StopTimer()
	c.Close()
}

// serveCheaply answers 200 to every request of one connection.
func serveCheaply(ln net.Listener) {
	nc, err := ln.Accept()
	if err != nil {
		return
	}
	defer nc.Close()
	fr := http2.NewFramer(nc, nil)
	_ = fr.WriteSettings(http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: 1000})
	_ = fr.WriteWindowUpdate(0, 1<<30)
	buf := make([]byte, 256<<10)
	if _, err := io.ReadFull(nc, buf[:len(http2.ClientPreface)]); err != nil {
		return
	}
	var out []byte
	held, unacked := 0, uint32(0)
	for {
		n, err := nc.Read(buf[held:])
		if err != nil {
			return
		}
		held += n
		at := 0
		out = out[:0]
		for held-at >= 9 {
			length := int(buf[at])<<16 | int(buf[at+1])<<8 | int(buf[at+2])
			if held-at < 9+length {
				break
			}
			if http2.FrameType(buf[at+3]) == http2.FrameData {
				unacked += uint32(length)
				out = append(out, 0, 0, 1, byte(http2.FrameHeaders), 5)
				out = append(out, buf[at+5:at+9]...)
				out = append(out, 0x88)
			}
			at += 9 + length
		}
		copy(buf, buf[at:held])
		held -= at
		if unacked > 1<<20 {
			out = append(out, 0, 0, 4, byte(http2.FrameWindowUpdate), 0, 0, 0, 0, 0)
			out = binary.BigEndian.AppendUint32(out, unacked)
			unacked = 0
		}
		if _, err := nc.Write(out); err != nil {
			return
		}
	}
}

// listen returns a TLS listener on the loopback and the pool that trusts it.
func listen(tb testing.TB) (net.Listener, *x509.CertPool) {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"localhost"},
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		tb.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		tb.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(cert)
	ln, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{
		Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, NextProtos: []string{"h2"},
	})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = ln.Close() })
	return ln, roots
}

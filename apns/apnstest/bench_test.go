package apnstest_test

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/pushfleet/pushfleet/apns/apnstest"
)

// benchClient in the environment makes the test binary a client: BenchmarkServer
// runs it as a process of its own, so that only the server's time is measured.
const benchClient = "APNSTEST_BENCH_CLIENT"

// BenchmarkServer measures what a notification costs the simulator's process,
// user and system time, TLS included: see the metric cpu-ns/op. The client is
// about as cheap as one can be: 64-digit tokens and unique apns-ids in plain
// literals, all else from the header table, bodies of 212 bytes.
func BenchmarkServer(b *testing.B) {
	for _, bm := range []struct {
		name  string
		cfg   apnstest.Config
		conns int
	}{
		{"ledger=hash", apnstest.Config{Ledger: apnstest.LedgerHash}, 1},
		{"ledger=hash/4 connections", apnstest.Config{Ledger: apnstest.LedgerHash}, 4},
		{"ledger=hash/1% dead", apnstest.Config{Ledger: apnstest.LedgerHash, DeadShare: 0.01}, 1},
		{"ledger=hash/20ms", apnstest.Config{Ledger: apnstest.LedgerHash, Latency: 20 * time.Millisecond}, 4},
		{"ledger=off", apnstest.Config{Ledger: apnstest.LedgerOff}, 1},
		{"ledger=full", apnstest.Config{}, 1},
	} {
		b.Run(bm.name, func(b *testing.B) {
			srv := newServer(b, bm.cfg)
			cmd := exec.CommandContext(b.Context(), os.Args[0])
			cmd.Env = append(os.Environ(), benchClient+"="+fmt.Sprintf("%s %d %d", srv.Addr(), bm.conns, b.N), "GOMAXPROCS=1")
			cmd.Stdin = bytes.NewReader(append(srv.CAPEM(), []byte("\n"+srv.ProviderToken(time.Now())+"\n")...))
			cmd.Stderr = os.Stderr
			b.ResetTimer()
			before := cpuTime(b)
			if err := cmd.Run(); err != nil {
				b.Fatal(err)
			}
			used := cpuTime(b) - before
			b.StopTimer()
			st := srv.Stats()
			if st.Received != int64(b.N) || st.Accepted+st.Rejected != int64(b.N) || st.Duplicates != 0 || st.RefusedStreams != 0 {
				b.Fatalf("got %+v, want %d received", st, b.N)
			}
			b.ReportMetric(float64(used.Nanoseconds())/float64(b.N), "cpu-ns/op")
			b.ReportMetric(st.HoldMeanSeconds*1e3, "hold-ms")
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "notifications/s")
		})
	}
}

// cpuTime is what the process has used.
func cpuTime(tb testing.TB) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		tb.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// runBenchClient is the client's process.
func runBenchClient(spec string) error {
	var addr string
	var conns, total int
	if _, err := fmt.Sscanf(spec, "%s %d %d", &addr, &conns, &total); err != nil {
		return err
	}
	in, err := io.ReadAll(bufio.NewReader(os.Stdin))
	if err != nil {
		return err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(in) {
		return errors.New("no authority on standard input")
	}
	lines := bytes.Split(bytes.TrimSpace(in), []byte("\n"))
	jwt := string(lines[len(lines)-1])
	errs := make([]error, conns)
	var wg sync.WaitGroup
	conns = min(conns, total)
	for i := range conns {
		n := total / conns
		if i < total%conns {
			n++
		}
		wg.Go(func() {
			conn, err := tls.Dial("tcp", addr, &tls.Config{RootCAs: pool, NextProtos: []string{"h2"}, MinVersion: tls.VersionTLS13})
			if err != nil {
				errs[i] = err
				return
			}
			defer conn.Close()
			errs[i] = (&blaster{conn: conn, room: 1, window: 65535, conns: uint64(i), left: n}).run(jwt)
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// blaster sends as fast as the stream limit and the connection window allow.
type blaster struct {
	conn  *tls.Conn
	conns uint64

	mu     sync.Mutex
	cond   sync.Cond
	limit  int
	room   int // streams free
	window int // bytes
	left   int // to be sent
	open   int
	err    error
}

const blastBody = `{"aps":{"alert":{"title":"Your order is on its way","body":"It left our house this morning and should be with you by tomorrow evening."},` +
	`"sound":"default","thread-id":"orders"},"order":4711,"url":"/orders/4711"}`

func (b *blaster) run(jwt string) error {
	b.cond.L = &b.mu
	b.limit = 1
	var block bytes.Buffer
	enc := hpack.NewEncoder(&block)
	var index []byte
	for i, f := range []hpack.HeaderField{
		{Name: ":authority", Value: "localhost"},
		{Name: "authorization", Value: "bearer " + jwt},
		{Name: "apns-topic", Value: bundle},
		{Name: "apns-push-type", Value: "alert"},
		{Name: "apns-priority", Value: "10"},
		{Name: "apns-id", Value: someID},
	} {
		if err := enc.WriteField(f); err != nil {
			return err
		}
		index = append(index, byte(0x80|62+5-i)) // once all of them are in the table
	}
	pseudo := []byte{0x83, 0x87, index[0]} // POST, https, authority
	index = index[1:5]                     // apns-id has a value of its own
	var out bytes.Buffer
	out.WriteString(http2.ClientPreface)
	fr := http2.NewFramer(&out, nil)
	if err := errors.Join(fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 20}), fr.WriteWindowUpdate(0, 1<<30)); err != nil {
		return err
	}
	first := append([]byte{0x83, 0x87}, appendPath(nil, b.conns, 0)...)
	first = append(first, block.Bytes()...)
	if err := errors.Join(fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: first, EndHeaders: true}),
		fr.WriteData(1, true, []byte(blastBody))); err != nil {
		return err
	}
	if _, err := b.conn.Write(out.Bytes()); err != nil {
		return err
	}
	b.left--
	b.open, b.room, b.window = 1, 0, b.window-len(blastBody)
	done := make(chan struct{})
	go func() {
		defer close(done)
		b.fail(b.read())
	}()
	defer func() { _ = b.conn.Close(); <-done }()

	stream, n := uint32(3), uint64(1)
	buf := make([]byte, 0, 64<<10)
	for {
		b.mu.Lock()
		for b.err == nil && (b.left > 0 && (b.room <= 0 || b.window < len(blastBody)) || b.left == 0 && b.open > 0) {
			b.cond.Wait()
		}
		if b.err != nil || b.left == 0 {
			defer b.mu.Unlock()
			return b.err
		}
		k := min(b.left, b.room, b.window/len(blastBody), 64)
		b.left, b.room, b.open, b.window = b.left-k, b.room-k, b.open+k, b.window-k*len(blastBody)
		b.mu.Unlock()
		buf = buf[:0]
		for range k {
			at := len(buf)
			buf = append(buf, 0, 0, 0, 1, 4, byte(stream>>24), byte(stream>>16), byte(stream>>8), byte(stream))
			buf = append(buf, pseudo...)
			buf = appendPath(buf, b.conns, n)
			buf = append(buf, index...)
			buf = append(buf, 0x0f, 62-15, 36) // apns-id: its name is the newest entry
			var id [16]byte
			binary.BigEndian.PutUint64(id[:], b.conns)
			binary.BigEndian.PutUint64(id[8:], n*0x9e3779b97f4a7c15)
			buf = appendID(buf, id)
			size := len(buf) - at - 9
			buf[at+1], buf[at+2] = byte(size>>8), byte(size)
			buf = append(buf, 0, 0, byte(len(blastBody)), 0, 1, byte(stream>>24), byte(stream>>16), byte(stream>>8), byte(stream))
			buf = append(buf, blastBody...)
			stream, n = stream+2, n+1
		}
		if _, err := b.conn.Write(buf); err != nil {
			return err
		}
	}
}

func (b *blaster) fail(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err == nil && b.left+b.open > 0 {
		b.err = fmt.Errorf("read: %w", err)
	}
	b.cond.Signal()
}

// read reads answers without looking at more than their frames' headers.
func (b *blaster) read() error {
	buf := make([]byte, 128<<10)
	r, w := 0, 0
	for {
		n, err := b.conn.Read(buf[w:])
		if err != nil {
			return err
		}
		w += n
		ended, granted, limit := 0, 0, 0
		for w-r >= 9 {
			f := buf[r:w]
			size := int(f[0])<<16 | int(f[1])<<8 | int(f[2])
			if len(f) < 9+size {
				break
			}
			switch http2.FrameType(f[3]) {
			case http2.FrameHeaders, http2.FrameData:
				ended += int(f[4] & 1)
			case http2.FrameWindowUpdate:
				granted += int(binary.BigEndian.Uint32(f[9:]))
			case http2.FrameSettings:
				for p := f[9 : 9+size]; len(p) > 0; p = p[6:] {
					if binary.BigEndian.Uint16(p) == uint16(http2.SettingMaxConcurrentStreams) {
						limit = int(binary.BigEndian.Uint32(p[2:]))
					}
				}
			case http2.FrameRSTStream, http2.FrameGoAway:
				return fmt.Errorf("got %v", http2.FrameType(f[3]))
			}
			r += 9 + size
		}
		w = copy(buf, buf[r:w])
		r = 0
		b.mu.Lock()
		if limit > 0 {
			b.room += limit - b.limit
			b.limit = limit
		}
		b.room += ended
		b.open -= ended
		b.window += granted
		b.mu.Unlock()
		b.cond.Signal()
	}
}

func appendPath(dst []byte, conn, n uint64) []byte {
	const prefix = "/3/device/"
	dst = append(dst, 0x04, byte(len(prefix)+64)) // :path, literal without indexing
	dst = append(dst, prefix...)
	var raw [32]byte
	binary.BigEndian.PutUint64(raw[:], conn)
	binary.BigEndian.PutUint64(raw[24:], n)
	return hex.AppendEncode(dst, raw[:])
}

func appendID(dst []byte, id [16]byte) []byte {
	dst = hex.AppendEncode(dst, id[:4])
	for _, part := range [][]byte{id[4:6], id[6:8], id[8:10], id[10:]} {
		dst = hex.AppendEncode(append(dst, '-'), part)
	}
	return dst
}

// mainForBench runs the client if this process is to be one.
func mainForBench() (code int, isClient bool) {
	spec := os.Getenv(benchClient)
	if spec == "" {
		return 0, false
	}
	if err := runBenchClient(spec); err != nil {
		fmt.Fprintln(os.Stderr, "bench client "+strconv.Quote(spec)+":", err)
		return 1, true
	}
	return 0, true
}

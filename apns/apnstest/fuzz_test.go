package apnstest_test

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/pushfleet/pushfleet/apns/apnstest"
)

// fuzzServer keeps no records: a fuzz test makes millions of requests.
func fuzzServer(tb testing.TB) *apnstest.Server {
	tb.Helper()
	return newServer(tb, apnstest.Config{Ledger: apnstest.LedgerHash})
}

// FuzzHeaders compares the decoder with package hpack's, over several blocks
// that share a table.
func FuzzHeaders(f *testing.F) {
	var buf bytes.Buffer
	enc := hpack.NewEncoder(&buf)
	for range 3 {
		for _, h := range []hpack.HeaderField{
			{Name: ":method", Value: "POST"},
			{Name: ":path", Value: "/3/device/" + tokenN(1)},
			{Name: "authorization", Value: "bearer x.y.z", Sensitive: true},
			{Name: "apns-id", Value: someID},
			{Name: "x-other", Value: strings.Repeat("é", 50)},
		} {
			if err := enc.WriteField(h); err != nil {
				f.Fatal(err)
			}
		}
	}
	f.Add(buf.Bytes(), uint16(40))
	f.Add([]byte{0x44, 0x00, 0xbe, 0x04, 0x80, 0x08, 0x00}, uint16(2)) // empty values
	f.Add([]byte{0x20, 0x3f, 0xe1, 0x1f, 0x82}, uint16(3))
	f.Add([]byte{0x40, 0x83, 0xff, 0xff, 0xff, 0x00}, uint16(0))
	f.Fuzz(func(t *testing.T, data []byte, cut uint16) {
		ours := apnstest.NewHeaderDecoder()
		theirs := hpack.NewDecoder(4096, nil)
		theirs.SetMaxStringLength(1 << 20)
		first := min(int(cut), len(data))
		for _, block := range [][]byte{data[:first], data[first:]} {
			get, size, err := ours.Decode(block)
			fields, wantErr := theirs.DecodeFull(block)
			if err != nil && strings.Contains(err.Error(), "size update") {
				return // only at a block's beginning (RFC 7541, 4.2): package hpack is lenient
			}
			if (err != nil) != (wantErr != nil) {
				t.Fatalf("block %x: got %v, want %v", block, err, wantErr)
			}
			if err != nil {
				return
			}
			wantSize := 0
			last := make(map[string]string)
			for _, h := range fields {
				wantSize += len(h.Name) + len(h.Value) + 32
				last[h.Name] = h.Value
			}
			if size != wantSize {
				t.Fatalf("block %x: got size %d, want %d", block, size, wantSize)
			}
			for _, name := range []string{":method", ":path", "authorization", "apns-id", "apns-topic", "apns-expiration", "content-encoding"} {
				got, ok := get(name)
				if want, wantOK := last[name]; got != want || ok != wantOK {
					t.Fatalf("block %x: got %s %q, %v, want %q, %v", block, name, got, ok, want, wantOK)
				}
			}
			if size, n := ours.TableSize(); size > 4096 || size < 32*n {
				t.Fatalf("table of %d entries has size %d", n, size)
			}
		}
	})
}

// TestTableSize fills the header table many times over.
func TestTableSize(t *testing.T) {
	t.Parallel()
	var buf bytes.Buffer
	enc, dec := hpack.NewEncoder(&buf), apnstest.NewHeaderDecoder()
	for i := range 500 {
		buf.Reset()
		if err := enc.WriteField(hpack.HeaderField{Name: "x-number", Value: tokenN(i)}); err != nil {
			t.Fatal(err)
		}
		if _, _, err := dec.Decode(buf.Bytes()); err != nil {
			t.Fatal(err)
		}
		// An entry counts 8+64+32 bytes.
		if size, n := dec.TableSize(); n != min(i+1, 4096/104) || size != 104*n {
			t.Fatalf("after %d entries: got %d of %d bytes, want %d", i+1, n, size, min(i+1, 4096/104))
		}
	}
}

// FuzzFrames gives a connection anything at all.
func FuzzFrames(f *testing.F) {
	srv := fuzzServer(f)
	var wire, block bytes.Buffer
	fr, enc := http2.NewFramer(&wire, nil), hpack.NewEncoder(&block)
	must := func(err error) {
		if err != nil {
			f.Fatal(err)
		}
	}
	must(fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 100}))
	for i := range uint32(3) {
		block.Reset()
		for _, h := range []hpack.HeaderField{
			{Name: ":method", Value: "POST"},
			{Name: ":scheme", Value: "https"},
			{Name: ":path", Value: "/3/device/" + tokenN(1)},
			{Name: "authorization", Value: "bearer " + srv.ProviderToken(time.Now())},
			{Name: "apns-topic", Value: bundle},
		} {
			must(enc.WriteField(h))
		}
		must(fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 2*i + 1, BlockFragment: block.Bytes(), EndHeaders: true, PadLength: uint8(i)}))
		must(fr.WriteDataPadded(2*i+1, i > 0, []byte(payload), make([]byte, i)))
		must(fr.WriteRSTStream(2*i+1, http2.ErrCodeCancel))
	}
	must(fr.WriteWindowUpdate(0, 1000))
	must(fr.WriteSettingsAck())
	must(fr.WritePing(false, [8]byte{}))
	must(fr.WriteGoAway(0, 0, nil))
	f.Add(wire.Bytes())
	f.Fuzz(func(t *testing.T, frames []byte) {
		if open, judged := srv.Feed(frames); open < 0 || judged < 0 {
			t.Fatalf("got %d requests open, %d judged", open, judged)
		}
	})
}

// TestFeed makes sure that the fuzz test's seed gets anywhere.
func TestFeed(t *testing.T) {
	t.Parallel()
	srv := fuzzServer(t)
	var wire, block bytes.Buffer
	fr, enc := http2.NewFramer(&wire, nil), hpack.NewEncoder(&block)
	for _, h := range []hpack.HeaderField{
		{Name: ":method", Value: "POST"},
		{Name: ":scheme", Value: "https"},
		{Name: ":path", Value: "/3/device/" + tokenN(1)},
	} {
		if err := enc.WriteField(h); err != nil {
			t.Fatal(err)
		}
	}
	if fr.WriteSettings() != nil || fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block.Bytes(), EndHeaders: true}) != nil ||
		fr.WriteData(1, true, []byte(payload)) != nil {
		t.Fatal("write to a buffer")
	}
	if open, judged := srv.Feed(wire.Bytes()); open != 1 || judged != 1 {
		t.Errorf("got %d open, %d judged, want one whose answer is not written", open, judged)
	}
}

func FuzzProviderToken(f *testing.F) {
	srv := fuzzServer(f)
	f.Add(srv.ProviderToken(time.Unix(1_700_000_000, 0)))
	f.Add("e30.e30.")
	f.Add("..")
	f.Add("eyJhbGciOiJFUzI1NiJ9.eyJpYXQiOiAxfQ.AA")
	f.Fuzz(func(t *testing.T, text string) {
		_, _, iat, err := apnstest.ParseProviderToken(text)
		if err == nil && strings.Count(text, ".") != 2 {
			t.Fatalf("%q was taken, with iat %d", text, iat)
		}
	})
}

// FuzzPairSet compares the set of pairs with a map.
func FuzzPairSet(f *testing.F) {
	f.Add([]byte{1, 2, 3, 1, 0x82, 2, 0, 0})
	f.Fuzz(func(t *testing.T, ops []byte) {
		var set apnstest.PairSet
		want := make(map[uint64]bool)
		for _, op := range ops {
			// Few shards, few homes: long runs.
			h := uint64(op&0x0f)<<56 | uint64(op>>4&7)*64 | uint64(op&3)
			if h == 0 {
				h = 1 // the two are one
			}
			if op&0x80 != 0 {
				set.Remove(h)
				delete(want, h)
				continue
			}
			if got := set.Add(h); got != want[h] {
				t.Fatalf("add %x: got %v, want %v", h, got, want[h])
			}
			want[h] = true
		}
	})
}

// TestPairSet grows the set far beyond its first size.
func TestPairSet(t *testing.T) {
	t.Parallel()
	var set apnstest.PairSet
	const n = 200_000
	hash := func(i uint64) uint64 { return i * 0x9e3779b97f4a7c15 }
	for i := range uint64(n) {
		if set.Add(hash(i)) {
			t.Fatalf("%d: was there at first", i)
		}
	}
	for i := uint64(0); i < n; i += 3 {
		set.Remove(hash(i))
	}
	for i := range uint64(n) {
		if got, want := set.Add(hash(i)), i%3 != 0; got != want {
			t.Fatalf("%d: got %v, want %v", i, got, want)
		}
	}
}

package h2_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/pushfleet/pushfleet/apns/internal/h2"
	"github.com/pushfleet/pushfleet/device"
	"github.com/pushfleet/pushfleet/job"
)

// Whatever x/net's decoder takes, ours takes and understands in the same way,
// over several blocks of one table; and the other way round.
func FuzzDecode(f *testing.F) {
	var out bytes.Buffer
	enc := hpack.NewEncoder(&out)
	for _, fields := range [][]string{
		{":status", "200", "apns-id", "0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9"},
		{":status", "410", "apns-unique-id", "x", "content-type", "application/json"},
	} {
		out.Reset()
		for i := 0; i < len(fields); i += 2 {
			_ = enc.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
		}
		f.Add(bytes.Clone(out.Bytes()), byte(3))
	}
	f.Add([]byte{0x20, 0x3f, 0xe1, 0x1f, 0x88}, byte(1))
	f.Fuzz(func(t *testing.T, data []byte, cut byte) {
		ours, theirs := h2.NewDecoder(), hpack.NewDecoder(4096, nil)
		at := min(int(cut), len(data))
		for _, block := range [][]byte{data[:at], data[at:], data[:at]} {
			fields, theirErr := theirs.DecodeFull(block)
			got, err := ours.Decode(block)
			if errors.Is(err, h2.ErrSizeUpdate) {
				return // x/net lets some of them pass
			}
			if (err == nil) != (theirErr == nil) {
				t.Fatalf("block %x: got error %v, x/net %v", block, err, theirErr)
			}
			if err != nil {
				return
			}
			var want h2.Head
			for _, field := range fields {
				switch field.Name {
				case ":status":
					want.Status = 0
					if v := field.Value; len(v) == 3 && strings.Trim(v, "0123456789") == "" {
						want.Status = int(v[0]-'0')*100 + int(v[1]-'0')*10 + int(v[2]-'0')
					}
				case "apns-id":
					want.APNsID, want.HasID = uuid.UUID{}, false
					if id, err := uuid.Parse(field.Value); err == nil && len(field.Value) == 36 {
						want.APNsID, want.HasID = id, true
					}
				case "apns-unique-id":
					want.UniqueID = field.Value
				}
			}
			if !got.HasID {
				got.APNsID = uuid.UUID{}
			}
			if got != want {
				t.Fatalf("block %x: got %+v, want %+v", block, got, want)
			}
		}
	})
}

func FuzzHuffman(f *testing.F) {
	f.Add(hpack.AppendHuffmanString(nil, "0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9"))
	f.Add(hpack.AppendHuffmanString(nil, "\x00\xff~{|}"))
	f.Add([]byte{0xff})
	f.Fuzz(func(t *testing.T, v []byte) {
		want, theirErr := hpack.HuffmanDecodeToString(v)
		got, err := h2.AppendHuffmanDecoded([]byte("x"), v)
		if (err == nil) != (theirErr == nil) {
			t.Fatalf("%x: got error %v, x/net %v", v, err, theirErr)
		}
		if err == nil && string(got) != "x"+want {
			t.Fatalf("%x: got %q, want %q", v, got, "x"+want)
		}
	})
}

// What the encoder writes, a decoder reads, whatever the fields and however the
// table changes.
func FuzzEncode(f *testing.F) {
	f.Add([]byte{1, 2, 3, 255, 4, 5, 254, 9}, "com.example.app", uint16(4096))
	f.Add([]byte{1, 1, 1, 255, 1, 253, 1, 1}, strings.Repeat("t", 5000), uint16(64))
	f.Fuzz(func(t *testing.T, steps []byte, topic string, size uint16) {
		e, d := h2.NewEncoder("api.push.apple.com", bearer), hpack.NewDecoder(4096, nil)
		d.SetMaxStringLength(1 << 20)
		auth := bearer
		for i, step := range steps {
			switch step {
			case 255:
				e.SetTableSize(uint32(size))
				d.SetAllowedMaxDynamicTableSize(uint32(min(size, 4096)))
				continue
			case 254:
				auth += "x"
				e.SetAuthorization(auth)
				continue
			case 253:
				e.SetTableSize(4096)
				d.SetAllowedMaxDynamicTableSize(4096)
				continue
			}
			r := request(i, 0)
			r.Topic = topic + string(rune('a'+step%16))
			if step%3 == 0 {
				r.CollapseID = topic
			}
			fields, err := d.DecodeFull(e.AppendBlock(nil, &r))
			if err != nil {
				t.Fatalf("step %d: %v", i, err)
			}
			seen := map[string]string{}
			for _, field := range fields {
				seen[field.Name] = field.Value
			}
			if seen["apns-topic"] != r.Topic || seen["authorization"] != auth || seen["apns-collapse-id"] != r.CollapseID ||
				seen["apns-id"] != r.APNsID.String() || seen[":path"] != "/3/device/"+r.DeviceToken.Hex() {
				t.Fatalf("step %d: got %v", i, seen)
			}
		}
	})
}

// Whatever a peer sends, in whatever pieces: no panic, no hang, and each request
// is told exactly once.
func FuzzConn(f *testing.F) {
	var out bytes.Buffer
	fr := http2.NewFramer(&out, nil)
	_ = fr.WriteSettings(http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: 2})
	_ = fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, EndHeaders: true, EndStream: true, BlockFragment: []byte{0x88}})
	_ = fr.WriteRSTStream(3, http2.ErrCodeRefusedStream)
	_ = fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 5, BlockFragment: []byte{0x8c}})
	_ = fr.WriteContinuation(5, true, []byte{0x8c})
	_ = fr.WriteDataPadded(5, true, []byte("x"), []byte{0, 0})
	_ = fr.WriteWindowUpdate(0, 5)
	_ = fr.WriteGoAway(7, http2.ErrCodeNo, []byte("bye"))
	f.Add(out.Bytes(), byte(7))
	f.Add(out.Bytes()[:30], byte(1))
	f.Fuzz(func(t *testing.T, data []byte, piece byte) {
		near, far := net.Pipe()
		o := newOwner()
		const total = 6
		o.submit(job.Bulk, requests(total, 20000)...)
		c := h2.NewConn(near, nil, h2.Config{Owner: o, Authority: "a"})
		go func() {
			for b := range slices.Chunk(data, int(piece)+1) {
				if _, err := far.Write(b); err != nil {
					break
				}
			}
			_ = far.Close()
		}()
		_, _ = io.Copy(io.Discard, far)
		<-o.closed
		c.Close()
		seen := map[int32]int{}
		for range len(o.done) {
			seen[(<-o.done).index]++
		}
		for i, n := range seen {
			if n != 1 {
				t.Errorf("request %d: told %d times", i, n)
			}
		}
		if got := len(seen) + o.queued(job.Bulk); got != total {
			t.Errorf("told and queued: got %d, want %d", got, total)
		}
	})
}

func tokenOf(n int) device.Token {
	return device.TokenFromRaw(strings.Repeat("\xa7\x0f\x99", n)[:n])
}

func headerTableSize(n uint32) http2.Setting {
	return http2.Setting{ID: http2.SettingHeaderTableSize, Val: n}
}

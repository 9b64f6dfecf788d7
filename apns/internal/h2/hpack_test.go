package h2_test

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"
	"golang.org/x/net/http2/hpack"

	"github.com/pushfleet/pushfleet/apns/internal/h2"
	"github.com/pushfleet/pushfleet/job"
)

// reader decodes what an Encoder writes, as a peer would.
type reader struct {
	t   *testing.T
	dec *hpack.Decoder
}

func newReader(t *testing.T) *reader { return &reader{t, hpack.NewDecoder(4096, nil)} }

// read decodes the block of r and checks its fields.
func (d *reader) read(block []byte, r *h2.Request, auth string) {
	d.t.Helper()
	fields, err := d.dec.DecodeFull(block)
	if err != nil {
		d.t.Fatalf("decode: %v", err)
	}
	want := map[string]string{
		":method": "POST", ":scheme": "https", ":authority": "api.push.apple.com",
		":path": "/3/device/" + r.DeviceToken.Hex(), "content-type": "application/json",
		"authorization": auth, "apns-topic": r.Topic, "apns-push-type": string(r.PushType), "apns-priority": fmt.Sprint(r.Priority),
		"apns-id": r.APNsID.String(), "apns-expiration": fmt.Sprint(r.Expiration), "apns-collapse-id": r.CollapseID,
	}
	if r.CollapseID == "" {
		delete(want, "apns-collapse-id")
	}
	for _, f := range fields {
		if want[f.Name] != f.Value {
			d.t.Fatalf("%s: got %q, want %q", f.Name, f.Value, want[f.Name])
		}
		delete(want, f.Name)
	}
	if len(want) != 0 {
		d.t.Fatalf("fields missing: %v", want)
	}
}

// steady is the length of a block in which everything but the particular is
// indexed: path, two fields with an indexed name, six references.
const steady = 3 + 1 + 74 + 6 + (2 + 1 + 36) + (2 + 1 + 10)

func TestEncodeSteadyState(t *testing.T) {
	t.Parallel()
	e, d := h2.NewEncoder("api.push.apple.com", bearer), newReader(t)
	for i := range 1000 {
		r := request(i, 0)
		block := e.AppendBlock(nil, &r)
		d.read(block, &r, bearer)
		if i > 1 && len(block) != steady {
			t.Fatalf("block %d: got %d bytes, want %d", i, len(block), steady)
		}
		if !bytes.Contains(block, []byte("\x04\x4a/3/device/"+r.DeviceToken.Hex())) {
			t.Fatalf("block %d: got %x, want :path as it is, not indexed", i, block)
		}
	}
}

func TestEncodeCollapseIDIsNotIndexed(t *testing.T) {
	t.Parallel()
	e, d := h2.NewEncoder("api.push.apple.com", bearer), newReader(t)
	for i := range 200 {
		r := request(i, 0)
		r.Expiration = int64(i)
		r.CollapseID = strings.Repeat("c", i%64+1)
		d.read(e.AppendBlock(nil, &r), &r, bearer)
	}
	r := request(0, 0)
	if got := len(e.AppendBlock(nil, &r)); got != steady {
		t.Errorf("after 200 other collapse ids: got a block of %d bytes, want %d", got, steady)
	}
}

func TestEncodeLongDeviceTokens(t *testing.T) {
	t.Parallel()
	e, d := h2.NewEncoder("api.push.apple.com", bearer), newReader(t)
	for n := 1; n <= 256; n++ {
		r := request(n, 0)
		r.DeviceToken = tokenOf(n)
		d.read(e.AppendBlock(nil, &r), &r, bearer)
	}
}

func TestEncodeManyTopics(t *testing.T) {
	t.Parallel()
	for _, topics := range []int{2, 40, 60, 300} {
		t.Run(fmt.Sprint(topics), func(t *testing.T) {
			t.Parallel()
			e, d := h2.NewEncoder("api.push.apple.com", bearer), newReader(t)
			size, with := 0, 0
			for i := range 20 * topics {
				r := request(i, 0)
				r.Topic = fmt.Sprintf("com.example.topic-%04d", i%topics)
				block := e.AppendBlock(nil, &r)
				d.read(block, &r, bearer)
				if i >= 10*topics {
					size += len(block)
				}
				if bytes.Contains(block, []byte("bearer")) || len(block) > steady+60 {
					with++
				}
			}
			// At worst the topic is spelled out: its name by index, Huffman-coded.
			if got := size / (10 * topics); got > steady+20 {
				t.Errorf("mean block: got %d bytes, want at most %d", got, steady+20)
			}
			if with > 2 {
				t.Errorf("blocks with the provider token spelled out: got %d, want 1 or 2", with)
			}
		})
	}
}

func TestEncodeTopicsThatChangeOverTime(t *testing.T) {
	t.Parallel()
	e, d := h2.NewEncoder("api.push.apple.com", bearer), newReader(t)
	// Each generation of topics fills the table; the next one takes its place.
	for generation := range 3 {
		for i := range 3 * h2.ColdBlocks {
			r := request(i, 0)
			r.Topic = fmt.Sprintf("com.example.generation-%d-%02d", generation, i%40)
			block := e.AppendBlock(nil, &r)
			d.read(block, &r, bearer)
			if i > 3*h2.ColdBlocks-40 && len(block) != steady {
				t.Fatalf("generation %d: got a block of %d bytes, want %d", generation, len(block), steady)
			}
		}
	}
}

func TestEncodeProviderTokenRotates(t *testing.T) {
	t.Parallel()
	e, d := h2.NewEncoder("api.push.apple.com", bearer), newReader(t)
	for rotation := range 50 {
		auth := fmt.Sprintf("bearer %s.%04d", strings.Repeat("x", 200), rotation)
		e.SetAuthorization(auth)
		for i := range 20 {
			r := request(i, 0)
			r.Topic = fmt.Sprintf("com.example.topic-%d", i%5)
			block := e.AppendBlock(nil, &r)
			d.read(block, &r, auth)
			if i >= 15 && len(block) != steady {
				t.Fatalf("rotation %d, block %d: got %d bytes, want %d", rotation, i, len(block), steady)
			}
		}
	}
}

// A new provider token gets its place although topics in use fill the table.
func TestEncodeProviderTokenGoesBeforeTopics(t *testing.T) {
	t.Parallel()
	e, d := h2.NewEncoder("api.push.apple.com", bearer), newReader(t)
	auth, spelledOut := bearer, 0
	for i := range 1000 {
		if i == 500 {
			auth = "bearer " + strings.Repeat("x", 250)
			e.SetAuthorization(auth)
		}
		r := request(i, 0)
		r.Topic = fmt.Sprintf("com.example.topic-%04d", i%60)
		block := e.AppendBlock(nil, &r)
		d.read(block, &r, auth)
		if i >= 500 && len(block) > steady+100 {
			spelledOut++
		}
	}
	if spelledOut > 2 {
		t.Errorf("blocks with the new provider token spelled out: got %d, want 1 or 2", spelledOut)
	}
}

func TestEncodeTableSizeChanges(t *testing.T) {
	t.Parallel()
	e, d := h2.NewEncoder("api.push.apple.com", bearer), newReader(t)
	send := func(n int) (first []byte) {
		for i := range n {
			r := request(i, 0)
			block := e.AppendBlock(nil, &r)
			if i == 0 {
				first = block
			}
			d.read(block, &r, bearer)
		}
		return first
	}
	for _, tc := range []struct {
		sizes  []uint32
		prefix string // how the next block begins: the size updates
	}{
		{nil, "83"},
		{[]uint32{4096}, "83"},
		{[]uint32{0}, "2083"},
		{[]uint32{0}, "83"},
		{[]uint32{500}, "3fd50383"},
		{[]uint32{100, 4096}, "203fe11f83"},
		{[]uint32{65536}, "83"},
		{[]uint32{4096, 0, 65536}, "203fe11f83"},
		{[]uint32{300, 100, 200}, "203fa90183"},
	} {
		for _, size := range tc.sizes {
			e.SetTableSize(size)
			d.dec.SetAllowedMaxDynamicTableSize(size)
		}
		if got := hex.EncodeToString(send(1)); !strings.HasPrefix(got, tc.prefix) {
			t.Errorf("after sizes %v: got %s…, want %s…", tc.sizes, got[:16], tc.prefix)
		}
		send(10)
	}
}

func TestEncodeAllocates(t *testing.T) {
	e := h2.NewEncoder("api.push.apple.com", bearer)
	rs := requests(64, 0)
	buf := make([]byte, 0, 1<<10)
	i := 0
	if got := testing.AllocsPerRun(1000, func() {
		buf = e.AppendBlock(buf[:0], &rs[i%len(rs)])
		i++
	}); got != 0 {
		t.Errorf("allocations per block: got %v, want 0", got)
	}
}

func TestDecode(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	enc := hpack.NewEncoder(&out)
	d := h2.NewDecoder()
	id := uuid.MustParse("0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9")
	for i, tc := range []struct {
		fields [][2]string
		want   h2.Head
	}{
		{[][2]string{{":status", "200"}, {"apns-id", id.String()}}, h2.Head{Status: 200, APNsID: id, HasID: true}},
		{[][2]string{{":status", "200"}, {"apns-id", strings.ToUpper(id.String())}}, h2.Head{Status: 200, APNsID: id, HasID: true}},
		{[][2]string{{":status", "410"}, {"content-type", "application/json"}}, h2.Head{Status: 410}},
		{[][2]string{{":status", "410"}, {"apns-unique-id", "u-1"}}, h2.Head{Status: 410, UniqueID: "u-1"}},
		{[][2]string{{":status", "410"}, {"apns-unique-id", "u-1"}}, h2.Head{Status: 410, UniqueID: "u-1"}},
		{[][2]string{{":status", "429"}, {"apns-id", "no uuid"}, {"server", "x"}}, h2.Head{Status: 429}},
		{[][2]string{{":status", "nan"}, {"x-\x00", "\xff\xfe"}}, h2.Head{}},
		{[][2]string{{"x-more-than-the-table", strings.Repeat("x", 5000)}}, h2.Head{}},
		{[][2]string{{":status", "200"}, {"apns-id", id.String()}}, h2.Head{Status: 200, APNsID: id, HasID: true}},
	} {
		out.Reset()
		for _, f := range tc.fields {
			if err := enc.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]}); err != nil {
				t.Fatal(err)
			}
		}
		got, err := d.Decode(out.Bytes())
		if err != nil || got != tc.want {
			t.Errorf("block %d: got %+v, %v, want %+v", i, got, err, tc.want)
		}
	}
}

func TestDecodeSensitiveAndResized(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	enc := hpack.NewEncoder(&out)
	d := h2.NewDecoder()
	for i := range 500 {
		out.Reset()
		if i%7 == 0 {
			enc.SetMaxDynamicTableSize(uint32(i * 37 % 4097))
		}
		for _, f := range []hpack.HeaderField{
			{Name: ":status", Value: fmt.Sprint(200 + i%300)},
			{Name: "x-" + fmt.Sprint(i%11), Value: strings.Repeat("v", i%90), Sensitive: i%3 == 0},
			{Name: "apns-unique-id", Value: fmt.Sprint(i % 5)},
		} {
			if err := enc.WriteField(f); err != nil {
				t.Fatal(err)
			}
		}
		got, err := d.Decode(out.Bytes())
		if want := (h2.Head{Status: 200 + i%300, UniqueID: fmt.Sprint(i % 5)}); err != nil || got != want {
			t.Fatalf("block %d: got %+v, %v, want %+v", i, got, err, want)
		}
		if got := d.TableSize(); got > 4096 {
			t.Fatalf("table: got %d bytes, want at most 4096", got)
		}
	}
}

func TestDecodeFaults(t *testing.T) {
	t.Parallel()
	for name, block := range map[string]string{
		"index 0":                    "80",
		"index beyond the table":     "be",
		"name beyond the table":      "7f0001",
		"integer without end":        "ff8080808080808001",
		"integer cut":                "ff80",
		"name cut":                   "4005",
		"value cut":                  "48033230",
		"value missing":              "48",
		"padding of a whole byte":    "4884ffffffff",
		"padding that is not ones":   "488100",
		"size update after a field":  "8820",
		"size update over the limit": "3fe21f",
	} {
		b, err := hex.DecodeString(block)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := h2.NewDecoder().Decode(b); err == nil {
			t.Errorf("%s: got %+v, want an error", name, got)
		}
	}
}

func TestDecodeAllocates(t *testing.T) {
	var out bytes.Buffer
	enc := hpack.NewEncoder(&out)
	d := h2.NewDecoder()
	blocks := make([][]byte, 0, 200)
	for i := range 200 { // all indexed, and Huffman-coded: what Go's encoder does
		out.Reset()
		for _, f := range []hpack.HeaderField{{Name: ":status", Value: "200"}, {Name: "apns-id", Value: request(i, 0).APNsID.String()}} {
			if err := enc.WriteField(f); err != nil {
				t.Fatal(err)
			}
		}
		blocks = append(blocks, slices.Clone(out.Bytes()))
	}
	i := 0
	if got := testing.AllocsPerRun(len(blocks)-1, func() {
		if _, err := d.Decode(blocks[i]); err != nil {
			t.Fatal(err)
		}
		i++
	}); got != 0 {
		t.Errorf("allocations per block: got %v, want 0", got)
	}
}

// The tables that we spell out are those of x/net, which has them from the RFC.
func TestHuffmanTable(t *testing.T) {
	t.Parallel()
	for c := range 256 {
		s := string([]byte{byte(c)})
		n := int(hpack.HuffmanEncodeLength(strings.Repeat(s, 8))) // eight times n bits are n bytes
		code := hpack.AppendHuffmanString(nil, s)[0]
		for rest := range 1 << max(0, 8-n) {
			bits := code
			if n < 8 {
				bits = code&^(1<<(8-n)-1) | byte(rest)
			}
			gotC, gotN := h2.HuffmanTable(bits)
			if n <= 8 && (gotC != byte(c) || gotN != n) {
				t.Errorf("bits %08b: got %q of %d bits, want %q of %d", bits, gotC, gotN, byte(c), n)
			}
			if n > 8 && gotN != 0 {
				t.Errorf("bits %08b: got %q of %d bits, want none: %q has %d", bits, gotC, gotN, byte(c), n)
			}
		}
	}
}

func TestStaticTable(t *testing.T) {
	t.Parallel()
	for i := 1; i <= 61; i++ {
		fields, err := hpack.NewDecoder(4096, nil).DecodeFull([]byte{0x80 | byte(i)})
		if err != nil {
			t.Fatal(err)
		}
		if got := h2.StaticNameLen(i); got != len(fields[0].Name) {
			t.Errorf("name of static entry %d: got %d bytes, want %d", i, got, len(fields[0].Name))
		}
		want := 0
		if fields[0].Name == ":status" {
			if _, err := fmt.Sscan(fields[0].Value, &want); err != nil {
				t.Fatal(err)
			}
		}
		if got, err := h2.NewDecoder().Decode([]byte{0x80 | byte(i)}); err != nil || got.Status != want {
			t.Errorf("static entry %d: got status %d, %v, want %d", i, got.Status, err, want)
		}
	}
}

func TestHexAndUUID(t *testing.T) {
	t.Parallel()
	for n := range 40 {
		raw := tokenOf(n).Raw()
		if got, want := string(h2.AppendHex([]byte("x"), raw)), "x"+hex.EncodeToString([]byte(raw)); got != want {
			t.Errorf("hex: got %s, want %s", got, want)
		}
	}
	for i := range 1000 {
		id := request(i, 0).APNsID
		if got := string(h2.AppendUUID(nil, id)); got != id.String() {
			t.Errorf("uuid: got %s, want %s", got, id)
		}
		for _, s := range []string{id.String(), strings.ToUpper(id.String())} {
			if got, ok := h2.ParseUUID([]byte(s)); got != id || !ok {
				t.Errorf("parse %s: got %v, %v", s, got, ok)
			}
		}
	}
	for _, s := range []string{
		"", "0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f", "0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8fg", "0a1b2c3d04e5f-6071-8293-a4b5c6d7e8f9",
		"0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f90", "{a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9",
	} {
		if got, ok := h2.ParseUUID([]byte(s)); ok {
			t.Errorf("parse %q: got %v, want none", s, got)
		}
	}
}

func TestTableSizeOnTheWire(t *testing.T) {
	t.Parallel()
	c, o, p := connect(t, h2.Config{Authorization: bearer})
	round := func(i int) *received {
		o.submit(job.Bulk, request(i, 2))
		c.Wake()
		r := p.request()
		if r.get("authorization") != bearer || r.get("apns-topic") != "com.example.app" {
			t.Errorf("request %d: got %v, want all its fields", i, r.fields)
		}
		p.accept(r)
		wantStatus(t, <-o.done, int32(i), 200)
		return r
	}
	round(0)
	p.dec.SetAllowedMaxDynamicTableSize(0)
	p.settings(headerTableSize(0))
	if r := round(1); r.block[0] != 0x20 {
		t.Errorf("after table size 0: got a block that begins with %x, want a size update to 0", r.block[0])
	}
	round(2)
	p.dec.SetAllowedMaxDynamicTableSize(4096)
	p.settings(headerTableSize(4096))
	round(3)
	if a, b := round(4), round(5); len(b.block) >= len(a.block) && len(b.block) != steady {
		t.Errorf("after table size 4096: got blocks of %d and %d bytes, want them indexed", len(a.block), len(b.block))
	}
	c.SetAuthorization(bearer) // the same: nothing changes
	if r := round(6); len(r.block) != steady {
		t.Errorf("steady state: got a block of %d bytes, want %d", len(r.block), steady)
	}
}

package apnstest_test

import (
	"bytes"
	"testing"

	"golang.org/x/net/http2/hpack"

	"github.com/pushfleet/pushfleet/apns/apnstest"
)

// TestHuffmanDecode compares with package hpack, on what it encoded.
func TestHuffmanDecode(t *testing.T) {
	t.Parallel()
	var all []byte
	for i := range 256 {
		all = append(all, byte(i))
	}
	for from := range 256 {
		for _, n := range []int{0, 1, 2, 3, 5, 8, 64, 256 - from} {
			want := all[from:min(256, from+n)]
			got, err := apnstest.HuffmanDecode(hpack.AppendHuffmanString(nil, string(want)))
			if err != nil || !bytes.Equal(got, want) {
				t.Fatalf("decode of %q: got %q, %v", want, got, err)
			}
		}
	}
}

func FuzzHuffmanDecode(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte{0xff})
	f.Add([]byte{0xff, 0xff, 0xff, 0xff})
	f.Add(hpack.AppendHuffmanString(nil, "/3/device/0a1b2c3d4e5f\x00\xff"))
	f.Fuzz(func(t *testing.T, src []byte) {
		want, wantErr := hpack.HuffmanDecodeToString(src)
		got, err := apnstest.HuffmanDecode(src)
		if (err != nil) != (wantErr != nil) {
			t.Fatalf("decode of %x: got error %v, want %v", src, err, wantErr)
		}
		if err == nil && string(got) != want {
			t.Fatalf("decode of %x: got %q, want %q", src, got, want)
		}
	})
}

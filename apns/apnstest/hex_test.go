package apnstest_test

import (
	"bytes"
	"encoding/hex"
	"regexp"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/pushfleet/pushfleet/apns/apnstest"
)

// TestHex puts every byte at every place among good digits.
func TestHex(t *testing.T) {
	t.Parallel()
	for _, n := range []int{0, 2, 4, 6, 8, 10, 16, 22, 64} {
		good := []byte(strings.Repeat("0aF9", n/4+1)[:n])
		for at := range max(n, 1) {
			for ch := range 256 {
				s := bytes.Clone(good)
				if n > 0 {
					s[at] = byte(ch)
				}
				want, err := hex.DecodeString(string(s))
				got, ok := apnstest.Unhex(s)
				if ok != (err == nil) || ok && !bytes.Equal(got, want) {
					t.Fatalf("%q: got %x, %v, want %x, %v", s, got, ok, want, err)
				}
			}
		}
	}
	if _, ok := apnstest.Unhex([]byte("abc")); ok {
		t.Error("three digits: got no error")
	}
}

func TestUUID(t *testing.T) {
	t.Parallel()
	canonical := regexp.MustCompile(`^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$`)
	for range 100 {
		id := uuid.New()
		for _, upper := range []bool{false, true} {
			want := id.String()
			if upper {
				want = strings.ToUpper(want)
			}
			text := apnstest.FormatUUID(id, upper)
			back, wasUpper, ok := apnstest.ParseUUID([]byte(text))
			if text != want || back != id || !ok || wasUpper != (upper && want != strings.ToLower(want)) {
				t.Fatalf("got %s, back %x, upper %v, %v, want %s", text, back, wasUpper, ok, want)
			}
		}
	}
	const good = "01234567-89ab-CDEF-0123-456789abcdef"
	for at := range len(good) {
		for ch := range 256 {
			s := []byte(good)
			s[at] = byte(ch)
			if _, _, ok := apnstest.ParseUUID(s); ok != canonical.Match(s) {
				t.Fatalf("%q: got %v, want %v", s, ok, canonical.Match(s))
			}
		}
	}
	if _, _, ok := apnstest.ParseUUID([]byte(good[1:])); ok {
		t.Error("35 characters: got no error")
	}
}

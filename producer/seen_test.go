package producer_test

import (
	"math/rand/v2"
	"testing"

	"github.com/pushfleet/pushfleet/producer"
)

// It remembers like a map the first ones, and takes no more memory for the others.
func TestSeen(t *testing.T) {
	t.Parallel()
	const most = 10_000
	s := producer.NewSeen(most)
	random := rand.New(rand.NewPCG(1, 2))
	known := make(map[uint64]bool)
	for range 10 * most {
		h := random.Uint64N(3 * most) // many of them twice, and 0 and 1 among them
		if h == 1 {
			continue // takes the place of 0
		}
		want := known[h]
		if len(known) < most {
			known[h] = true
		}
		if got := s.Again(h); got != want {
			t.Fatalf("hash %d, with %d known: got %t, want %t", h, len(known), got, want)
		}
	}
	if len(known) != most {
		t.Errorf("got %d known, want %d: the bound was not met", len(known), most)
	}
	if got := s.Bytes(); got > 8*2*most {
		t.Errorf("got %d bytes, want at most 16 for each", got)
	}
}

// Six million recipients take 64 MiB.
func TestSeenIsBounded(t *testing.T) {
	t.Parallel()
	s := producer.NewSeen(0)
	for h := range uint64(7 << 20) {
		s.Again(h * 0x9e3779b97f4a7c15)
	}
	if got := s.Bytes(); got != 64<<20 {
		t.Errorf("got %d bytes, want %d", got, 64<<20)
	}
}

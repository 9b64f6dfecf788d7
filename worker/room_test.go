package worker

import (
	"bytes"
	"context"
	"testing"
	"testing/synctest"

	"github.com/pushfleet/pushfleet/job"
	"github.com/pushfleet/pushfleet/stream"
)

func TestRoomIsShared(t *testing.T) {
	t.Parallel()
	r := newRoom(1000)
	ctx := context.Background()
	bulk, other, urgent := &holder{lane: job.Bulk}, &holder{lane: job.Bulk}, &holder{lane: job.Transactional}

	// Alone, one gets half of what is not reserved; the next half of what is left.
	for _, step := range []struct {
		name       string
		h          *holder
		most, want int
	}{
		{"asks for little", bulk, 300, 300},
		{"holds 300, leaves 600: may hold 150 more", bulk, 1000, 150},
		{"holds as much as it leaves, but for the reserve", other, 1000, 225},
		{"transactional, out of the reserve too", urgent, 1000, 162},
	} {
		if n, err := r.take(ctx, step.h, 1, step.most); n != step.want || err != nil {
			t.Errorf("%s: got %d, %v, want %d", step.name, n, err, step.want)
		}
	}
	if got := r.inUse(); got != 837 {
		t.Errorf("in use: got %d, want 837", got)
	}
}

// A message takes room for what it names, and for its bytes where these are more: what is
// no job at all could otherwise fill the memory.
func TestMessageTakesRoom(t *testing.T) {
	t.Parallel()
	one := []byte(`{"to":{"tokens":["8f3a55d1"]},"notification":{"title":"Hello"}}`)
	padded := append(bytes.Repeat([]byte(" "), 40_000), one...)
	of := func(c string) *lane { return &lane{campaign: &running{id: c}} }
	for name, tc := range map[string]struct {
		lane *lane
		body []byte
		want int
	}{
		"a job for one":         {&lane{}, one, 1},
		"a long job for one":    {&lane{}, padded, 9},
		"no job":                {&lane{}, make([]byte, 1<<20), 256},
		"a range of 900":        {of("c"), []byte(`{"campaign":"c","n":1,"devices":900,"of":1024,"from":8,"to":16}`), 900},
		"a range that is none":  {of("c"), make([]byte, 100<<10), 25},
		"a range of two people": {of("c"), []byte(`{"campaign":"c","recipients":[{"user":"a"},{"user":"b"}]}`), 2},
	} {
		if got := decode(tc.lane, &stream.Message{Data: tc.body}).cost; got != tc.want {
			t.Errorf("%s: got room for %d, want %d", name, got, tc.want)
		}
	}
}

func TestRoomWaits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRoom(1000)
		h := &holder{lane: job.Bulk}
		if n, err := r.take(t.Context(), h, 600, 600); n != 600 || err != nil {
			t.Fatalf("got %d, %v", n, err)
		}
		got := make(chan int)
		go func() {
			n, _ := r.take(t.Context(), h, 200, 200)
			got <- n
		}()
		synctest.Wait()
		select {
		case n := <-got:
			t.Fatalf("took %d while there was no room", n)
		default:
		}
		r.adjust(h, -600)
		if n := <-got; n != 200 {
			t.Errorf("after room was given back: got %d, want 200", n)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := r.take(ctx, h, 5000, 5000); err == nil {
			t.Error("take after cancel: got no error")
		}
	})
}
